"""Learned routes into the data plane, for the networks that interfaces of this host are in.

Each network has a table, a lock and at most one writer. Interfaces are made and removed under the same lock, since the
data plane drops a network's routes with its last interface; after each such change the writer looks at what is left.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from ipaddress import IPv6Address, ip_network
from typing import Final

from prometheus_client import Counter, Gauge

from services.apimachinery.runtime.queue import WorkQueue
from services.apimachinery.runtime.schedule import RetryPolicy
from services.common.logs import get_logger
from services.metalbond.client import Change, MetalbondClient, NextHopType, Route, RouteChange
from services.metalbond.client import Vni as BondVni
from services.metalnet.agent.dataplane import (
    ROUTE_BAD_PORT,
    ROUTE_EXISTS,
    ROUTE_NOT_FOUND,
    Dataplane,
    DataplaneError,
    NotSupported,
    Refused,
)
from services.metalnet.model.overlay import InterfaceId, Prefix, UnderlayAddress, Vni, Wanted
from services.metalnet.model.route_table import RouteTable, RouteWrite

log = get_logger(__name__)

AT_ONCE: Final = 64
WRITERS: Final = 4
SETTLE_SECONDS: Final = 15.0  # peers are back at a restarted reflector within 9 s (the original) or 12 s (ours)
DEFAULT_IPV4: Final = ip_network("0.0.0.0/0")
DEFAULT_IPV6: Final = ip_network("::/0")

WRITES = Counter("ferrite_metalnet_route_writes", "Routes written to the data plane, by result.", ["result"])
PROGRAMMED = Gauge("ferrite_metalnet_routes", "Routes to other hosts in the data plane.")


class RouteInstaller:
    """`router` is the next hop of default routes while nobody announces one in the public network."""

    def __init__(
        self,
        dataplane: Dataplane,
        bond: MetalbondClient,
        *,
        public_vni: Vni,
        router: UnderlayAddress | None,
        ipv6: bool,
        settle: float = SETTLE_SECONDS,
    ) -> None:
        self._dataplane, self._bond = dataplane, bond
        self._public_vni, self._settle = public_vni, settle
        self._router = frozenset({router} if router else ())
        self._default_prefixes = (DEFAULT_IPV4, DEFAULT_IPV6) if ipv6 else (DEFAULT_IPV4,)
        self._default_routes: set[tuple[Prefix, UnderlayAddress]] = set()
        self._tables: dict[Vni, RouteTable] = {}
        self._locks: defaultdict[Vni, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._unsure: set[Vni] = set()
        self._settled = False
        self._queue: WorkQueue[Vni] = WorkQueue("metalnet-routes", RetryPolicy(first=0.1, limit=10.0))

    async def run(self) -> None:
        """Follows and writes until cancelled."""
        self._bond.subscribe(BondVni(self._public_vni))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(), name="learned routes")
            tasks.create_task(self._sweep(), name="route sweep")
            for number in range(WRITERS):
                tasks.create_task(self._work(), name=f"route writer {number}")

    def look_again(self, vnis: Iterable[Vni] = ()) -> None:
        """Compares the data plane with the tables: those of `vnis` and all that are known."""
        for vni in {*vnis, *self._tables}:
            self._look_at(vni)

    @asynccontextmanager
    async def changing(self, vni: Vni) -> AsyncIterator[None]:
        """The caller makes or removes interfaces of the network, and nobody writes its routes meanwhile.

        The network is subscribed to from here on, so that its routes are on their way before an interface is ready.
        """
        async with self._locks[vni]:
            self._table(vni)
            self._bond.subscribe(BondVni(vni))
            try:
                yield
            finally:
                self._look_at(vni)

    async def make_room(self, wanted: Wanted) -> None:
        """Inside of `changing`: removes routes to other hosts for what belongs to the interface now, for example when
        a machine moves here. Raises DataplaneError."""
        prefixes = [*wanted.hosts, *wanted.prefixes]
        table = self._table(wanted.vni)
        table.own(wanted.id, prefixes)
        for write in table.take_only(prefixes):
            await self._write(wanted.vni, table, write)

    def own(self, wanted: Wanted) -> None:
        """The interface has these addresses and prefixes already."""
        self._table(wanted.vni).own(wanted.id, [*wanted.hosts, *wanted.prefixes])

    def disown(self, owner: InterfaceId) -> None:
        """The interface is gone: its prefixes may be elsewhere."""
        for vni, table in self._tables.items():
            table.disown(owner)
            self._queue.add(vni)

    async def _follow(self) -> None:
        async for change in self._bond.changes():
            self._apply(change)

    def _apply(self, change: RouteChange) -> None:
        route, vni = change.route, Vni(change.route.vni)
        hop = _standard_hop(route)
        if hop is None:
            return
        if vni == self._public_vni:
            self._apply_default(route.destination, hop, change.kind)
            return
        table = self._table(vni)
        if change.kind is Change.ADDED:
            table.learn(route.destination, hop)
        else:
            table.forget(route.destination, hop)
        if table.idle:
            self._tables.pop(vni)
        else:
            self._queue.add(vni)

    def _apply_default(self, prefix: Prefix, hop: UnderlayAddress, kind: Change) -> None:
        """Routers announce themselves in the public network; its other routes concern edge routers only."""
        if prefix.prefixlen:
            return
        (self._default_routes.add if kind is Change.ADDED else self._default_routes.discard)((prefix, hop))
        log.info("default routers changed", routers=sorted(str(hop) for hop in self._routers))
        for vni, table in self._tables.items():
            table.set_defaults(self._default_prefixes, self._routers)
            self._queue.add(vni)

    @property
    def _routers(self) -> frozenset[UnderlayAddress]:
        return frozenset(hop for _, hop in self._default_routes) or self._router

    def _table(self, vni: Vni) -> RouteTable:
        table = self._tables.get(vni)
        if table is None:
            table = self._tables[vni] = RouteTable()
            table.set_defaults(self._default_prefixes, self._routers)
        return table

    def _look_at(self, vni: Vni) -> None:
        self._unsure.add(vni)
        self._queue.add(vni)

    async def _work(self) -> None:
        while True:
            vni = await self._queue.take()
            try:
                async with self._locks[vni]:
                    more = await self._work_on(vni)
                self._queue.forget(vni)
                if more:
                    self._queue.add(vni)
            except DataplaneError as error:
                delay = self._queue.retry(vni)
                log.warning("routes are not in place", vni=vni, error=str(error), again_in=round(delay, 2))
            finally:
                self._queue.done(vni)

    async def _work_on(self, vni: Vni) -> bool:
        """True when there is more to write."""
        table = self._table(vni)
        if vni in self._unsure:
            await self._look(vni, table)
        writes = table.take(AT_ONCE)
        results = await asyncio.gather(*(self._write(vni, table, write) for write in writes), return_exceptions=True)
        PROGRAMMED.set(sum(len(each.programmed) for each in self._tables.values()))
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return table.pending > 0

    async def _look(self, vni: Vni, table: RouteTable) -> None:
        if any(port.vni == vni for port in await self._dataplane.interfaces()):
            self._bond.subscribe(BondVni(vni))
            table.activate(await self._dataplane.routes(vni), keep_unknown=not self._settled)
        else:
            table.deactivate()
            if vni != self._public_vni:
                self._bond.unsubscribe(BondVni(vni))
        self._unsure.discard(vni)

    async def _write(self, vni: Vni, table: RouteTable, write: RouteWrite) -> None:
        has = write.before
        try:
            if write.before and write.after and await self._replace(vni, write.prefix, write.after):
                has = write.after
            else:
                if write.before is not None:
                    await self._dataplane.delete_route(vni, write.prefix)
                    has = None
                if write.after is not None and await self._create(vni, write.prefix, write.after):
                    has = write.after
        except BaseException:
            # Also when cancelled: whether the data plane has it is found out by the next look.
            self._unsure.add(vni)
            table.failed(write, has)
            WRITES.labels("error").inc()
            raise
        table.wrote(RouteWrite(write.prefix, write.before, has))
        WRITES.labels("done").inc()
        log.debug("route written", vni=vni, prefix=str(write.prefix), before=str(write.before), after=str(has))

    async def _replace(self, vni: Vni, prefix: Prefix, hop: UnderlayAddress) -> bool:
        """False when it takes two steps: the data plane can't do it in one, or doesn't have the route any more."""
        try:
            await self._dataplane.replace_route(vni, prefix, hop)
        except NotSupported:
            return False
        except Refused as refusal:
            if refusal.code not in (ROUTE_NOT_FOUND, ROUTE_BAD_PORT):
                raise
            return False
        return True

    async def _create(self, vni: Vni, prefix: Prefix, hop: UnderlayAddress) -> bool:
        """False when the prefix belongs to an interface of this host, whose own route wins."""
        try:
            await self._dataplane.create_route(vni, prefix, hop)
        except Refused as refusal:
            if refusal.code != ROUTE_EXISTS:
                raise
            if not await self._dataplane.delete_route(vni, prefix):
                log.warning("route hides behind an interface of this host", vni=vni, prefix=str(prefix), hop=str(hop))
                return False
            await self._dataplane.create_route(vni, prefix, hop)
        return True

    async def _sweep(self) -> None:
        """Routes from an earlier life of the agent go once everybody had time to announce them again."""
        if self._bond.servers:
            await self._bond.wait_established()
            await asyncio.sleep(self._settle)
        self._settled = True
        log.info("routes settled")
        for vni, table in self._tables.items():
            table.sweep()
            self._queue.add(vni)


def _standard_hop(route: Route) -> UnderlayAddress | None:
    """The next hop of a plain route; None for what the data plane is not given."""
    if route.next_hop.type != NextHopType.STANDARD:
        return None
    if not isinstance(route.next_hop.address, IPv6Address):
        log.warning("route was ignored, its next hop is not IPv6", route=str(route))
        return None
    return UnderlayAddress(route.next_hop.address)
