from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.common.v1alpha1.common_pb2 import Condition, Taint, Toleration
from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from protos.storage.v1alpha1.volume_pb2 import Volume
from protos.storage.v1alpha1.volume_pool_pb2 import VolumePool
from services.core.model.demands import machine_offer, volume_booking, volume_demand, volume_offer
from services.core.model.ledger import Booking, Ledger
from services.core.model.placement import Demand, Offer, Refusal, choose
from services.core.model.tolerations import evicting, tolerates


@pytest.mark.parametrize(
    ("toleration", "taint", "covered"),
    [
        pytest.param({}, {"key": "a"}, True, id="an empty one covers taints without value"),
        pytest.param({}, {"key": "a", "value": "b"}, False, id="but no taint with a value"),
        pytest.param({"operator": "Exists"}, {"key": "a", "value": "b"}, True, id="exists covers all"),
        pytest.param({"key": "a", "value": "b"}, {"key": "a", "value": "b"}, True, id="equal by default"),
        pytest.param({"key": "a", "operator": "Equal"}, {"key": "a", "value": "b"}, False, id="another value"),
        pytest.param({"key": "c", "operator": "Exists"}, {"key": "a"}, False, id="another key"),
        pytest.param(
            {"operator": "Exists", "effect": "NoExecute"}, {"effect": "NoSchedule"}, False, id="another effect"
        ),
        pytest.param({"operator": "Never"}, {"key": "a"}, False, id="an unknown operator"),
    ],
)
def test_tolerations(toleration: dict[str, str], taint: dict[str, str], covered: bool) -> None:
    assert tolerates(Toleration(**toleration), Taint(**taint)) is covered


def test_only_no_execute_evicts() -> None:
    taints = [Taint(key="a", effect="NoSchedule"), Taint(key="b", effect="NoExecute")]
    assert [taint.key for taint in evicting(taints, [])] == ["b"]
    assert evicting(taints, [Toleration(key="b", operator="Exists")]) == []


def offer(pool: str, **changes: Any) -> Offer:
    fields: dict[str, Any] = {"ready": True, "labels": {"zone": "y"}, "taints": [], "capacity": {"c": 2}}
    return Offer(pool, **{**fields, **changes})


TAINTED = [Taint(key="gpu", effect="NoSchedule")]


@pytest.mark.parametrize(
    ("offers", "chosen"),
    [
        pytest.param([offer("a"), offer("b", capacity={"c": 3})], "b", id="the most room wins"),
        pytest.param([offer("b"), offer("a")], "a", id="the first by name among equals"),
        pytest.param([], "NoPoolReady", id="no pool at all"),
        pytest.param([offer("a", ready=False)], "NoPoolReady", id="not ready"),
        pytest.param([offer("a", taints=TAINTED)], "TaintsNotTolerated", id="tainted"),
        pytest.param([offer("a", labels={"zone": "z"})], "SelectorMismatch", id="other labels"),
        pytest.param([offer("a", capacity={"d": 5})], "ClassNotOffered", id="another class"),
        pytest.param([offer("a", capacity={"c": 0})], "InsufficientCapacity", id="full"),
        pytest.param(
            [offer("a", capacity={"c": 0}), offer("b", ready=False), offer("d", taints=TAINTED)],
            "InsufficientCapacity",
            id="the pool that came nearest gives the reason",
        ),
        pytest.param(
            [offer("a", labels={"zone": "z"}, ready=False), offer("b", taints=TAINTED)],
            "TaintsNotTolerated",
            id="a pool that was not selected tells nothing",
        ),
    ],
)
def test_choice(offers: list[Offer], chosen: str) -> None:
    choice = choose(Demand("c", 1, {"zone": "y"}, []), offers, Ledger())
    assert (choice.reason if isinstance(choice, Refusal) else choice) == chosen


def test_the_message_counts_pools_and_names_a_remedy() -> None:
    offers = [offer("a", capacity={"c": 0}), offer("b", capacity={"c": 0}), offer("d", ready=False)]
    refusal = choose(Demand("c", 1, {"zone": "y"}, []), offers, Ledger())
    assert isinstance(refusal, Refusal)
    expected = "0 of 3 pools fit: 1 not ready, 2 without room for class c; it is scheduled once a pool has room"
    assert refusal.message == expected


def test_what_is_booked_is_no_longer_offered() -> None:
    ledger = Ledger()
    placed = []
    for number in range(5):
        choice = choose(Demand("c", 1, {"zone": "y"}, []), [offer("a"), offer("b")], ledger)
        placed.append(choice if isinstance(choice, str) else choice.reason)
        if isinstance(choice, str):
            ledger.book(f"uid-{number}", Booking(choice, "c", 1))
    assert placed == ["a", "b", "a", "b", "InsufficientCapacity"]
    ledger.cancel("uid-1")
    assert choose(Demand("c", 1, {"zone": "y"}, []), [offer("a"), offer("b")], ledger) == "b"


@settings(deadline=None, max_examples=60)  # a busy machine is no failure
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from(["p", "q", ""]), st.sampled_from("cd"), st.integers(0, 9))
    )
)
def test_the_ledger_is_the_sum_of_its_bookings(steps: list[tuple[str, str, str, int]]) -> None:
    ledger, twin = Ledger(), dict[str, Booking]()
    for uid, pool, class_name, amount in steps:
        if pool:
            twin[uid] = Booking(pool, class_name, amount)
            ledger.book(uid, twin[uid])
        else:
            ledger.cancel(uid)
            twin.pop(uid, None)
        assert len(ledger) == len(twin)
        for slot in (("p", "c"), ("p", "d"), ("q", "c"), ("q", "d")):
            assert ledger.booked(*slot) == sum(b.amount for b in twin.values() if (b.pool, b.class_name) == slot)


def test_a_booking_needs_a_stored_object() -> None:
    with pytest.raises(ValueError, match="uid"):
        Ledger().book("", Booking("p", "c", 1))


def test_offers_of_machine_pools() -> None:
    pool = MachinePool(metadata=ObjectMeta(name="p"))
    pool.status.capacity.update({"class/machine.small": "4", "class/volume.fast": "1Gi", "cpu": "8"})
    assert (machine_offer(pool).ready, machine_offer(pool).capacity) == (False, {"small": 4})
    pool.status.conditions.append(Condition(type="Ready", status="True"))
    assert machine_offer(pool).ready
    pool.metadata.deletion_timestamp.seconds = 1
    assert not machine_offer(pool).ready


def test_offers_of_volume_pools() -> None:
    pool = VolumePool(metadata=ObjectMeta(name="p"))
    pool.status.capacity["class/volume.fast"] = "1Ki"
    assert (volume_offer(pool).ready, volume_offer(pool).capacity) == (True, {"fast": 1024})
    pool.status.conditions.append(Condition(type="Ready", status="False"))
    assert not volume_offer(pool).ready


def test_demands_and_bookings_of_volumes() -> None:
    volume = Volume(metadata=ObjectMeta(name="v"))
    assert volume_demand(volume) is None  # provided by somebody else
    volume.spec.volume_class_ref.name = "fast"
    volume.spec.resources["storage"] = "1Ki"
    demand = volume_demand(volume)
    assert demand is not None
    assert (demand.class_name, demand.amount, volume_booking(volume)) == ("fast", 1024, None)
    volume.spec.volume_pool_ref.name = "p"
    volume.metadata.deletion_timestamp.seconds = 1
    assert (volume_demand(volume), volume_booking(volume)) == (None, Booking("p", "fast", 1024))
