"""What a data plane can tell in numbers: what the exporter and the telemetry socket have in common."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.dpservice.dataplane import Dataplane
from services.dpservice.engine.interface import Engine
from services.dpservice.model.rows import InterfaceId, Vni
from services.dpservice.model.state import Model

NETDEV: Final = Path("/proc/self/net/dev")
"""Counters of all netdevs of the namespace (proc(5)); unlike /sys it is right after setns alone."""
SENT_AT: Final = 8  # fields after the name: eight about receiving, then those about sending
AT_BYTES, AT_PACKETS, AT_ERRORS, AT_MISSED = range(4)
FDINFO: Final = Path("/proc/self/fdinfo")
_SIOCGIFFLAGS: Final = 0x8913  # netdevice(7)
_IFF_RUNNING: Final = 0x40

ENGINE_TABLES: Final = {
    "conntrack_table": "flows",
    "nat_portmap_table": "nat_mappings",
    "nat_portoverload_table": "nat_claims",
}
"""The original's tables that packets fill, and which of ours does what each of them does."""


@dataclass(frozen=True)
class Device:
    """An uplink or a guest's device: its name in the API and its netdev."""

    name: str
    netdev: str
    uplink: bool = False


@dataclass(frozen=True)
class Owner:
    """An interface and what it has that others may run out of."""

    id: InterfaceId
    vni: Vni
    netdev: str
    rules: int
    flows: int
    nat_ports: int


class Figures:
    """Reads numbers when they are asked for. All methods are safe from several threads and raise OSError."""

    def __init__(
        self, engine: Engine, dataplane: Dataplane, uplinks: Sequence[str], devices: Mapping[str, str]
    ) -> None:
        self._engine, self._dataplane = engine, dataplane
        self._netdevs = dict(devices)
        self.announcements = 0
        self.devices = tuple(Device(name, name, uplink=True) for name in uplinks) + tuple(
            Device(name, netdev) for name, netdev in devices.items()
        )

    def stages(self) -> dict[str, int]:
        """Packets by the engine's stages."""
        return self._engine.stages()

    def count_announcements(self, more: int) -> None:
        """Of the gateway to guests."""
        self.announcements += more

    def drops(self) -> dict[str, int]:
        """Lost packets by reason."""
        return self._engine.drops()

    def owners(self) -> list[Owner]:
        """The interfaces, in the order of their devices."""
        usage = self._engine.usage()

        def ask(model: Model) -> list[Owner]:
            found = []
            for interface in model.interfaces():
                used = usage.get(interface.port)
                found.append(
                    Owner(
                        interface.id,
                        interface.vni,
                        self._netdevs.get(interface.device, ""),
                        len(model.rules(interface.id)),
                        used.flows if used else 0,
                        used.nat_ports if used else 0,
                    )
                )
            return found

        return self._dataplane.read(ask)

    def service_ports(self) -> dict[str, int]:
        """Source ports in use by virtual service."""
        return self._engine.service_ports()

    def routes(self) -> dict[Vni, int]:
        """Routes by VNI, interfaces' own included."""
        return self._dataplane.read(lambda model: dict(model.routes_by_vni()))

    def tables(self) -> dict[str, tuple[int, int]]:
        """Capacity and entries of what packets need, by the engine's names."""
        return self._engine.tables()

    def original_tables(self) -> dict[str, tuple[int, int]]:
        """The same, and what the API needs, by the original's names."""
        kept = self.tables()

        def ask(model: Model) -> dict[str, tuple[int, int]]:
            tables, limits = model.tables, model.limits
            functions, balancers = (limits.underlay, len(tables.functions)), (limits.balancers, len(tables.balancers))
            return {
                "interface_table": (len(model.devices), len(tables.interfaces)),
                "dnat_table": (limits.publics, len(tables.vip_owners) + len(tables.nat_users)),
                "snat_table": (len(model.devices), len(tables.vips.keys() | tables.nats.keys())),
                "vnf_table": functions,
                "reverse_vnf_table": functions,
                "loadbalancer_table": balancers,
                "loadbalancer_id_table": balancers,
                "vni_table": (limits.vnis, len(tables.vni_users)),
            }

        found = self._dataplane.read(ask)
        return found | {name: kept[ours] for name, ours in ENGINE_TABLES.items() if ours in kept}

    def memory(self) -> int:
        """Bytes of kernel memory that the maps take which this process has open."""
        maps = {}
        for info in FDINFO.iterdir():
            try:
                fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
            except OSError:
                continue  # closed meanwhile
            if "map_id" in fields:
                maps[fields["map_id"]] = int(fields.get("memlock", 0))
        return sum(maps.values())


def netdev_counters(text: str) -> dict[str, list[int]]:
    """The fields of /proc/net/dev by device."""
    found = {}
    for line in text.splitlines()[2:]:
        device, _, fields = line.partition(":")
        found[device.strip()] = [int(field) for field in fields.split()]
    return found


def counters(devices: Sequence[Device]) -> Iterator[tuple[Device, list[int]]]:
    """The counters of those devices that are there now. Raises OSError."""
    present = netdev_counters(NETDEV.read_text())
    for device in devices:
        if device.netdev in present:
            yield device, present[device.netdev]


def is_running(netdev: str) -> bool:
    """Is its link up? Raises OSError if it isn't there."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asking:
        answer = fcntl.ioctl(asking, _SIOCGIFFLAGS, struct.pack("16sH22x", netdev.encode(), 0))
    return bool(struct.unpack_from("16xH", answer)[0] & _IFF_RUNNING)


def node_name() -> str:
    """This host, as the original's exporter names it."""
    return os.environ.get("NODE_NAME") or socket.gethostname()
