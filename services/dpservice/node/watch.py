"""Keeps the engine's picture of devices and routers true: a thread woken by netlink that looks, compares and tells.

Level-triggered: an event only wakes it, what counts is the dump. Devices may come, go and change their ifindex at any
time; a guest's TAP loses carrier when QEMU closes it, which changes nothing here.

While an instance stands by it looks likewise, but instead of telling it prepares devices, so that start() has only to
tell what was seen.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pyroute2 import IPRoute

from services.common.logs import get_logger
from services.common.tasks import Backoff
from services.dpservice.engine.interface import Engine, GuestLink, UplinkState
from services.dpservice.node.links import Gateway, Link, read_gateways, read_links, read_neighbors, router_of

log = get_logger(__name__)

GROUPS: Final = 0x1 | 0x4 | 0x400  # RTMGRP_LINK, RTMGRP_NEIGH, RTMGRP_IPV6_ROUTE
SETTLE_SECONDS: Final = 0.02  # events come in bursts
PROBE_FIRST_SECONDS, PROBE_LIMIT_SECONDS = 1.0, 60.0
START_SECONDS: Final = 10.0
START_SECONDS_A_DEVICE: Final = 0.1  # the first program of a device waits for all CPUs, some 10 ms
LOOK, STOP = b"l", b"s"
DISCARD_PORT: Final = 9  # RFC 863
ADDR_GEN_MODE_NONE: Final = 1
TUNNEL_OVERHEAD: Final = 40  # bytes of outer IPv6 header


@dataclass(frozen=True)
class Seen:
    """Devices by name as they were a moment ago, and routers' MACs by the uplinks' ifindex."""

    links: dict[str, Link]
    routers: dict[int, bytes]


class NodeWatcher:
    """Watches the guests' devices (gRPC name to netdev) and the uplinks, in the order PF0, PF1."""

    def __init__(self, engine: Engine, devices: Mapping[str, str], uplinks: Sequence[str], guest_mtu: int) -> None:
        self._engine, self._devices, self._uplinks, self._guest_mtu = engine, dict(devices), tuple(uplinks), guest_mtu
        self._guests_told: dict[str, GuestLink] = {}
        self._uplinks_told: dict[int, UplinkState] = {}
        self._uplinks_missed: set[int] = set()
        self._attached: list[str] = []  # ifnames, in this pass
        self._prepared: set[int] = set()  # ifindexes
        self._seen: Seen | None = None
        self._serving, self._telling = threading.Event(), threading.Lock()
        self._backoff = Backoff(PROBE_FIRST_SECONDS, PROBE_LIMIT_SECONDS)
        self._woken, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._run, name="node-watcher", daemon=True)
        self._first = threading.Event()

    def stand_by(self) -> None:
        """Looks, but tells nothing until start()."""
        self._thread.start()

    def start(self) -> None:
        """Returns when the engine knows what is there now. Raises TimeoutError."""
        self._serving.set()
        if not self._thread.is_alive():
            self._thread.start()
        else:
            self._tell_what_was_seen()
            os.write(self._wake, LOOK)  # for what came since, and to try again what failed
        if not self._first.wait(START_SECONDS + START_SECONDS_A_DEVICE * len(self._devices)):
            raise TimeoutError("the kernel's network devices could not be read")

    def _tell_what_was_seen(self) -> None:
        """What fails is left to the thread, which tries again."""
        with self._telling, IPRoute() as netlink:
            if self._seen is None:
                return
            try:
                self._tell(netlink, self._seen)
            except Exception as error:
                log.warning("devices not attached at once", error=f"{type(error).__name__}: {error}")
            else:
                self._first.set()

    def guest_link(self, device: str) -> tuple[str, GuestLink] | None:
        """The netdev of a guest device as it was last seen."""
        link = self._guests_told.get(device)
        return (self._devices[device], link) if link is not None else None

    def stop(self) -> None:
        """Ends the thread."""
        os.write(self._wake, STOP)
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        again = Backoff(0.1, 5.0)
        while True:
            try:
                self._watch(again)
                return
            except Exception as error:  # a kernel that answers badly today may not tomorrow
                log.warning("watching devices failed", error=f"{type(error).__name__}: {error}")
                if self._stopped_within(again.next()):
                    return

    def _watch(self, again: Backoff) -> None:
        with (
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as events,
            IPRoute() as netlink,
        ):
            events.setblocking(False)
            events.bind((0, GROUPS))
            while True:
                wait = self._look(netlink)
                again.reset()
                ready, _, _ = select.select([events.fileno(), self._woken], [], [], wait)
                if self._stopped_within(0 if self._woken in ready else SETTLE_SECONDS):
                    return
                _drain(events)

    def _stopped_within(self, seconds: float) -> bool:
        """Waits, or less long if there is something to do."""
        ready, _, _ = select.select([self._woken], [], [], seconds)
        return bool(ready) and STOP in os.read(self._woken, len(LOOK + STOP))

    def _look(self, netlink: Any) -> float | None:
        """One pass; returns after how many seconds to look again even without an event."""
        # All is read before anything is told: where another instance's programs are replaced, packets of new flows are
        # lost between the guests' programs and the uplinks', and a dump takes longer than all of these.
        links = read_links(netlink.link("dump"))
        neighbors = read_neighbors(netlink.neigh("dump", family=socket.AF_INET6))
        gateways = read_gateways(netlink.route("dump", family=socket.AF_INET6))
        routers, searching = dict(self._seen.routers) if self._seen else {}, False
        for link in filter(None, map(links.get, self._uplinks)):
            routers[link.ifindex] = router_of(link.ifindex, neighbors, gateways, routers)
            if not routers[link.ifindex] and link.carrier:
                searching = True
                _probe(link.ifindex, gateways)
        seen = Seen(links, routers)
        with self._telling:
            self._seen = seen
            if self._serving.is_set():
                searching |= self._tell(netlink, seen)
                self._first.set()
        if not self._serving.is_set():
            self._prepare(links)
        if not searching:
            self._backoff.reset()
            return None
        return self._backoff.next()

    def _prepare(self, links: Mapping[str, Link]) -> None:
        """One by one, for it may be time to serve before all are ready."""
        guests = [(link, link.as_guest().delivery) for link in map(links.get, self._devices.values()) if link]
        uplinks = [(link, None) for link in map(links.get, self._uplinks) if link]
        for link, delivery in [*guests, *uplinks]:
            with self._telling:
                if self._serving.is_set():
                    return
                if link.ifindex in self._prepared:
                    continue
                self._prepared.add(link.ifindex)
                try:
                    self._engine.prepare(link.ifindex, delivery)
                except OSError as error:
                    log.warning("device not prepared", ifname=link.name, error=str(error))

    def _tell(self, netlink: Any, seen: Seen) -> bool:
        """Tells the engine; is a guest's device to be tried again?"""
        failed = False
        self._attached.clear()
        for device, name in self._devices.items():
            try:
                self._tell_guest(netlink, device, seen.links.get(name))
            except Exception as error:  # one bad device must not keep the others from their programs
                log.warning("guest device not attached", device=device, ifname=name, error=str(error))
                failed = True
        for index, name in enumerate(self._uplinks):
            self._tell_uplink(index, name, seen)
        if self._attached:  # at last: to write a line takes as long as to attach to a device
            log.info("guest devices attached", ifnames=" ".join(self._attached))
        return failed

    def _tell_guest(self, netlink: Any, device: str, link: Link | None) -> None:
        told = self._guests_told.get(device)
        if link is None:
            if told is not None:
                self._engine.set_guest_link(device, None)
                del self._guests_told[device]
                log.warning("guest device went away", device=device, ifname=self._devices[device])
            return
        if not link.is_up:
            # The host's own stack has no business on a guest's port: no link-local address, no solicitations.
            netlink.link("set", index=link.ifindex, IFLA_AF_SPEC=_no_ipv6())
            netlink.link("set", index=link.ifindex, state="up")
        guest = link.as_guest()
        if guest != told:
            self._engine.set_guest_link(device, guest)
            self._guests_told[device] = guest
            self._attached.append(link.name)

    def _tell_uplink(self, index: int, name: str, seen: Seen) -> None:
        told, link = self._uplinks_told.get(index), seen.links.get(name)
        if link is None:
            if told is not None or index not in self._uplinks_missed:
                self._engine.set_uplink(index, None)
                self._uplinks_told.pop(index, None)
                self._uplinks_missed.add(index)
                log.warning("uplink is not there", uplink=index, ifname=name)
            return
        self._uplinks_missed.discard(index)
        router = seen.routers.get(link.ifindex, b"")
        carrier = link.carrier and link.is_up
        state = UplinkState(name, link.ifindex, link.kind == "veth", link.mac, carrier, router, link.mtu)
        if state == told:
            return
        if told is None or told.ifindex != state.ifindex:
            self._check_mtu(link)
        self._engine.set_uplink(index, state)
        self._uplinks_told[index] = state
        log.info("uplink changed", uplink=index, ifname=name, carrier=state.carrier, router=router.hex(":"))

    def _check_mtu(self, link: Link) -> None:
        if link.mtu < self._guest_mtu + TUNNEL_OVERHEAD:
            log.warning("uplink's MTU is too small", ifname=link.name, mtu=link.mtu, guest_mtu=self._guest_mtu)


def _no_ipv6() -> dict[str, Any]:
    return {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", ADDR_GEN_MODE_NONE)]})]}


def _probe(ifindex: int, gateways: Sequence[Gateway]) -> None:
    """Makes the kernel resolve the gateways of an uplink: any packet to them will do."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        for address in {gateway.address for gateway in gateways if gateway.ifindex == ifindex}:
            try:
                probe.sendto(b"", (str(address), DISCARD_PORT, 0, ifindex if address.is_link_local else 0))
            except OSError as error:
                log.debug("probe not sent", gateway=str(address), error=str(error))


def _drain(events: socket.socket) -> None:
    while True:
        try:
            events.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:  # ENOBUFS: events were lost, and the next look makes up for them
            continue
