"""Settings of `dpservice serve`, checked as a whole before anything is touched."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, field_validator

from services.common.addresses import split_address
from services.common.settings import ServiceSettings
from services.dpservice.guest.services import MTU_MAX, GuestServices
from services.dpservice.guest.virtual import VirtualService

USUAL_ROOT: Final = "/sys/fs/bpf/ferrite"
UPLINK_LIMIT: Final = 2
GUEST_LIMIT: Final = 1024
VIRTUAL_SERVICE_LIMIT: Final = 256
DHCPV6_DNS_LIMIT: Final = 15  # a length in one byte, as the original keeps it
TELEMETRY_DIRECTORY: Final = Path("/var/run/dpdk")
SITE_PREFIX_LENGTH: Final = 48  # RFC 6177: what a site gets
IFNAME: Final = re.compile(r"[^\s/:]{1,15}")
DEVICE: Final = re.compile(r"[\x21-\x7e]{1,63}")


class ServeSettings(ServiceSettings):
    """Where the original has an option for the same thing, it has its name."""

    ipv6: str = Field("", description="underlay address of this host; empty: the global /64 address of lo")
    pf0: str = Field("", description="first uplink; the same as the first --uplink")
    pf1: str = Field("", description="second uplink")
    uplink: list[str] = Field([], description="netdev of an uplink (at most two; the first one is preferred)")
    device: list[str] = Field(
        [], description="NAME=IFNAME: a guest device's name in the API and its netdev; repeatable"
    )
    vdev: list[str] = Field(
        [], description="as DPDK's: net_tap2,iface=dtap2 is --device net_tap2=dtap2 unless it is an uplink; repeatable"
    )
    vf_pattern: str = Field("", description="guest devices are also all netdevs whose names begin with this")
    multiport_eswitch: bool = Field(False, description="name representors as DPDK does in multiport e-switch mode")
    create_taps: bool = Field(True, description="make persistent TAPs of guest netdevs that are not there at the start")
    underlay_prefix: list[str] = Field(
        [], description="outer sources from which tunnels are accepted; repeatable; empty: the /48 of --ipv6"
    )
    compat: bool = Field(
        False,
        description="as the original: no check of guests' source MACs and addresses, nor of 0.0.0.0 as destination",
    )
    enable_ipv6_overlay: bool = Field(False, description="answer guests' neighbor and router solicitations")
    dhcp_mtu: int = Field(MTU_MAX, description="MTU that guests are told, bytes, 68-1500")
    dhcp_dns: list[str] = Field([], description="IPv4 DNS server that guests are told; repeatable")
    dhcpv6_dns: list[str] = Field([], description="IPv6 DNS server that guests are told; repeatable")
    guest_answers: int = Field(100, ge=0, description="answers of the gateway to a guest per second; 0: no limit")
    grpc_unix: str = Field("", description="path of the gRPC unix socket (mode 0600)")
    compat_listen: str = Field("", description="plaintext gRPC address for the original's clients: 127.0.0.1:1337")
    grpc_port: int = Field(0, description="the same on 127.0.0.1 and this port, 1024-65535")
    file_prefix: str = Field("", description="the telemetry socket is /var/run/dpdk/PREFIX/dpdk_telemetry.v2")
    telemetry_socket: str = Field("", description="path of the telemetry socket instead; both empty: none")
    wcmp: int = Field(
        100, ge=0, le=100, description="percentage of flows that leave by the first uplink while it is up"
    )
    flow_timeout: int = Field(30, ge=1, le=300, description="seconds without packets after which a flow is forgotten")
    firewall: Literal["enforce", "compat"] = Field(
        "enforce", description="compat, as the original: rules that drop are refused, no match drops nothing"
    )
    udp_virtsvc: list[str] = Field([], description="IPv4,port,IPv6,port: UDP service that guests reach; repeatable")
    tcp_virtsvc: list[str] = Field([], description="the same over TCP")
    engine: str = Field("ebpf", description="ebpf, or memory (no packets)")
    bpf_root: str = Field("", description="directory in a bpffs for this host's maps")
    state_dir: str = Field("", description="directory of the journal")
    cold: bool = Field(False, description="forget what an earlier process left, under a new uuid")
    routes: int = Field(65536, ge=1, description="capacity of the route table of each family")
    flows: int = Field(65536, ge=1024, le=2**24, description="capacity of the flow table")
    nat_ports: int = Field(65536, ge=1024, le=2**24, description="capacity of the table of NAT ports in use")
    flow_quota: int | None = Field(
        None, ge=0, description="flows that one interface may hold, a quarter of the table if not given; 0: no limit"
    )
    nat_quota: int | None = Field(
        None,
        ge=0,
        description="NAT ports that one interface may hold, a quarter of the table likewise; 0: no limit",
    )
    established_timeout: int = Field(
        86400, ge=1, description="seconds without packets after which an established TCP connection is forgotten"
    )
    static_underlay: bool = Field(False, description="reproducible underlay addresses, for test suites")
    active_lockfile: str = Field(
        "", description="of a pair: whoever holds the lock of this file serves packets, the other stands by"
    )
    sync_peer: str = Field(
        "", description="gRPC address of the pair's other instance, whose flows are followed: unix:/path or host:port"
    )
    sync_tap: str = Field("", description="of the original: refused, flows come from --sync-peer")
    debug_coredumps: bool = Field(False, description="whole core dumps")
    nic_type: Literal["mellanox", "tap", "bluefield2"] = Field("mellanox", description="of the original, no effect")
    stats: bool = Field(True, description="of the original, no effect")
    offload: bool = Field(True, description="of the original, no effect")
    color: Literal["never", "always", "auto"] = Field("never", description="of the original, no effect")
    graphtrace_loglevel: int = Field(0, ge=0, le=2, description="of the original, no effect")

    @field_validator("ipv6")
    @classmethod
    def _host(cls, value: str) -> str:
        if value:
            IPv6Address(value)
        return value

    @field_validator("underlay_prefix")
    @classmethod
    def _prefixes(cls, value: list[str]) -> list[str]:
        return [str(IPv6Network(prefix)) for prefix in value]

    @field_validator("dhcp_dns")
    @classmethod
    def _servers(cls, value: list[str]) -> list[str]:
        return [str(IPv4Address(server)) for server in value]

    @field_validator("dhcpv6_dns")
    @classmethod
    def _servers6(cls, value: list[str]) -> list[str]:
        if len(value) > DHCPV6_DNS_LIMIT:
            raise ValueError(f"more than {DHCPV6_DNS_LIMIT} servers")
        return [str(IPv6Address(server)) for server in value]

    @field_validator("udp_virtsvc", "tcp_virtsvc")
    @classmethod
    def _virtual(cls, value: list[str]) -> list[str]:
        pairs = [_endpoints(item) for item in value]
        for index, what in enumerate(("virtual endpoint", "service")):
            column = [pair[index] for pair in pairs]
            twice = sorted({"{},{}".format(*item) for item in column if column.count(item) > 1})
            if twice:
                raise ValueError(f"{what} {', '.join(twice)} is given twice")
        return value

    @field_validator("vdev")
    @classmethod
    def _vdevs(cls, value: list[str]) -> list[str]:
        for item in value:
            _vdev(item)
        return value

    @field_validator("file_prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        if "/" in value or value in (".", ".."):
            raise ValueError(f"{value!r} is not the name of a directory")
        return value

    @field_validator("compat_listen")
    @classmethod
    def _loopback(cls, value: str) -> str:
        # Whoever reaches it commands the packets of every tenant, and the original's clients show no certificate.
        if value and not ip_address(split_address(value)[0]).is_loopback:
            raise ValueError(f"{value!r}: must be a loopback address, as it is open to whoever reaches it")
        return value

    @field_validator("grpc_port")
    @classmethod
    def _port(cls, value: int) -> int:
        if value and not 1024 <= value <= 65535:
            raise ValueError(f"{value} is not within 1024-65535")
        return value

    @field_validator("engine")
    @classmethod
    def _engine(cls, value: str) -> str:
        if value not in ("ebpf", "memory"):
            raise ValueError(f"{value!r} is not ebpf or memory")
        return value

    @field_validator("device")
    @classmethod
    def _devices(cls, value: list[str]) -> list[str]:
        pairs = [_pair(item) for item in value]
        for index, what in enumerate(("name", "netdev")):
            column = [pair[index] for pair in pairs]
            twice = sorted({item for item in column if column.count(item) > 1})
            if twice:
                raise ValueError(f"{what} {', '.join(twice)} is given twice")
        if len(pairs) > GUEST_LIMIT:
            raise ValueError(f"more than {GUEST_LIMIT} devices")
        return value

    def problems(self) -> list[str]:
        """What contradicts what, one line each."""
        found = []
        if not 0 < len(self.uplinks()) <= UPLINK_LIMIT and self.engine == "ebpf":
            found.append(f"--uplink: {len(self.uplinks())} uplinks, not 1 or 2")
        if not self.addresses():
            found.append("--grpc-unix, --compat-listen or --grpc-port: none is given, so nobody could call")
        if self.engine == "ebpf" and not self.bpf_root:
            found.append("--bpf-root: needed by the ebpf engine")
        if len(self.virtual_services()) > VIRTUAL_SERVICE_LIMIT:
            found.append(f"--udp-virtsvc, --tcp-virtsvc: more than {VIRTUAL_SERVICE_LIMIT} services")
        if self.sync_tap:
            found.append("--sync-tap: flows are followed over gRPC, by --sync-peer")
        if self.sync_peer and not self.active_lockfile:
            # To start an instance that was meant to stand by would make two active ones.
            found.append("--sync-peer: needs --active-lockfile")
        if not self.state_dir:
            found.append("--state-dir: needed for the journal")
        try:
            self.guest_services()
        except ValueError as error:
            found.append(f"--{error}")
        return found

    def uplinks(self) -> list[str]:
        """Netdevs, PF0 first."""
        return [name for name in (self.pf0, self.pf1) if name] + self.uplink

    def devices(self) -> dict[str, str]:
        """Guest devices that are given by name: name in the API to netdev."""
        uplinks = self.uplinks()
        vdevs = [(name, netdev) for name, netdev in map(_vdev, self.vdev) if netdev and netdev not in uplinks]
        return dict(vdevs) | dict(_pair(item) for item in self.device)

    def virtual_services(self) -> list[VirtualService]:
        """Those over UDP first."""
        return [VirtualService("udp", *at, *to) for at, to in map(_endpoints, self.udp_virtsvc)] + [
            VirtualService("tcp", *at, *to) for at, to in map(_endpoints, self.tcp_virtsvc)
        ]

    def telemetry_path(self) -> Path | None:
        """Where the telemetry socket is wanted."""
        if self.telemetry_socket:
            return Path(self.telemetry_socket)
        return TELEMETRY_DIRECTORY / self.file_prefix / "dpdk_telemetry.v2" if self.file_prefix else None

    def addresses(self) -> list[str]:
        """Where gRPC listens."""
        unix = [f"unix:{self.grpc_unix}"] if self.grpc_unix else []
        plain = [self.compat_listen] if self.compat_listen else []
        return unix + plain + ([f"127.0.0.1:{self.grpc_port}"] if self.grpc_port else [])

    def guest_services(self) -> GuestServices:
        """What guests are told. Raises ValueError."""
        return GuestServices(
            self.dhcp_mtu,
            tuple(IPv4Address(server) for server in self.dhcp_dns),
            tuple(IPv6Address(server) for server in self.dhcpv6_dns),
            service_route=bool(self.udp_virtsvc or self.tcp_virtsvc),
        )

    def trusted(self, host: IPv6Address) -> tuple[IPv6Network, ...]:
        """Outer sources that may reach guests."""
        if self.underlay_prefix:
            return tuple(IPv6Network(prefix) for prefix in self.underlay_prefix)
        return (IPv6Network((host, SITE_PREFIX_LENGTH), strict=False),)

    def journal_path(self) -> Path:
        """The journal's file."""
        return Path(self.state_dir) / "journal.jsonl"


