"""Sends the gateway's announcements out of the guests' devices: often after the start, then rarely."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Final

from services.common.logs import get_logger
from services.dpservice.dataplane import Dataplane
from services.dpservice.engine.interface import Engine
from services.dpservice.guest.announce import arp_announcement, neighbor_announcement, router_announcement
from services.dpservice.model.rows import Interface
from services.dpservice.node.watch import NodeWatcher

log = get_logger(__name__)

TICK_SECONDS: Final = 5.0
FAST_TICKS: Final = 6  # with an announcement each, from the start and from every Initialize on
SLOW_TICKS: Final = 6  # from one announcement to the next thereafter


class Announcer:
    """A thread; `ipv6` adds neighbor and router advertisements. `count` hears how many frames were sent."""

    def __init__(
        self, dataplane: Dataplane, engine: Engine, watcher: NodeWatcher, count: Callable[[int], None], *, ipv6: bool
    ) -> None:
        self._dataplane, self._engine, self._watcher, self._ipv6 = dataplane, engine, watcher, ipv6
        self._count = count
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)

    def start(self) -> None:
        """Begins with the fast rounds."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        ticks, initializations = 0, 0
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC) as sender:
            while not self._stop.wait(TICK_SECONDS):
                if self._dataplane.initializations != initializations:
                    ticks, initializations = 0, self._dataplane.initializations
                ticks += 1
                if ticks > FAST_TICKS and ticks % SLOW_TICKS:
                    continue
                for interface in self._dataplane.read(lambda model: model.interfaces()):
                    self._announce(sender, interface)

    def _announce(self, sender: socket.socket, interface: Interface) -> None:
        found = self._watcher.guest_link(interface.device)
        if found is None:
            return
        name, link = found
        frames = []
        if interface.ipv4 is not None:
            known = self._engine.knows_guest(interface.port)
            frames.append(arp_announcement(link.mac, interface.ipv4, known=known))
        if interface.ipv6 is not None and self._ipv6:
            frames += [neighbor_announcement(link.mac), router_announcement(link.mac)]
        try:
            for frame in frames:
                sender.sendto(frame, (name, 0))
                self._count(1)
        except OSError as error:  # the device went down or away: the next round knows
            log.debug("announcement not sent", ifname=name, error=str(error))
