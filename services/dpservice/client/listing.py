"""Lists, and single objects that are looked at, out of the server's answers.

Every function raises Failure, and BadValue for a column to sort by that isn't there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.client import reading
from services.dpservice.client.kinds import (
    ALIAS_PREFIX,
    BALANCER,
    BALANCER_PREFIX,
    BALANCER_TARGET,
    INTERFACE,
    NAT,
    ROUTE,
    VIRTUAL_IP,
    Kind,
    Object,
    ip,
)
from services.dpservice.client.render import NAT_LIST, ordered
from services.dpservice.client.rules import FIREWALL_RULE
from services.dpservice.client.session import Failure, Session

NO_DATA: Final = 341
"""The server's code for an interface without a VIP or NAT."""
Given: TypeAlias = Mapping[str, Any]


def interfaces(session: Session, given: Given) -> Object:
    """All of them; with more to each, if it shall be wide."""
    answer = session.call("ListInterfaces", pb.ListInterfacesRequest())
    items = [reading.interface(found) for found in answer.interfaces]
    if given.get("wide"):
        for item in items:
            _widen(session, item)
    return _listed(INTERFACE, {}, items, given, answer.status)


def interface(session: Session, given: Given) -> Object:
    """That of an id."""
    found = session.call("GetInterface", pb.GetInterfaceRequest(interface_id=given["id"].encode()))
    shown = reading.interface(found.interface)
    if given.get("wide"):
        _widen(session, shown)
    return shown


def _widen(session: Session, item: Object) -> None:
    given = {"interface-id": item["metadata"]["id"]}
    for name, look in (("nat", nat), ("vip", virtual_ip)):
        found = _if_any(look, session, given)
        if found is not None:
            item["spec"][name] = found


def _if_any(look: Callable[[Session, Given], Object], session: Session, given: Given) -> Object | None:
    try:
        return look(session, given)
    except Failure as failure:
        if failure.code != NO_DATA:
            raise
        return None


def prefixes(session: Session, given: Given) -> Object:
    """Alias prefixes of an interface, or of all."""
    return _prefixes(session, given, ALIAS_PREFIX, "ListPrefixes", pb.ListPrefixesRequest)


def balancer_prefixes(session: Session, given: Given) -> Object:
    """Balancer prefixes of an interface, or of all."""
    call, request = "ListLoadBalancerPrefixes", pb.ListLoadBalancerPrefixesRequest
    return _prefixes(session, given, BALANCER_PREFIX, call, request)


def _prefixes(session: Session, given: Given, kind: Kind, call: str, request: Callable[..., Any]) -> Object:
    items = []
    for name, vni in _owners(session, given):
        found = session.call(call, request(interface_id=name.encode())).prefixes
        items += [reading.prefix(kind.name, name, vni, each) for each in found]
    return _listed(kind, {"interface_id": given["interface-id"] or ""}, items, given)


def _owners(session: Session, given: Given) -> list[tuple[str, int]]:
    """Interfaces that are asked about, with their VNIs."""
    name = given["interface-id"]
    if name is None:
        found = session.call("ListInterfaces", pb.ListInterfacesRequest()).interfaces
    else:
        try:
            found = [session.call("GetInterface", pb.GetInterfaceRequest(interface_id=name.encode())).interface]
        except Failure as failure:
            if failure.code != NOT_FOUND:
                raise
            # As any call about what belongs to an interface answers.
            raise Failure(failure.source, NO_VM, "NO_VM") from failure
    return [(each.id.decode(), each.vni) for each in found]


NOT_FOUND: Final = 201
NO_VM: Final = 205


def routes(session: Session, given: Given) -> Object:
    """Of a VNI, or of all; one by one, since a route of an answer does not tell its VNI."""
    items: list[Object] = []
    for vni in [given["vni"]] if given["vni"] else _vnis(session):
        answer = session.call("ListRoutes", pb.ListRoutesRequest(vni=vni))
        items += [reading.route(vni, found) for found in answer.routes]
    return _listed(ROUTE, {"vni": given["vni"]}, items, given)


def _vnis(session: Session) -> list[int]:
    """Those that the host has routes for."""
    interfaces = session.call("ListInterfaces", pb.ListInterfacesRequest()).interfaces
    balancers = session.call("ListLoadBalancers", pb.ListLoadBalancersRequest()).loadbalancers
    return sorted({found.vni for found in (*interfaces, *balancers)})


