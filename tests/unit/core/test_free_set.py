from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.model.addresses import IPNetwork
from services.core.model.free_set import FreeSet, NotFree


def nets(*texts: str) -> list[IPNetwork]:
    return [ip_network(text) for text in texts]


@pytest.mark.parametrize(
    ("whole", "used", "length", "given"),
    [
        pytest.param("10.0.0.0/24", [], 32, "10.0.0.0/32", id="the lowest, network address included"),
        pytest.param("10.0.0.0/24", ["10.0.0.0/32"], 32, "10.0.0.1/32", id="the next"),
        pytest.param("10.0.0.0/24", ["10.0.0.1/32"], 32, "10.0.0.0/32", id="a hole first"),
        pytest.param("10.0.0.0/24", ["10.0.0.0/32"], 25, "10.0.0.128/25", id="a large one from the upper half"),
        pytest.param(
            "10.0.0.0/24", ["10.0.0.0/26", "10.0.0.128/27"], 27, "10.0.0.160/27", id="the smallest block that fits"
        ),
        pytest.param("10.0.0.0/24", ["10.0.0.0/32"], 24, None, id="no longer whole"),
        pytest.param("10.0.0.0/24", [], 23, None, id="larger than the whole"),
        pytest.param("10.0.0.0/24", ["10.0.0.0/25", "10.0.0.128/25"], 32, None, id="all used"),
        pytest.param("2001:db8::/64", ["2001:db8::/128"], 128, "2001:db8::1/128", id="IPv6"),
        pytest.param("10.0.0.0/31", [], 33, None, id="no such length"),
    ],
)
def test_take(whole: str, used: list[str], length: int, given: str | None) -> None:
    free = FreeSet(ip_network(whole), nets(*used))
    assert free.has_room(length) is (given is not None)
    taken = free.take(length)
    assert (None if taken is None else str(taken)) == given


@pytest.mark.parametrize(
    "used",
    [
        pytest.param(["10.0.0.0/28", "10.0.0.1/32"], id="overlap"),
        pytest.param(["10.0.1.0/32"], id="outside"),
        pytest.param(["2001:db8::/128"], id="another family"),
        pytest.param(["10.0.0.0/23"], id="larger"),
    ],
)
def test_contradictions_are_refused(used: list[str]) -> None:
    with pytest.raises(NotFree):
        FreeSet(ip_network("10.0.0.0/24"), nets(*used))


def test_what_remains_are_the_largest_blocks() -> None:
    free = FreeSet(ip_network("10.0.0.0/29"), nets("10.0.0.3/32"))
    assert list(free) == nets("10.0.0.0/31", "10.0.0.2/32", "10.0.0.4/30")
    assert (ip_network("10.0.0.4/31") in free, ip_network("10.0.0.2/31") in free) == (True, False)


WHOLE = IPv4Network("10.0.0.0/26")


@settings(deadline=None, max_examples=60)  # a busy machine is no failure
@given(st.lists(st.one_of(st.integers(26, 32), st.tuples(st.integers(0, 63), st.integers(26, 32)))))
def test_nothing_is_given_twice_and_everything_is_inside(steps: list[int | tuple[int, int]]) -> None:
    """Against a set of single addresses: lengths are taken, ranges at an offset are removed."""
    free, left = FreeSet(WHOLE), set(WHOLE)
    for step in steps:
        if isinstance(step, int):
            aligned = [start for start in range(0, 64, 1 << (32 - step)) if block(start, step) <= left]
            taken = free.take(step)
            assert (taken is None) is (not aligned)
        else:
            network = ip_network((int(WHOLE.network_address) + step[0], step[1]), strict=False)
            whole = set(network) <= left
            assert (network in free) is whole
            if not whole:
                with pytest.raises(NotFree):
                    free.remove(network)
                continue
            free.remove(network)
            taken = network
        if taken is not None:
            assert set(taken) <= left
            left -= set(taken)
        assert {address for network in free for address in network} == left


def block(start: int, length: int) -> set[IPv4Address]:
    first = int(WHOLE.network_address) + start
    return {IPv4Address(first + offset) for offset in range(1 << (32 - length))}
