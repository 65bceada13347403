"""Random API calls and packets: the programs do with each packet what the reference model says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from services.dpservice.model.changes import Rows
from services.dpservice.model.errors import Refusal
from services.dpservice.model.keys import BalancerKey, FunctionKey, InterfaceKey, NatKey, VipKey
from services.dpservice.model.rows import (
    Balancer,
    Function,
    Interface,
    InterfaceId,
    IPAddress,
    NatSlice,
    PortNumber,
    Vip,
)
from tests.integration.dpservice import frames
from tests.integration.dpservice.lab import eventually
from tests.support.dpservice import calls
from tests.support.dpservice.calls import ADDRESSES, HOPS, PORTS, Call
from tests.support.dpservice.fates import Delivered, Dropped, Fate, Tunnelled, dropped
from tests.support.dpservice.packets import ACK, FIN, RST, SYN, error, packet
from tests.support.dpservice.town import framed, tunnelled
from tests.support.dpservice.trial import Trial, agree, trials
from tests.support.dpservice.wire import ICMP, ICMPV6, TCP, UDP, Endpoints, Packet, read_packet, verified

T = TypeVar("T")
PROTOCOLS = st.sampled_from([TCP, UDP, ICMP])
FLAGS = st.sampled_from([SYN, SYN | ACK, ACK, ACK | FIN, RST])
FAR: tuple[IPAddress, ...] = (*calls.REMOTE, *calls.STRANGERS)
ports, addresses = st.sampled_from(PORTS), st.sampled_from(ADDRESSES)


@pytest.fixture(scope="module")
def in_trial() -> Iterator[Callable[[Callable[[Trial], T]], T]]:
    with trials() as run:
        yield run


class Fates(RuleBasedStateMachine):
    """Calls and packets in any order. `seen` are packets that came out, which somebody may answer."""

    kinds: tuple[st.SearchStrategy[Call], ...] = ()
    prepared: tuple[Call, ...] = ()

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self.trial = trial
        self.seen: list[tuple[Packet, PortNumber | None]] = []
        trial.reset()

    def attempt(self, call: Call) -> None:
        try:
            self.trial.call(call)
        except Refusal:
            pass

    @initialize()
    def begin(self) -> None:
        """Two guests of a VNI, one of another, default routes."""
        for index, vni in ((0, 0), (1, 0), (2, 1)):
            name, device = InterfaceId("abc"[index]), calls.DEVICES[index]
            self.attempt(calls.create_interface(name, device, calls.VNIS[vni], index + 1))
        for vni in calls.VNIS:
            for prefix in calls.ROUTES[:2]:
                self.attempt(calls.create_route(vni, prefix, HOPS[1]))
        for call in self.prepared:
            self.attempt(call)

    @rule(data=st.data())
    def call(self, data: st.DataObject) -> None:
        self.attempt(data.draw(st.one_of(*self.kinds)))

    @rule(data=st.data(), protocol=PROTOCOLS, flags=FLAGS, source_port=ports, destination_port=ports)
    def guest_sends(
        self, data: st.DataObject, protocol: int, flags: int, source_port: int, destination_port: int
    ) -> None:
        nics = self.trial.model.interfaces()
        if not nics:
            return
        nic = data.draw(st.sampled_from(nics))
        destination = data.draw(addresses)
        own = nic.ipv4 if destination.version == 4 else nic.ipv6
        assert own
        same_family = [address for address in ADDRESSES if address.version == destination.version]
        source = data.draw(st.sampled_from([*[own] * 20, *same_family]))
        ends = _ends(protocol, source, source_port, destination, destination_port)
        self.send_from_guest(nic.port, packet(ends, protocol, flags=flags))

    @rule(data=st.data(), protocol=PROTOCOLS, flags=FLAGS, source_port=ports, destination_port=ports)
    def fabric_sends(
        self, data: st.DataObject, protocol: int, flags: int, source_port: int, destination_port: int
    ) -> None:
        source = data.draw(st.sampled_from(FAR))
        same_family = [address for address in ADDRESSES if address.version == source.version]
        destination = data.draw(st.sampled_from(same_family))
        functions = [key.underlay for key in self.rows if isinstance(key, FunctionKey)]
        fitting = self.functions_for(destination) * 5
        to = data.draw(st.sampled_from([*fitting, *functions, IPv6Address("fc00:1::d000:0:0:ffff")]))
        ends = _ends(protocol, source, source_port, destination, destination_port)
        self.send_from_fabric(data.draw(st.integers(0, 1)), to, packet(ends, protocol, flags=flags))

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), flags=FLAGS)
    def somebody_answers(self, data: st.DataObject, flags: int) -> None:
        got, port = data.draw(st.sampled_from(self.seen))
        if got.is_error:
            return
        answer = packet(got.ends.turned(), got.protocol, flags=flags, answer=got.icmp[1] in (8, 128))
        self.send_back(data, got, port, answer)

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), code=st.sampled_from([2, 3, 4]), strange=st.booleans())
    def somebody_complains(self, data: st.DataObject, code: int, strange: bool) -> None:
        got, port = data.draw(st.sampled_from(self.seen))
        if got.is_error:
            return
        source = got.ends.destination
        if strange and port is None:
            source = calls.REMOTE[0 if got.version == 4 else 1]
        told = error(source, got.ends.source, got, 3 if got.version == 4 else 1, code)
        self.send_back(data, got, port, read_packet(told))

    def send_back(self, data: st.DataObject, got: Packet, port: PortNumber | None, answer: Packet) -> None:
        if port is not None:
            if port in self.trial.reference.world.guests:
                self.send_from_guest(port, answer)
            return
        functions = [key.underlay for key in self.rows if isinstance(key, FunctionKey)]
        if functions:
            fitting = self.functions_for(answer.ends.destination) * 5
            self.send_from_fabric(0, data.draw(st.sampled_from([*fitting, *functions])), answer)

    def functions_for(self, address: IPAddress) -> list[IPv6Address]:
        """Underlay addresses that the fabric would use for an overlay address."""
        found: list[IPv6Address] = []
        for key, row in self.rows.items():
            match key, row:
                case InterfaceKey(), Interface() if address in (row.ipv4, row.ipv6):
                    found.append(row.underlay)
                case ((VipKey() | NatKey()), (Vip() | NatSlice())) if row.address == address:
                    found.append(row.underlay)
                case BalancerKey(), Balancer() if key.address == address:
                    found.append(row.underlay)
                case FunctionKey(), Function() if row.prefix is not None and address in row.prefix:
                    found.append(key.underlay)
        return found

    @property
    def rows(self) -> Rows:
        return self.trial.reference.world.rows

    def send_from_guest(self, port: PortNumber, sent: Packet) -> None:
        self.compare(sent, self.trial.from_guest(port, framed_by(port, sent)))

    def send_from_fabric(self, uplink: int, to: IPv6Address, sent: Packet) -> None:
        self.compare(sent, self.trial.from_uplink(uplink, tunnelled(sent.data, to)))

    def compare(self, sent: Packet, fates: tuple[Fate, Fate]) -> None:
        expected, found = fates
        assert agree(expected, found), f"{sent} should be {expected} but is {found}"
        if isinstance(found, Delivered | Tunnelled):
            came = read_packet(found.frame[14 if isinstance(found, Delivered) else 54 :])
            assert verified(came), f"{sent} became {came}: a checksum is wrong"
            self.seen.append((came, found.port if isinstance(found, Delivered) else None))


def framed_by(port: PortNumber, sent: Packet) -> bytes:
    """The frame of the guest on a port, which has a MAC of its own."""
    return framed(sent.data, bytes([2, 0xAA, 0, 0, 0, port]))


def _ends(protocol: int, source: IPAddress, source_port: int, destination: IPAddress, port: int) -> Endpoints:
    return Endpoints(source, source_port, destination, source_port if protocol in (ICMP, ICMPV6) else port)


def explore(
    trial: Trial, kinds: tuple[st.SearchStrategy[Call], ...], prepared: tuple[Call, ...], examples: int
) -> None:
    class Explored(Fates):
        def __init__(self) -> None:
            super().__init__(trial)

    Explored.kinds, Explored.prepared = kinds, prepared
    run_state_machine_as_test(
        Explored,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),  # shrinking takes minutes; the failing steps are short enough as they are
        ),
    )


BASE = (calls.interfaces, calls.routes)


@pytest.mark.parametrize(
    ("kinds", "prepared"),
    [
        pytest.param(BASE, (), id="routes"),
        pytest.param((*BASE, calls.firewall), (), id="firewall"),
        pytest.param((*BASE, calls.vips), calls.VIP_OF_A, id="VIPs"),
        pytest.param((*BASE, calls.nats), calls.NAT_OF_A_AND_B, id="NAT"),
        pytest.param((*BASE, calls.balancing), calls.BALANCER_TO_B, id="balancers"),
        pytest.param(
            (*BASE, calls.firewall, calls.vips, calls.nats, calls.balancing),
            (*calls.VIP_OF_A, *calls.NAT_OF_A_AND_B, *calls.BALANCER_TO_B),
            id="all",
        ),
    ],
)
def test_programs_agree_with_the_reference(
    in_trial: Callable[[Callable[[Trial], None]], None],
    kinds: tuple[st.SearchStrategy[Call], ...],
    prepared: tuple[Call, ...],
) -> None:
    in_trial(lambda trial: explore(trial, kinds, prepared, 40))


@pytest.mark.parametrize("answered", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("inherited", [False, True], ids=["nobody follows", "somebody gets the address"])
def test_a_deleted_interface_leaves_nothing_of_its_conversations(
    in_trial: Callable[[Callable[[Trial], None]], None], answered: bool, inherited: bool
) -> None:
    """What b began with a is over when b goes: a's next packet is judged as the first of a conversation of its own."""

    def begin(trial: Trial) -> None:
        trial.reset()
        for index in (0, 1):
            name = InterfaceId("ab"[index])
            trial.call(calls.create_interface(name, calls.DEVICES[index], calls.VNIS[0], index + 1))
        trial.call(calls.create_route(calls.VNIS[0], calls.ROUTES[0], HOPS[1]))
        trial.call(calls.NAT_OF_A_AND_B[0])

    def try_out(trial: Trial) -> None:
        begin(trial)
        a, b = trial.model.interfaces()
        assert a.ipv4
        assert b.ipv4
        there = Endpoints(b.ipv4, 53, a.ipv4, 80)
        question, answer = packet(there, TCP), packet(there.turned(), TCP, flags=SYN | ACK)
        for port, sent in [(b.port, question)] + [(a.port, answer)] * answered:
            assert isinstance(trial.from_guest(port, framed_by(port, sent))[1], Delivered)
        trial.call(lambda model: model.delete_interface(b.id))
        if inherited:
            trial.call(calls.create_interface(InterfaceId("c"), calls.DEVICES[2], calls.VNIS[0], 2))
            trial.call(calls.REFUSE_ALL_TO_C)
        expected, found = trial.from_guest(a.port, framed_by(a.port, answer))
        assert agree(expected, found), f"should be {expected} but is {found}"
        assert isinstance(found, Dropped if inherited else Tunnelled)

    in_trial(try_out)


