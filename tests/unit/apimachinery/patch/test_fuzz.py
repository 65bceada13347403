"""Whatever a client sends: a canonical result, or a refusal that is the client's to read; never another exception."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protos.compute.v1alpha1.machine_pb2 import Machine
from services.apimachinery.errors import ApiError, BadRequest
from services.apimachinery.kinds import kind_of
from services.apimachinery.patch.apply import apply, track_update
from services.apimachinery.patch.json_patch import apply_json_patch
from services.apimachinery.patch.merge_patch import apply_merge_patch
from services.apimachinery.patch.strategic import apply_strategic_patch
from services.apimachinery.schema.converter import from_tree, to_tree
from services.apimachinery.schema.decode import FieldValidation, decode, normalise, prune_applied
from services.apimachinery.schema.defaults import apply_defaults
from services.apimachinery.schema.schema import Schema, Tree, Type, schema_of
from services.apimachinery.schema.validate import validate

MACHINE = kind_of(Machine)
NOW = "2026-01-01T12:00:00Z"
LIVE: Tree = normalise(
    MACHINE,
    {
        "metadata": {"name": "m", "namespace": "ns", "labels": {"a": "1"}, "finalizers": ["a/b", "c/d"]},
        "spec": {
            "machineClassRef": {"name": "c"},
            "volumes": [
                {"name": "a", "device": "oda", "localDisk": {"sizeLimit": "1Gi"}},
                {"name": "b", "emptyDisk": {}},
            ],
        },
    },
).tree
track_update(MACHINE, None, LIVE, "creator", now=NOW)

NAMES = sorted(
    {
        "$patch",
        "$retainKeys",
        "$setElementOrder/volumes",
        "$deleteFromPrimitiveList/finalizers",
        "x",
        "f:spec",
        "k:{",
        ".",
    }
    | {"matchLabels", "matchExpressions"}
)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "a", "b", "delete", "replace"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)


def shaped(schema: Schema) -> st.SearchStrategy[Any]:
    """Values of a type, with junk and directives here and there."""
    if schema.type is Type.OBJECT:
        members = {
            name: st.deferred(lambda member=member: shaped(member.schema)) for name, member in schema.fields.items()
        }
        fitting = st.fixed_dictionaries({}, optional=members)
        return st.one_of(
            fitting,
            st.builds(lambda a, b: {**a, **b}, fitting, st.dictionaries(st.sampled_from(NAMES), JUNK, max_size=1)),
            JUNK,
        )
    if schema.type is Type.LIST:
        return st.lists(shaped(schema.of), max_size=2) | JUNK
    if schema.type is Type.MAP:
        return st.dictionaries(st.sampled_from("abc"), shaped(schema.of), max_size=2) | JUNK
    return st.sampled_from(["", "a", "b", "1Gi", "10.0.0.1", NOW, "On", "In"]) | JUNK


TREES = st.fixed_dictionaries(
    {
        "metadata": shaped(schema_of(MACHINE).fields["metadata"].schema),
        "spec": shaped(schema_of(MACHINE).fields["spec"].schema),
    }
)


def written(tree: Any) -> None:
    """What a server does with a new state of the object."""
    new = normalise(MACHINE, tree).tree
    apply_defaults(MACHINE, new)
    assert normalise(MACHINE, new).tree == new
    assert to_tree(from_tree(MACHINE, new)) == new
    track_update(MACHINE, LIVE, new, "writer", now=NOW)
    validate(MACHINE, new, LIVE)
    validate(MACHINE, new, status=True)


@settings(max_examples=150, deadline=None)
@given(TREES | JUNK, st.sampled_from(FieldValidation))
def test_a_body(tree: Any, validation: FieldValidation) -> None:
    try:
        written(decode(MACHINE, orjson.dumps(tree), validation).tree)
    except (ApiError, orjson.JSONEncodeError):
        pass


@settings(max_examples=150, deadline=None)
@given(TREES | JUNK)
def test_a_merge_and_a_strategic_patch(patch: Any) -> None:
    before = orjson.dumps(LIVE)
    for change in (
        lambda: apply_merge_patch(LIVE, patch),
        lambda: apply_strategic_patch(MACHINE, LIVE, patch),
    ):
        try:
            written(change())
        except ApiError:
            pass
    assert orjson.dumps(LIVE) == before


@settings(max_examples=150, deadline=None)
@given(TREES, st.booleans())
@example({"spec": {"networkInterfaces": [{"name": ""}]}}, False)
def test_an_applied_configuration(tree: Any, force: bool) -> None:
    before = orjson.dumps(LIVE)
    try:
        configuration = prune_applied(MACHINE, tree).tree
        live = apply(MACHINE, LIVE, configuration, "me", force=force, now=NOW)
        again = apply(MACHINE, live, configuration, "me", force=False, now=NOW)
    except ApiError:
        return
    assert again == live
    written(live)
    assert orjson.dumps(LIVE) == before


PATHS = st.sampled_from(
    ["", "/", "/spec/volumes/0", "/spec/volumes/-", "/metadata/labels/a", "/spec", "/x/y", "~"]
) | st.text(max_size=4)
OPERATIONS = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]) | JUNK},
    optional={"path": PATHS | JUNK, "from": PATHS | JUNK, "value": JUNK},
)


@settings(max_examples=200, deadline=None)
@given(st.lists(OPERATIONS | JUNK, max_size=4) | JUNK)
def test_a_json_patch(operations: Any) -> None:
    try:
        written(apply_json_patch(LIVE, operations))
    except ApiError:
        pass


@pytest.mark.parametrize("validation", FieldValidation)
@pytest.mark.parametrize(
    "body", [b'{"x":' * 990 + b"1" + b"}" * 990, b"[" * 5000, b'{"a":1,"a":' + b"[" * 980 + b"]" * 980 + b"}"]
)
def test_absurd_nesting(body: bytes, validation: FieldValidation) -> None:
    with pytest.raises(BadRequest):
        decode(MACHINE, body, validation)
    with pytest.raises(BadRequest):
        decode(MACHINE, body, validation, yaml=True)


@pytest.mark.parametrize("fields", [[], {"x:": {}}, {"k:{": {}}, {"v:": {}}, {"f:a": 1}, {"i:x": {}}, {"k:[]": {}}])
def test_managed_fields_that_make_no_sense(fields: Any) -> None:
    entry = {"manager": "x", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields}
    with pytest.raises(BadRequest, match="fieldsV1"):
        track_update(MACHINE, LIVE, LIVE | {"metadata": {"name": "m", "managedFields": [entry]}}, "me", now=NOW)
