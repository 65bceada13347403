"""Programs on network devices: guests' ports, and uplinks with the choice of where tunnels end."""

from __future__ import annotations

import errno

from services.common.logs import get_logger
from services.dpservice.engine import libbpf
from services.dpservice.engine.interface import Delivery, GuestLink, UplinkState
from services.dpservice.engine.offloads import enable_gro

log = get_logger(__name__)


class Devices:
    """Where guests and uplinks are now; attaching replaces what an earlier process left, in one step."""

    def __init__(self, loaded: libbpf.Object) -> None:
        self._object = loaded
        self.guests: dict[str, GuestLink] = {}
        self.uplinks: dict[int, UplinkState] = {}
        self._unwrapping_early: set[int] = set()  # ifindexes

    def set_guest(self, device: str, link: GuestLink | None) -> None:
        """Notes where a device is and attaches the program there. Raises OSError."""
        if link is None:
            self.guests.pop(device, None)
            return
        self.guests[device] = link
        libbpf.attach_ingress(link.ifindex, self._object.program("from_guest"))

    def set_uplink(self, index: int, state: UplinkState | None, *, serves_taps: bool) -> None:
        """Notes an uplink's state and attaches programs. Raises OSError.

        A TAP can't take GSO packets that bear the state of a tunnel: the kernel would cut them in software. Taken off
        in the driver, before segments are merged, the outer header leaves no such state. For a veth, which has to copy
        every packet for XDP, that is worth its price only when there are such guests; a veth guest takes everything.
        """
        old = self.uplinks.get(index)
        if state is None:
            self.uplinks.pop(index, None)
            return
        self.uplinks[index] = state
        if old is not None and old.ifindex == state.ifindex:
            return
        libbpf.attach_ingress(state.ifindex, self._object.program("from_uplink"))
        self._unwrapping_early.discard(state.ifindex)
        if state.is_veth and not serves_taps:
            libbpf.detach_xdp(state.ifindex)  # that of an earlier process, which had other guests
            log.info("uplink attached", ifname=state.name, decapsulation="tc")
        else:
            self._unwrap_early(state)

    def serve_taps(self, link: GuestLink) -> None:
        """A guest has come: if it is a TAP's, uplinks unwrap early from now on, until the process ends."""
        if link.delivery is Delivery.REDIRECT:
            for uplink in self.uplinks.values():
                self._unwrap_early(uplink)

    def _unwrap_early(self, uplink: UplinkState) -> None:
        if uplink.ifindex in self._unwrapping_early:
            return
        try:
            enable_gro(uplink.name)  # a guest must not get a frame for every segment
        except OSError as error:
            log.warning("received segments will not be merged", ifname=uplink.name, error=str(error))
        try:
            libbpf.attach_xdp(uplink.ifindex, self._object.program("unwrap_early"))
            way = "xdp"
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ERANGE, errno.ENOMEM):
                raise
            way = "tc"  # the driver has no XDP: segments reach TAP guests one by one
        self._unwrapping_early.add(uplink.ifindex)
        log.info("uplink attached", ifname=uplink.name, decapsulation=way)
