"""Firewall rules as objects: a kind of its own file, because flags and filter are shaped differently. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.message import Message

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.client import values
from services.dpservice.client.kinds import INTERFACE_ID, Field, Kind, Object, prefix

PORT_FLAGS: Final = {
    "src-port-min": "src_port_lower",
    "src-port-max": "src_port_upper",
    "dst-port-min": "dst_port_lower",
    "dst-port-max": "dst_port_upper",
}
ICMP_FLAGS: Final = {"icmp-type": "icmp_type", "icmp-code": "icmp_code"}
FILTER_FLAGS: Final = (
    Field("protocol", (), values.protocol, "icmp, tcp or udp; without it, any"),
    *(Field(flag, (), values.signed, "port of TCP or UDP, -1: any", default=-1) for flag in PORT_FLAGS),
    *(Field(flag, (), values.signed, "of ICMP, -1: any", default=-1) for flag in ICMP_FLAGS),
)


def filter_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The filter that flags describe, as an object has it."""
    name = given.get("protocol")
    if name is None:
        return {"Filter": None}
    flags = ICMP_FLAGS if name == "icmp" else PORT_FLAGS
    return {"Filter": {name.capitalize(): {field: given[flag] for flag, field in flags.items()}}}


def filter_text(spec: Mapping[str, Any]) -> str:
    """A filter for people: `tcp 1-1000 > 443`."""
    inner = (spec.get("protocol_filter") or {}).get("Filter")
    if not inner:
        return "any"
    ((name, fields),) = inner.items()
    if name == "Icmp":
        parts = [f"{part} {fields.get(f'icmp_{part}', 0)}" for part in ("type", "code")]
        return " ".join([name.lower(), *(part for part in parts if not part.endswith("-1"))])
    ends = [_range(fields.get(f"{end}_port_lower", 0), fields.get(f"{end}_port_upper", 0)) for end in ("src", "dst")]
    return name.lower() if ends == ["any", "any"] else f"{name.lower()} {ends[0]} > {ends[1]}"


def _range(low: int, high: int) -> str:
    if low == -1:
        return "any"
    return str(low) if low == high else f"{low}-{high}"


def filter_message(value: Mapping[str, Any]) -> pb.ProtocolFilter:
    """A filter as the API takes it."""
    inner = (value or {}).get("Filter") or {}
    return pb.ProtocolFilter(
        icmp=pb.IcmpFilter(**inner["Icmp"]) if "Icmp" in inner else None,
        tcp=pb.TcpFilter(**inner["Tcp"]) if "Tcp" in inner else None,
        udp=pb.UdpFilter(**inner["Udp"]) if "Udp" in inner else None,
    )


def _create(made: Object) -> Message:
    spec = made["spec"]
    return pb.CreateFirewallRuleRequest(
        interface_id=made["metadata"]["interface_id"].encode(),
        rule=pb.FirewallRule(
            id=spec["id"].encode(),
            direction=pb.EGRESS if spec["direction"] == "Egress" else pb.INGRESS,
            action=pb.ACCEPT if spec["action"] == "Accept" else pb.DROP,
            priority=spec["priority"],
            source_prefix=prefix(spec["source_prefix"]),
            destination_prefix=prefix(spec["destination_prefix"]),
            protocol_filter=filter_message(spec.get("protocol_filter", {})),
        ),
    )


FIREWALL_RULE: Final = Kind(
    name="FirewallRule",
    call="FirewallRule",
    noun="firewallrule",
    aliases=("firewallrules", "fwrule", "fwrules", "fw-rule", "fw-rules"),
    fields=(
        INTERFACE_ID,
        Field("rule-id", ("spec", "id"), values.text, "id of the rule", True),
        Field("direction", ("spec", "direction"), values.direction, "ingress (to the guest) or egress", True),
        Field("action", ("spec", "action"), values.action, "accept or drop", True),
        Field("priority", ("spec", "priority"), values.number, "0-65535; the lower goes first", default=1000),
        Field("src", ("spec", "source_prefix"), values.prefix, "where packets come from", True),
        Field("dst", ("spec", "destination_prefix"), values.prefix, "where packets go to", True),
        Field("", ("spec", "protocol_filter"), values.protocol_filter, ""),
    ),
    keys=("interface-id", "rule-id"),
    create=_create,
    delete=lambda made: pb.DeleteFirewallRuleRequest(
        interface_id=made["metadata"]["interface_id"].encode(), rule_id=made["spec"]["id"].encode()
    ),
    title=lambda made: f"{made['metadata']['interface_id']}/{made['spec']['id']}",
)
