"""What belongs to a cluster on one machine: members, addresses, directories. Pure: nothing is made here."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

UPLINKS: Final = ("pf0", "pf1")
# 1500 for guests plus the outer IPv6 header (40), with room to spare.
UNDERLAY_MTU: Final = 1600
GUEST_MTU: Final = 1500
MANAGEMENT: Final = "10.77.0.0/24"
UNDERLAY: Final = "fd77::/48"
MAX_UNDERLAY_LENGTH: Final = 48  # a /64 for each member, and sources are trusted by /48
MAX_NAME: Final = 6  # a leg's name is "f<cluster>-<member>" and must fit IFNAMSIZ


@dataclass(frozen=True)
class Member:
    """One network namespace of the cluster."""

    name: str
    cluster: str
    management: ipaddress.IPv4Address
    underlay: ipaddress.IPv6Network

    @property
    def netns(self) -> str:
        """Name of the namespace, as `ip netns` shows it."""
        return f"ferrite-{self.cluster}-{self.name}"

    @property
    def leg(self) -> str:
        """Name of the link that joins it to the management bridge."""
        return f"f{self.cluster}-{self.name}"

    @property
    def address(self) -> ipaddress.IPv6Address:
        """The host's own underlay address."""
        return self.underlay[1]


@dataclass(frozen=True)
class ClusterPlan:
    """A cluster: `name` (at most six characters) is part of every name on the machine, `state` holds its files."""

    name: str
    state: Path
    hypervisors_wanted: int = 2
    management: ipaddress.IPv4Network = field(default=ipaddress.IPv4Network(MANAGEMENT))
    underlay: ipaddress.IPv6Network = field(default=ipaddress.IPv6Network(UNDERLAY))

    def __post_init__(self) -> None:
        if not (self.name.isascii() and self.name.isalnum() and len(self.name) <= MAX_NAME):
            raise ValueError(f"cluster name {self.name!r}: up to {MAX_NAME} letters and digits")
        if self.underlay.prefixlen > MAX_UNDERLAY_LENGTH:
            raise ValueError(f"underlay {self.underlay}: must be a /{MAX_UNDERLAY_LENGTH} or shorter")

    @property
    def bridge(self) -> str:
        """The management bridge in the root namespace."""
        return f"ferrite-{self.name}"

    @property
    def run(self) -> Path:
        """Sockets and bpffs mounts: short, since a unix socket's path holds 107 characters."""
        return Path("/run") / f"ferrite-{self.name}"

    @property
    def logs(self) -> Path:
        """One log file a process."""
        return self.state / "logs"

    @property
    def status_file(self) -> Path:
        """Where the supervisor notes which process runs under which pid."""
        return self.state / "processes.json"

    @property
    def kubeconfig(self) -> Path:
        """Contexts core (current), net and metalnet, as administrator."""
        return self.state / "kubeconfig"

    def bpf_root(self, node: Member) -> Path:
        """Where a hypervisor's bpffs is mounted."""
        return self.run / node.name / "bpf"

    @property
    def control(self) -> ipaddress.IPv4Interface:
        """Where the control plane, etcd and Ceph listen."""
        return ipaddress.IPv4Interface(f"{self.management[1]}/{self.management.prefixlen}")

    @property
    def reflector(self) -> ipaddress.IPv6Address:
        """Underlay address of the route reflector."""
        return self._subnet(0)[1]

    @cached_property
    def fabric(self) -> Member:
        """Routes between the uplinks."""
        return self._member("fabric", 0)

    @cached_property
    def hypervisors(self) -> tuple[Member, ...]:
        """hv1, hv2, ..."""
        return tuple(self._member(f"hv{number}", number) for number in range(1, self.hypervisors_wanted + 1))

    @cached_property
    def edge(self) -> Member:
        """Stands for the internet."""
        return self._member("edge", self.hypervisors_wanted + 1)

    @property
    def edge_members(self) -> tuple[Member, ...]:
        """All that have uplinks to the fabric."""
        return (*self.hypervisors, self.edge)

    @property
    def members(self) -> tuple[Member, ...]:
        """Every namespace."""
        return (self.fabric, *self.edge_members)

    def _member(self, name: str, number: int) -> Member:
        return Member(name, self.name, self.management[10 + number], self._subnet(number))

    def _subnet(self, number: int) -> ipaddress.IPv6Network:
        base = int(self.underlay.network_address) + (number << 64)
        return ipaddress.IPv6Network((base, 64))
