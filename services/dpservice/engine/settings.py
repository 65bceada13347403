"""What programs know of this host, and whose state the maps hold: the one entry of the map `settings`."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final
from uuid import UUID

from services.dpservice.engine.codec import Codec
from services.dpservice.engine.flows import ticks
from services.dpservice.engine.interface import PacketSettings, TableSizes
from services.dpservice.engine.libbpf import Map

FIRST: Final = bytes(4)  # the key of a map with one entry
LAYOUT_VERSION: Final = 4  # as in layout.h
FAIR_SHARE: Final = 4  # one port takes a quarter of a table at most, if nothing else is wanted


class Settings:
    """See the module's docstring. Maps that were just made have no generation."""

    def __init__(self, entry: Map, codec: Codec, sizes: TableSizes) -> None:
        self._entry = entry
        self._layout = codec.layouts["settings"]
        self._sizes = sizes

    def check_layout(self, bpf_root: Path) -> None:
        """Raises OSError if an earlier version left maps of another layout."""
        layout = self._layout.number(self._raw(), "layout")
        if self.generation() and layout != LAYOUT_VERSION:
            raise OSError(
                errno.EEXIST,
                f"the maps in {bpf_root} have layout {layout}, this version's is {LAYOUT_VERSION}: start with --cold",
            )

    def generation(self) -> str:
        """The uuid of the state, or ''."""
        uuid = UUID(bytes=self._layout.bytes(self._raw(), "generation"))
        return str(uuid).upper() if uuid.int else ""

    def start_generation(self, uuid: str) -> None:
        """The state is a new one; nothing is configured."""
        self._entry.put(FIRST, self._layout.pack(layout=LAYOUT_VERSION, generation=UUID(uuid).bytes))

    def configure(self, settings: PacketSettings) -> None:
        """For packets from now on."""
        flows = self._sizes.flows
        raw = self._layout.pack(
            layout=LAYOUT_VERSION,
            generation=UUID(self.generation()).bytes,
            underlay_prefix=settings.underlay_prefix,
            host=settings.host.packed if settings.host else bytes(16),
            flow_timeout=ticks(settings.flow_timeout),
            established_timeout=ticks(settings.established_timeout),
            flow_quota=_quota(settings.flow_quota, flows),
            host_flow_quota=settings.flow_quota or flows // 2,
            nat_quota=_quota(settings.nat_quota, self._sizes.nat_ports),
            first_uplink_slots=round(settings.wcmp / 10),
            check_sources=int(settings.check_sources),
            ipv6_overlay=int(settings.ipv6_overlay),
            firewall=int(settings.firewall),
            answers_per_second=settings.answers_per_second,
            has_services=int(bool(settings.virtual_services)),
        )
        self._entry.put(FIRST, raw)

    def _raw(self) -> bytes:
        return self._entry.get(FIRST) or b""


def _quota(given: int | None, capacity: int) -> int:
    """What one port may take of a table."""
    return capacity // FAIR_SHARE if given is None else given or capacity
