from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from services.dpservice.engine.interface import Delivery
from services.dpservice.node.links import NTF_ROUTER, Gateway, Link, Neighbor, router_of

REACHABLE, STALE, FAILED, INCOMPLETE = 0x02, 0x04, 0x20, 0x01
ONE, TWO, OLD = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2", b"\2\0\0\0\0\7"
G1, G2 = IPv6Address("fe80::1"), IPv6Address("fe80::2")


def at(address: IPv6Address, mac: bytes, state: int, *, is_router: bool, ifindex: int = 5) -> Neighbor:
    return Neighbor(ifindex, address, mac, state, is_router)


@pytest.mark.parametrize(
    ("neighbors", "gateways", "known", "router"),
    [
        pytest.param([], [], {}, b"", id="nobody"),
        pytest.param([at(G1, ONE, STALE, is_router=True)], [], {}, ONE, id="said it is a router"),
        pytest.param([at(G1, ONE, STALE, is_router=True, ifindex=6)], [], {}, b"", id="of another uplink"),
        pytest.param([at(G1, ONE, REACHABLE, is_router=False)], [], {}, b"", id="some host"),
        pytest.param([at(G1, ONE, REACHABLE, is_router=False)], [Gateway(5, G1)], {}, ONE, id="routes lead there"),
        pytest.param([at(G1, ONE, REACHABLE, is_router=False)], [Gateway(6, G1)], {}, b"", id="by another uplink"),
        pytest.param(
            [at(G1, ONE, STALE, is_router=False), at(G2, TWO, STALE, is_router=True)],
            *([Gateway(5, G1)], {}, TWO),
            id="a router counts more than a gateway",
        ),
        pytest.param([], [Gateway(5, G1)], {5: OLD}, OLD, id="the kernel forgot, we did not"),
        pytest.param([at(G1, b"", INCOMPLETE, is_router=True)], [], {5: OLD}, OLD, id="being resolved again"),
        pytest.param([at(G1, ONE, FAILED, is_router=True)], [], {5: OLD}, b"", id="does not answer any more"),
        pytest.param(
            [at(G1, ONE, FAILED, is_router=True), at(G2, TWO, STALE, is_router=True)],
            *([], {5: OLD}, TWO),
            id="another one took over",
        ),
    ],
)
def test_router(neighbors: list[Neighbor], gateways: list[Gateway], known: dict[int, bytes], router: bytes) -> None:
    assert router_of(5, neighbors, gateways, known) == router
    assert NTF_ROUTER == 0x80


@pytest.mark.parametrize(
    ("kind", "elsewhere", "delivery"),
    [
        pytest.param("veth", True, Delivery.PEER, id="veth into another namespace"),
        pytest.param("veth", False, Delivery.REDIRECT, id="veth within one namespace"),
        pytest.param("tun", False, Delivery.REDIRECT, id="TAP"),
        pytest.param("macvlan", True, Delivery.REDIRECT, id="only a veth has a peer"),
    ],
)
def test_delivery(kind: str, elsewhere: bool, delivery: Delivery) -> None:
    link = Link(3, "dtap0", ONE, kind, carrier=True, is_up=True, mtu=1500, peer_elsewhere=elsewhere)
    assert link.as_guest().delivery is delivery
