"""Random API calls on small pools of names and addresses, so that they meet each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from typing import Any, Final

from hypothesis import strategies as st

from services.dpservice.model.balancers import NewBalancer
from services.dpservice.model.changes import numbered
from services.dpservice.model.firewall import NewRule
from services.dpservice.model.interfaces import NewInterface
from services.dpservice.model.rows import (
    ANY,
    BalancerId,
    Direction,
    FirewallRule,
    IcmpFilter,
    InterfaceId,
    IPNetwork,
    PortFilter,
    Protocol,
    ProtocolFilter,
    RemoteHop,
    RuleId,
    Vni,
)
from services.dpservice.model.state import Model
from services.dpservice.model.underlay import UnderlayAddress

Call = Callable[[Model], Any]

DEVICES: Final = ("net_tap2", "net_tap3", "net_tap4")
VNIS: Final = (Vni(100), Vni(200))
HOPS: Final = tuple(UnderlayAddress(IPv6Address(text)) for text in ("fc00:2::d000:0:0:7", "fc00:9::1"))
VIPS: Final = (IPv4Address("203.0.113.1"), IPv4Address("203.0.113.2"))
SHARED: Final = (IPv4Address("203.0.113.3"), IPv4Address("203.0.113.4"))
BALANCED: Final = (IPv4Address("203.0.113.5"), IPv6Address("2001:db8:5::1"))
REMOTE: Final = (IPv4Address("10.0.1.7"), IPv6Address("2001:db8:1::7"))
STRANGERS: Final = (IPv4Address("198.51.100.9"), IPv6Address("64:ff9b::c633:6409"), IPv6Address("2001:db8:9::9"))
GUESTS: Final = tuple(
    address for n in range(1, 5) for address in (IPv4Address(f"10.0.0.{n}"), IPv6Address(f"2001:db8::{n}"))
)
ADDRESSES: Final = (*GUESTS, *REMOTE, *STRANGERS, *VIPS, *SHARED, *BALANCED)
PORTS: Final = (53, 80, 1000, 1001, 1040, 7)
RULE_PREFIXES: Final = tuple(
    (ip_interface(source), ip_interface(destination))
    for source, destination in (
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("10.0.0.0/24", "0.0.0.0/0"),
        ("0.0.0.0/0", "10.0.0.2/31"),
        ("198.51.100.0/24", "10.0.0.0/8"),
        ("::/0", "::/0"),
        ("2001:db8::/64", "::/0"),
        ("::/0", "2001:db8::2/127"),
    )
)
ROUTES: Final = tuple(
    ip_network(text)
    for text in ("0.0.0.0/0", "::/0", "10.0.1.0/24", "10.0.1.7/32", "2001:db8:1::/64", "203.0.113.5/32", "10.0.0.0/16")
)
ALIASES: Final = tuple(ip_network(text) for text in ("10.0.2.0/24", "2001:db8:2::/64", "203.0.113.2/32"))

devices, vnis, hops = st.sampled_from(DEVICES), st.sampled_from(VNIS), st.sampled_from(HOPS)
names = st.sampled_from([InterfaceId(name) for name in "abc"])
balancers = st.sampled_from([BalancerId("lb4"), BalancerId("lb6")])
slices = st.sampled_from([(1000, 1003), (1003, 1010), (1030, 1050)])
port_ranges = st.sampled_from([(ANY, ANY), (80, 80), (0, 1000), (1000, 65535)])
icmp_filters = st.builds(IcmpFilter, st.sampled_from([ANY, 8, 128, 0]), st.sampled_from([ANY, 0, 1]))
port_filters = st.builds(
    lambda protocol, source, destination: PortFilter(protocol, *source, *destination),
    st.sampled_from([Protocol.TCP, Protocol.UDP]),
    port_ranges,
    port_ranges,
)
filters: st.SearchStrategy[ProtocolFilter | None] = st.one_of(st.none(), icmp_filters, port_filters)
rules = st.builds(
    lambda direction, accept, priority, prefixes, wanted: FirewallRule(
        direction, accept, priority, prefixes[0], prefixes[1], wanted, 0
    ),
    st.sampled_from(Direction),
    st.booleans(),
    st.integers(0, 3),
    st.sampled_from(RULE_PREFIXES),
    filters,
)


def create_route(vni: Vni, prefix: IPNetwork, hop: UnderlayAddress) -> Call:
    return lambda model: model.create_route(vni, numbered(prefix), RemoteHop(hop, vni))


def create_interface(name: InterfaceId, device: str, vni: Vni, last: int) -> Call:
    wanted = NewInterface(name, device, vni, IPv4Address(f"10.0.0.{last}"), IPv6Address(f"2001:db8::{last}"))
    return lambda model: model.create_interface(wanted)


interfaces = st.one_of(
    st.builds(create_interface, names, devices, vnis, st.integers(1, 4)),
    st.builds(lambda name: lambda model: model.delete_interface(name), names),
)
routes = st.one_of(
    st.builds(create_route, vnis, st.sampled_from(ROUTES), hops),
    st.builds(
        lambda vni, prefix: lambda model: model.delete_route(vni, numbered(prefix)),
        vnis,
        st.sampled_from(ROUTES),
    ),
    st.builds(
        lambda name, prefix: lambda model: model.create_prefix(name, prefix, None), names, st.sampled_from(ALIASES)
    ),
    st.builds(lambda name, prefix: lambda model: model.delete_prefix(name, prefix), names, st.sampled_from(ALIASES)),
)
firewall = st.one_of(
    st.builds(
        lambda name, rule_id, rule: lambda model: model.create_rule(name, NewRule(RuleId(rule_id), rule)),
        names,
        st.sampled_from(["r1", "r2", "r3"]),
        rules,
    ),
    st.builds(
        lambda name, rule_id: lambda model: model.delete_rule(name, RuleId(rule_id)),
        names,
        st.sampled_from(["r1", "r2", "r3"]),
    ),
)
vips = st.one_of(
    st.builds(lambda name, vip: lambda model: model.create_vip(name, vip, None), names, st.sampled_from(VIPS)),
    st.builds(lambda name: lambda model: model.delete_vip(name), names),
)
nats = st.one_of(
    st.builds(
        lambda name, shared, ports: lambda model: model.create_nat(name, shared, *ports, None),
        names,
        st.sampled_from(SHARED),
        slices,
    ),
    st.builds(lambda name: lambda model: model.delete_nat(name), names),
    st.builds(
        lambda vni, shared, ports, hop: lambda model: model.create_neighbor(vni, shared, *ports, hop),
        vnis,
        st.sampled_from(SHARED),
        slices,
        hops,
    ),
    st.builds(
        lambda vni, shared, ports: lambda model: model.delete_neighbor(vni, shared, *ports),
        vnis,
        st.sampled_from(SHARED),
        slices,
    ),
)


def _balancer_prefix(name: InterfaceId, family: int, *, create: bool) -> Call:
    prefix = ip_network(str(BALANCED[family]))
    if create:
        return lambda model: model.create_balancer_prefix(name, prefix, None)
    return lambda model: model.delete_balancer_prefix(name, prefix)


def _create_balancer(which: BalancerId, vni: Vni) -> Call:
    ports = ((80, Protocol.TCP), (53, Protocol.UDP), (1000, Protocol.TCP))
    wanted = NewBalancer(which, vni, BALANCED[which == "lb6"], ports)
    return lambda model: model.create_balancer(wanted)


def _target(which: BalancerId, target: IPv6Address, *, create: bool) -> Call:
    if create:
        return lambda model: model.create_target(which, target)
    return lambda model: model.delete_target(which, target)


targets = st.sampled_from([*HOPS, *(IPv6Address(f"fc00:1::d000:1:0:{n}") for n in range(1, 9))])
balancing = st.one_of(
    st.builds(_create_balancer, balancers, vnis),
    st.builds(lambda which: lambda model: model.delete_balancer(which), balancers),
    st.builds(_target, balancers, targets, create=st.booleans()),
    st.builds(_balancer_prefix, names, st.integers(0, 1), create=st.booleans()),
)


def _create_nat(name: str, ports: tuple[int, int]) -> Call:
    return lambda model: model.create_nat(InterfaceId(name), SHARED[0], *ports, None)


VIP_OF_A: Final[tuple[Call, ...]] = (lambda model: model.create_vip(InterfaceId("a"), VIPS[0], None),)
NAT_OF_A_AND_B: Final[tuple[Call, ...]] = (
    _create_nat("a", (1000, 1003)),
    _create_nat("b", (1003, 1010)),
    lambda model: model.create_neighbor(VNIS[0], SHARED[0], 1030, 1050, HOPS[0]),
)
BALANCER_TO_B: Final[tuple[Call, ...]] = (
    _create_balancer(BalancerId("lb4"), VNIS[0]),
    _create_balancer(BalancerId("lb6"), VNIS[0]),
    _target(BalancerId("lb4"), HOPS[0], create=True),
    _target(BalancerId("lb6"), HOPS[0], create=True),
    _balancer_prefix(InterfaceId("b"), 0, create=True),
    _balancer_prefix(InterfaceId("b"), 1, create=True),
    *(_target(BalancerId("lb4"), IPv6Address(f"fc00:1::d000:1:0:{n:x}"), create=True) for n in range(4, 12)),
)
REFUSE_ALL_TO_C: Final[Call] = partial(
    Model.create_rule,
    interface_id=InterfaceId("c"),
    new=NewRule(
        RuleId("none"),
        FirewallRule(Direction.INGRESS, False, 0, ip_interface("0.0.0.0/0"), ip_interface("0.0.0.0/0"), None, 0),
    ),
)