def test_the_next_guest_of_a_port_inherits_the_mac_until_it_shows_its_own(
    in_trial: Callable[[Callable[[Trial], None]], None],
) -> None:
    def try_out(trial: Trial) -> None:
        trial.reset()
        for index in (0, 1):
            name = InterfaceId("ab"[index])
            trial.call(calls.create_interface(name, calls.DEVICES[index], calls.VNIS[0], index + 1))
        a, b = trial.model.interfaces()
        assert a.ipv4
        assert b.ipv4
        to_b = packet(Endpoints(a.ipv4, 7, b.ipv4, 8), UDP)
        first, second = bytes.fromhex("02aa00000001"), bytes.fromhex("02aa000000ff")

        def mac_of_b() -> bytes:
            expected, found = trial.from_guest(a.port, framed_by(a.port, to_b))
            assert agree(expected, found)
            assert isinstance(found, Delivered)
            return found.frame[:6]

        def speaks(mac: bytes) -> tuple[Fate, Fate]:
            return trial.from_guest(b.port, framed(packet(to_b.ends.turned(), UDP).data, mac))

        assert mac_of_b() == trial.guests[b.port].mac
        assert agree(*speaks(first))
        assert mac_of_b() == first
        trial.call(lambda model: model.delete_interface(b.id))
        trial.call(calls.create_interface(b.id, b.device, b.vni, 2))
        assert mac_of_b() == first
        assert agree(*speaks(second))
        assert mac_of_b() == second
        assert speaks(first) == (dropped("SPOOFED_MAC"), dropped("SPOOFED_MAC"))

    in_trial(try_out)


