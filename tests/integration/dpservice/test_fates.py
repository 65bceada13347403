"""Random API calls and packets: the programs do with each packet what the reference model says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv6Address
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from services.dpservice.model.errors import Refusal
from services.dpservice.model.rows import (
    Balancer,
    BalancerKey,
    Function,
    FunctionKey,
    Interface,
    InterfaceId,
    InterfaceKey,
    IPAddress,
    NatKey,
    NatSlice,
    PortNumber,
    Rows,
    Vip,
    VipKey,
)
from tests.support.dpservice import calls
from tests.support.dpservice.calls import ADDRESSES, HOPS, PORTS, Call
from tests.support.dpservice.fates import Delivered, Fate, Tunnelled
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
        mac = bytes([2, 0xAA, 0, 0, 0, port])
        self.compare(sent, self.trial.from_guest(port, framed(sent.data, mac)))

    def send_from_fabric(self, uplink: int, to: IPv6Address, sent: Packet) -> None:
        self.compare(sent, self.trial.from_uplink(uplink, tunnelled(sent.data, to)))

    def compare(self, sent: Packet, fates: tuple[Fate, Fate]) -> None:
        expected, found = fates
        assert agree(expected, found), f"{sent} should be {expected} but is {found}"
        if isinstance(found, Delivered | Tunnelled):
            came = read_packet(found.frame[14 if isinstance(found, Delivered) else 54 :])
            assert verified(came), f"{sent} became {came}: a checksum is wrong"
            self.seen.append((came, found.port if isinstance(found, Delivered) else None))


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
