"""Short ways to what the tests of the model need."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address, ip_network

from services.dpservice.model.changes import Change, one_by_one
from services.dpservice.model.rows import InterfaceId, IPNetwork, RemoteHop, Vni
from services.dpservice.model.state import Limits, Model, NewInterface
from services.dpservice.model.underlay import UnderlayAddress, UnderlayAllocator

HOST = IPv6Address("fc00:1::1")
DEVICES = ("net_tap2", "net_tap3", "net_tap4", "net_tap5")
HOP = RemoteHop(UnderlayAddress(IPv6Address("fc00:2::d000:1:0:7")), Vni(100))


def allocator() -> UnderlayAllocator:
    return UnderlayAllocator(HOST, reproducible=True, random=random.Random(1))


def model(limits: Limits | None = None, *, accept_only: bool = False) -> Model:
    return Model(DEVICES, ["pf0", "pf1"], allocator(), limits, accept_only=accept_only)


def nic(
    name: str = "vm1",
    device: str = "net_tap2",
    vni: int = 100,
    ipv4: str = "10.0.0.1",
    ipv6: str = "",
    preferred: str = "",
    total_rate: int = 0,
    public_rate: int = 0,
) -> NewInterface:
    return NewInterface(
        id=InterfaceId(name),
        device=device,
        vni=Vni(vni),
        ipv4=IPv4Address(ipv4) if ipv4 else None,
        ipv6=IPv6Address(ipv6) if ipv6 else None,
        preferred=UnderlayAddress(IPv6Address(preferred)) if preferred else None,
        total_rate=total_rate,
        public_rate=public_rate,
    )


def net(text: str) -> IPNetwork:
    return ip_network(text)


def content(made: Model) -> set[Change]:
    """Every row of a model."""
    return set(one_by_one(made.rows()))
