"""What has to hold for tables of any size, and when they are full."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from tests.integration.dpservice.conftest import VNI
from tests.integration.dpservice.crowd import HOP, UDP, Crowd, address, carried, guest_mac, open_flows, received
from tests.integration.dpservice.frames import ethernet, ipv4, ipv6, mac, udp
from tests.integration.dpservice.lab import eventually, run

ROUTE_INSERT: Final = 303
EARLY: Final = 20  # flows that are tried again when the table is full
OUTSIDE, OUTSIDE6 = IPv4Address("20.0.0.0"), IPv6Address("2001:db8:1::")
NETWORK6: Final = 1 << 64  # from one /64 to the next


def meet(crowd: Crowd) -> None:
    """The first guest and the last one: between each other, out by an uplink, in by their own underlay addresses."""
    first, middle, last = 0, crowd.count // 2, crowd.count - 1
    for one, other in ((first, last), (last, first), (last, middle), (middle, first)):
        carried(crowd, one, other)
    crowd.host.route(VNI, "20.0.0.0/24", str(HOP))
    host_mac = run("ip", "netns", "exec", crowd.host.namespace, "cat", "/sys/class/net/pf0/address").strip()
    with crowd.fabric() as fabric:
        for number in (first, middle, last):
            sent = crowd.frame(number, OUTSIDE, 7, 53)
            crowd.socket_of(number).send(sent)
            frame = received(fabric, lambda frame, sent=sent: frame[54:] == sent[14:])
            assert frame[22:54] == crowd.underlays[number].packed + HOP.packed
            back = ipv4(str(OUTSIDE), str(address(number)), UDP, udp(53, 7, b"back"))
            outer = ipv6(str(HOP), str(crowd.underlays[number]), 4, back)
            fabric.send(ethernet(host_mac, "02:00:00:00:00:01", 0x86DD, outer))
            frame = received(crowd.socket_of(number), lambda frame, back=back: frame[14:] == back)
            assert frame[:12] == mac(guest_mac(number)) + mac(crowd.gateways[number])
    assert {first, middle, last} <= crowd.held().keys()


def fill_flows(crowd: Crowd, capacity: int, full: Callable[[], None] = lambda: None) -> None:
    """Guests 0 and 1, which have no quota, open more flows to guest 2 than there is room for; then `full` is called."""
    each = capacity * 6 // 10
    open_flows(crowd, 0, 2, each)
    held = crowd.held()
    assert held == {0: each}, "every flow has its entry"
    open_flows(crowd, 1, 2, each)
    held, drops = crowd.held(), crowd.host.drops()
    assert sum(held.values()) == capacity
    assert drops["flow_table"] >= 2 * each - capacity
    assert {reason for reason, count in drops.items() if count} == {"flow_table"}
    full()
    for number in range(EARLY):
        carried(crowd, 0, 2, 1024 + number, 1024)
    assert crowd.host.drops() == drops, "what is known goes on"
    answer = crowd.host.stub.DeleteInterface(pb.DeleteInterfaceRequest(interface_id=b"vm-0"), timeout=30)
    assert answer.status.code == 0
    eventually(lambda: 0 not in crowd.held(), 60)
    carried(crowd, 1, 2, 7, 7)


def fill_routes(crowd: Crowd, capacity: int, more: int, full: Callable[[], None] = lambda: None) -> None:
    """So many IPv4 routes as the table takes, `more` IPv6 routes besides, and packets by the first, last and middle."""
    free = capacity - crowd.count
    assert crowd.load_routes((((OUTSIDE + number).packed, 32) for number in range(free)), 4) == 0
    assert crowd.load_routes((((OUTSIDE6 + number * NETWORK6).packed, 64) for number in range(more)), 6) == 0
    full()
    last = OUTSIDE + free
    assert crowd.load_routes([(last.packed, 32)], 4) == ROUTE_INSERT
    assert crowd.host.stub.CreateRoute(_route(last), timeout=5).status.code == ROUTE_INSERT
    with crowd.fabric() as fabric:
        speaker = crowd.socket_of(0)
        for number in (0, free // 2, free - 1):
            sent = crowd.frame(0, OUTSIDE + number, 7, 53)
            speaker.send(sent)
            assert received(fabric, lambda frame, sent=sent: frame[54:] == sent[14:])[38:54] == HOP.packed
        for number in (0, more // 2, more - 1):
            sent = crowd.frame6(0, OUTSIDE6 + number * NETWORK6 + 9, 7, 53)
            speaker.send(sent)
            assert received(fabric, lambda frame, sent=sent: frame[54:] == sent[14:])[38:54] == HOP.packed
        before = crowd.host.drops()["no_route"]
        speaker.send(crowd.frame(0, last, 7, 53))
        eventually(lambda: crowd.host.drops()["no_route"] == before + 1)
        gone = _route(OUTSIDE)
        removed = crowd.host.stub.DeleteRoute(pb.DeleteRouteRequest(vni=VNI, route=gone.route), timeout=5)
        assert removed.status.code == 0
        assert crowd.host.stub.CreateRoute(_route(last), timeout=5).status.code == 0
        sent = crowd.frame(0, last, 7, 53)
        speaker.send(sent)
        assert received(fabric, lambda frame: frame[54:] == sent[14:])


def _route(destination: IPv4Address) -> pb.CreateRouteRequest:
    prefix = pb.Prefix(ip=pb.IpAddress(ipver=pb.IPV4, address=str(destination).encode()), length=32)
    hop = pb.IpAddress(ipver=pb.IPV6, address=str(HOP).encode())
    return pb.CreateRouteRequest(vni=VNI, route=pb.Route(prefix=prefix, nexthop_vni=VNI, nexthop_address=hop))
