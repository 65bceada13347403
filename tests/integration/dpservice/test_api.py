"""The rules of the gRPC door as clients see them, on a real daemon with the memory engine: they are the same."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc
from tests.integration.dpservice.daemon import Daemon
from tests.integration.dpservice.lab import new_name
from tests.integration.dpservice.messages import EVERY, interface, prefix, route


@pytest.mark.parametrize(
    ("call", "request_", "text"),
    [
        pytest.param("GetVersion", pb.GetVersionRequest(), "client_protocol", id="version: nothing"),
        pytest.param(
            "GetVersion",
            pb.GetVersionRequest(client_protocol="1", client_name="x", client_version="v" * 64),
            "client_version",
            id="version: too long",
        ),
        pytest.param("GetInterface", pb.GetInterfaceRequest(), "interface_id", id="get: empty id"),
        pytest.param(
            "GetInterface",
            pb.GetInterfaceRequest(interface_id=b"a" * 64),
            "interface_id",
            id="get: id of 64 characters",
        ),
        pytest.param("DeleteInterface", pb.DeleteInterfaceRequest(interface_id=b"a b"), "interface_id", id="id: space"),
        pytest.param(
            "DeleteInterface", pb.DeleteInterfaceRequest(interface_id=b"\xff"), "interface_id", id="id: binary"
        ),
        pytest.param("CreateInterface", interface(interface_id=b""), "interface_id", id="create: empty id"),
        pytest.param(
            "CreateInterface",
            interface(ipv4_config=pb.IpConfig(primary_address=b"\x0a\0\0\1")),
            "ipv4_config.primary_address",
            id="create: octets instead of text",
        ),
        pytest.param(
            "CreateInterface",
            interface(ipv4_config=pb.IpConfig(primary_address=b"fc00::1")),
            "ipv4_config.primary_address",
            id="create: IPv6 as IPv4",
        ),
        pytest.param(
            "CreateInterface",
            interface(ipv6_config=pb.IpConfig(primary_address=b"10.0.0.1")),
            "ipv6_config.primary_address",
            id="create: IPv4 as IPv6",
        ),
        pytest.param(
            "CreateInterface",
            interface(
                ipv4_config=pb.IpConfig(primary_address=b"0.0.0.0"), ipv6_config=pb.IpConfig(primary_address=b"::")
            ),
            "ipv4_config.primary_address and ipv6_config.primary_address combination",
            id="create: no address at all",
        ),
        pytest.param(
            "CreateInterface",
            interface(pxe_config=pb.PxeConfig(next_server="fc00::1")),
            "pxe_config.next_server",
            id="create: IPv6 boot server of an IPv4 guest",
        ),
        pytest.param(
            "CreateInterface",
            interface(pxe_config=pb.PxeConfig(next_server="10.0.0.9", boot_filename="f" * 32)),
            "pxe_config.boot_filename",
            id="create: boot file name of 32 characters",
        ),
        pytest.param("CreateInterface", interface(device_name=""), "device_name", id="create: no device"),
        pytest.param("CreateInterface", interface(device_name="d" * 64), "device_name", id="create: long device name"),
        pytest.param("CreateInterface", interface(hostname="h" * 64), "hostname", id="create: long host name"),
        pytest.param(
            "CreateInterface",
            interface(preferred_underlay_route=b"fc00:2::d000:8000:0:1"),
            "preferred_underlay_route",
            id="create: another host's underlay address",
        ),
        pytest.param(
            "CreateInterface",
            interface(preferred_underlay_route=b"10.0.0.1"),
            "preferred_underlay_route",
            id="create: IPv4 underlay address",
        ),
        pytest.param(
            "CreatePrefix",
            pb.CreatePrefixRequest(interface_id=b"vm1", prefix=prefix(length=33)),
            "prefix.length",
            id="prefix: too long",
        ),
        pytest.param(
            "CreatePrefix",
            pb.CreatePrefixRequest(interface_id=b"vm1", prefix=prefix(b"fc00::1")),
            "prefix.ip",
            id="prefix: family contradicts the text",
        ),
        pytest.param("DeletePrefix", pb.DeletePrefixRequest(interface_id=b"vm1"), "prefix.ip", id="prefix: none"),
        pytest.param(
            "CreateRoute",
            pb.CreateRouteRequest(route=route(length=129, version=pb.IPV6)),
            "route.prefix.length",
            id="route: too long",
        ),
        pytest.param(
            "CreateRoute",
            pb.CreateRouteRequest(route=route(address=b"nowhere")),
            "route.prefix.ip",
            id="route: no address",
        ),
        pytest.param(
            "CreateRoute",
            pb.CreateRouteRequest(route=route(hop=b"")),
            "route.nexthop_address",
            id="route: no next hop",
        ),
        pytest.param("CheckVniInUse", pb.CheckVniInUseRequest(vni=1, type=7), "type", id="VNI: unknown type"),
        pytest.param("ResetVni", pb.ResetVniRequest(vni=1, type=7), "type", id="reset: unknown type"),
    ],
)
def test_unreadable(stub_of_module: pb_grpc.DPDKironcoreStub, call: str, request_: object, text: str) -> None:
    with pytest.raises(grpc.RpcError) as error:
        getattr(stub_of_module, call)(request_, timeout=30)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == f"Invalid {text}"


@pytest.fixture(scope="module")
def stub_of_module() -> Iterator[pb_grpc.DPDKironcoreStub]:
    """For calls that change nothing."""
    with tempfile.TemporaryDirectory(prefix=new_name()) as directory:
        made = Daemon(Path(directory))
        made.stub.Initialize(pb.InitializeRequest(), timeout=30)
        yield made.stub
        made.close()


def test_life_of_an_interface(stub: pb_grpc.DPDKironcoreStub) -> None:
    answer = stub.CreateInterface(
        interface(
            ipv6_config=pb.IpConfig(primary_address=b"2001:DB8:0::1"),
            hostname="vm-1",
            metering_parameters=pb.MeteringParams(total_rate=10, public_rate=5),
        ),
        timeout=30,
    )
    assert (answer.status.code, answer.status.message) == (0, "Success")
    assert answer.underlay_route == b"fc00:1::d000:1:0:1"
    assert answer.vf.name == "dtap0"
    listed = stub.ListInterfaces(pb.ListInterfacesRequest(), timeout=30).interfaces
    assert listed == [
        pb.Interface(
            id=b"vm1",
            vni=100,
            primary_ipv4=b"10.0.0.1",
            primary_ipv6=b"2001:db8::1",
            underlay_route=b"fc00:1::d000:1:0:1",
            pci_name="net_tap2",
            meteringParams=pb.MeteringParams(total_rate=10, public_rate=5),
            hostname="vm-1",
        )
    ]
    assert stub.GetInterface(pb.GetInterfaceRequest(interface_id=b"vm1"), timeout=30).interface == listed[0]
    assert stub.CreateInterface(interface(), timeout=30).status == pb.Status(code=202, message="ALREADY_EXISTS")
    again = interface(device_name="net_tap3")
    assert stub.CreateInterface(again, timeout=30).status == pb.Status(code=402, message="VM_HANDLE")
    assert stub.DeleteInterface(pb.DeleteInterfaceRequest(interface_id=b"vm1"), timeout=30).status.code == 0
    gone = stub.DeleteInterface(pb.DeleteInterfaceRequest(interface_id=b"vm1"), timeout=30)
    assert gone.status == pb.Status(code=201, message="NOT_FOUND")


def test_unset_addresses_print_as_zero(stub: pb_grpc.DPDKironcoreStub) -> None:
    only6 = interface(ipv4_config=pb.IpConfig(), ipv6_config=pb.IpConfig(primary_address=b"2001:db8::1"))
    assert stub.CreateInterface(only6, timeout=30).status.code == 0
    found = stub.GetInterface(pb.GetInterfaceRequest(interface_id=b"vm1"), timeout=30).interface
    assert (found.primary_ipv4, found.primary_ipv6) == (b"0.0.0.0", b"2001:db8::1")


def test_routes_prefixes_and_vnis(stub: pb_grpc.DPDKironcoreStub) -> None:
    def in_use(kind: pb.VniType) -> bool:
        return stub.CheckVniInUse(pb.CheckVniInUseRequest(vni=100, type=kind), timeout=30).in_use

    assert not in_use(pb.VNI_IPV4)
    stub.CreateInterface(interface(), timeout=30)
    assert in_use(pb.VNI_IPV4)
    assert in_use(pb.VNI_IPV6)
    assert stub.CheckVniInUse(pb.CheckVniInUseRequest(vni=100, type=pb.VNI_BOTH), timeout=30).status.code == 203
    four = route(address=b"10.5.0.9", length=16)
    six = route(address=b"2001:db8::", length=32, version=pb.IPV6)
    for each in (four, six):
        assert stub.CreateRoute(pb.CreateRouteRequest(vni=100, route=each), timeout=30).status.code == 0
    bad = route(hop=b"10.0.0.1", hop_version=pb.IPV4)
    assert stub.CreateRoute(pb.CreateRouteRequest(vni=999, route=bad), timeout=30).status.message == "BAD_IPVER"
    listed = stub.ListRoutes(pb.ListRoutesRequest(vni=100), timeout=30).routes
    assert [each.prefix.ip.address for each in listed] == [b"10.5.0.0", b"2001:db8::"], "host bits are masked"
    assert listed[0].nexthop_address.address == b"fc00:2::d000:1:0:7"
    made = stub.CreatePrefix(pb.CreatePrefixRequest(interface_id=b"vm1", prefix=prefix(b"10.1.0.0", 24)), timeout=30)
    assert made.underlay_route == b"fc00:1::d000:1:0:2"
    assert [
        (each.ip.address, each.length, each.underlay_route)
        for each in stub.ListPrefixes(pb.ListPrefixesRequest(interface_id=b"vm1"), timeout=30).prefixes
    ] == [(b"10.1.0.0", 24, b"fc00:1::d000:1:0:2")]
    assert stub.ResetVni(pb.ResetVniRequest(vni=100, type=pb.VNI_IPV4), timeout=30).status.message == "WRONG_TYPE"
    assert stub.ResetVni(pb.ResetVniRequest(vni=100, type=pb.VNI_BOTH), timeout=30).status.code == 0
    assert not stub.ListRoutes(pb.ListRoutesRequest(vni=100), timeout=30).routes


@pytest.mark.parametrize(
    ("rpc", "request_of", "unknown", "known"),
    [
        pytest.param("GetVip", pb.GetVipRequest, "NO_VM", "SNAT_NO_DATA", id="VIP"),
        pytest.param("DeleteVip", pb.DeleteVipRequest, "NO_VM", "SNAT_NO_DATA", id="VIP to remove"),
        pytest.param("GetNat", pb.GetNatRequest, "NO_VM", "SNAT_NO_DATA", id="NAT"),
        pytest.param("DeleteNat", pb.DeleteNatRequest, "NO_VM", "SNAT_NO_DATA", id="NAT to remove"),
        pytest.param(
            "ListLoadBalancerPrefixes",
            pb.ListLoadBalancerPrefixesRequest,
            "NO_VM",
            "Success",
            id="balanced prefixes",
        ),
        pytest.param("ListFirewallRules", pb.ListFirewallRulesRequest, "NO_VM", "Success", id="firewall rules"),
    ],
)
def test_an_interface_has_none_of_what_is_not_there(
    stub: pb_grpc.DPDKironcoreStub, rpc: str, request_of: Any, unknown: str, known: str
) -> None:
    call = getattr(stub, rpc)
    assert call(request_of(interface_id=b"vm1"), timeout=30).status.message == unknown
    assert stub.CreateInterface(interface(), timeout=30).status.code == 0
    assert call(request_of(interface_id=b"vm1"), timeout=30).status.message == known


@pytest.mark.parametrize(
    ("rpc", "asked", "message"),
    [
        pytest.param("ListLoadBalancers", pb.ListLoadBalancersRequest(), "Success", id="load balancers"),
        pytest.param("GetLoadBalancer", pb.GetLoadBalancerRequest(loadbalancer_id=b"1"), "NOT_FOUND", id="one of them"),
        pytest.param("ListLoadBalancerTargets", pb.ListLoadBalancerTargetsRequest(), "Success", id="targets"),
        pytest.param(
            "ListLoadBalancerTargets",
            pb.ListLoadBalancerTargetsRequest(loadbalancer_id=b"1"),
            "NO_LB",
            id="targets of one",
        ),
        pytest.param("ListLocalNats", pb.ListLocalNatsRequest(nat_ip=EVERY), "Success", id="NAT ranges"),
        pytest.param(
            "ListNeighborNats", pb.ListNeighborNatsRequest(nat_ip=EVERY), "Success", id="NAT ranges of others"
        ),
    ],
)
def test_a_host_has_none_of_what_is_not_there(
    stub: pb_grpc.DPDKironcoreStub, rpc: str, asked: Any, message: str
) -> None:
    assert getattr(stub, rpc)(asked, timeout=30).status.message == message
