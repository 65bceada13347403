"""Firewall rules of requests. Every function raises Unreadable with the text that clients know."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from typing import Final

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.api import decode
from services.dpservice.model.errors import Unreadable
from services.dpservice.model.firewall import NewRule
from services.dpservice.model.rows import (
    ANY,
    Direction,
    FirewallRule,
    IcmpFilter,
    IPInterface,
    PortFilter,
    Protocol,
    ProtocolFilter,
    RuleId,
)

PRIORITY_MAX: Final = 65535
ICMP_MAX: Final = 255


def rule_id(raw: bytes, field: str = "rule_id") -> RuleId:
    """1-63 printable characters. The original names the field in another way where a rule is made."""
    return RuleId(decode.identifier(raw, field))


def new_rule(message: pb.FirewallRule) -> NewRule:
    """A rule to create; both prefixes are of the same family."""
    name = rule_id(message.id, "rule id")
    source = _prefix(message.source_prefix, "source_prefix")
    destination = _prefix(message.destination_prefix, "destination_prefix")
    if source.version != destination.version:
        raise Unreadable("Invalid destination_prefix.ip.ipver")
    if message.direction not in pb.TrafficDirection.values():
        raise Unreadable("Invalid direction")
    if message.action not in pb.FirewallAction.values():
        raise Unreadable("Invalid action")
    if message.priority > PRIORITY_MAX:
        raise Unreadable("Invalid priority")
    rule = FirewallRule(
        direction=Direction(message.direction),
        accept=message.action == pb.ACCEPT,
        priority=message.priority,
        source=source,
        destination=destination,
        filter=_filter(message.protocol_filter),
        order=0,
    )
    return NewRule(name, rule)


def _prefix(message: pb.Prefix, field: str) -> IPInterface:
    if message.ip.ipver not in pb.IpVersion.values():
        raise Unreadable(f"Invalid {field}.ip.ipver")
    host = decode.address(message.ip, f"{field}.ip")
    if message.length > host.max_prefixlen:
        raise Unreadable(f"Invalid {'ip6 ' if host.version == 6 else ''}{field}.length")
    family = IPv4Interface if isinstance(host, IPv4Address) else IPv6Interface
    return family((int(host), message.length))


def _filter(message: pb.ProtocolFilter) -> ProtocolFilter | None:
    match message.WhichOneof("filter"):
        case "icmp":
            for field in ("icmp_type", "icmp_code"):
                if not ANY <= getattr(message.icmp, field) <= ICMP_MAX:
                    raise Unreadable(f"Invalid icmp.{field}")
            return IcmpFilter(message.icmp.icmp_type, message.icmp.icmp_code)
        case "tcp":
            return _ports(message.tcp, Protocol.TCP, "tcp")
        case "udp":
            return _ports(message.udp, Protocol.UDP, "udp")
    return None


def _ports(message: pb.TcpFilter | pb.UdpFilter, protocol: Protocol, name: str) -> PortFilter:
    for end in ("src_port", "dst_port"):
        low, high = getattr(message, f"{end}_lower"), getattr(message, f"{end}_upper")
        for value, which in ((low, "lower"), (high, "upper")):
            if not ANY <= value <= decode.PORT_MAX:
                raise Unreadable(f"Invalid {name}.{end}_{which}")
        if high < low:
            raise Unreadable(f"Invalid {name}.{end} range")
    return PortFilter(
        protocol, message.src_port_lower, message.src_port_upper, message.dst_port_lower, message.dst_port_upper
    )
