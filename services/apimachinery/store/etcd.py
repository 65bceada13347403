"""etcd v3 for an API server: compare-and-swap writes, ranges at a revision, watches that resume, leases, compaction.

Keys, below a prefix of the server's own:

    <prefix>/<group>/<resource>/[<namespace>/]<name>    an object ("core" stands for the empty group)
    <prefix>/alloc/<index>/<value>                      an index key: this value has one owner, named by the key's value
    <prefix>/revision/<group>/<resource>                touched by each write of the resource: its mod revision is the
                                                        newest write, so one small read tells how far a cache must be

An object, its index keys and its revision key change in one transaction. Every call has a deadline and raises
`Unavailable` or `Timeout` (services.apimachinery.errors) when etcd can't be reached, `Mismatch` when another write came
first, `Taken` when an index key has another owner, `Compacted` when a revision is gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from aetcd import rpc
from prometheus_client import Counter, Histogram

from services.apimachinery.errors import ApiError, InternalError, TooManyRequests, Unavailable
from services.apimachinery.errors import Timeout as ApiTimeout
from services.common.grpc_client import grpc_channel
from services.common.logs import get_logger
from services.common.tasks import Backoff
from services.common.tls import TlsFiles

log = get_logger(__name__)

SECONDS = Histogram("ferrite_apiserver_etcd_request_seconds", "Time that etcd takes for a call.", ["method"])
ERRORS = Counter(
    "ferrite_apiserver_etcd_errors", "Calls that failed and watches that broke, by status.", ["method", "code"]
)

CALL_SECONDS = 5.0
MAX_OPERATIONS = 128  # etcd's default --max-txn-ops


class Mismatch(Exception):
    """A compare-and-swap found another version; `current` is what is stored now (None: nothing)."""

    def __init__(self, current: KeyValue | None) -> None:
        super().__init__("the stored object changed")
        self.current = current


class GuardChanged(Exception):
    """A key on which the write was conditional has changed: decide again."""


class Taken(Exception):
    """An index key belongs to another owner."""

    def __init__(self, key: str, owner: str) -> None:
        super().__init__(f"{key} is owned by {owner}")
        self.key, self.owner = key, owner


class Compacted(Exception):
    """The asked revision is older than etcd's history; `revision` is the oldest that is left (0: not told)."""

    def __init__(self, revision: int = 0) -> None:
        super().__init__("the revision has been compacted")
        self.revision = revision


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key with its value and the revision of its last change."""

    key: bytes
    value: bytes
    revision: int
    created: int


@dataclass(frozen=True, slots=True)
class Range:
    """Part of the key space at one revision; `more` tells that the limit cut it, `count` is the uncut number."""

    items: list[KeyValue]
    revision: int
    more: bool
    count: int


@dataclass(frozen=True, slots=True)
class Write:
    """One change of one object. `value` None deletes; `expected` is the mod revision to replace, 0 = must not exist."""

    key: bytes
    value: bytes | None
    expected: int
    touch: bytes
    owner: str = ""
    claims: Sequence[str] = ()
    releases: Sequence[str] = ()
    lease: int = 0
    # Other keys that must still have these mod revisions (an object's namespace).
    guards: Mapping[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch; `value` is None for a deletion."""

    key: bytes
    value: bytes | None
    revision: int
    created: int


@dataclass
class _LeaseBucket:
    identifier: int
    until: float


@dataclass(frozen=True)
class EtcdSettings:
    """Where etcd is: `host:port` endpoints (any member serves), and TLS when its listeners ask for it."""

    endpoints: tuple[str, ...] = ("127.0.0.1:2379",)
    tls: TlsFiles | None = None
    deadline: float = CALL_SECONDS


