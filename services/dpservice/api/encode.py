"""The model's rows as messages. Addresses travel as printable text in bytes fields."""

from __future__ import annotations

from typing import Any, Final

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.model.keys import BalancerKey, NeighborKey
from services.dpservice.model.public_addresses import LocalNat
from services.dpservice.model.rows import (
    Balancer,
    Capture,
    FirewallRule,
    IcmpFilter,
    Interface,
    IPAddress,
    IPInterface,
    IPNetwork,
    Neighbor,
    PortFilter,
    Protocol,
    RemoteHop,
    RuleId,
)

SUCCESS: Final = pb.Status(code=0, message="Success")


def text(value: object) -> bytes:
    """An address or id in a bytes field."""
    return str(value).encode()


def address(value: IPAddress) -> pb.IpAddress:
    """An address with its version."""
    return pb.IpAddress(ipver=pb.IPV6 if value.version == 6 else pb.IPV4, address=text(value))


def prefix(value: IPNetwork, underlay: bytes = b"") -> pb.Prefix:
    """A prefix, maybe with the underlay address that stands for it."""
    return pb.Prefix(ip=address(value.network_address), length=value.prefixlen, underlay_route=underlay)


def interface(row: Interface) -> pb.Interface:
    """An interface; what it has no address of is the unspecified one."""
    return pb.Interface(
        id=text(row.id),
        vni=row.vni,
        primary_ipv4=text(row.ipv4 or "0.0.0.0"),
        primary_ipv6=text(row.ipv6 or "::"),
        underlay_route=text(row.underlay),
        pci_name=row.device,
        meteringParams=pb.MeteringParams(total_rate=row.total_rate, public_rate=row.public_rate),
        hostname=row.hostname,
    )


def route(target: IPNetwork, hop: RemoteHop) -> pb.Route:
    """An external route."""
    return pb.Route(prefix=prefix(target), nexthop_vni=hop.vni, nexthop_address=address(hop.underlay))


def local_nat(found: LocalNat) -> pb.NatEntry:
    """A slice of this host: `nat_ip` has the guest's private address, as clients expect it.

    Its underlay address is left out: clients take a slice that has one for a neighbor's.
    """
    private = pb.IpAddress(ipver=pb.IPV4, address=text(found.owner.ipv4 or "0.0.0.0"))
    return pb.NatEntry(
        nat_ip=private,
        min_port=found.nat.min_port,
        max_port=found.nat.max_port,
        vni=found.owner.vni,
        actual_nat_ip=address(found.nat.address),
    )


def neighbor_nat(key: NeighborKey, neighbor: Neighbor) -> pb.NatEntry:
    """A foreign slice: `nat_ip` stays empty."""
    return pb.NatEntry(
        min_port=key.min_port,
        max_port=key.max_port,
        underlay_route=text(neighbor.underlay),
        vni=key.vni,
        actual_nat_ip=address(key.address),
    )


def balancer_ports(ports: tuple[tuple[int, Protocol], ...]) -> list[pb.LbPort]:
    """What a balancer takes packets for."""
    return [pb.LbPort(port=port, protocol=pb.TCP if protocol is Protocol.TCP else pb.UDP) for port, protocol in ports]


def balancer(key: BalancerKey, row: Balancer) -> pb.Loadbalancer:
    """A load balancer without its targets."""
    return pb.Loadbalancer(
        id=text(row.id),
        vni=key.vni,
        ip=address(key.address),
        ports=balancer_ports(row.ports),
        underlay_route=text(row.underlay),
    )


def firewall_rule(rule_id: RuleId, rule: FirewallRule) -> pb.FirewallRule:
    """A rule as it was made."""
    return pb.FirewallRule(
        id=text(rule_id),
        direction=pb.EGRESS if rule.direction else pb.INGRESS,
        action=pb.ACCEPT if rule.accept else pb.DROP,
        priority=rule.priority,
        source_prefix=_given(rule.source),
        destination_prefix=_given(rule.destination),
        protocol_filter=_filter(rule.filter),
    )


def _given(value: IPInterface) -> pb.Prefix:
    return pb.Prefix(ip=address(value.ip), length=value.network.prefixlen)


def _filter(row: IcmpFilter | PortFilter | None) -> pb.ProtocolFilter | None:
    if row is None:
        return None
    if isinstance(row, IcmpFilter):
        return pb.ProtocolFilter(icmp=pb.IcmpFilter(icmp_type=row.type, icmp_code=row.code))
    ports: dict[str, Any] = {
        "src_port_lower": row.source_low,
        "src_port_upper": row.source_high,
        "dst_port_lower": row.destination_low,
        "dst_port_upper": row.destination_high,
    }
    if row.protocol is Protocol.TCP:
        return pb.ProtocolFilter(tcp=pb.TcpFilter(**ports))
    return pb.ProtocolFilter(udp=pb.UdpFilter(**ports))


def capture(row: Capture) -> pb.CaptureConfig:
    """A running capture."""
    return pb.CaptureConfig(
        sink_node_ip=address(row.sink),
        udp_src_port=row.source_port,
        udp_dst_port=row.destination_port,
        interfaces=[
            pb.CapturedInterface(interface_type=pb.SINGLE_VF, vf_name=text(point))
            if isinstance(point, str)
            else pb.CapturedInterface(interface_type=pb.SINGLE_PF, pf_index=point)
            for point in row.points
        ],
    )
