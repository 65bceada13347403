"""The tables of virtual services and of guests' sessions with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from services.dpservice.engine.codec import Codec, u32
from services.dpservice.engine.flows import now
from services.dpservice.engine.libbpf import Map
from services.dpservice.guest.virtual import SERVICE_LIMIT, VirtualService, service_underlay

EXPIRED: Final = 1 << 31  # of times in ticks, which begin anew after some years
PROTOCOLS: Final = {"tcp": 6, "udp": 17}


class ServiceTables:
    """Every call raises OSError. Sessions go on as long as their service stays the same."""

    def __init__(self, maps: Mapping[str, Map], codec: Codec) -> None:
        self._maps, self._layouts = maps, codec.layouts
        self._names: list[str] = []

    def configure(self, wanted: Sequence[VirtualService], prefix: bytes) -> None:
        """Makes these the services; their order is part of their underlay addresses. `prefix`: the host's, 8 bytes."""
        if len(wanted) > SERVICE_LIMIT:
            raise ValueError(f"more than {SERVICE_LIMIT} virtual services")
        kept: dict[str, set[bytes]] = {"service_of": set(), "service_from": set()}
        for index in range(SERVICE_LIMIT):
            service = wanted[index] if index < len(wanted) else None
            self._put(index, self._pack(service, prefix, index) if service else bytes(self._layouts["service"].size))
            if service is not None:
                for table, key in self._keys(service).items():
                    self._maps[table].put(key, u32(index))
                    kept[table].add(key)
        for table, keys in kept.items():
            for key in [key for key, _ in self._maps[table].items() if key not in keys]:
                self._maps[table].remove(key)
        self._names = [str(service) for service in wanted]

    def used_ports(self) -> dict[str, int]:
        """How many source ports of each service somebody has."""
        clock, counts = now(), dict.fromkeys(self._names, 0)
        key_layout, layout = self._layouts["source_port_key"], self._layouts["session"]
        for key, raw in self._maps["source_ports"].items():
            index = key_layout.number(key, "service")
            if (layout.number(raw, "expires") - clock) & EXPIRED == 0 and index < len(self._names):
                counts[self._names[index]] += 1
        return counts

    def _put(self, index: int, raw: bytes) -> None:
        """Writes a service unless it is there: then it also keeps its place in the source ports."""
        layout, table = self._layouts["service"], self._maps["services"]
        old = table.get(u32(index)) or bytes(layout.size)
        last = layout.members["last"]
        if old[: last.offset] + old[last.offset + last.size :] == raw[: last.offset] + raw[last.offset + last.size :]:
            return
        table.put(u32(index), raw)
        self._end_sessions(index)

    def _end_sessions(self, index: int) -> None:
        for table, layout in (("sessions", "session_key"), ("source_ports", "source_port_key")):
            for key, _ in list(self._maps[table].items()):
                if self._layouts[layout].number(key, "service") == index:
                    self._maps[table].remove(key)
        counts: dict[int, int] = {}
        for _, raw in self._maps["source_ports"].items():
            guest = self._layouts["session"].number(raw, "guest")
            counts[guest] = counts.get(guest, 0) + 1
        for key, raw in self._maps["session_counts"].items():
            fresh = u32(counts.get(int.from_bytes(key, "little"), 0))
            if raw != fresh:
                self._maps["session_counts"].put(key, fresh)

    def _pack(self, service: VirtualService, prefix: bytes, index: int) -> bytes:
        return self._layouts["service"].pack(
            used=1,
            address=service.address.packed,
            port=service.port.to_bytes(2, "big"),
            remote_port=service.service_port.to_bytes(2, "big"),
            protocol=PROTOCOLS[service.protocol],
            remote=service.service.packed,
            underlay=service_underlay(prefix, index).packed,
        )

    def _keys(self, service: VirtualService) -> dict[str, bytes]:
        protocol = PROTOCOLS[service.protocol]
        return {
            "service_of": self._layouts["service_key"].pack(
                address=service.address.packed, port=service.port.to_bytes(2, "big"), protocol=protocol
            ),
            "service_from": self._layouts["remote_key"].pack(
                address=service.service.packed, port=service.service_port.to_bytes(2, "big"), protocol=protocol
            ),
        }
