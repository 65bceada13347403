"""The routes of one overlay network on this host: what was learned, and what the data plane has of it.

The data plane takes one next hop for a prefix; several hosts may announce the same prefix, for example while a machine
moves. All next hops are kept and the lowest is programmed, so that every host chooses alike and losing one falls back
on another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from services.metalnet.model.overlay import InterfaceId, Prefix, UnderlayAddress


@dataclass(frozen=True)
class RouteWrite:
    """A prefix whose next hop has to become `after`; `before` is what the data plane has. None = no route."""

    prefix: Prefix
    before: UnderlayAddress | None
    after: UnderlayAddress | None


class RouteTable:
    """Pure. The caller takes writes, carries them out and says for each how it ended.

    Routes that are found in the data plane though nobody announced them to us yet are kept until `sweep`: after a
    restart of the agent they may still be good.
    """

    def __init__(self) -> None:
        self._learned: dict[Prefix, set[UnderlayAddress]] = {}
        self._defaults: dict[Prefix, frozenset[UnderlayAddress]] = {}
        self._programmed: dict[Prefix, UnderlayAddress] = {}
        self._local: dict[InterfaceId, frozenset[Prefix]] = {}
        self._kept: set[Prefix] = set()
        self._dirty: dict[Prefix, None] = {}
        self.active = False

    @property
    def programmed(self) -> Mapping[Prefix, UnderlayAddress]:
        """What the data plane has."""
        return self._programmed

    @property
    def pending(self) -> int:
        """Prefixes that may need a write; none while the data plane does not have the network."""
        return len(self._dirty) if self.active else 0

    @property
    def idle(self) -> bool:
        """Nothing is learned, nobody uses it."""
        return not self.active and not self._learned and not self._local

    def learn(self, prefix: Prefix, hop: UnderlayAddress) -> None:
        """Somebody announces the prefix."""
        self._learned.setdefault(prefix, set()).add(hop)
        self._kept.discard(prefix)
        self._touch(prefix)

    def forget(self, prefix: Prefix, hop: UnderlayAddress) -> None:
        """The announcement is gone."""
        hops = self._learned.get(prefix, set())
        hops.discard(hop)
        if not hops:
            self._learned.pop(prefix, None)
        self._touch(prefix)

    def set_defaults(self, prefixes: Iterable[Prefix], hops: frozenset[UnderlayAddress]) -> None:
        """Next hops of these prefixes where nobody announces them in this network."""
        wanted = {prefix: hops for prefix in prefixes if hops}
        for prefix in wanted.keys() | self._defaults.keys():
            self._kept.discard(prefix)
            self._touch(prefix)
        self._defaults = wanted

    def own(self, owner: InterfaceId, prefixes: Iterable[Prefix]) -> None:
        """These prefixes belong to an interface of this host: the data plane has their routes by itself."""
        before, after = self._local.get(owner, frozenset()), frozenset(prefixes)
        self._local[owner] = after
        for prefix in before ^ after:
            self._kept.discard(prefix)
            self._touch(prefix)

    def disown(self, owner: InterfaceId) -> None:
        """The interface is gone."""
        for prefix in self._local.pop(owner, frozenset()):
            self._touch(prefix)

    def activate(self, present: Mapping[Prefix, UnderlayAddress], *, keep_unknown: bool) -> None:
        """The data plane has the network, with these routes. Also for a later look at what it really has."""
        self.active = True
        self._programmed = dict(present)
        self._kept = {prefix for prefix in present if keep_unknown and self._best(prefix) is None}
        for prefix in self._learned.keys() | self._defaults.keys() | present.keys():
            self._touch(prefix)

    def deactivate(self) -> None:
        """The network is gone from the data plane, with its routes."""
        self.active = False
        self._programmed.clear()
        self._kept.clear()
        self._dirty.clear()

    def sweep(self) -> None:
        """Everybody had time to announce: what nobody did has to go."""
        for prefix in self._kept:
            self._touch(prefix)
        self._kept.clear()

    def take(self, limit: int) -> list[RouteWrite]:
        """Up to `limit` writes that are due; each prefix is taken once until it changes again."""
        return list(self._writes(limit)) if self.active else []

    def take_only(self, prefixes: Iterable[Prefix]) -> list[RouteWrite]:
        """The writes due for these prefixes."""
        found = [self._write_of(prefix) for prefix in prefixes if self.active]
        return [write for write in found if write is not None]

    def wrote(self, write: RouteWrite) -> None:
        """The data plane has `after` now."""
        if write.after is None:
            self._programmed.pop(write.prefix, None)
        else:
            self._programmed[write.prefix] = write.after

    def failed(self, write: RouteWrite, has: UnderlayAddress | None) -> None:
        """The write did not work out, the data plane was left with `has`; it is due again."""
        self.wrote(RouteWrite(write.prefix, write.before, has))
        self._touch(write.prefix)

    def _writes(self, limit: int) -> Iterator[RouteWrite]:
        while self._dirty and limit > 0:
            write = self._write_of(next(iter(self._dirty)))
            if write is not None:
                limit -= 1
                yield write

    def _write_of(self, prefix: Prefix) -> RouteWrite | None:
        self._dirty.pop(prefix, None)
        before, after = self._programmed.get(prefix), self._wanted(prefix)
        return None if before == after else RouteWrite(prefix, before, after)

    def _wanted(self, prefix: Prefix) -> UnderlayAddress | None:
        if any(prefix in owned for owned in self._local.values()):
            return None
        if prefix in self._kept:
            return self._programmed.get(prefix)
        return self._best(prefix)

    def _best(self, prefix: Prefix) -> UnderlayAddress | None:
        hops = self._learned.get(prefix) or self._defaults.get(prefix)
        return min(hops) if hops else None

    def _touch(self, prefix: Prefix) -> None:
        self._dirty[prefix] = None
