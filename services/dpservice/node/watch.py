"""Keeps the engine's picture of devices and routers true: a thread woken by netlink that looks, compares and tells.

Level-triggered: an event only wakes it, what counts is the dump. Devices may come, go and change their ifindex at any
time; a guest's TAP loses carrier when QEMU closes it, which changes nothing here.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Mapping, Sequence
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
DISCARD_PORT: Final = 9  # RFC 863
ADDR_GEN_MODE_NONE: Final = 1
TUNNEL_OVERHEAD: Final = 40  # bytes of outer IPv6 header


class NodeWatcher:
    """Watches the guests' devices (gRPC name to netdev) and the uplinks, in the order PF0, PF1."""

    def __init__(self, engine: Engine, devices: Mapping[str, str], uplinks: Sequence[str], guest_mtu: int) -> None:
        self._engine, self._devices, self._uplinks, self._guest_mtu = engine, dict(devices), tuple(uplinks), guest_mtu
        self._guests_told: dict[str, GuestLink] = {}
        self._uplinks_told: dict[int, UplinkState] = {}
        self._uplinks_missed: set[int] = set()
        self._routers: dict[int, bytes] = {}
        self._backoff = Backoff(PROBE_FIRST_SECONDS, PROBE_LIMIT_SECONDS)
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="node-watcher", daemon=True)
        self._first = threading.Event()

    def start(self) -> None:
        """Returns when the engine knows what is there now. Raises TimeoutError."""
        self._thread.start()
        if not self._first.wait(START_SECONDS + START_SECONDS_A_DEVICE * len(self._devices)):
            raise TimeoutError("the kernel's network devices could not be read")

    def guest_link(self, device: str) -> tuple[str, GuestLink] | None:
        """The netdev of a guest device as it was last seen."""
        link = self._guests_told.get(device)
        return (self._devices[device], link) if link is not None else None

    def stop(self) -> None:
        """Ends the thread."""
        os.write(self._stop_write, b"x")
        self._thread.join(5)

    def _run(self) -> None:
        again = Backoff(0.1, 5.0)
        while True:
            try:
                self._watch(again)
                return
            except Exception as error:  # a kernel that answers badly today may not tomorrow
                log.warning("watching devices failed", error=f"{type(error).__name__}: {error}")
                if select.select([self._stop_read], [], [], again.next())[0]:
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
                self._first.set()
                ready, _, _ = select.select([events.fileno(), self._stop_read], [], [], wait)
                if self._stop_read in ready or select.select([self._stop_read], [], [], SETTLE_SECONDS)[0]:
                    return
                _drain(events)

    def _look(self, netlink: Any) -> float | None:
        """One pass; returns after how many seconds to look again even without an event."""
        # All is read before anything is told: where another instance's programs are replaced, packets of new flows are
        # lost between the guests' programs and the uplinks', and a dump takes longer than all of these.
        links = read_links(netlink.link("dump"))
        neighbors = read_neighbors(netlink.neigh("dump", family=socket.AF_INET6))
        gateways = read_gateways(netlink.route("dump", family=socket.AF_INET6))
        searching = False
        for device, name in self._devices.items():
            try:
                self._tell_guest(netlink, device, links.get(name))
            except Exception as error:  # one bad device must not keep the others from their programs
                log.warning("guest device not attached", device=device, ifname=name, error=str(error))
                searching = True
        for index, name in enumerate(self._uplinks):
            link = links.get(name)
            if link is not None:
                router = router_of(link.ifindex, neighbors, gateways, self._routers)
                self._routers[link.ifindex] = router
                if not router and link.carrier:
                    searching = True
                    _probe(link.ifindex, gateways)
            self._tell_uplink(index, name, link)
        if not searching:
            self._backoff.reset()
            return None
        return self._backoff.next()

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
            log.info("guest device attached", device=device, ifname=link.name, delivery=guest.delivery.value)

    def _tell_uplink(self, index: int, name: str, link: Link | None) -> None:
        told = self._uplinks_told.get(index)
        if link is None:
            if told is not None or index not in self._uplinks_missed:
                self._engine.set_uplink(index, None)
                self._uplinks_told.pop(index, None)
                self._uplinks_missed.add(index)
                log.warning("uplink is not there", uplink=index, ifname=name)
            return
        self._uplinks_missed.discard(index)
        router = self._routers.get(link.ifindex, b"")
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
