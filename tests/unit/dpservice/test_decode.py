"""What can't be read, with the text that clients get for it; each row is readable but for the thing it names."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, ip_interface
from typing import Any

import pytest

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpservice.v1 import routes_pb2
from services.dpservice.api import decode, decode_firewall, route_batches
from services.dpservice.model.errors import Unreadable
from services.dpservice.model.rows import (
    Capture,
    Direction,
    FirewallRule,
    IcmpFilter,
    InterfaceId,
    PortFilter,
    Protocol,
    RemoteHop,
    Vni,
)
from services.dpservice.model.underlay import UnderlayAddress
from tests.unit.dpservice.builders import HOP, allocator, net

FOUR, SIX = pb.IpAddress(ipver=pb.IPV4, address=b"10.0.0.1"), pb.IpAddress(ipver=pb.IPV6, address=b"2001:db8::1")
WRONG = pb.IpAddress(ipver=pb.IPV6, address=b"10.0.0.1")


def interface(**fields: Any) -> Any:
    given: dict[str, Any] = {
        "interface_id": b"vm1",
        "device_name": "net_tap2",
        "ipv4_config": pb.IpConfig(primary_address=b"10.0.0.1"),
    }
    return decode.new_interface(pb.CreateInterfaceRequest(**(given | fields)), allocator())


def pxe(server: str = "10.0.0.9", file: str = "/boot", **fields: Any) -> Any:
    return interface(pxe_config=pb.PxeConfig(next_server=server, boot_filename=file), **fields)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        pytest.param(lambda: interface(interface_id=b""), "interface_id", id="no id"),
        pytest.param(lambda: interface(interface_id=b"a" * 64), "interface_id", id="a long id"),
        pytest.param(lambda: interface(interface_id=b"a.b"), "interface_id", id="an odd id"),
        pytest.param(
            lambda: interface(ipv4_config=pb.IpConfig(primary_address=b"10.0.0.256")),
            "ipv4_config.primary_address",
            id="no IPv4 address",
        ),
        pytest.param(
            lambda: interface(ipv4_config=pb.IpConfig(primary_address=b"::1")),
            "ipv4_config.primary_address",
            id="IPv6 as IPv4",
        ),
        pytest.param(
            lambda: interface(ipv6_config=pb.IpConfig(primary_address=b"fe80::1%eth0")),
            "ipv6_config.primary_address",
            id="a zone",
        ),
        pytest.param(
            lambda: interface(ipv4_config=pb.IpConfig(primary_address=b"0.0.0.0")),
            "ipv4_config.primary_address and ipv6_config.primary_address combination",
            id="no address at all",
        ),
        pytest.param(lambda: pxe("fe80::1"), "pxe_config.next_server", id="an IPv6 server for an IPv4 guest"),
        pytest.param(lambda: pxe(file="x" * 32), "pxe_config.boot_filename", id="a long file name"),
        pytest.param(lambda: interface(device_name=""), "device_name", id="no device"),
        pytest.param(lambda: interface(device_name="x" * 64), "device_name", id="a long device name"),
        pytest.param(lambda: interface(hostname="x" * 64), "hostname", id="a long host name"),
        pytest.param(
            lambda: interface(preferred_underlay_route=b"fc00:2::d000:8000:0:1"),
            "preferred_underlay_route",
            id="an underlay address of another host",
        ),
        pytest.param(
            lambda: interface(preferred_underlay_route=b"fc00:1::d000:0:0:1"),
            "preferred_underlay_route",
            id="an underlay address that is not marked as chosen",
        ),
    ],
)
def test_interfaces(call: Callable[[], object], text: str) -> None:
    with pytest.raises(Unreadable, match=f"^Invalid {text}$"):
        call()


def test_an_unset_underlay_address_is_chosen_by_the_server() -> None:
    assert interface(preferred_underlay_route=b"::").preferred is None
    assert interface(preferred_underlay_route=b"fc00:1::d000:8000:0:1").preferred == IPv6Address(
        "fc00:1::d000:8000:0:1"
    )


def test_pxe_server_is_of_ipv6_when_the_guest_has_it() -> None:
    assert pxe("fe80::9", ipv6_config=pb.IpConfig(primary_address=b"2001:db8::1")).next_server == "fe80::9"


def prefix(ip: pb.IpAddress = FOUR, length: int = 24) -> pb.Prefix:
    return pb.Prefix(ip=ip, length=length)


def neighbor(**fields: Any) -> Any:
    given: dict[str, Any] = {"nat_ip": FOUR, "min_port": 1, "max_port": 2, "underlay_route": b"fc00:2::1"}
    return decode.neighbor(pb.CreateNeighborNatRequest(**(given | fields)))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        pytest.param(lambda: decode.prefix(prefix(WRONG)), "prefix.ip", id="a version that lies"),
        pytest.param(lambda: decode.prefix(prefix(length=33)), "prefix.length", id="a long IPv4 prefix"),
        pytest.param(lambda: decode.prefix(prefix(SIX, 129)), "prefix.length", id="a long IPv6 prefix"),
        pytest.param(lambda: decode.prefix(pb.Prefix(length=99)), "prefix.ip", id="no prefix"),
        pytest.param(
            lambda: decode.route(pb.Route(prefix=prefix(length=99))), "route.prefix.length", id="a route's length first"
        ),
        pytest.param(lambda: decode.route(pb.Route(prefix=prefix(WRONG))), "route.prefix.ip", id="a route's prefix"),
        pytest.param(
            lambda: decode.route(pb.Route(prefix=prefix(), nexthop_address=WRONG)), "route.nexthop_address", id="a hop"
        ),
        pytest.param(lambda: decode.address(WRONG, "vip_ip"), "vip_ip", id="VIP"),
        pytest.param(lambda: decode.port_range(65536, 2), "min_port", id="a low port"),
        pytest.param(lambda: decode.port_range(1, 65536), "max_port", id="a high port"),
        pytest.param(lambda: decode.port_range(2, 2), "port range", id="an empty range"),
        pytest.param(lambda: neighbor(nat_ip=WRONG), "nat_ip", id="a neighbor's address"),
        pytest.param(lambda: neighbor(underlay_route=b"10.0.0.1"), "underlay_route", id="a neighbor on IPv4"),
        pytest.param(lambda: neighbor(underlay_route=b""), "underlay_route", id="a neighbor nowhere"),
        pytest.param(lambda: decode.vni_type(3), "type", id="a kind of VNI"),
        pytest.param(
            lambda: decode.client_version(pb.GetVersionRequest(client_protocol="1", client_name="n")),
            "client_version",
            id="a client without version",
        ),
    ],
)
def test_addresses_and_ports(call: Callable[[], object], text: str) -> None:
    with pytest.raises(Unreadable, match=f"^Invalid {text}$"):
        call()


def test_host_bits_are_masked() -> None:
    assert decode.prefix(prefix()) == net("10.0.0.0/24")
    assert decode.prefix(prefix(SIX, 0)) == net("::/0")


def balancer(ports: list[tuple[int, Any]] | None = None, **fields: Any) -> Any:
    wanted = [(80, pb.TCP)] if ports is None else ports
    messages = [pb.LbPort(port=port, protocol=protocol) for port, protocol in wanted]
    given: dict[str, Any] = {
        "loadbalancer_id": b"lb1",
        "loadbalanced_ip": FOUR,
        "vni": 100,
        "loadbalanced_ports": messages,
    }
    return decode.new_balancer(pb.CreateLoadBalancerRequest(**(given | fields)), allocator())


@pytest.mark.parametrize(
    ("call", "text"),
    [
        pytest.param(lambda: balancer(loadbalancer_id=b"a b"), "Invalid loadbalancer_id", id="id"),
        pytest.param(lambda: balancer(vni=1 << 24), "VNI exceeds 24-bit range", id="VNI"),
        pytest.param(lambda: balancer(loadbalanced_ip=WRONG), "Invalid loadbalanced_ip", id="address"),
        pytest.param(
            lambda: balancer([(port, pb.TCP) for port in range(1, 17)]), "Too many loadbalanced_ports", id="16 ports"
        ),
        pytest.param(lambda: balancer([(65536, pb.TCP)]), "Invalid loadbalanced_ports.port", id="port"),
        pytest.param(lambda: balancer([(80, pb.SCTP)]), "Invalid loadbalanced_ports.protocol", id="protocol"),
        pytest.param(
            lambda: balancer([(80, pb.TCP), (80, pb.UDP), (80, pb.TCP)]),
            "Duplicate loadbalanced_ports entry",
            id="a port twice",
        ),
    ],
)
def test_balancers(call: Callable[[], object], text: str) -> None:
    with pytest.raises(Unreadable, match=f"^{text}$"):
        call()


def test_a_port_of_zero_ends_the_ports_of_a_balancer() -> None:
    assert balancer([(80, pb.TCP), (0, pb.TCP), (81, pb.TCP)]).ports == ((80, Protocol.TCP),)
    assert balancer([]).ports == ()


def rule(**fields: Any) -> Any:
    given: dict[str, Any] = {
        "id": b"r1",
        "direction": pb.EGRESS,
        "action": pb.ACCEPT,
        "priority": 7,
        "source_prefix": prefix(SIX, 64),
        "destination_prefix": prefix(SIX, 128),
    }
    return decode_firewall.new_rule(pb.FirewallRule(**(given | fields)))


def ports(name: str, *numbers: int) -> pb.ProtocolFilter:
    fields = dict(zip(("src_port_lower", "src_port_upper", "dst_port_lower", "dst_port_upper"), numbers, strict=True))
    if name == "tcp":
        return pb.ProtocolFilter(tcp=pb.TcpFilter(**fields))
    return pb.ProtocolFilter(udp=pb.UdpFilter(**fields))


def icmp(kind: int, code: int) -> pb.ProtocolFilter:
    return pb.ProtocolFilter(icmp=pb.IcmpFilter(icmp_type=kind, icmp_code=code))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        pytest.param(lambda: rule(id=b""), "rule id", id="no id"),
        pytest.param(lambda: decode_firewall.rule_id(b""), "rule_id", id="no id of one that is there"),
        pytest.param(
            lambda: rule(source_prefix=prefix(pb.IpAddress(ipver=2))),  # type: ignore[arg-type]
            "source_prefix.ip.ipver",
            id="an unknown IP version",
        ),
        pytest.param(lambda: rule(source_prefix=prefix(WRONG)), "source_prefix.ip", id="source"),
        pytest.param(lambda: rule(source_prefix=prefix(length=33)), "source_prefix.length", id="a long IPv4 source"),
        pytest.param(lambda: rule(source_prefix=prefix(SIX, 129)), "ip6 source_prefix.length", id="a long IPv6 source"),
        pytest.param(lambda: rule(destination_prefix=prefix(WRONG)), "destination_prefix.ip", id="destination"),
        pytest.param(
            lambda: rule(destination_prefix=prefix(SIX, 129)), "ip6 destination_prefix.length", id="a long destination"
        ),
        pytest.param(lambda: rule(destination_prefix=prefix()), "destination_prefix.ip.ipver", id="two families"),
        pytest.param(lambda: rule(direction=2), "direction", id="direction"),
        pytest.param(lambda: rule(action=2), "action", id="action"),
        pytest.param(lambda: rule(priority=65536), "priority", id="priority"),
        pytest.param(lambda: rule(protocol_filter=ports("tcp", -2, 1, 1, 1)), "tcp.src_port_lower", id="TCP low"),
        pytest.param(lambda: rule(protocol_filter=ports("tcp", 1, 65536, 1, 1)), "tcp.src_port_upper", id="TCP high"),
        pytest.param(lambda: rule(protocol_filter=ports("tcp", 2, 1, 1, 1)), "tcp.src_port range", id="TCP range"),
        pytest.param(lambda: rule(protocol_filter=ports("udp", 1, 1, 2, 1)), "udp.dst_port range", id="UDP range"),
        pytest.param(lambda: rule(protocol_filter=icmp(256, 0)), "icmp.icmp_type", id="ICMP type"),
        pytest.param(lambda: rule(protocol_filter=icmp(0, -2)), "icmp.icmp_code", id="ICMP code"),
    ],
)
def test_firewall_rules(call: Callable[[], object], text: str) -> None:
    with pytest.raises(Unreadable, match=f"^Invalid {text}$"):
        call()


@pytest.mark.parametrize(
    ("message", "filter_"),
    [
        pytest.param(None, None, id="any protocol"),
        pytest.param(ports("tcp", -1, -1, 80, 81), PortFilter(Protocol.TCP, -1, -1, 80, 81), id="TCP"),
        pytest.param(ports("udp", 0, 65535, 53, 53), PortFilter(Protocol.UDP, 0, 65535, 53, 53), id="UDP"),
        pytest.param(icmp(8, -1), IcmpFilter(8, -1), id="ICMP"),
    ],
)
def test_readable_rules(message: pb.ProtocolFilter | None, filter_: object) -> None:
    wanted = FirewallRule(
        Direction.EGRESS, True, 7, ip_interface("2001:db8::1/64"), ip_interface("2001:db8::1/128"), filter_, 0
    )  # type: ignore[arg-type]
    assert rule(protocol_filter=message).rule == wanted


def capture(*points: pb.CapturedInterface, **fields: Any) -> Any:
    given: dict[str, Any] = {"sink_node_ip": SIX, "udp_src_port": 1, "udp_dst_port": 2, "interfaces": points}
    return decode.capture(pb.CaptureConfig(**(given | fields)))


VF, PF = pb.CapturedInterface(interface_type=pb.SINGLE_VF, vf_name=b"vm1"), pb.CapturedInterface(pf_index=1)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        pytest.param(lambda: capture(sink_node_ip=FOUR), "Invalid sink_node_ip", id="a sink on IPv4"),
        pytest.param(lambda: capture(udp_src_port=65536), "Invalid udp_src_port", id="source port"),
        pytest.param(lambda: capture(udp_dst_port=65536), "Invalid udp_dst_port", id="destination port"),
        pytest.param(lambda: capture(*[VF] * 17), "Too many interfaces to be captured", id="17 interfaces"),
        pytest.param(
            lambda: capture(pb.CapturedInterface(interface_type=2)),  # type: ignore[arg-type]
            "Invalid interfaces.interface_type",
            id="an unknown kind",
        ),
        pytest.param(lambda: capture(pb.CapturedInterface(pf_index=2)), "Invalid pf_index", id="a third uplink"),
    ],
)
def test_captures(call: Callable[[], object], text: str) -> None:
    with pytest.raises(Unreadable, match=f"^{text}$"):
        call()


def test_readable_capture() -> None:
    assert capture(VF, PF, VF) == Capture(IPv6Address("2001:db8::1"), 1, 2, (InterfaceId("vm1"), 1))


def batch(**fields: Any) -> Any:
    given: dict[str, Any] = {
        "vni": 100,
        "ip_version": 4,
        "added": bytes((10, 0, 0, 0, 8)),
        "next_hops": [routes_pb2.NextHop(underlay=HOP.underlay.packed)],
        "next_hop_indexes": [0],
    }
    return route_batches.decoded(routes_pb2.RouteBatch(**(given | fields)))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        pytest.param(lambda: batch(ip_version=5), "Invalid ip_version", id="version"),
        pytest.param(lambda: batch(removed=bytes(4)), "Invalid removed", id="cut short"),
        pytest.param(lambda: batch(removed=bytes(10)), "Duplicate removed prefix", id="removed twice"),
        pytest.param(lambda: batch(added=bytes((10, 0, 0, 1, 8))), "Invalid added", id="host bits"),
        pytest.param(lambda: batch(added=bytes((10, 0, 0, 1, 33))), "Invalid added", id="a long prefix"),
        pytest.param(
            lambda: batch(added=bytes(10), next_hop_indexes=[0, 0]), "Duplicate added prefix", id="added twice"
        ),
        pytest.param(lambda: batch(next_hop_indexes=[]), "Invalid next_hop_indexes", id="no hop for a prefix"),
        pytest.param(lambda: batch(next_hop_indexes=[1]), "Invalid next_hop_indexes", id="an unknown hop"),
        pytest.param(
            lambda: batch(next_hops=[routes_pb2.NextHop(underlay=bytes(4))]), "Invalid next_hops.underlay", id="a hop"
        ),
    ],
)
def test_batches(call: Callable[[], object], text: str) -> None:
    with pytest.raises(Unreadable, match=f"^{text}$"):
        call()


def test_a_batch_reads_as_it_was_written() -> None:
    other = RemoteHop(UnderlayAddress(IPv6Address("fc00:3::1")), Vni(7))
    added = {net("2001:db8::/32"): HOP, net("::/0"): other, net("2001:db8::1/128"): HOP}
    vni, version, removed, numbers = route_batches.decoded(
        route_batches.encoded(100, 6, [net("2001:db8:1::/48")], added)
    )
    assert (vni, version, removed) == (100, 6, [(0x20010DB80001 << 80) << 8 | 48])
    assert list(numbers.values()) == [HOP, other, HOP]
