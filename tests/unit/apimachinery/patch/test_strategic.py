"""Strategic merge patches of machines: merge keys, directives and order."""

from __future__ import annotations

from typing import Any

import pytest

from protos.compute.v1alpha1.machine_pb2 import Machine
from services.apimachinery.errors import BadRequest
from services.apimachinery.kinds import kind_of
from services.apimachinery.patch.strategic import apply_strategic_patch

MACHINE = kind_of(Machine)


def named(*names: str) -> list[dict[str, Any]]:
    return [{"name": name} for name in names]


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        pytest.param({"power": "On"}, {"power": None}, {}, id="null removes"),
        pytest.param(
            {"volumes": [{"name": "a", "device": "oda"}, {"name": "b"}]},
            {"volumes": [{"name": "a", "device": "odb"}, {"name": "c"}]},
            {"volumes": [{"name": "a", "device": "odb"}, {"name": "b"}, {"name": "c"}]},
            id="items merge by key",
        ),
        pytest.param(
            {"volumes": named("a", "b")},
            {"volumes": [{"name": "a", "$patch": "delete"}]},
            {"volumes": named("b")},
            id="an item is deleted",
        ),
        pytest.param(
            {"volumes": named("a", "b")},
            {"volumes": [*named("c"), {"$patch": "replace"}]},
            {"volumes": named("c")},
            id="a list is replaced",
        ),
        pytest.param(
            {"volumes": named("a", "b")},
            {"$setElementOrder/volumes": named("b", "a")},
            {"volumes": named("b", "a")},
            id="a list is reordered",
        ),
        pytest.param(
            {"volumes": named("a", "x", "b")},
            {"volumes": named("n"), "$setElementOrder/volumes": named("a", "n", "b")},
            {"volumes": named("a", "n", "x", "b")},
            id="others keep their place among the ordered",
        ),
        pytest.param(
            {"volumes": [{"name": "a", "device": "oda", "volumeRef": {"name": "v"}}]},
            {"volumes": [{"name": "a", "$retainKeys": ["name", "emptyDisk"], "emptyDisk": {}}]},
            {"volumes": [{"name": "a", "emptyDisk": {}}]},
            id="only retained keys stay",
        ),
        pytest.param(
            {"guestConfig": {"hostname": "a"}}, {"guestConfig": {"$patch": "delete"}}, {}, id="an object is deleted"
        ),
        pytest.param(
            {"machinePoolSelector": {"a": "1", "b": "2"}},
            {"machinePoolSelector": {"$patch": "replace", "c": "3"}},
            {"machinePoolSelector": {"c": "3"}},
            id="a map is replaced",
        ),
        pytest.param(
            {"tolerations": [{"key": "a"}, {"key": "b"}]},
            {"tolerations": [{"key": "c"}]},
            {"tolerations": [{"key": "c"}]},
            id="a list without key is replaced",
        ),
        pytest.param(
            {},
            {"volumes": [{"name": "a", "localDisk": {"image": None}}]},
            {"volumes": [{"name": "a", "localDisk": {}}]},
            id="nulls don't get into new objects",
        ),
    ],
)
def test_spec(before: dict[str, Any], patch: dict[str, Any], after: dict[str, Any]) -> None:
    assert apply_strategic_patch(MACHINE, {"spec": before}, {"spec": patch}) == {"spec": after}


@pytest.mark.parametrize(
    ("patch", "after"),
    [
        pytest.param({"finalizers": ["c"]}, ["a", "b", "c"], id="sets are joined"),
        pytest.param({"$deleteFromPrimitiveList/finalizers": ["a"]}, ["b"], id="values are taken out of a set"),
        pytest.param(
            {"finalizers": ["c"], "$setElementOrder/finalizers": ["c", "b", "a"]},
            ["c", "b", "a"],
            id="a set is ordered",
        ),
    ],
)
def test_finalizers(patch: dict[str, Any], after: list[str]) -> None:
    before = {"metadata": {"finalizers": ["a", "b"]}}
    assert apply_strategic_patch(MACHINE, before, {"metadata": patch}) == {"metadata": {"finalizers": after}}


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        pytest.param([], "must be an object", id="no object"),
        pytest.param({"spec": {"$patch": "join"}}, "unknown directive", id="unknown directive"),
        pytest.param(
            {"spec": {"volumes": [{"device": "oda"}]}}, r"spec.volumes\[0\].*merge key 'name'", id="no merge key"
        ),
        pytest.param({"spec": {"volumes": ["a"]}}, r"spec.volumes\[0\]: expected an object", id="item is no object"),
        pytest.param({"spec": {"$retainKeys": ["power"], "volumes": []}}, "volumes must be listed", id="stray key"),
        pytest.param({"spec": {"$setElementOrder/power": []}}, "power is not a list", id="order of a scalar"),
        pytest.param({"spec": {"$setElementOrder/volumes": {}}}, "needs an array", id="order is no array"),
    ],
)
def test_refusals(patch: Any, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        apply_strategic_patch(MACHINE, {"spec": {"volumes": named("a")}}, patch)
