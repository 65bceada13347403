"""All objects of one resource in memory, fed by one etcd watch: lists, resumable watches, bookmarks.

What is kept are stored bytes (`Item.value`); what is made of them (labels, JSON) is made at first use and kept with
the item. A list reads the present state, after `fresh()` has waited until all that was written before is in it. A watch
resumes from the history of recent changes; when that no longer reaches back far enough, the caller gets `Gone` and must
list again, as in Kubernetes.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter, Gauge

from services.apimachinery.errors import Gone, Timeout, Unavailable
from services.apimachinery.store.etcd import Change, Compacted, Etcd, KeyValue
from services.common.logs import get_logger
from services.common.tasks import Backoff

log = get_logger(__name__)

OBJECTS = Gauge("ferrite_apiserver_watch_cache_objects", "Objects in the watch cache.", ["resource"])
WATCHERS = Gauge("ferrite_apiserver_watchers", "Watches that clients have open.", ["resource"])
EVENTS = Counter("ferrite_apiserver_watch_cache_events", "Changes that the watch cache took from etcd.", ["resource"])
LOST = Counter("ferrite_apiserver_watches_lost", "Watches ended because their reader was too slow.", ["resource"])

PAGE = 500
HISTORY = 4096  # changes per resource that a resumed watch can still get
QUEUE = 2048  # changes that a slow watcher may lag behind before its watch is ended
WAIT_SECONDS = 3.0  # as kube-apiserver waits for a version that its cache has not reached

ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"

Match = Callable[["Item"], bool]


class Item:
    """A stored object: name below the resource's prefix (`namespace/name` or `name`), bytes, mod revision."""

    __slots__ = ("created", "facts", "name", "rendered", "revision", "value")

    def __init__(self, name: str, value: bytes, revision: int, created: int) -> None:
        self.name, self.value, self.revision, self.created = name, value, revision, created
        # Made at first use by whoever can read the value: what selectors look at, and JSON, by kind.
        self.facts: dict[Any, Any] = {}
        self.rendered: dict[Any, bytes] = {}

    def at(self, revision: int) -> Item:
        """The same content with another version: the last state of something deleted at `revision`."""
        item = Item(self.name, self.value, revision, self.created)
        item.facts = self.facts
        return item


@dataclass(frozen=True, slots=True)
class Event:
    """One change for one watcher."""

    type: str
    item: Item


@dataclass(frozen=True, slots=True)
class _Step:
    revision: int
    before: Item | None
    after: Item | None

    def seen_by(self, prefix: str, match: Match | None) -> Event | None:
        """What a watcher of `prefix` with a selector sees: entering the selection is ADDED, leaving it DELETED."""
        before, after = self.before, self.after
        if not (after or before).name.startswith(prefix):  # type: ignore[union-attr]
            return None
        had = before is not None and (match is None or match(before))
        has = after is not None and (match is None or match(after))
        if has and after is not None:
            return Event(MODIFIED if had else ADDED, after)
        if had and before is not None:
            return Event(DELETED, before.at(self.revision))
        return None


class Watcher:
    """A subscription; `events` come in order. Ends (`lost`) when its reader is too slow."""

    def __init__(self, cache: WatchCache, prefix: str, match: Match | None) -> None:
        self._cache, self._prefix, self._match = cache, prefix, match
        self._queue: deque[Event] = deque()
        self._wake = asyncio.Event()
        self.lost = False

    def offer(self, step: _Step) -> None:
        """Takes a change if it concerns this watcher."""
        event = step.seen_by(self._prefix, self._match)
        if event is None or self.lost:
            return
        if len(self._queue) >= QUEUE:
            self._cache.slow.inc()
            self.end()
            return
        self._queue.append(event)
        self._wake.set()

    def end(self) -> None:
        """Ends the watch; its reader may begin another one elsewhere."""
        self.lost = True
        self._queue.clear()
        self._wake.set()

    async def take(self, timeout: float) -> tuple[list[Event], int]:
        """All waiting events, and the version up to which they are complete; no events after `timeout` seconds."""
        if not self._queue and not self.lost:
            self._wake.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
            except TimeoutError:
                pass
        events = list(self._queue)
        self._queue.clear()
        return events, self._cache.revision

    def close(self) -> None:
        """Ends the subscription."""
        self._cache.forget(self)


