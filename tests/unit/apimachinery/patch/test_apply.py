"""Server-side apply: ownership, conflicts, removal, co-ownership, and the record of ordinary writes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.compute.v1alpha1.machine_pb2 import Machine
from services.apimachinery.errors import BadRequest, Conflict
from services.apimachinery.kinds import kind_of
from services.apimachinery.patch.apply import apply, track_update
from services.apimachinery.patch.fields import format_fields_v1, parse_fields_v1
from services.apimachinery.schema.schema import Tree

MACHINE = kind_of(Machine)
NOON, LATER = "2026-01-01T12:00:00Z", "2026-01-01T13:00:00Z"


def machine(spec: Tree, **metadata: Any) -> Tree:
    return {
        "apiVersion": "compute.ironcore.dev/v1alpha1",
        "kind": "Machine",
        "metadata": {"name": "m", **metadata},
        "spec": spec,
    }


def applied(live: Tree | None, spec: Tree, manager: str, *, force: bool = False, now: str = NOON) -> Tree:
    return apply(MACHINE, live, machine(spec), manager, force=force, now=now)


def owners(tree: Tree) -> dict[str, Tree]:
    return {entry["manager"]: entry["fieldsV1"] for entry in tree["metadata"]["managedFields"]}


def test_create() -> None:
    live = applied(None, {"power": "On", "volumes": [{"name": "a", "emptyDisk": {}}]}, "me")
    assert live["spec"] == {"power": "On", "volumes": [{"name": "a", "emptyDisk": {}}]}
    assert live["metadata"]["managedFields"] == [
        {
            "manager": "me",
            "operation": "Apply",
            "apiVersion": "compute.ironcore.dev/v1alpha1",
            "time": NOON,
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:spec": {
                    "f:power": {},
                    "f:volumes": {'k:{"name":"a"}': {".": {}, "f:name": {}, "f:emptyDisk": {}}},
                }
            },
        }
    ]


def test_the_same_again_changes_nothing() -> None:
    live = applied(None, {"power": "On"}, "me")
    assert applied(live, {"power": "On"}, "me", now=LATER) == live


def test_a_conflict_names_field_and_owner() -> None:
    live = applied(None, {"power": "On", "volumes": [{"name": "a", "device": "oda"}]}, "me")
    with pytest.raises(Conflict) as refusal:
        applied(live, {"power": "Off", "volumes": [{"name": "a", "device": "odb"}]}, "you")
    assert [(cause.reason, cause.field) for cause in refusal.value.causes] == [
        ("FieldManagerConflict", ".spec.power"),
        ("FieldManagerConflict", '.spec.volumes[name="a"].device'),
    ]
    assert refusal.value.message.startswith('Apply failed with 2 conflicts: conflicts with "me" using compute')


def test_force_takes_over() -> None:
    live = applied(None, {"power": "On", "ignitionRef": {"name": "i"}}, "me")
    live = applied(live, {"power": "Off"}, "you", force=True)
    assert live["spec"]["power"] == "Off"
    assert owners(live) == {"me": {"f:spec": {"f:ignitionRef": {}}}, "you": {"f:spec": {"f:power": {}}}}


def test_equal_values_are_owned_together_and_go_with_the_last_owner() -> None:
    live = applied(None, {"power": "On"}, "me")
    live = applied(live, {"power": "On"}, "you")
    assert owners(live)["me"] == owners(live)["you"] == {"f:spec": {"f:power": {}}}
    live = applied(live, {"machineClassRef": {"name": "c"}}, "me")
    assert live["spec"]["power"] == "On"
    live = applied(live, {"machineClassRef": {"name": "c"}}, "you")
    assert live["spec"] == {"machineClassRef": {"name": "c"}}


@pytest.mark.parametrize(
    ("first", "then", "left"),
    [
        pytest.param(
            {"power": "On", "guestConfig": {"hostname": "h"}}, {"power": "On"}, {"power": "On"}, id="an object"
        ),
        pytest.param(
            {"volumes": [{"name": "a", "emptyDisk": {}}, {"name": "b"}]},
            {"volumes": [{"name": "b"}]},
            {"volumes": [{"name": "b"}]},
            id="a list item",
        ),
        pytest.param(
            {"machinePoolSelector": {"a": "1", "b": "2"}},
            {"machinePoolSelector": {"b": "2"}},
            {"machinePoolSelector": {"b": "2"}},
            id="a map entry",
        ),
        pytest.param(
            {"volumes": [{"name": "a", "device": "oda"}]},
            {"volumes": [{"name": "a"}]},
            {"volumes": [{"name": "a"}]},
            id="a member of an item",
        ),
    ],
)
def test_what_is_no_longer_stated_goes(first: Tree, then: Tree, left: Tree) -> None:
    assert applied(applied(None, first, "me"), then, "me")["spec"] == left


def test_an_item_stays_for_another_owner_with_its_key() -> None:
    live = applied(None, {"volumes": [{"name": "a", "device": "oda"}]}, "me")
    changed = copy.deepcopy(live)
    changed["spec"]["volumes"][0]["volumeRef"] = {"name": "v"}
    track_update(MACHINE, live, changed, "controller", now=LATER)
    live = applied(changed, {"power": "On"}, "me")
    assert live["spec"]["volumes"] == [{"name": "a", "volumeRef": {"name": "v"}}]


def test_atomic_lists_are_owned_as_a_whole() -> None:
    live = applied(None, {"tolerations": [{"key": "a"}]}, "me")
    assert owners(live)["me"] == {"f:spec": {"f:tolerations": {}}}
    with pytest.raises(Conflict, match=r"\.spec\.tolerations"):
        applied(live, {"tolerations": [{"key": "b"}]}, "you")


def test_the_status_is_left_to_its_subresource() -> None:
    tree = machine({"power": "On"}) | {"status": {"state": "Running"}}
    live = apply(MACHINE, None, tree, "me", force=False, now=NOON)
    assert "status" not in live
    live = apply(MACHINE, live, tree, "me", force=False, subresource="status", now=NOON)
    assert live["status"] == {"state": "Running"}
    assert [entry.get("subresource") for entry in live["metadata"]["managedFields"]] == [None, "status"]


def test_unrecorded_fields_belong_to_before_first_apply() -> None:
    live = machine({"power": "On"})
    with pytest.raises(Conflict, match="before-first-apply"):
        applied(live, {"power": "Off"}, "me")


def test_updates_are_recorded() -> None:
    live = machine({"power": "On"}, labels={"a": "1"})
    track_update(MACHINE, None, live, "kubectl", now=NOON)
    assert owners(live) == {"kubectl": {"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:power": {}}}}
    changed = machine({"power": "Off"}, labels={"b": "1"}, managedFields=live["metadata"]["managedFields"])
    track_update(MACHINE, live, changed, "editor", now=LATER)
    assert owners(changed) == {"editor": {"f:metadata": {"f:labels": {"f:b": {}}}, "f:spec": {"f:power": {}}}}


def test_a_write_that_changes_nothing_is_not_recorded() -> None:
    live = machine({"power": "On"})
    track_update(MACHINE, None, live, "kubectl", now=NOON)
    again = copy.deepcopy(live)
    track_update(MACHINE, live, again, "other", now=LATER)
    assert again == live


def test_the_oldest_updaters_are_joined() -> None:
    live: Tree = machine({})
    for number in range(14):
        changed = machine({}, labels={**live["metadata"].get("labels", {}), f"l{number}": "x"})
        track_update(MACHINE, live, changed, f"writer-{number}", now=f"2026-01-01T12:00:{number:02}Z")
        live = changed
    names = [entry["manager"] for entry in live["metadata"]["managedFields"]]
    assert len(names) == 10
    assert "ancient-changes" in names
    assert "writer-13" in names


@pytest.mark.parametrize(
    ("tree", "manager", "why"),
    [
        pytest.param(machine({}), "", "fieldManager is required", id="no manager"),
        pytest.param(machine({}, managedFields=[{"manager": "x"}]), "me", "must be nil", id="managedFields given"),
        pytest.param(machine({"volumes": [{"device": "oda"}]}), "me", "lacks its key 'name'", id="item without key"),
        pytest.param(machine({"volumes": [{"name": "a"}, {"name": "a"}]}), "me", "same key", id="a key twice"),
    ],
)
def test_refusals(tree: Tree, manager: str, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        apply(MACHINE, None, tree, manager, force=False, now=NOON)


STEPS = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"'])


@given(st.frozensets(st.lists(STEPS, min_size=1, max_size=4).map(tuple), max_size=12))
def test_fields_v1_round_trip(paths: frozenset[tuple[str, ...]]) -> None:
    assert parse_fields_v1(format_fields_v1(paths)) == paths


VOLUMES = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("abcd")}, optional={"device": st.sampled_from(["oda", "odb"])}),
    unique_by=lambda item: str(item["name"]),
    max_size=4,
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "power": st.sampled_from(["On", "Off"]),
        "volumes": VOLUMES.filter(bool),
        "machinePoolSelector": st.dictionaries(st.sampled_from("xyz"), st.sampled_from("12"), min_size=1),
    },
)


@given(SPECS, SPECS)
def test_the_only_manager_gets_exactly_what_it_states(first: Tree, then: Tree) -> None:
    live = applied(applied(None, first, "me"), then, "me")
    got = live.get("spec", {})
    assert {**got, "volumes": by_name(got)} == {**then, "volumes": by_name(then)}


@given(SPECS, SPECS)
def test_a_forced_apply_wins_and_never_conflicts_again(first: Tree, then: Tree) -> None:
    live = applied(applied(None, first, "me"), then, "you", force=True)
    assert applied(live, then, "you", now=LATER) == live


def by_name(spec: Tree) -> dict[str, Tree]:
    return {item["name"]: item for item in spec.get("volumes", [])}
