"""The kinds of objects: their fields, the flags that fill them, and the requests that make and delete them. Pure.

An object is what is printed and read: {"kind", "metadata", "spec", "status"}, as the original's clients know it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import Any, Final, TypeAlias

from google.protobuf.message import Message

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.client import values
from services.dpservice.client.values import BadValue
from services.dpservice.model.underlay import is_generated

Object: TypeAlias = dict[str, Any]
Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Field:
    """A field of an object at `path`, filled by a flag (`flag` empty: only from files)."""

    flag: str
    path: Path
    parse: Callable[[Any], Any]
    help: str
    required: bool = False
    default: Any = None


@dataclass(frozen=True)
class Kind:
    """What the commands need to know: `call` is the end of its RPCs' names, `keys` the flags by which it is deleted."""

    name: str
    call: str
    noun: str
    aliases: tuple[str, ...]
    fields: tuple[Field, ...]
    keys: tuple[str, ...]
    create: Callable[[Object], Message]
    delete: Callable[[Object], Message]
    title: Callable[[Object], str]

    @property
    def titled(self) -> str:
        """The name with its article."""
        return f"{'an' if self.name[0] in 'AEIOU' else 'a'} {self.name}"

    def from_flags(self, given: Mapping[str, Any], *, keys_only: bool = False) -> Object:
        """An object of parsed flags."""
        found = blank(self.name)
        for each in self.fields:
            if each.flag and (not keys_only or each.flag in self.keys) and given.get(each.flag) is not None:
                put(found, each.path, given[each.flag])
        return found

    def from_file(self, document: Mapping[str, Any]) -> Object:
        """An object as it was printed. Raises BadValue naming the field."""
        found = blank(self.name)
        known = {each.path: each for each in self.fields}
        for path, value in _leaves({part: document.get(part) or {} for part in ("metadata", "spec")}, (), known):
            each = known.get(path)
            if each is None:
                # What a server made up; it means nothing when the object is made again.
                if path[-1] in ("vni", "actual_nat_ip") or path[1:2] in (("virtual_function",), ("nat",), ("vip",)):
                    continue
                raise BadValue(f"{self.name}: {'.'.join(path)}: is not known")
            try:
                parsed = each.parse(value)
            except BadValue as error:
                raise BadValue(f"{self.name}: {'.'.join(path)}: {error}") from error
            # A server takes nobody's wish for an address that it made up itself.
            if each is not UNDERLAY or not is_generated(ip_address(parsed)):
                put(found, path, parsed)
        for each in self.fields:
            if each.required and get(found, each.path) is None:
                raise BadValue(f"{self.name}: {'.'.join(each.path)}: is missing")
            if each.default is not None and get(found, each.path) is None:
                put(found, each.path, each.default)
        return found


def blank(kind: str) -> Object:
    """An object that says nothing yet."""
    return {"kind": kind, "metadata": {}, "spec": {}, "status": {"code": 0, "message": ""}}


def put(target: Object, path: Path, value: Any) -> None:
    """Sets a field."""
    for part in path[:-1]:
        target = target.setdefault(part, {})
    target[path[-1]] = value


def get(source: Object, path: Path) -> Any:
    """A field, None if it isn't there."""
    found: Any = source
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    return found


def ip(text: str) -> pb.IpAddress:
    """An address as the API takes it."""
    return pb.IpAddress(ipver=pb.IPV6 if ip_address(text).version == 6 else pb.IPV4, address=text.encode())


def prefix(text: str) -> pb.Prefix:
    """A prefix as the API takes it."""
    found = ip_interface(text)
    return pb.Prefix(ip=ip(str(found.ip)), length=found.network.prefixlen)


def _leaves(tree: Mapping[str, Any], path: Path, known: Mapping[Path, Field]) -> list[tuple[Path, Any]]:
    found = []
    for name, value in tree.items():
        here = (*path, name)
        if isinstance(value, dict) and here not in known:
            found += _leaves(value, here, known)
        elif value is not None:
            found.append((here, value))
    return found


