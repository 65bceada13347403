"""What must exist from the start: the system's namespaces, roles and bindings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from protos.k8s.core.v1.namespace_pb2 import Namespace
from services.apimachinery.errors import AlreadyExists
from services.apimachinery.server.auth.bootstrap import SystemRole, reconcile
from services.apimachinery.server.loopback import Loopback
from services.common.logs import get_logger
from services.common.tasks import Backoff

log = get_logger(__name__)


def ensure_at_start(namespaces: Sequence[str], roles: Sequence[SystemRole]) -> Callable[[Loopback], Awaitable[None]]:
    """A task that creates what is missing, and then sleeps; it tries again while the store does not answer."""

    async def run(loopback: Loopback) -> None:
        backoff = Backoff(first=0.2, limit=5.0)
        while True:
            try:
                await reconcile(loopback, roles)
                for name in namespaces:
                    await _ensure_namespace(loopback, name)
                break
            except Exception as error:
                log.warning("start-up objects are missing", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(backoff.next())
        log.info("start-up objects ensured", roles=len(roles), namespaces=len(namespaces))
        await asyncio.Event().wait()

    return run


async def _ensure_namespace(loopback: Loopback, name: str) -> None:
    resource = loopback.resources.of(Namespace)
    if await loopback.get(resource, name) is None:
        try:
            await loopback.create(resource, {"metadata": {"name": name}})
        except AlreadyExists:
            return
