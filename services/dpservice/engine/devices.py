"""Programs on network devices: guests' ports, and uplinks with the choice of where tunnels end."""

from __future__ import annotations

import errno

from services.common.logs import get_logger
from services.dpservice.engine import hooks, libbpf
from services.dpservice.engine.codec import u32
from services.dpservice.engine.ingress import attach_ingress
from services.dpservice.engine.interface import Delivery, GuestLink, UplinkState
from services.dpservice.engine.merger import IN, OUT, make_merger
from services.dpservice.engine.offloads import enable_gro, sends_whole

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
        attach_ingress(link.ifindex, self._object.program("from_guest"))

    def set_uplink(self, index: int, state: UplinkState | None, *, serves_taps: bool) -> None:
        """Notes an uplink's state and attaches programs. Raises OSError.

        A TAP can't take GSO packets that bear the state of a tunnel: the kernel would cut them in software. Taken off
        in the driver, before segments are merged, the outer header leaves no such state. A veth has to copy every
        packet for XDP: it does without as long as there are no such guests (a veth guest takes everything), and when
        it carries whole GSO packets, only these take a detour to be merged anew.
        """
        old = self.uplinks.get(index)
        if state is None:
            self.uplinks.pop(index, None)
            return
        self.uplinks[index] = state
        if old is not None and old.ifindex == state.ifindex:
            return
        attach_ingress(state.ifindex, self._object.program("from_uplink"))
        self._unwrapping_early.discard(state.ifindex)
        if state.is_veth and not serves_taps:
            hooks.detach_xdp(state.ifindex)  # that of an earlier process, which had other guests
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
        if uplink.is_veth and self._merges_aside(uplink):
            self._unwrapping_early.add(uplink.ifindex)
            return
        try:
            enable_gro(uplink.name)  # a guest must not get a frame for every segment
        except OSError as error:
            log.warning("received segments will not be merged", ifname=uplink.name, error=str(error))
        try:
            hooks.attach_xdp(uplink.ifindex, self._object.program("unwrap_early"))
            way = "xdp"
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ERANGE, errno.ENOMEM):
                raise
            way = "tc"  # the driver has no XDP: segments reach TAP guests one by one
        self._unwrapping_early.add(uplink.ifindex)
        log.info("uplink attached", ifname=uplink.name, decapsulation=way)

    def _merges_aside(self, uplink: UplinkState) -> bool:
        """Sends large packets of an uplink through a pair of devices that is there for that; False: it can't."""
        try:
            if not sends_whole(uplink.name):
                return False
            entry, exit_ = make_merger()
            enable_gro(OUT)
            hooks.attach_xdp(exit_, self._object.program("unwrap_early"))
            attach_ingress(exit_, self._object.program("from_uplink"))
            self._object.map("merger").put(u32(0), u32(entry))
        except OSError as error:
            log.warning("large packets take no detour", ifname=uplink.name, error=str(error))
            return False
        hooks.detach_xdp(uplink.ifindex)  # that of an earlier process
        log.info("uplink attached", ifname=uplink.name, decapsulation=f"tc, large packets by {IN}")
        return True
