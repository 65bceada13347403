"""Forgetting etcd's history, so that it does not grow for ever."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from services.apimachinery.store.etcd import Etcd
from services.common.logs import get_logger

log = get_logger(__name__)


async def compact_for_ever(etcd: Etcd, interval: float, keep: float) -> None:
    """Every `interval` seconds forgets what is older than `keep` seconds.

    Several servers on one etcd need no coordination: each forgets only what was old already when it first looked.
    """
    seen: deque[tuple[float, int]] = deque()
    while True:
        try:
            _, revision = await etcd.get(etcd.index_key(""))
            seen.append((time.monotonic(), revision))
            old = None
            while seen and seen[0][0] <= time.monotonic() - keep:
                _, old = seen.popleft()
            if old is not None:
                await etcd.compact(old)
                log.info("etcd compacted", revision=old)
        except Exception as error:
            log.warning("compaction failed", error=f"{type(error).__name__}: {error}")
        await asyncio.sleep(interval)
