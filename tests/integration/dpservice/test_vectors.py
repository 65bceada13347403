"""Choices that peers know to the bit, by test runs of the programs: uplinks, NAT ports, balancers' targets."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest

from services.dpservice.engine.interface import PacketSettings, UplinkState
from services.dpservice.model.balancers import NewBalancer
from services.dpservice.model.interfaces import NewInterface
from services.dpservice.model.rows import BalancerId, InterfaceId, PortNumber, Protocol, Vni
from tests.support.dpservice import calls
from tests.support.dpservice.fates import Tunnelled
from tests.support.dpservice.packets import echo, tcp, udp
from tests.support.dpservice.town import GATEWAY, HOST, framed, tunnelled
from tests.support.dpservice.trial import TRUSTED, Run, Trial, prepared_trials
from tests.support.dpservice.wire import Endpoints, read_packet

MAC = bytes([2, 0xAA, 0, 0, 0, 0])
FIRST4, SECOND4, FIRST6 = IPv4Address("10.100.1.1"), IPv4Address("10.100.1.2"), IPv6Address("2000:100:1::1")
FIRST, SECOND = PortNumber(0), PortNumber(1)
PUBLIC = IPv4Address("172.21.1.1")
BALANCED = IPv4Address("172.22.2.1")
TARGETS = [IPv6Address(f"fc00:1::8000:1234:{number}") for number in (1, 2, 3)]


@pytest.fixture(scope="module")
def in_trial() -> Iterator[Run]:
    """Two guests of VNI 100 with default routes; half of the flows may leave by the second uplink."""
    with prepared_trials(populate) as run:
        yield run


def populate(trial: Trial) -> None:
    for name, device, ipv4, ipv6 in (
        ("a", "net_tap2", FIRST4, FIRST6),
        ("b", "net_tap3", SECOND4, IPv6Address("2000:100:1::2")),
    ):
        nic = NewInterface(InterfaceId(name), device, Vni(100), ipv4, ipv6)
        trial.call(lambda model, nic=nic: model.create_interface(nic))
    for prefix in ("0.0.0.0/0", "::/0"):
        trial.call(calls.create_route(Vni(100), ip_network(prefix), GATEWAY))
    trial.engine.configure(PacketSettings(HOST.packed[:8], True, True, TRUSTED, HOST, wcmp=50))


def sent(trial: Trial, port: PortNumber, packet: bytes) -> Tunnelled:
    fate = trial.tried_from_guest(port, framed(packet, MAC[:5] + bytes([port])))
    assert isinstance(fate, Tunnelled), fate
    return fate


def ends(source: str, source_port: int, destination: str, port: int) -> Endpoints:
    return Endpoints(ip_address(source), source_port, ip_address(destination), port)


@pytest.mark.parametrize(
    ("port", "nat", "packet", "uplink"),
    [
        pytest.param(FIRST, False, echo(ends("10.100.1.1", 0, "10.100.2.102", 0)), 0, id="slot 0"),
        pytest.param(FIRST, False, echo(ends("10.100.1.1", 0, "10.100.2.125", 0)), 1, id="slot 8"),
        pytest.param(SECOND, False, tcp(ends("10.100.1.2", 1240, "45.86.6.6", 100)), 0, id="slot 2"),
        pytest.param(SECOND, False, tcp(ends("10.100.1.2", 1240, "45.86.6.6", 120)), 1, id="slot 6"),
        pytest.param(FIRST, True, echo(ends("10.100.1.1", 0x50, "45.86.6.206", 0x50)), 1, id="slot 8, NAT"),
        pytest.param(FIRST, True, tcp(ends("10.100.1.1", 1256, "45.86.6.6", 503)), 0, id="slot 3, NAT"),
        pytest.param(FIRST, True, tcp(ends("10.100.1.1", 1256, "45.86.6.6", 505)), 1, id="slot 9, NAT"),
    ],
)
def test_uplinks(in_trial: Run, port: PortNumber, nat: bool, packet: bytes, uplink: int) -> None:
    """The one that the flow's hash says, as long as it has a carrier."""

    def follow(trial: Trial) -> None:
        if nat:
            trial.call(lambda model: model.create_nat(InterfaceId("a"), PUBLIC, 100, 104, None))
        for _ in range(2):
            assert sent(trial, port, packet).uplink == uplink
        link = trial.uplinks[uplink]
        for carrier, leaves in ((False, 1 - uplink), (True, uplink)):
            state = UplinkState(f"pf{uplink}", link.ifindex, True, link.mac, carrier, link.router)
            trial.engine.set_uplink(uplink, state)
            assert sent(trial, port, packet).uplink == leaves

    in_trial(follow)


@pytest.mark.parametrize(
    ("source", "destination", "ports"),
    [
        pytest.param("10.100.1.1", "45.86.6.106", [101, 102, 100, 103], id="IPv4"),
        pytest.param("2000:100:1::1", "64:ff9b::2d56:606", [103, 101, 100, 102], id="NAT64"),
    ],
)
def test_nat_ports(in_trial: Run, source: str, destination: str, ports: list[int]) -> None:
    def follow(trial: Trial) -> None:
        trial.call(lambda model: model.create_nat(InterfaceId("a"), PUBLIC, 100, 104, None))
        found = [
            read_packet(sent(trial, FIRST, udp(ends(source, port, destination, 53))).frame[54:]).ends
            for port in range(1024, 1028)
        ]
        assert [each.source_port for each in found] == ports
        assert {each.source for each in found} == {PUBLIC}

    in_trial(follow)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param("45.86.6.6", TARGETS[1], id="slot 452"),
        pytest.param("45.86.6.106", TARGETS[2], id="slot 281"),
    ],
)
def test_targets(in_trial: Run, source: str, target: IPv6Address) -> None:
    def follow(trial: Trial) -> None:
        wanted = NewBalancer(BalancerId("lb"), Vni(100), BALANCED, ((1234, Protocol.UDP),))
        to = trial.call(lambda model: model.create_balancer(wanted)).underlay
        for each in TARGETS:
            trial.call(lambda model, each=each: model.create_target(BalancerId("lb"), each))
        fate = trial.tried_from_uplink(0, tunnelled(udp(ends(source, 53, str(BALANCED), 1234)), to))
        assert isinstance(fate, Tunnelled), fate
        assert IPv6Address(fate.frame[38:54]) == target

    in_trial(follow)
