from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.ipam.v1alpha1.prefix_allocation_pb2 import PrefixAllocation
from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from protos.k8s.meta.v1.meta_pb2 import LabelSelector, ObjectMeta
from services.core.model import allocation as rules
from services.core.model.address_index import PrefixAllocationIndex


def parent(prefix: str = "10.0.0.0/24", used: tuple[str, ...] = (), **labels: str) -> Prefix:
    made = Prefix(metadata=ObjectMeta(name="p", namespace="ns", labels=labels))
    made.spec.prefix = prefix
    made.spec.ip_family = "IPv6" if ":" in prefix else "IPv4"
    made.status.phase = "Allocated"
    made.status.used.extend(used)
    return made


def request(uid: str = "u", at: int = 0, *, length: int = 0, prefix: str = "", **status: Any) -> PrefixAllocation:
    made = PrefixAllocation(metadata=ObjectMeta(name=uid, namespace="ns", uid=uid))
    made.metadata.creation_timestamp.seconds = at
    made.spec.ip_family, made.spec.prefix_length, made.spec.prefix = "IPv4", length, prefix
    made.spec.prefix_ref.name = "p"
    made.status.phase = status.get("phase", "Pending")
    made.status.prefix = status.get("given", "")
    if "since" in status:
        made.status.last_phase_transition_time.seconds = status["since"]
    return made


@pytest.mark.parametrize(
    ("asked", "phase", "given_range"),
    [
        pytest.param(request(length=32), "Allocated", "10.0.0.1/32", id="a length"),
        pytest.param(request(prefix="10.0.0.8/29"), "Allocated", "10.0.0.8/29", id="a range"),
        pytest.param(request(prefix="10.0.0.0/29"), "Pending", None, id="a range in use"),
        pytest.param(request(length=24), "Failed", None, id="as long as the parent"),
        pytest.param(request(length=20), "Failed", None, id="larger than the parent"),
        pytest.param(request(prefix="10.0.0.0/24"), "Failed", None, id="the whole parent"),
        pytest.param(request(prefix="10.0.0.5/24"), "Failed", None, id="the whole parent, with host bits"),
        pytest.param(request(prefix="10.9.0.0/28"), "Pending", None, id="outside of the parent"),
    ],
)
def test_answer(asked: PrefixAllocation, phase: str, given_range: str | None) -> None:
    taken = request("taken", length=32, phase="Allocated", given="10.0.0.0/32")
    answers = rules.answers(parent(), [asked, taken])
    assert [(each.phase, each.prefix and str(each.prefix)) for each in answers.changed] == [(phase, given_range)]
    assert answers.used == sorted(["10.0.0.0/32", *([given_range] if given_range else [])])


def test_the_oldest_request_comes_first() -> None:
    answers = rules.answers(
        parent(), [request("b", 2, length=32), request("c", 1, length=32), request("a", 2, length=32)]
    )
    assert [(each.allocation.metadata.uid, str(each.prefix)) for each in answers.changed] == [
        ("c", "10.0.0.0/32"),
        ("a", "10.0.0.1/32"),
        ("b", "10.0.0.2/32"),
    ]


def test_a_request_without_room_is_marked_once() -> None:
    full = request("full", length=25, phase="Allocated", given="10.0.0.0/25")
    other = request("other", length=25, phase="Allocated", given="10.0.0.128/25")
    assert [each.phase for each in rules.answers(parent(), [full, other, request(length=32)]).changed] == ["Pending"]
    assert rules.answers(parent(), [full, other, request(length=32, since=1)]).changed == []


def test_requests_that_go_or_failed_get_nothing() -> None:
    going = request("going", length=32)
    going.metadata.deletion_timestamp.seconds = 1
    assert rules.answers(parent(), [going, request("failed", length=32, phase="Failed")]) == rules.Answers([], [], [])


def test_allocations_that_do_not_fit_hold_up_nobody() -> None:
    twice = [request(uid, length=32, phase="Allocated", given="10.0.0.1/32") for uid in "ab"]
    outside = request("c", length=32, phase="Allocated", given="10.9.0.1/32")
    answers = rules.answers(parent(), [*twice, outside, request("d", length=32)])
    assert [misfit.metadata.uid for misfit in answers.misfits] == ["b", "c"]
    assert answers.used == ["10.0.0.0/32", "10.0.0.1/32"]