class WatchCache:
    """The objects below one etcd prefix. `touch` is the revision key; `expires` says that leases may delete."""

    def __init__(self, etcd: Etcd, prefix: bytes, touch: bytes, *, expires: bool = False) -> None:
        self._etcd, self._prefix, self._touch, self._expires = etcd, prefix, touch, expires
        self._items: dict[str, Item] = {}
        self._names: list[str] = []
        self._history: deque[_Step] = deque()
        self._watchers: set[Watcher] = set()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._loaded = asyncio.Event()
        self._ending = False
        group, plural = prefix.decode().strip("/").split("/")[-2:]
        resource = plural if group == "core" else f"{plural}.{group}"
        self._objects, self._open = OBJECTS.labels(resource), WATCHERS.labels(resource)
        self._events, self.slow = EVENTS.labels(resource), LOST.labels(resource)
        self.position = 0  # newest change applied
        self.revision = 0  # everything up to it is in the cache
        self._oldest = 0  # watches can resume from here

    async def run(self) -> None:
        """Fills the cache and follows etcd, for ever."""
        backoff = Backoff(first=0.1, limit=5.0)
        while True:
            try:
                await self._load()
                backoff.reset()
                async for changes in self._etcd.watch(self._prefix, self.position):
                    self._apply(changes)
            except Compacted:
                log.info("watch cache loads again: its position was compacted", prefix=self._prefix.decode())
            except Exception as error:
                log.warning(
                    "watch cache failed", prefix=self._prefix.decode(), error=f"{type(error).__name__}: {error}"
                )
            await asyncio.sleep(backoff.next())

    async def ready(self, timeout: float = WAIT_SECONDS) -> None:
        """Waits for the first load. Raises Unavailable."""
        try:
            async with asyncio.timeout(timeout):
                await self._loaded.wait()
        except TimeoutError:
            raise Unavailable("the server's cache is not filled yet: its store does not answer") from None

    async def loaded(self) -> None:
        """Waits for the first load, however long it takes."""
        await self._loaded.wait()

    async def fresh(self) -> int:
        """Waits until all that was written before this call is in the cache; the version at which it is complete."""
        await self._synchronise()
        return self.revision

    async def wait(self, revision: int) -> None:
        """Waits until `revision` is in the cache. Raises Timeout, as kube-apiserver does, for one of the future."""
        await self.ready()
        if revision > self.revision and revision > (newest := await self._synchronise()):
            raise Timeout(f"Too large resource version: {revision}, current: {newest}")

    async def _synchronise(self) -> int:
        """Brings in all that was written before this call; etcd's own revision at that moment."""
        await self.ready()
        touched, revision = await self._etcd.get(self._touch)
        if touched is not None:
            await self._reach(touched.revision)
        if not self._expires:  # a lease's end does not touch the revision key
            self.revision = max(self.revision, revision)
        return revision

    async def _reach(self, revision: int) -> None:
        """Waits for a change that etcd has already announced."""
        if revision <= self.revision:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((revision, future))
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await future
        except TimeoutError:
            raise Unavailable(f"the server's cache lags behind its store: {self.revision} of {revision}") from None

    def get(self, name: str) -> Item | None:
        """One object."""
        return self._items.get(name)

    def select(self, prefix: str = "", match: Match | None = None, start: str = "") -> Iterator[Item]:
        """The objects whose names start with `prefix`, from `start` on, in order."""
        for index in range(bisect_left(self._names, start or prefix), len(self._names)):
            name = self._names[index]
            if not name.startswith(prefix):
                return
            item = self._items[name]
            if match is None or match(item):
                yield item

    def __len__(self) -> int:
        return len(self._items)

    def watch(self, prefix: str, match: Match | None, revision: int) -> Watcher:
        """A subscription to changes after `revision`. Raises Gone when the history does not reach back that far."""
        if revision < self._oldest:
            raise Gone(f"too old resource version: {revision} ({self._oldest})")
        watcher = Watcher(self, prefix, match)
        for step in self._history:
            if step.revision > revision:
                watcher.offer(step)
        if watcher.lost:
            raise Gone(f"too old resource version: {revision} (more than {QUEUE} changes since)")
        if self._ending:
            watcher.end()
        self._watchers.add(watcher)
        self._open.inc()
        return watcher

    def end_watches(self) -> None:
        """Ends all watches, and those that begin from now on: the server is about to stop."""
        self._ending = True
        for watcher in list(self._watchers):
            watcher.end()

    def forget(self, watcher: Watcher) -> None:
        """Ends a subscription."""
        if watcher in self._watchers:
            self._watchers.discard(watcher)
            self._open.dec()

    async def _load(self) -> None:
        found: dict[str, KeyValue] = {}
        page = await self._etcd.range(self._prefix, limit=PAGE)
        revision = page.revision
        found.update((self._name(kv.key), kv) for kv in page.items)
        while page.more:
            start = page.items[-1].key + b"\0"
            page = await self._etcd.range(self._prefix, start=start, limit=PAGE, revision=revision)
            found.update((self._name(kv.key), kv) for kv in page.items)
        if not self._loaded.is_set():
            touched, _ = await self._etcd.get(self._touch)
            unchanged_since = touched.revision if touched is not None else revision
            self._oldest = revision if self._expires else min(revision, unchanged_since)
            self._items = {name: Item(name, kv.value, kv.revision, kv.created) for name, kv in found.items()}
            self._names = sorted(self._items)
            self._loaded.set()
        else:
            self._catch_up(found, revision)
        self._objects.set(len(self._items))
        self.position = max(self.position, revision)
        self._advance(revision)

    def _catch_up(self, found: dict[str, KeyValue], revision: int) -> None:
        """Changes that were missed reach the watchers as one step each, made from the difference."""
        for name in [name for name in self._items if name not in found]:
            self._step(name, None, revision, 0)
        for name, kv in sorted(found.items(), key=lambda pair: pair[1].revision):
            present = self._items.get(name)
            if present is None or present.revision != kv.revision:
                self._step(name, kv.value, kv.revision, kv.created)
        # Steps in between are lost, so that only watches from here on can be resumed.
        self._oldest = revision
        self._history.clear()

    def _apply(self, changes: list[Change]) -> None:
        for change in changes:
            if change.revision > self.position:
                self._step(self._name(change.key), change.value, change.revision, change.created)
        self._events.inc(len(changes))
        self._objects.set(len(self._items))
        self.position = max(self.position, changes[-1].revision)
        self._advance(self.position)

    def _step(self, name: str, value: bytes | None, revision: int, created: int) -> None:
        before = self._items.get(name)
        after = Item(name, value, revision, created) if value is not None else None
        if after is not None:
            self._items[name] = after
            if before is None:
                insort(self._names, name)
        elif before is not None:
            del self._items[name]
            del self._names[bisect_left(self._names, name)]
        else:
            return
        step = _Step(revision, before, after)
        self._history.append(step)
        if len(self._history) > HISTORY:
            self._oldest = self._history.popleft().revision
        for watcher in self._watchers:
            watcher.offer(step)

    def _advance(self, revision: int) -> None:
        self.revision = max(self.revision, revision)
        if not self._waiting:
            return
        still = []
        for wanted, future in self._waiting:
            if wanted > self.revision and not future.done():
                still.append((wanted, future))
            elif not future.done():
                future.set_result(None)
        self._waiting = still

    def _name(self, key: bytes) -> str:
        return key[len(self._prefix) :].decode()