def alone(trial: Trial) -> Interface:
    """a with a default route, and nobody else."""
    trial.reset()
    trial.call(calls.create_interface(InterfaceId("a"), calls.DEVICES[0], calls.VNIS[0], 1))
    trial.call(calls.create_route(calls.VNIS[0], calls.ROUTES[0], HOPS[1]))
    (a,) = trial.model.interfaces()
    return a


def to_unspecified(a: Interface) -> bytes:
    assert a.ipv4
    return framed_by(a.port, packet(Endpoints(a.ipv4, 7, IPv4Address(0), 8), UDP))


def arp_from_group(a: Interface) -> bytes:
    return arp_from(a, "01:02:03:04:05:06")


def arp_from(a: Interface, mac: str = "02:aa:00:00:00:00") -> bytes:
    return frames.ethernet(frames.BROADCAST, mac, 0x0806, frames.arp(1, mac, str(a.ipv4), mac, "169.254.0.1"))


@pytest.mark.parametrize(
    ("frame", "usual", "compatible"),
    [
        pytest.param(to_unspecified, dropped("NOT_UNICAST"), Tunnelled, id="to 0.0.0.0"),
        pytest.param(arp_from_group, dropped("SPOOFED_MAC"), Delivered, id="from a group's MAC"),
    ],
)
def test_what_only_hosts_like_the_original_take(
    in_trial: Callable[[Callable[[Trial], None]], None],
    frame: Callable[[Interface], bytes],
    usual: Fate,
    compatible: type,
) -> None:
    def try_out(trial: Trial) -> None:
        a = alone(trial)
        assert trial.tried_from_guest(a.port, frame(a)) == usual
        trial.configure(check_sources=False)
        assert isinstance(trial.tried_from_guest(a.port, frame(a)), compatible)

    in_trial(try_out)