def _underlay(spec: Mapping[str, Any]) -> bytes:
    return str(spec.get("underlay_route", "")).encode()


UNDERLAY: Final = Field("underlay", ("spec", "underlay_route"), values.address, "underlay address that is preferred")
INTERFACE_ID: Final = Field("interface-id", ("metadata", "interface_id"), values.text, "id of the interface", True)
PREFIX: Final = Field("prefix", ("spec", "prefix"), values.prefix, "ADDRESS/LENGTH", True)
_MIN = Field("minport", ("spec", "min_port"), values.number, "first port of the slice", True)
_MAX = Field("maxport", ("spec", "max_port"), values.number, "port after the last one of the slice", True)


def _create_interface(made: Object) -> Message:
    spec = made["spec"]
    pxe, rates = spec.get("pxe", {}), spec.get("metering", {})
    request = pb.CreateInterfaceRequest(
        interface_id=made["metadata"]["id"].encode(),
        vni=spec["vni"],
        ipv4_config=pb.IpConfig(primary_address=spec["primary_ipv4"].encode()),
        ipv6_config=pb.IpConfig(primary_address=spec["primary_ipv6"].encode()),
        device_name=spec["device"],
        metering_parameters=pb.MeteringParams(
            total_rate=rates.get("total_rate", 0), public_rate=rates.get("public_rate", 0)
        ),
        preferred_underlay_route=_underlay(spec),
        hostname=spec.get("hostname", ""),
    )
    if pxe:
        request.pxe_config.CopyFrom(
            pb.PxeConfig(next_server=pxe.get("next_server", ""), boot_filename=pxe.get("boot_filename", ""))
        )
    return request


INTERFACE: Final = Kind(
    name="Interface",
    call="Interface",
    noun="interface",
    aliases=("interfaces", "iface", "ifaces"),
    fields=(
        Field("id", ("metadata", "id"), values.text, "id of the interface", True),
        Field("vni", ("spec", "vni"), values.number, "its VNI", True),
        Field("device", ("spec", "device"), values.text, "guest device, as the server names it", True),
        Field("ipv4", ("spec", "primary_ipv4"), values.address, "the guest's IPv4 address", True),
        Field("ipv6", ("spec", "primary_ipv6"), values.address, "the guest's IPv6 address", default="::"),
        UNDERLAY,
        Field("pxe-server", ("spec", "pxe", "next_server"), values.text, "server that the guest boots from"),
        Field("pxe-file-name", ("spec", "pxe", "boot_filename"), values.text, "file that the guest boots"),
        Field("total-meter-rate", ("spec", "metering", "total_rate"), values.wide_number, "limit, Mbit/s"),
        Field("public-meter-rate", ("spec", "metering", "public_rate"), values.wide_number, "limit outwards, Mbit/s"),
        Field("hostname", ("spec", "hostname"), values.text, "host name that the guest is told"),
    ),
    keys=("id",),
    create=_create_interface,
    delete=lambda made: pb.DeleteInterfaceRequest(interface_id=made["metadata"]["id"].encode()),
    title=lambda made: str(made["metadata"]["id"]),
)

ROUTE: Final = Kind(
    name="Route",
    call="Route",
    noun="route",
    aliases=("routes", "rt", "rts"),
    fields=(
        Field("vni", ("metadata", "vni"), values.number, "VNI that has the route", True),
        PREFIX,
        Field("next-hop-vni", ("spec", "next_hop", "vni"), values.number, "VNI of the next hop", True),
        Field("next-hop-ip", ("spec", "next_hop", "address"), values.address, "underlay address of the next hop", True),
    ),
    keys=("vni", "prefix"),
    create=lambda made: pb.CreateRouteRequest(
        vni=made["metadata"]["vni"],
        route=pb.Route(
            prefix=prefix(made["spec"]["prefix"]),
            nexthop_vni=made["spec"]["next_hop"]["vni"],
            nexthop_address=ip(made["spec"]["next_hop"]["address"]),
            weight=100,
        ),
    ),
    delete=lambda made: pb.DeleteRouteRequest(
        vni=made["metadata"]["vni"], route=pb.Route(prefix=prefix(made["spec"]["prefix"]), weight=100)
    ),
    title=lambda made: f"{made['spec']['prefix']}-{made['spec'].get('next_hop', {}).get('vni', 0)}",
)

