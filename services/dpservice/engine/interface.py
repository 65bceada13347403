"""The waist between the rules and the packets. Engines are interchangeable; one contract test runs against each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv6Address, IPv6Network
from typing import Final, Protocol

from services.dpservice.guest.virtual import VirtualService
from services.dpservice.model.changes import AnyChange, RouteTables, Rows
from services.dpservice.model.flushes import Selector
from services.dpservice.model.packet_rows import PacketCapture
from services.dpservice.model.rows import PortNumber, Vni
from services.dpservice.model.underlay import UnderlayAddress

STAGES: Final = ("arp", "nd", "dhcp", "dhcp6", "decapsulation", "conntrack", "dnat", "route4", "route6", "snat",
                 "firewall", "balancer", "relay", "encapsulation")  # fmt: skip
"""As in stages.h: where packets are looked at for which something has to be decided."""


class Delivery(Enum):
    """How frames get into a guest's device."""

    REDIRECT = "redirect"  # TAP, or a veth whose peer is in the same namespace
    PEER = "peer"  # straight into the peer of a veth in another namespace


@dataclass(frozen=True)
class GuestLink:
    """A guest's network device as it is now."""

    ifindex: int
    mac: bytes
    delivery: Delivery


@dataclass(frozen=True)
class UplinkState:
    """An uplink as it is now. `router_mac` is empty while no router is known.

    `is_veth`: no wire is behind it, so that whole GSO packets may arrive.
    """

    name: str
    ifindex: int
    is_veth: bool
    mac: bytes
    carrier: bool
    router_mac: bytes
    mtu: int = 0  # bytes; 0: unknown


@dataclass(frozen=True)
class PacketSettings:
    """What holds for all packets of a host."""

    underlay_prefix: bytes
    check_sources: bool
    ipv6_overlay: bool
    trusted: tuple[IPv6Network, ...]
    host: IPv6Address | None = None  # outer source of what this host itself sends on
    firewall: bool = True  # rules are enforced
    wcmp: int = 100  # share of the first uplink in percent; 100: the second one only stands in
    flow_timeout: float = 30.0  # seconds
    established_timeout: float = 86400.0  # of TCP
    flow_quota: int | None = None  # of a port; None: a fair share, 0: as many as the table has
    nat_quota: int | None = None  # NAT ports of a port; likewise
    answers_per_second: int = 0  # of the gateway to each guest; 0: no limit
    virtual_services: tuple[VirtualService, ...] = ()
    mirror_outgoing: bool = True  # captures show also what goes out to a guest or an uplink


@dataclass(frozen=True)
class TableSizes:
    """How much fits, besides routes."""

    flows: int = 65536
    nat_ports: int = 65536


@dataclass(frozen=True)
class PortUsage:
    """What a guest port holds of tables that all share."""

    flows: int
    nat_ports: int


@dataclass(frozen=True)
class GuestState:
    """What a guest showed of itself, and where it is; `mac` is empty while it is not known."""

    underlay: UnderlayAddress
    mac: bytes
    device: str
    vni: Vni


@dataclass(frozen=True)
class FlowUpdate:
    """What became different in a table of flows and in that of sessions: entries as the programs have them, None for
    those that are gone.

    `fresh`: whatever was told before is void. Port numbers are those of the engine that tells.
    """

    fresh: bool
    guests: Mapping[PortNumber, GuestState]
    flows: Mapping[bytes, bytes | None]
    sessions: Mapping[bytes, bytes | None] = field(default_factory=dict)  # with virtual services
    services: bytes = b""  # what these services are


@dataclass(frozen=True)
class FlowLayout:
    """Engines of the same layout understand each other's flows. Sizes in bytes."""

    version: int
    key: int
    value: int
    place: int = 0  # of a session: service and source port
    session: int = 0


@dataclass(frozen=True)
class SharedTables:
    """Where an engine's tables are: the boot id of their kernel, and its numbers of the maps by name."""

    kernel: str
    numbers: Mapping[str, int]


class FlowSource(Protocol):
    """One follower's view of an engine's flows."""

    def changes(self) -> FlowUpdate:
        """What became different since it was asked last; at first everything. Raises OSError."""


class Transfer(Protocol):
    """An engine's end of a pair: tells the other one of flows, or takes its flows over while no packet uses them here.

    All calls are safe from several threads and raise OSError.
    """

    def layout(self) -> FlowLayout:
        """How this engine's flows are written."""

    def source(self) -> FlowSource:
        """Tells another engine of the flows here."""

    def shared(self) -> SharedTables | None:
        """Where another engine on this kernel finds the tables themselves; None: there are none."""

    def receive(self, update: FlowUpdate) -> None:
        """Takes over what another engine told."""

    def follow(self, tables: SharedTables) -> None:
        """Opens another engine's tables, so that they outlive it, and lets go of those that were opened before."""

    @property
    def follows(self) -> bool:
        """Are another engine's tables open?"""

    def settle(self) -> int:
        """Makes what was received ready for packets, after a look into the tables that are open; how many flows there
        are."""

    def catch_up(self) -> int:
        """Adds flows that the other engine's packets made since, and lets go of its tables; how many there were.

        Once packets use the tables here, and no others.
        """


class Engine(Protocol):
    """Makes packets follow rows, those of `model/packet_rows.py`.

    All calls are safe from several threads; each returns when packets follow. They raise OSError.
    """

    @property
    def transfer(self) -> Transfer:
        """For a pair of engines."""

    def apply(self, changes: Sequence[AnyChange]) -> None:
        """Carries out changes in their order. After an error some may be done: take all of them back.

        Taking back means the inverted changes, so that a row may be as a change leaves it already, or be gone.
        """

    def flush(self, selectors: Sequence[Selector]) -> None:
        """Forgets flows; when it returns, no packet finds one of them."""

    def read_back(self, *, routes: bool = True) -> Rows:
        """What the packets follow now, also after a restart of the process; with or without routes."""

    def read_routes(self) -> RouteTables:
        """The routes of `read_back`, in a form that a million of them fit in."""

    def generation(self) -> str:
        """The uuid of the state that the packets follow; empty if there is none."""

    def start_generation(self, uuid: str) -> None:
        """Forgets every row and takes a new uuid."""

    def configure(self, settings: PacketSettings) -> None:
        """Sets what holds for all packets."""

    def prepare(self, ifindex: int, delivery: Delivery | None = None) -> None:
        """Does ahead for a device, a guest's if it has a delivery, what makes attaching to it take long.

        Packets go on as before, also those that another engine's programs forward.
        """

    def set_guest_link(self, device: str, link: GuestLink | None) -> None:
        """Tells where the device of that name is now; None: nowhere."""

    def set_uplink(self, index: int, state: UplinkState | None) -> None:
        """Tells the state of an uplink (0 or 1)."""

    def knows_guest(self, port: PortNumber) -> bool:
        """Has the guest behind a port shown its MAC?"""

    def drops(self) -> dict[str, int]:
        """Lost packets by reason since the maps were made."""

    def stages(self) -> dict[str, int]:
        """Packets that came to each of STAGES since then; those of flows that are decided come to none."""

    def capture(self, wanted: PacketCapture | None) -> None:
        """Mirrors packets to a sink, or no longer."""

    def usage(self) -> dict[PortNumber, PortUsage]:
        """What ports hold of flows and NAT ports; ports without any may be missing."""

    def service_ports(self) -> dict[str, int]:
        """How many source ports of each virtual service are in use."""

    def tables(self) -> dict[str, tuple[int, int]]:
        """Capacity and number of entries of the tables that can be full, by name."""
