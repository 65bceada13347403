"""Routes in their two tries, one by one and many at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Final

from services.dpservice.engine import libbpf
from services.dpservice.engine.codec import ROUTE_KEY_HEADS, Codec, route_bucket, route_key
from services.dpservice.model.changes import RouteChanges, RouteTables, Rows, route_prefix
from services.dpservice.model.keys import RouteKey
from services.dpservice.model.rows import Hop, LocalHop

FEW: Final = 8  # routes that are changed one by one: a batch has costs of its own
MANY: Final = 256  # routes whose flows are not worth to be told apart


class RouteMaps:
    """`bump` makes the flows of a bucket look for their way again; 0 are all flows."""

    def __init__(self, loaded: libbpf.Object, codec: Codec, bump: Callable[[int], None]) -> None:
        self._maps = {4: loaded.map("routes4"), 6: loaded.map("routes6")}
        self._codec, self._bump = codec, bump
        self._hop = lru_cache(65536)(self._pack_hop)  # next hops are few and routes many
        self._counts = {version: sum(1 for _ in found.items()) for version, found in self._maps.items()}

    def _pack_hop(self, hop: Hop, is_default: bool) -> bytes:
        return self._codec.hop(hop, is_default=is_default)

    def change(self, changes: RouteChanges) -> None:
        """Removes and puts routes. Raises OSError; some are changed then.

        A local route also says what a guest may send from, so when one goes all flows have to be looked at.
        """
        vni, version, before, after = changes
        gone = [number for number in before if number not in after]
        count = len(gone) + len(after)
        (self._change_few if count <= FEW else self._change_many)(changes, gone)
        self._counts[version] += len(after) - len(before)
        if count > MANY or LocalHop in map(type, before.values()):
            self._bump(0)
            return
        buckets = {route_bucket(vni, version, number) for number in (*gone, *after)}
        for bucket in {0} if 0 in buckets else buckets:
            self._bump(bucket)

    def _change_few(self, changes: RouteChanges, gone: Iterable[int]) -> None:
        vni, version, _, after = changes
        table = self._maps[version]
        for number in gone:
            table.remove(route_key(vni, version, number))
        for number, hop in after.items():
            table.put(route_key(vni, version, number), self._hop(hop, not number & 0xFF))

    def _change_many(self, changes: RouteChanges, gone: Iterable[int]) -> None:
        table = self._maps[changes.version]
        table.remove_many(b"".join(self._keys(changes, gone)))
        values: dict[tuple[Hop, bool], bytes] = {}
        packed = []
        for number, hop in changes.after.items():
            is_default = not number & 0xFF
            raw = values.get((hop, is_default))
            if raw is None:
                raw = values[hop, is_default] = self._hop(hop, is_default)
            packed.append(raw)
        table.put_many(b"".join(self._keys(changes, changes.after)), b"".join(packed))

    def _keys(self, changes: RouteChanges, numbers: Iterable[int]) -> Iterator[bytes]:
        """As `route_key`, for a million."""
        vni = changes.vni.to_bytes(4, "big")
        heads = [head + vni for head in ROUTE_KEY_HEADS]
        size = 4 if changes.version == 4 else 16
        for number in numbers:
            yield heads[number & 0xFF] + (number >> 8).to_bytes(size, "big")

    def tables(self) -> RouteTables:
        """All routes in their compact form."""
        found: RouteTables = {}
        hops: dict[bytes, Hop] = {}
        for version, table in self._maps.items():
            for key, raw in table.items():
                vni, number = self._codec.read_route_number(key)
                if raw not in hops:
                    hops[raw] = self._codec.read_hop(raw)
                found.setdefault((vni, version), {})[number] = hops[raw]
        return found

    def rows(self) -> Rows:
        """All routes as rows."""
        return {
            RouteKey(vni, route_prefix(number, version)): hop
            for (vni, version), hops in self.tables().items()
            for number, hop in hops.items()
        }

    def forget(self) -> None:
        """The tables have been emptied."""
        self._counts = dict.fromkeys(self._maps, 0)
        self._bump(0)

    def counts(self) -> dict[str, int]:
        """Routes by table."""
        return {f"routes{version}": count for version, count in self._counts.items()}