def test_ports_of_nat_are_free_soon_after_a_short_timeout(in_trial: Callable[[Callable[[Trial], None]], None]) -> None:
    def try_out(trial: Trial) -> None:
        a = alone(trial)
        trial.configure(flow_timeout=1)
        trial.call(calls.NAT_OF_A_AND_B[0])
        assert a.ipv4
        trial.from_guest(a.port, framed_by(a.port, packet(Endpoints(a.ipv4, 7, calls.STRANGERS[0], 8), UDP)))
        assert trial.engine.usage()[a.port].nat_ports == 1
        eventually(lambda: not trial.engine.usage())

    in_trial(try_out)


def test_stages_count_what_is_decided(in_trial: Callable[[Callable[[Trial], None]], None]) -> None:
    """The first packet of a flow goes through all stages, the next one through none."""

    def try_out(trial: Trial) -> None:
        a = alone(trial)
        assert a.ipv4
        sent = framed_by(a.port, packet(Endpoints(a.ipv4, 7, calls.STRANGERS[0], 8), UDP))
        asked = trial.engine.stages()["arp"]
        trial.tried_from_guest(a.port, arp_from(a))
        assert trial.engine.stages()["arp"] == asked + 1
        for passed in ({"conntrack", "dnat", "route4", "firewall", "snat", "encapsulation"}, set[str]()):
            before = trial.engine.stages()
            assert isinstance(trial.tried_from_guest(a.port, sent), Tunnelled)
            after = trial.engine.stages()
            assert {stage: after[stage] - before[stage] for stage in after if after[stage] != before[stage]} == (
                dict.fromkeys(passed, 1)
            )

    in_trial(try_out)