@pytest.mark.parametrize(
    ("given_range", "keys"),
    [
        pytest.param("10.0.0.1/32", ["10.0.0.1"], id="an address"),
        pytest.param("10.0.0.0/30", ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3"], id="a small range"),
        pytest.param("10.0.0.0/9", ["10.0.0.0"], id="a large range"),
        pytest.param("", [], id="nothing given"),
    ],
)
def test_index_keys(given_range: str, keys: list[str]) -> None:
    tree = {"metadata": {"namespace": "ns"}, "spec": {"prefixRef": {"name": "p"}}, "status": {"prefix": given_range}}
    assert PrefixAllocationIndex().claims(tree) == [f"prefix/ns/p/{key}" for key in keys]
    assert PrefixAllocationIndex().claims({**tree, "spec": {}}) == []


@settings(deadline=None, max_examples=60)  # a busy machine is no failure
@given(st.lists(st.tuples(st.integers(24, 32), st.booleans()), max_size=40))
def test_no_address_has_two_owners(steps: list[tuple[int, bool]]) -> None:
    """Requests come, and some of those that were served go again."""
    requests: list[PrefixAllocation] = []
    for number, (length, drop) in enumerate(steps):
        if drop and requests:
            requests.pop(number % len(requests))
        requests.append(request(f"u{number}", number, length=length))
        answers = rules.answers(parent(), requests)
        for answer in answers.changed:
            answer.allocation.status.phase = answer.phase
            answer.allocation.status.last_phase_transition_time.seconds = 1
            if answer.prefix is not None:
                answer.allocation.status.prefix = str(answer.prefix)
        owned = [ip_network(each.status.prefix) for each in requests if each.status.phase == "Allocated"]
        assert sorted(map(str, owned)) == answers.used
        addresses = [address for network in owned for address in network]
        assert len(addresses) == len(set(addresses))
        assert set(addresses) <= set(ip_network("10.0.0.0/24"))


@pytest.mark.parametrize(
    ("found", "serves"),
    [
        pytest.param(parent(pool="x"), True, id="labels match"),
        pytest.param(parent(pool="y"), False, id="other labels"),
        pytest.param(parent("10.0.0.0/31", ("10.0.0.0/32", "10.0.0.1/32"), pool="x"), False, id="full"),
        pytest.param(parent("2001:db8::/64", pool="x"), False, id="another family"),
        pytest.param(parent("10.0.0.0/32", pool="x"), False, id="as long as the request"),
    ],
)
def test_what_the_scheduler_may_choose(found: Prefix, serves: bool) -> None:
    asked = request(length=32)
    asked.spec.prefix_selector.match_labels["pool"] = "x"
    assert rules.may_serve(found, asked) is serves
    found.metadata.deletion_timestamp.seconds = 1
    assert not rules.may_serve(found, asked)


def child(length: int = 32, prefix: str = "", selector: bool = False) -> Prefix:
    made = Prefix(metadata=ObjectMeta(name="c", namespace="ns", uid="c"))
    made.spec.ip_family, made.spec.prefix_length, made.spec.prefix = "IPv4", length, prefix
    if selector:
        made.spec.parent_selector.CopyFrom(LabelSelector(match_labels={"a": "b"}))
    else:
        made.spec.parent_ref.name = "p"
    return made


def test_a_request_says_what_the_child_wants() -> None:
    spec = rules.request_of(child(selector=True))
    assert (spec.ip_family, spec.prefix_length, spec.prefix_selector.match_labels["a"]) == ("IPv4", 32, "b")
    assert not spec.HasField("prefix_ref")
    assert rules.request_of(child(prefix="10.0.0.1/32")).prefix_length == 0


@pytest.mark.parametrize(
    ("wants", "requests", "chosen"),
    [
        pytest.param(child(), [], None, id="none"),
        pytest.param(child(), [request("a", length=31)], None, id="another length"),
        pytest.param(child(), [request("b", 2, length=32), request("a", 1, length=32)], "a", id="the oldest"),
        pytest.param(
            child(),
            [request("a", 1, length=32), request("b", 2, length=32, phase="Allocated", given="10.0.0.1/32")],
            "b",
            id="the furthest",
        ),
        pytest.param(
            child(prefix="10.0.0.2/32"),
            [request("b", length=32, phase="Allocated", given="10.0.0.1/32")],
            None,
            id="not the range that the child already has",
        ),
        pytest.param(
            child(prefix="10.0.0.1/32"),
            [request("b", length=32, phase="Allocated", given="10.0.0.1/32")],
            "b",
            id="the range that the child already has",
        ),
        pytest.param(child(selector=True), [request("a", length=32)], None, id="another selector"),
    ],
)
def test_the_active_request(wants: Prefix, requests: list[PrefixAllocation], chosen: str | None) -> None:
    found = rules.active(wants, requests)
    assert (found.metadata.uid if found is not None else None) == chosen


@pytest.mark.parametrize(
    ("asked", "by_label", "failed"),
    [
        pytest.param(request(length=32, phase="Failed"), False, True, id="refused"),
        pytest.param(request(length=32), True, False, id="not looked at"),
        pytest.param(request(length=32, since=99), True, False, id="within the timeout"),
        pytest.param(request(length=32, since=97), True, True, id="after the timeout"),
        pytest.param(request(length=32, since=1), False, False, id="tied to its parent: it waits"),
        pytest.param(request(length=32, phase="Allocated", since=1), True, False, id="served"),
    ],
)
def test_when_a_request_came_to_nothing(asked: PrefixAllocation, by_label: bool, failed: bool) -> None:
    if by_label:
        asked.spec.prefix_selector.match_labels["a"] = "b"
    assert rules.is_failed(asked, now=100.0, timeout=1.0) is failed
