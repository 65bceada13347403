"""Flows that begin and end on several processors at once: in the end nothing is held that nobody holds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from services.dpservice.engine.codec import u32
from services.dpservice.engine.flows import Sweep
from tests.integration.dpservice.lone_guest import MAC, OWN, PORT_A, SHARED, STRANGER, A
from tests.support.dpservice import sender
from tests.support.dpservice.packets import udp
from tests.support.dpservice.town import framed
from tests.support.dpservice.trial import Run, Trial
from tests.support.dpservice.wire import Endpoints

ROOT: Final = Path(__file__).parents[3]
SECONDS: Final = 4.0
HELD: Final = ("flows", "nat_mappings", "nat_claims")
NOTHING: Final = dict.fromkeys((*HELD, "charged"), 0)
Turn = Callable[[int], None]


@pytest.fixture(scope="module")
def in_trial(in_trial: Run) -> Run:
    """The guest has NAT."""

    def use(test: Callable[[Trial], None], trial: Trial) -> None:
        trial.call(lambda model: model.create_nat(A, SHARED, 1000, 1040, None))
        test(trial)

    return lambda test: in_trial(partial(use, test))


def while_sending(trial: Trial, packets: list[list[bytes]], turn: Turn) -> None:
    """Calls `turn` all the time while processes send, each its own packets.

    Threads of Python hand over to each other rather than run at the same time.
    """
    program, device = trial.engine._object.program("from_guest"), trial.guests[0].ifindex
    command = [sys.executable, "-m", sender.__name__, str(program), str(device), str(SECONDS)]
    senders = []
    for own in packets:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[program], cwd=ROOT, text=True)
        assert child.stdin is not None
        child.stdin.write("".join(framed(packet, MAC).hex() + "\n" for packet in own))
        child.stdin.close()
        senders.append(child)
    for number in count(1):
        turn(number)
        if all(child.poll() is not None for child in senders):
            break
    assert [child.returncode for child in senders] == [0] * len(senders)


def left_over(trial: Trial) -> dict[str, int]:
    """What tables hold once the guest is gone, and what its port is charged with."""
    trial.call(lambda model: model.delete_interface(A))
    trial.engine.age()
    held = {table: len(list(trial.engine._object.map(table).items())) for table in HELD}
    return held | {"charged": len(trial.engine.usage())}


def slices_of(trial: Trial) -> Turn:
    """Takes the guest's slice away or gives it another one, and all its flows are dead; faster than by calls."""
    ports, layout, number = trial.engine._object.map("ports"), trial.engine._codec.layouts["port"], u32(PORT_A)
    raw = ports.get(number) or b""

    def change(turn: int) -> None:
        low, address = 1000 + turn % 3 * 40, SHARED.packed if turn % 2 else bytes(4)
        ports.put(number, layout.changed(raw, epoch=turn, nat=address, nat_min=low, nat_max=low + 41))

    return change


def removed_by_all(trial: Trial) -> Turn:
    """Packets and the sweep find the same dead flows, while new ones with other ports take their places."""
    change = slices_of(trial)

    def turn(number: int) -> None:
        change(number)
        trial.engine.age()

    return turn


def rerouted(trial: Trial) -> Turn:
    """Flows look for their way again while they are removed."""
    change = slices_of(trial)

    def turn(number: int) -> None:
        if not number % 8:
            change(number)
        trial.engine._flows.bump(0)
        trial.engine._flows.sweep(Sweep.NAT, port=PORT_A)

    return turn


def called(trial: Trial) -> Turn:
    """By calls."""

    def turn(number: int) -> None:
        trial.call(lambda model: model.delete_nat(A))
        trial.call(lambda model: model.create_nat(A, SHARED, 1000 + number % 3 * 40, 1041 + number % 3 * 40, None))

    return turn


@pytest.mark.parametrize("change", [removed_by_all, rerouted, called])
def test_nothing_is_held_after_the_last_flow(in_trial: Run, change: Callable[[Trial], Turn]) -> None:
    """Two processors send the same flows while what they depend on changes and the table is swept."""

    def hammer(trial: Trial) -> None:
        packets = [udp(Endpoints(OWN, 7 + port, STRANGER + to, 53)) for port in range(3) for to in range(3)]
        while_sending(trial, [packets, packets], change(trial))
        assert left_over(trial) == NOTHING

    in_trial(hammer)


def test_a_search_for_a_port_outlives_its_slice(in_trial: Run) -> None:
    """Of forty ports that are looked at one is free, so that slices often go while somebody looks."""

    def hammer(trial: Trial) -> None:
        layout, claims = trial.engine._codec.layouts["claim_key"], trial.engine._object.map("nat_claims")
        strangers = [STRANGER + number for number in range(100)]
        taken = b"".join(
            layout.pack(nat=SHARED.packed, destination=to.packed, nat_port=port, destination_port=53, protocol=17)
            for to in strangers
            for port in range(1000, 1120)
            if port % 40
        )
        claims.put_many(taken, u32(1) * (len(taken) // layout.size))
        packets = [udp(Endpoints(OWN, 2 + number, to, 53)) for number, to in enumerate(strangers * 4)]
        while_sending(trial, [packets[::2], packets[1::2]], slices_of(trial))
        claims.remove_many(taken)
        assert left_over(trial) == NOTHING

    in_trial(hammer)
