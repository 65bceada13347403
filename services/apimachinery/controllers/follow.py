"""Following the watch caches of all kinds at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from services.apimachinery.errors import ApiError, Gone, NotFound
from services.apimachinery.runtime.queue import WorkQueue
from services.apimachinery.server.resource import Resource
from services.apimachinery.store.watch_cache import ADDED, Event
from services.common.logs import get_logger

log = get_logger(__name__)

Seen = Callable[[Resource, Event], None]
TAKE_SECONDS = 60.0
AGAIN_SECONDS = 0.5  # between a watch that was ended and the next


async def follow(resources: list[Resource], seen: Seen) -> None:
    """Calls `seen` for each object (as ADDED) and then for each change, for ever; after a gap all come again."""
    async with asyncio.TaskGroup() as group:
        for resource in resources:
            group.create_task(_follow_one(resource, seen), name=f"follow {resource.kind}")


async def _follow_one(resource: Resource, seen: Seen) -> None:
    cache = resource.stored.cache
    await cache.loaded()
    while True:
        try:
            watcher = cache.watch("", None, cache.revision)
        except Gone:
            await asyncio.sleep(AGAIN_SECONDS)
            continue
        try:
            for item in list(cache.select()):
                seen(resource, Event(ADDED, item))
            while not watcher.lost:
                events, _ = await watcher.take(TAKE_SECONDS)
                for event in events:
                    seen(resource, event)
        finally:
            watcher.close()
        await asyncio.sleep(AGAIN_SECONDS)


def stored_once(resources: list[Resource]) -> list[Resource]:
    """One resource for each storage: kinds that only show another kind's objects are left out."""
    return [resource for resource in resources if resource.storage is not None and resource.definition.view is None]


async def work(queue: WorkQueue[Any], reconcile: Callable[[Any], Awaitable[None]]) -> None:
    """A worker of a queue, for ever; failures come again with back-off."""
    while True:
        key = await queue.take()
        try:
            await reconcile(key)
            queue.forget(key)
        except NotFound:
            queue.forget(key)
        except ApiError as error:
            log.warning("work is tried again", queue=queue.name, key=str(key), error=error.message)
            queue.retry(key)
        except Exception as error:
            log.error("work failed", queue=queue.name, key=str(key), error=str(error), exc_info=error)
            queue.retry(key)
        finally:
            queue.done(key)