def virtual_ip(session: Session, given: Given) -> Object:
    """That of an interface."""
    name = given["interface-id"]
    return reading.virtual_ip(name, session.call("GetVip", pb.GetVipRequest(interface_id=name.encode())))


def virtual_ips(session: Session, given: Given) -> Object:
    """Of all interfaces that have one, or of one."""
    owners = [name for name, _ in _owners(session, given)]
    found = [_if_any(virtual_ip, session, {"interface-id": name}) for name in owners]
    return _listed(VIRTUAL_IP, {}, [each for each in found if each is not None], given)


def nat(session: Session, given: Given) -> Object:
    """The slice of an interface."""
    name = given["interface-id"]
    return reading.nat(name, session.call("GetNat", pb.GetNatRequest(interface_id=name.encode())))


def nats(session: Session, given: Given) -> Object:
    """Slices of all interfaces that have one, or that of one."""
    if given["interface-id"] is not None:
        return nat(session, given)
    found = [_if_any(nat, session, {"interface-id": name}) for name, _ in _owners(session, given)]
    return _listed(NAT, {}, [each for each in found if each is not None], given)


def slices(session: Session, given: Given) -> Object:
    """Slices of a public address, or of all: those of this host, of neighbors, or both."""
    address, wanted = ip(given["nat-ip"]), given["nat-type"]
    items = []
    if wanted in ("any", "local"):
        items += session.call("ListLocalNats", pb.ListLocalNatsRequest(nat_ip=address)).nat_entries
    if wanted in ("any", "neighbor"):
        items += session.call("ListNeighborNats", pb.ListNeighborNatsRequest(nat_ip=address)).nat_entries
    metadata = {"nat_ip": given["nat-ip"], "nat_type": wanted}
    return _listed(NAT, metadata, map(reading.nat_entry, items), given, listing=NAT_LIST)


def balancer(session: Session, given: Given) -> Object:
    """That of an id."""
    name = given["id"].encode()
    found = session.call("GetLoadBalancer", pb.GetLoadBalancerRequest(loadbalancer_id=name))
    whole = pb.Loadbalancer(
        id=name,
        vni=found.vni,
        ip=found.loadbalanced_ip,
        ports=found.loadbalanced_ports,
        underlay_route=found.underlay_route,
    )
    return reading.balancer(whole, found.status)


def balancers(session: Session, given: Given) -> Object:
    """All of them."""
    answer = session.call("ListLoadBalancers", pb.ListLoadBalancersRequest())
    return _listed(BALANCER, {}, map(reading.balancer, answer.loadbalancers), given, answer.status)


def targets(session: Session, given: Given) -> Object:
    """Targets of a load balancer, or of all; one by one, since a target of an answer does not tell its balancer."""
    names = [given["lb-id"].encode()]
    if not given["lb-id"]:
        answer = session.call("ListLoadBalancers", pb.ListLoadBalancersRequest())
        names = [found.id for found in answer.loadbalancers]
    items: list[Object] = []
    for name in names:
        found = session.call("ListLoadBalancerTargets", pb.ListLoadBalancerTargetsRequest(loadbalancer_id=name))
        items += [reading.target(name.decode(), each) for each in found.target_ips]
    return _listed(BALANCER_TARGET, {"loadbalancer_id": given["lb-id"]}, items, given)


def rule(session: Session, given: Given) -> Object:
    """A rule by its id and its interface's."""
    name = given["interface-id"] or ""
    request = pb.GetFirewallRuleRequest(interface_id=name.encode(), rule_id=given["rule-id"].encode())
    found = session.call("GetFirewallRule", request)
    return reading.rule(name, found.rule, found.status)


def rules(session: Session, given: Given) -> Object:
    """Rules of an interface, or of all."""
    items = []
    for name, _ in _owners(session, given):
        found = session.call("ListFirewallRules", pb.ListFirewallRulesRequest(interface_id=name.encode())).rules
        items += [reading.rule(name, each) for each in found]
    return _listed(FIREWALL_RULE, {"interface_id": given["interface-id"] or ""}, items, given)


def _listed(
    kind: Kind,
    metadata: Object,
    items: Iterable[Object],
    given: Given,
    status: pb.Status | None = None,
    *,
    listing: str = "",
) -> Object:
    return reading.listed(
        kind.name, metadata, ordered(list(items), kind, given.get("sort-by") or "", listing=listing), status
    )