ALIAS_PREFIX: Final = Kind(
    name="Prefix",
    call="Prefix",
    noun="prefix",
    aliases=("prefixes", "prfx", "prfxs"),
    fields=(INTERFACE_ID, PREFIX, UNDERLAY),
    keys=("interface-id", "prefix"),
    create=lambda made: pb.CreatePrefixRequest(
        interface_id=made["metadata"]["interface_id"].encode(),
        prefix=prefix(made["spec"]["prefix"]),
        preferred_underlay_route=_underlay(made["spec"]),
    ),
    delete=lambda made: pb.DeletePrefixRequest(
        interface_id=made["metadata"]["interface_id"].encode(), prefix=prefix(made["spec"]["prefix"])
    ),
    title=lambda made: str(made["spec"]["prefix"]),
)

BALANCER_PREFIX: Final = Kind(
    name="LoadBalancerPrefix",
    call="LoadBalancerPrefix",
    noun="lbprefix",
    aliases=("lbprefixes", "loadbalancer-prefix", "loadbalancer-prefixes", "lbprfx", "lbprfxs"),
    fields=(INTERFACE_ID, PREFIX, UNDERLAY),
    keys=("interface-id", "prefix"),
    create=lambda made: pb.CreateLoadBalancerPrefixRequest(
        interface_id=made["metadata"]["interface_id"].encode(),
        prefix=prefix(made["spec"]["prefix"]),
        preferred_underlay_route=_underlay(made["spec"]),
    ),
    delete=lambda made: pb.DeleteLoadBalancerPrefixRequest(
        interface_id=made["metadata"]["interface_id"].encode(), prefix=prefix(made["spec"]["prefix"])
    ),
    title=lambda made: str(made["spec"]["prefix"]),
)

VIRTUAL_IP: Final = Kind(
    name="VirtualIP",
    call="Vip",
    noun="virtualip",
    aliases=("virtualips", "vip", "vips"),
    fields=(INTERFACE_ID, Field("vip", ("spec", "vip_ip"), values.address, "public IPv4 address", True), UNDERLAY),
    keys=("interface-id",),
    create=lambda made: pb.CreateVipRequest(
        interface_id=made["metadata"]["interface_id"].encode(),
        vip_ip=ip(made["spec"]["vip_ip"]),
        preferred_underlay_route=_underlay(made["spec"]),
    ),
    delete=lambda made: pb.DeleteVipRequest(interface_id=made["metadata"]["interface_id"].encode()),
    title=lambda made: str(made["metadata"]["interface_id"]),
)

NAT: Final = Kind(
    name="Nat",
    call="Nat",
    noun="nat",
    aliases=("nats", "translation"),
    fields=(
        INTERFACE_ID,
        Field("nat-ip", ("spec", "nat_ip"), values.address, "public IPv4 address that is shared", True),
        _MIN,
        _MAX,
        UNDERLAY,
    ),
    keys=("interface-id",),
    create=lambda made: pb.CreateNatRequest(
        interface_id=made["metadata"]["interface_id"].encode(),
        nat_ip=ip(made["spec"]["nat_ip"]),
        min_port=made["spec"]["min_port"],
        max_port=made["spec"]["max_port"],
        preferred_underlay_route=_underlay(made["spec"]),
    ),
    delete=lambda made: pb.DeleteNatRequest(interface_id=made["metadata"]["interface_id"].encode()),
    title=lambda made: str(made["metadata"].get("interface_id") or made["spec"].get("actual_nat_ip", "")),
)