class DropsSettings(ServiceSettings):
    """Settings of `dpservice drops`."""

    bpf_root: str = Field(USUAL_ROOT, description="the --bpf-root of the data plane")
    all: bool = Field(False, description="also reasons that never occurred")


def _pair(item: str) -> tuple[str, str]:
    name, separator, netdev = item.partition("=")
    if not separator or not DEVICE.fullmatch(name) or not IFNAME.fullmatch(netdev):
        raise ValueError(f"{item!r} is not NAME=IFNAME")
    return name, netdev


def _vdev(item: str) -> tuple[str, str]:
    """Name and netdev of a virtual device as DPDK takes them; the netdev is empty if nothing is said of it."""
    name, *options = item.split(",")
    netdev = dict(option.partition("=")[::2] for option in options).get("iface", "")
    if not DEVICE.fullmatch(name) or (netdev and not IFNAME.fullmatch(netdev)):
        raise ValueError(f"{item!r} is not NAME,iface=IFNAME")
    return name, netdev


def _endpoints(item: str) -> tuple[tuple[IPv4Address, int], tuple[IPv6Address, int]]:
    parts = item.split(",")
    if len(parts) != 4:
        raise ValueError(f"{item!r} is not IPv4,port,IPv6,port")
    for port in (parts[1], parts[3]):
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
            raise ValueError(f"{item!r}: {port!r} is not within 1-65535")
    return (IPv4Address(parts[0]), int(parts[1])), (IPv6Address(parts[2]), int(parts[3]))
