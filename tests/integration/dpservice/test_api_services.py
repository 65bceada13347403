"""VIP, NAT, balancers, firewall, captures and batches of routes as clients see them, on a real daemon."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc
from protos.dpservice.v1 import routes_pb2, routes_pb2_grpc
from tests.integration.dpservice.daemon import Daemon
from tests.integration.dpservice.messages import EVERY, interface, prefix

PUBLIC = pb.IpAddress(ipver=pb.IPV4, address=b"45.86.6.1")
OK = pb.Status(code=0, message="Success")
FIRST, SECOND = b"fc00:1::d000:1:0:1", b"fc00:1::d000:1:0:2"


@pytest.fixture
def served(stub: pb_grpc.DPDKironcoreStub) -> pb_grpc.DPDKironcoreStub:
    assert stub.CreateInterface(interface(), timeout=30).status == OK
    return stub


def test_life_of_a_vip(served: pb_grpc.DPDKironcoreStub) -> None:
    made = served.CreateVip(pb.CreateVipRequest(interface_id=b"vm1", vip_ip=PUBLIC), timeout=30)
    assert made == pb.CreateVipResponse(status=OK, underlay_route=SECOND)
    asked = pb.GetVipRequest(interface_id=b"vm1")
    assert served.GetVip(asked, timeout=30) == pb.GetVipResponse(status=OK, vip_ip=PUBLIC, underlay_route=SECOND)
    again = served.CreateVip(pb.CreateVipRequest(interface_id=b"vm1", vip_ip=PUBLIC), timeout=30)
    assert again.status == pb.Status(code=343, message="SNAT_EXISTS")
    assert served.DeleteVip(pb.DeleteVipRequest(interface_id=b"vm1"), timeout=30).status == OK
    assert served.GetVip(asked, timeout=30).status == pb.Status(code=341, message="SNAT_NO_DATA")


def test_life_of_nat_and_its_neighbors(served: pb_grpc.DPDKironcoreStub) -> None:
    wanted = pb.CreateNatRequest(interface_id=b"vm1", nat_ip=PUBLIC, min_port=100, max_port=200)
    assert served.CreateNat(wanted, timeout=30) == pb.CreateNatResponse(status=OK, underlay_route=SECOND)
    assert served.GetNat(pb.GetNatRequest(interface_id=b"vm1"), timeout=30) == pb.GetNatResponse(
        status=OK, nat_ip=PUBLIC, min_port=100, max_port=200, underlay_route=SECOND
    )
    neighbor = pb.CreateNeighborNatRequest(
        nat_ip=PUBLIC, vni=100, min_port=200, max_port=300, underlay_route=b"FC00:2:0::9"
    )
    assert served.CreateNeighborNat(neighbor, timeout=30).status == OK
    assert served.CreateNeighborNat(neighbor, timeout=30).status.code == 202
    private = pb.IpAddress(ipver=pb.IPV4, address=b"10.0.0.1")
    for address in (PUBLIC, EVERY):
        local = served.ListLocalNats(pb.ListLocalNatsRequest(nat_ip=address), timeout=30).nat_entries
        assert local == [pb.NatEntry(nat_ip=private, min_port=100, max_port=200, vni=100, actual_nat_ip=PUBLIC)]
        foreign = served.ListNeighborNats(pb.ListNeighborNatsRequest(nat_ip=address), timeout=30).nat_entries
        assert foreign == [
            pb.NatEntry(min_port=200, max_port=300, underlay_route=b"fc00:2::9", vni=100, actual_nat_ip=PUBLIC)
        ]
    gone = pb.DeleteNeighborNatRequest(nat_ip=PUBLIC, vni=100, min_port=200, max_port=300)
    assert served.DeleteNeighborNat(gone, timeout=30).status == OK
    assert served.DeleteNeighborNat(gone, timeout=30).status.message == "NOT_FOUND"
    assert served.DeleteNat(pb.DeleteNatRequest(interface_id=b"vm1"), timeout=30).status == OK


def test_life_of_a_balancer(stub: pb_grpc.DPDKironcoreStub) -> None:
    ports = [pb.LbPort(port=80, protocol=pb.TCP), pb.LbPort(port=53, protocol=pb.UDP)]
    wanted = pb.CreateLoadBalancerRequest(
        loadbalancer_id=b"lb1", loadbalanced_ip=PUBLIC, vni=100, loadbalanced_ports=ports
    )
    assert stub.CreateLoadBalancer(wanted, timeout=30) == pb.CreateLoadBalancerResponse(status=OK, underlay_route=FIRST)
    asked = pb.GetLoadBalancerRequest(loadbalancer_id=b"lb1")
    assert stub.GetLoadBalancer(asked, timeout=30) == pb.GetLoadBalancerResponse(
        status=OK, loadbalanced_ip=PUBLIC, vni=100, loadbalanced_ports=ports, underlay_route=FIRST
    )
    assert stub.ListLoadBalancers(pb.ListLoadBalancersRequest(), timeout=30).loadbalancers == [
        pb.Loadbalancer(id=b"lb1", vni=100, ip=PUBLIC, ports=ports, underlay_route=FIRST)
    ]
    for target in (b"fc00:3::2", b"fc00:3::1"):
        message = pb.IpAddress(ipver=pb.IPV6, address=target)
        create = pb.CreateLoadBalancerTargetRequest(loadbalancer_id=b"lb1", target_ip=message)
        assert stub.CreateLoadBalancerTarget(create, timeout=30).status == OK
    for identifier in (b"lb1", b""):
        targets = stub.ListLoadBalancerTargets(
            pb.ListLoadBalancerTargetsRequest(loadbalancer_id=identifier), timeout=5
        ).target_ips
        assert [each.address for each in targets] == [b"fc00:3::1", b"fc00:3::2"]
    delete = pb.DeleteLoadBalancerTargetRequest(
        loadbalancer_id=b"lb1", target_ip=pb.IpAddress(ipver=pb.IPV6, address=b"fc00:3::1")
    )
    assert stub.DeleteLoadBalancerTarget(delete, timeout=30).status == OK
    assert stub.DeleteLoadBalancer(pb.DeleteLoadBalancerRequest(loadbalancer_id=b"lb1"), timeout=30).status == OK
    assert stub.GetLoadBalancer(asked, timeout=30).status == pb.Status(code=201, message="NOT_FOUND")


def test_life_of_a_balancer_prefix(served: pb_grpc.DPDKironcoreStub) -> None:
    wanted = pb.CreateLoadBalancerPrefixRequest(interface_id=b"vm1", prefix=prefix(b"45.86.6.1"))
    made = served.CreateLoadBalancerPrefix(wanted, timeout=30)
    assert made == pb.CreateLoadBalancerPrefixResponse(status=OK, underlay_route=SECOND)
    listed = served.ListLoadBalancerPrefixes(pb.ListLoadBalancerPrefixesRequest(interface_id=b"vm1"), timeout=30)
    assert listed.prefixes == [pb.Prefix(ip=PUBLIC, length=32, underlay_route=SECOND)]
    assert not served.ListPrefixes(pb.ListPrefixesRequest(interface_id=b"vm1"), timeout=30).prefixes
    gone = pb.DeleteLoadBalancerPrefixRequest(interface_id=b"vm1", prefix=prefix(b"45.86.6.1"))
    assert served.DeleteLoadBalancerPrefix(gone, timeout=30).status == OK


@pytest.mark.parametrize(
    "filter_",
    [
        pytest.param(None, id="any protocol"),
        pytest.param(
            pb.ProtocolFilter(
                tcp=pb.TcpFilter(src_port_lower=-1, src_port_upper=-1, dst_port_lower=80, dst_port_upper=81)
            ),
            id="TCP",
        ),
        pytest.param(pb.ProtocolFilter(udp=pb.UdpFilter(src_port_upper=9, dst_port_upper=65535)), id="UDP"),
        pytest.param(pb.ProtocolFilter(icmp=pb.IcmpFilter(icmp_type=128, icmp_code=-1)), id="ICMP"),
    ],
)
def test_life_of_a_firewall_rule(served: pb_grpc.DPDKironcoreStub, filter_: pb.ProtocolFilter | None) -> None:
    rule = pb.FirewallRule(
        id=b"r1",
        direction=pb.EGRESS,
        action=pb.DROP,
        priority=1000,
        source_prefix=prefix(b"2001:db8::7", 64, pb.IPV6),
        destination_prefix=prefix(b"::", 0, pb.IPV6),
        protocol_filter=filter_,
    )
    create = pb.CreateFirewallRuleRequest(interface_id=b"vm1", rule=rule)
    assert served.CreateFirewallRule(create, timeout=30) == pb.CreateFirewallRuleResponse(status=OK, rule_id=b"r1")
    found = served.GetFirewallRule(pb.GetFirewallRuleRequest(interface_id=b"vm1", rule_id=b"r1"), timeout=30)
    assert found == pb.GetFirewallRuleResponse(status=OK, rule=rule)
    listed = served.ListFirewallRules(pb.ListFirewallRulesRequest(interface_id=b"vm1"), timeout=30)
    assert listed.rules == [rule]
    gone = pb.DeleteFirewallRuleRequest(interface_id=b"vm1", rule_id=b"r1")
    assert served.DeleteFirewallRule(gone, timeout=30).status == OK
    assert served.DeleteFirewallRule(gone, timeout=30).status.message == "NOT_FOUND"


def test_life_of_a_capture(served: pb_grpc.DPDKironcoreStub) -> None:
    config = pb.CaptureConfig(
        sink_node_ip=pb.IpAddress(ipver=pb.IPV6, address=b"fc00:9::1"),
        udp_src_port=1000,
        udp_dst_port=2000,
        interfaces=[
            pb.CapturedInterface(interface_type=pb.SINGLE_PF, pf_index=1),
            pb.CapturedInterface(interface_type=pb.SINGLE_VF, vf_name=b"vm1"),
        ],
    )
    status = pb.CaptureStatusRequest()
    assert served.CaptureStatus(status, timeout=30) == pb.CaptureStatusResponse(status=OK)
    assert served.CaptureStart(pb.CaptureStartRequest(capture_config=config), timeout=30).status == OK
    assert served.CaptureStatus(status, timeout=30) == pb.CaptureStatusResponse(
        status=OK, is_active=True, capture_config=config
    )
    again = served.CaptureStart(pb.CaptureStartRequest(capture_config=config), timeout=30)
    assert again.status == pb.Status(code=210, message="ALREADY_ACTIVE")
    stopped = served.CaptureStop(pb.CaptureStopRequest(), timeout=30)
    assert stopped == pb.CaptureStopResponse(status=OK, stopped_interface_cnt=2)
    assert served.CaptureStop(pb.CaptureStopRequest(), timeout=30).status.message == "NOT_ACTIVE"


def batch(**fields: Any) -> routes_pb2.RouteBatch:
    given: dict[str, Any] = {
        "vni": 100,
        "ip_version": 4,
        "next_hops": [routes_pb2.NextHop(underlay=bytes(15) + b"\x09", vni=7)],
    }
    return routes_pb2.RouteBatch(**(given | fields))


def test_batches_of_routes(daemon: Daemon, served: pb_grpc.DPDKironcoreStub) -> None:
    ten, twenty = bytes((10, 1, 0, 0, 16)), bytes((20, 0, 0, 0, 8))
    batches = [
        batch(added=ten + twenty, next_hop_indexes=[0, 0]),
        batch(added=bytes((30, 0, 0, 0, 8)) + ten, next_hop_indexes=[0, 0]),
        batch(removed=twenty + bytes((40, 0, 0, 0, 8))),
        batch(removed=bytes((10, 0, 0, 1, 32))),
        batch(vni=999, removed=twenty),
        batch(removed=ten, added=ten, next_hop_indexes=[0]),
    ]
    answers = list(routes_pb2_grpc.RoutesStub(daemon.channel).ApplyRoutes(iter(batches), timeout=10))
    assert [(each.code, each.message) for each in answers] == [
        (0, "Success"),
        (301, "ROUTE_EXISTS"),
        (302, "ROUTE_NOT_FOUND"),
        (304, "ROUTE_BAD_PORT"),
        (206, "NO_VNI"),
        (0, "Success"),
    ]
    assert answers[1].reason == "VNI 100 has 10.1.0.0/16"
    listed = served.ListRoutes(pb.ListRoutesRequest(vni=100), timeout=30).routes
    assert [(each.prefix.ip.address, each.prefix.length) for each in listed] == [(b"10.1.0.0", 16), (b"20.0.0.0", 8)]
    assert {each.nexthop_address.address for each in listed} == {b"::9"}


def test_a_batch_that_can_not_be_read_ends_the_stream(daemon: Daemon, stub: pb_grpc.DPDKironcoreStub) -> None:
    with pytest.raises(grpc.RpcError) as error:
        list(routes_pb2_grpc.RoutesStub(daemon.channel).ApplyRoutes(iter([batch(added=b"1")]), timeout=30))
    assert (error.value.code(), error.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "Invalid added")


def test_no_batch_before_initialize(daemon: Daemon) -> None:
    with pytest.raises(grpc.RpcError) as error:
        list(routes_pb2_grpc.RoutesStub(daemon.channel).ApplyRoutes(iter([batch()]), timeout=30))
    assert error.value.code() is grpc.StatusCode.ABORTED
