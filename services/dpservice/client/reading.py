"""Answers as objects. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.client.kinds import Object


def made(kind: str, metadata: Object, spec: Object, status: pb.Status | None = None) -> Object:
    """An object; members of `spec` that are None are left out."""
    return {
        "kind": kind,
        "metadata": metadata,
        "spec": {name: value for name, value in spec.items() if value is not None},
        "status": _status(status),
    }


def listed(kind: str, metadata: Object, items: Iterable[Object], status: pb.Status | None = None) -> Object:
    """A list object."""
    return {"kind": f"{kind}List", "metadata": metadata, "status": _status(status), "items": list(items)}


def _status(status: pb.Status | None) -> Object:
    return {"code": status.code, "message": status.message} if status else {"code": 0, "message": ""}


def interface(found: pb.Interface) -> Object:
    """An interface."""
    rates = {"total_rate": found.meteringParams.total_rate, "public_rate": found.meteringParams.public_rate}
    return made(
        "Interface",
        {"id": found.id.decode()},
        {
            "vni": found.vni,
            "device": found.pci_name or None,
            "primary_ipv4": found.primary_ipv4.decode(),
            "primary_ipv6": found.primary_ipv6.decode(),
            "underlay_route": _text(found.underlay_route),
            "metering": {name: rate for name, rate in rates.items() if rate},
            "hostname": found.hostname or None,
        },
    )


def prefix(kind: str, interface_id: str, vni: int, found: pb.Prefix) -> Object:
    """An alias or balancer prefix of an interface."""
    return made(
        kind,
        {"interface_id": interface_id, "vni": vni},
        {"prefix": _prefix(found), "underlay_route": _text(found.underlay_route)},
    )


def route(vni: int, found: pb.Route) -> Object:
    """A route of a VNI."""
    hop = {"vni": found.nexthop_vni, "address": _address(found.nexthop_address)}
    return made("Route", {"vni": vni}, {"prefix": _prefix(found.prefix), "next_hop": hop})


def virtual_ip(interface_id: str, found: pb.GetVipResponse) -> Object:
    """The VIP of an interface."""
    spec = {"vip_ip": _address(found.vip_ip), "underlay_route": _text(found.underlay_route)}
    return made("VirtualIP", {"interface_id": interface_id}, spec, found.status)


def nat(interface_id: str, found: pb.GetNatResponse) -> Object:
    """The slice of an interface."""
    spec = {
        "nat_ip": _address(found.nat_ip),
        "min_port": found.min_port,
        "max_port": found.max_port,
        "underlay_route": _text(found.underlay_route),
        "vni": 0,
    }
    return made("Nat", {"interface_id": interface_id}, spec, found.status)


def nat_entry(found: pb.NatEntry) -> Object:
    """A slice, of this host if it has no underlay address; `nat_ip` is then the interface's own address."""
    spec = {
        "nat_ip": _address(found.nat_ip),
        "min_port": found.min_port,
        "max_port": found.max_port,
        "underlay_route": _text(found.underlay_route),
        "vni": found.vni,
        "actual_nat_ip": _address(found.actual_nat_ip),
    }
    return made("Nat", {}, spec)


def balancer(found: pb.Loadbalancer, status: pb.Status | None = None) -> Object:
    """A load balancer."""
    spec = {
        "vni": found.vni,
        "loadbalanced_ip": _address(found.ip),
        "loadbalanced_ports": [{"protocol": port.protocol, "port": port.port} for port in found.ports] or None,
        "underlay_route": _text(found.underlay_route),
    }
    return made("LoadBalancer", {"id": found.id.decode()}, spec, status)


def target(balancer_id: str, found: pb.IpAddress) -> Object:
    """A target of a load balancer."""
    return made("LoadBalancerTarget", {"loadbalancer_id": balancer_id}, {"target_ip": _address(found)})


def rule(interface_id: str, found: pb.FirewallRule, status: pb.Status | None = None) -> Object:
    """A firewall rule."""
    which = found.protocol_filter.WhichOneof("filter")
    inner = getattr(found.protocol_filter, which) if which else None
    fields = {each.name: getattr(inner, each.name) for each in inner.DESCRIPTOR.fields} if inner else None
    spec = {
        "id": found.id.decode(),
        "direction": pb.TrafficDirection.Name(found.direction).capitalize(),
        "action": pb.FirewallAction.Name(found.action).capitalize(),
        "priority": found.priority,
        "source_prefix": _prefix(found.source_prefix),
        "destination_prefix": _prefix(found.destination_prefix),
        "protocol_filter": {"Filter": {which.capitalize(): fields} if which else None},
    }
    return made("FirewallRule", {"interface_id": interface_id}, spec, status)


def captured(found: pb.CapturedInterface) -> Object:
    """What a capture mirrors: an uplink by its index, or an interface by its id."""
    if found.interface_type == pb.SINGLE_PF:
        return {"interface_type": "pf", "interface_info": str(found.pf_index)}
    return {"interface_type": "vf", "interface_info": found.vf_name.decode()}


def capture_config(found: pb.CaptureConfig) -> Object:
    """Where a capture goes to."""
    config = {
        "sink_node_ipv6": _address(found.sink_node_ip),
        "udp_src_port": found.udp_src_port or None,
        "udp_dst_port": found.udp_dst_port or None,
    }
    return {name: value for name, value in config.items() if value is not None}


def _text(raw: bytes) -> str | None:
    return raw.decode() or None


def _address(found: pb.IpAddress) -> str | None:
    return _text(found.address)


def _prefix(found: pb.Prefix) -> Any:
    return f"{found.ip.address.decode()}/{found.length}"