@dataclass
class Etcd:
    """A connection to an etcd cluster, serving one key prefix such as `/ferrite/core`."""

    prefix: str
    settings: EtcdSettings = field(default_factory=EtcdSettings)

    def __post_init__(self) -> None:
        if not self.prefix.startswith("/") or self.prefix.endswith("/"):
            raise ValueError(f"etcd prefix {self.prefix!r} must start with a slash and not end with one")
        if not self.settings.endpoints:
            raise ValueError("no etcd endpoint is given")
        self._channels: list[grpc.aio.Channel] = []
        self._current = 0
        self._leases: dict[int, _LeaseBucket] = {}

    async def close(self) -> None:
        """Ends the connections."""
        for channel in self._channels:
            await channel.close()
        self._channels = []

    def index_key(self, index: str) -> bytes:
        """The full key of an index key such as `ip/192.0.2.1`."""
        return f"{self.prefix}/alloc/{index}".encode()

    async def get(self, key: bytes) -> tuple[KeyValue | None, int]:
        """The newest value (linearizable) and etcd's revision at that moment."""
        answer = await self._call("KV", "Range", rpc.RangeRequest(key=key))
        return (_key_value(answer.kvs[0]) if answer.kvs else None), answer.header.revision

    async def range(
        self, prefix: bytes, *, start: bytes = b"", limit: int = 0, revision: int = 0, keys_only: bool = False
    ) -> Range:
        """The keys below `prefix` from `start` on, in order, at `revision` (0 = now). Raises Compacted."""
        request = rpc.RangeRequest(
            key=start or prefix, range_end=prefix_end(prefix), limit=limit, revision=revision, keys_only=keys_only
        )
        answer = await self._call("KV", "Range", request)
        items = [_key_value(kv) for kv in answer.kvs]
        return Range(items, revision or answer.header.revision, answer.more, answer.count)

    async def commit(self, write: Write) -> int:
        """Writes one object with its index keys; returns the new revision.

        Raises Mismatch, Taken, GuardChanged, and ValueError for more index keys than a transaction takes.
        """
        claims = [self.index_key(name) for name in write.claims]
        success = [_put(write.key, write.value, write.lease) if write.value is not None else _delete(write.key)]
        success.append(_put(write.touch, b"", 0))
        success += [_put(key, write.owner.encode(), write.lease) for key in claims]
        success += [_delete_if_owned(self.index_key(name), write.owner.encode()) for name in write.releases]
        if len(success) > MAX_OPERATIONS:
            raise ValueError(f"{len(success)} operations in one transaction; etcd takes {MAX_OPERATIONS}")
        compare = [_unchanged(write.key, write.expected)]
        compare += [rpc.Compare(result="EQUAL", target="CREATE", key=key, create_revision=0) for key in claims]
        compare += [_unchanged(key, revision) for key, revision in write.guards.items()]
        failure = [rpc.RequestOp(request_range=rpc.RangeRequest(key=key)) for key in (write.key, *claims)]
        answer = await self._call("KV", "Txn", rpc.TxnRequest(compare=compare, success=success, failure=failure))
        if answer.succeeded:
            return int(answer.header.revision)
        found = [item.response_range.kvs for item in answer.responses]
        current = _key_value(found[0][0]) if found[0] else None
        if (current.revision if current else 0) != write.expected:
            raise Mismatch(current)
        for name, kvs in zip(write.claims, found[1:], strict=True):
            if kvs:
                raise Taken(name, kvs[0].value.decode())
        raise GuardChanged

    async def watch(self, prefix: bytes, revision: int) -> AsyncIterator[list[Change]]:
        """Changes below `prefix` after `revision`, for ever; a broken stream is resumed. Raises Compacted."""
        backoff = Backoff(first=0.05, limit=5.0)
        while True:
            try:
                async for changes in self._watch_once(prefix, revision):
                    backoff.reset()
                    revision = changes[-1].revision
                    yield changes
            except grpc.aio.AioRpcError as error:
                ERRORS.labels("Watch", error.code().name).inc()
                log.warning("etcd watch broke", prefix=prefix.decode(), code=error.code().name, detail=error.details())
            self._next_endpoint()
            await asyncio.sleep(backoff.next())

    async def _watch_once(self, prefix: bytes, revision: int) -> AsyncIterator[list[Change]]:
        call = self._method("Watch", "Watch")(wait_for_ready=True)
        # No progress notifications: before etcd 3.4.25 they can overtake changes.
        create = rpc.WatchCreateRequest(key=prefix, range_end=prefix_end(prefix), start_revision=revision + 1)
        await call.write(rpc.WatchRequest(create_request=create))
        try:
            async for answer in call:
                if answer.compact_revision:
                    raise Compacted(answer.compact_revision)
                if answer.canceled:
                    log.warning("etcd watch cancelled", prefix=prefix.decode(), reason=answer.cancel_reason)
                    return
                if answer.events:
                    yield [_change(event) for event in answer.events]
        finally:
            call.cancel()

    async def lease(self, seconds: int) -> int:
        """A lease that ends at the earliest `seconds` from now, at most 5 % or a minute later; shared by callers."""
        slack = max(1.0, min(60.0, seconds * 0.05))
        now = time.monotonic()
        bucket = self._leases.get(seconds)
        if bucket is None or now > bucket.until:
            request = rpc.LeaseGrantRequest(TTL=seconds + int(slack))
            answer = await self._call("Lease", "LeaseGrant", request)
            bucket = self._leases[seconds] = _LeaseBucket(answer.ID, now + slack)
        return bucket.identifier

    async def compact(self, revision: int) -> None:
        """Forgets history before `revision`; an already forgotten one is fine."""
        try:
            await self._call("KV", "Compact", rpc.CompactionRequest(revision=revision))
        except Compacted:
            pass

    async def _call(self, service: str, method: str, request: Any) -> Any:
        others = len(self.settings.endpoints) - 1
        while True:
            try:
                # A lone member is waited for; of several, another one is asked at once.
                call = self._method(service, method)
                with SECONDS.labels(method).time():
                    return await call(request, timeout=self.settings.deadline, wait_for_ready=not others)
            except grpc.aio.AioRpcError as error:
                ERRORS.labels(method, error.code().name).inc()
                translated = self._translated(error)
                # A write is repeated only if it can't have been sent: its fate would be unknown.
                unsent = method == "Range" or "failed to connect" in (error.details() or "")
                if not (others and unsent and isinstance(translated, Unavailable)):
                    raise translated from None
                others -= 1

    def _translated(self, error: grpc.aio.AioRpcError) -> Exception:
        code, detail = error.code(), error.details() or ""
        if code is grpc.StatusCode.OUT_OF_RANGE and "compacted" in detail:
            return Compacted()
        if code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            self._next_endpoint()
            refusal: type[ApiError] = ApiTimeout if code is grpc.StatusCode.DEADLINE_EXCEEDED else Unavailable
            return refusal(f"etcd: no answer ({detail})")
        if "space exceeded" in detail:  # the NOSPACE alarm: no quick retry helps, an operator must make room
            return Unavailable(f"etcd: the store is full ({detail})")
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return TooManyRequests(f"etcd: {detail}")
        return InternalError(f"etcd: {detail}")

    def _next_endpoint(self) -> None:
        self._current = (self._current + 1) % len(self.settings.endpoints)

    def _method(self, service: str, method: str) -> Any:
        if not self._channels:
            self._channels = [grpc_channel(address, tls=self.settings.tls) for address in self.settings.endpoints]
            self._stubs = [
                {"KV": rpc.KVStub(channel), "Lease": rpc.LeaseStub(channel), "Watch": rpc.WatchStub(channel)}
                for channel in self._channels
            ]
        return getattr(self._stubs[self._current][service], method)


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all keys that start with `prefix`."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def _key_value(kv: Any) -> KeyValue:
    return KeyValue(kv.key, kv.value, kv.mod_revision, kv.create_revision)


def _change(event: Any) -> Change:
    deleted = event.type == 1
    kv = event.kv
    return Change(kv.key, None if deleted else kv.value, kv.mod_revision, kv.create_revision)


def _unchanged(key: bytes, revision: int) -> Any:
    return rpc.Compare(result="EQUAL", target="MOD", key=key, mod_revision=revision)


def _put(key: bytes, value: bytes, lease: int) -> Any:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, lease=lease))


def _delete(key: bytes) -> Any:
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))


def _delete_if_owned(key: bytes, owner: bytes) -> Any:
    """An index key goes only with the owner that it names."""
    mine = rpc.Compare(result="EQUAL", target="VALUE", key=key, value=owner)
    return rpc.RequestOp(request_txn=rpc.TxnRequest(compare=[mine], success=[_delete(key)]))
