"""Requests as most tests of the gRPC door send them."""

from __future__ import annotations

from protos.dpdkironcore.v1 import dpdk_pb2 as pb

EVERY = pb.IpAddress(ipver=pb.IPV4, address=b"0.0.0.0")


def interface(**fields: object) -> pb.CreateInterfaceRequest:
    given: dict[str, object] = {
        "interface_id": b"vm1",
        "device_name": "net_tap2",
        "vni": 100,
        "ipv4_config": pb.IpConfig(primary_address=b"10.0.0.1"),
    }
    return pb.CreateInterfaceRequest(**(given | fields))  # type: ignore[arg-type]


def prefix(address: bytes = b"10.0.0.2", length: int = 32, version: pb.IpVersion = pb.IPV4) -> pb.Prefix:
    return pb.Prefix(ip=pb.IpAddress(ipver=version, address=address), length=length)


def route(hop: bytes = b"fc00:2::d000:1:0:7", hop_version: pb.IpVersion = pb.IPV6, **fields: object) -> pb.Route:
    return pb.Route(
        prefix=prefix(**fields),  # type: ignore[arg-type]
        nexthop_vni=100,
        nexthop_address=pb.IpAddress(ipver=hop_version, address=hop),
    )
