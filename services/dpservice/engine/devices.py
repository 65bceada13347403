"""Programs on network devices: guests' ports, and uplinks with the choice of where tunnels end."""

from __future__ import annotations

import errno

from services.common.logs import get_logger
from services.dpservice.engine import hooks, libbpf
from services.dpservice.engine.codec import Codec, u32
from services.dpservice.engine.detour import Detour, make_detour
from services.dpservice.engine.ingress import attach_ingress, reserve_ingress
from services.dpservice.engine.interface import Delivery, GuestLink, UplinkState
from services.dpservice.engine.offloads import enable_gro, sends_whole

log = get_logger(__name__)


class Devices:
    """Where guests and uplinks are now; attaching replaces what an earlier process left, in one step."""

    def __init__(self, loaded: libbpf.Object, codec: Codec) -> None:
        self._object, self._layout = loaded, codec.layouts["detour"]
        self._from_guest, self._from_uplink = loaded.program("from_guest"), loaded.program("from_uplink")
        self._standing_by = loaded.program("standing_by")
        self.guests: dict[str, GuestLink] = {}
        self.uplinks: dict[int, UplinkState] = {}
        self._merging: set[int] = set()  # ifindexes
        self._made: Detour | None = None
        self._has_detour: bool | None = None

    def prepare(self, ifindex: int, delivery: Delivery | None) -> None:
        """Does ahead what changes nothing for packets. Raises OSError."""
        reserve_ingress(ifindex, self._standing_by)
        if delivery is Delivery.REDIRECT and self._made is None:
            self._made = make_detour()

    def set_guest(self, device: str, link: GuestLink | None) -> None:
        """Notes where a device is and attaches the program there. Raises OSError."""
        if link is None:
            self.guests.pop(device, None)
            return
        self.guests[device] = link
        attach_ingress(link.ifindex, self._from_guest)
        if link.delivery is Delivery.REDIRECT:
            self._detour()  # now, so that the first guest does not wait for it

    def set_uplink(self, index: int, state: UplinkState | None, *, serves_taps: bool) -> None:
        """Notes an uplink's state and attaches programs. Raises OSError."""
        old = self.uplinks.get(index)
        if state is None:
            self.uplinks.pop(index, None)
            return
        self.uplinks[index] = state
        if old is not None and old.ifindex == state.ifindex:
            return
        attach_ingress(state.ifindex, self._from_uplink)
        self._merging.discard(state.ifindex)
        if serves_taps:
            self._merge(state)
        else:
            hooks.detach_xdp(state.ifindex)  # that of an earlier process, which had other guests
            log.info("uplink attached", ifname=state.name)

    def serve_taps(self, link: GuestLink) -> None:
        """A guest has come: if it is a TAP's, uplinks get large packets to them from now on."""
        if link.delivery is Delivery.REDIRECT:
            for uplink in self.uplinks.values():
                if uplink.ifindex not in self._merging:
                    self._merge(uplink)

    def _merge(self, uplink: UplinkState) -> None:
        """Sees to it that TAPs get large packets of what an uplink receives.

        A TAP can't take GSO packets that bear the state of a tunnel: the kernel would cut them in software. They take
        a detour where they lose it; on a kernel that has none, the outer header goes in the driver, before segments
        are merged.
        """
        self._merging.add(uplink.ifindex)
        try:
            if not (uplink.is_veth and sends_whole(uplink.name)):  # whose other end sends large packets as they are
                enable_gro(uplink.name)
        except OSError as error:
            log.warning("received segments will not be merged", ifname=uplink.name, error=str(error))
        if self._detour():
            hooks.detach_xdp(uplink.ifindex)  # that of an earlier process
            log.info("uplink attached", ifname=uplink.name, large_packets_for_taps="detour")
            return
        try:
            hooks.attach_xdp(uplink.ifindex, self._object.program("unwrap_early"))
            way = "xdp"
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ERANGE, errno.ENOMEM):
                raise
            way = "cut"  # the driver has no XDP: TAP guests get segments one by one
        log.info("uplink attached", ifname=uplink.name, large_packets_for_taps=way)

    def _detour(self) -> bool:
        """Makes the detour, if it was not tried before; False: this kernel can't."""
        if self._has_detour is not None:
            return self._has_detour
        self._has_detour = False
        try:
            detour = self._made or make_detour()
            hooks.attach_egress(detour.ifindex, self._object.program("from_detour"))
            self._object.map("detour_uses").put_per_cpu(u32(0), 0)
            self._object.map("detours").put(u32(0), self._layout.pack(ifindex=detour.ifindex, mac=detour.mac))
        except OSError as error:
            log.warning("large packets for TAPs take no detour", error=str(error))
            return False
        self._has_detour = True
        return True