NEIGHBOR_NAT: Final = Kind(
    name="NeighborNat",
    call="NeighborNat",
    noun="neighbornat",
    aliases=("nnat", "ngbnat", "neighnat"),
    fields=(
        Field("nat-ip", ("metadata", "nat_ip"), values.address, "public IPv4 address that is shared", True),
        Field("vni", ("spec", "vni"), values.number, "VNI that it is for", True),
        _MIN,
        _MAX,
        Field("underlayroute", ("spec", "underlay_route"), values.address, "underlay address of the owner", True),
    ),
    keys=("nat-ip", "vni", "minport", "maxport"),
    create=lambda made: pb.CreateNeighborNatRequest(
        nat_ip=ip(made["metadata"]["nat_ip"]),
        vni=made["spec"]["vni"],
        min_port=made["spec"]["min_port"],
        max_port=made["spec"]["max_port"],
        underlay_route=_underlay(made["spec"]),
    ),
    delete=lambda made: pb.DeleteNeighborNatRequest(
        nat_ip=ip(made["metadata"]["nat_ip"]),
        vni=made["spec"]["vni"],
        min_port=made["spec"]["min_port"],
        max_port=made["spec"]["max_port"],
    ),
    title=lambda made: str(made["metadata"]["nat_ip"]),
)

BALANCER: Final = Kind(
    name="LoadBalancer",
    call="LoadBalancer",
    noun="loadbalancer",
    aliases=("loadbalancers", "lb", "lbs"),
    fields=(
        Field("id", ("metadata", "id"), values.text, "id of the load balancer", True),
        Field("vni", ("spec", "vni"), values.number, "its VNI", True),
        Field("vip", ("spec", "loadbalanced_ip"), values.address, "address that is balanced", True),
        Field("lbports", ("spec", "loadbalanced_ports"), values.balanced_ports, "as TCP/443,UDP/53", True),
        UNDERLAY,
    ),
    keys=("id",),
    create=lambda made: pb.CreateLoadBalancerRequest(
        loadbalancer_id=made["metadata"]["id"].encode(),
        vni=made["spec"]["vni"],
        loadbalanced_ip=ip(made["spec"]["loadbalanced_ip"]),
        loadbalanced_ports=[pb.LbPort(**port) for port in made["spec"]["loadbalanced_ports"]],
        preferred_underlay_route=_underlay(made["spec"]),
    ),
    delete=lambda made: pb.DeleteLoadBalancerRequest(loadbalancer_id=made["metadata"]["id"].encode()),
    title=lambda made: str(made["metadata"]["id"]),
)

BALANCER_TARGET: Final = Kind(
    name="LoadBalancerTarget",
    call="LoadBalancerTarget",
    noun="lbtarget",
    aliases=("lbtargets", "loadbalancer-target", "loadbalancer-targets", "lbtrgt", "lbtrgts"),
    fields=(
        Field("lb-id", ("metadata", "loadbalancer_id"), values.text, "id of the load balancer", True),
        Field("target-ip", ("spec", "target_ip"), values.address, "underlay address of the target", True),
    ),
    keys=("lb-id", "target-ip"),
    create=lambda made: pb.CreateLoadBalancerTargetRequest(
        loadbalancer_id=made["metadata"]["loadbalancer_id"].encode(), target_ip=ip(made["spec"]["target_ip"])
    ),
    delete=lambda made: pb.DeleteLoadBalancerTargetRequest(
        loadbalancer_id=made["metadata"]["loadbalancer_id"].encode(), target_ip=ip(made["spec"]["target_ip"])
    ),
    title=lambda made: str(made["spec"]["target_ip"]),
)
