"""Messages and JSON trees: the same object in two forms, for every kind there is."""

from __future__ import annotations

import random
from typing import Any

import pytest

from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.k8s.coordination.v1.lease_pb2 import Lease
from protos.k8s.core.v1.secret_pb2 import Secret
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta, Time
from services.apimachinery.kinds import Kind, kind_of
from services.apimachinery.schema.converter import from_tree, to_tree
from services.apimachinery.schema.decode import normalise
from services.apimachinery.schema.schema import INTEGER_BOUNDS, Schema, Tree, Type, schema_of
from tests.unit.apimachinery.schema.every_kind import every_kind

SAMPLES: dict[Type, Any] = {
    Type.STRING: lambda draw: draw.choice(["", "a", "ü/1"]),
    Type.BOOLEAN: lambda draw: draw.random() < 0.5,
    Type.NUMBER: lambda draw: draw.choice([0.0, 1.5]),
    Type.BYTES: lambda draw: draw.choice(["", "aGk="]),
    Type.TIME: lambda draw: "2026-01-01T00:00:00Z",
    Type.MICRO_TIME: lambda draw: "2026-01-01T00:00:00.000001Z",
    Type.DURATION: lambda draw: draw.choice(["0s", "1h0m0s"]),
    Type.QUANTITY: lambda draw: draw.choice(["0", "500m", "1Gi"]),
    Type.INT_OR_STRING: lambda draw: draw.choice([0, 8080, "http"]),
    Type.RAW: lambda draw: {"f:a": {}, "x": [1, None, "z"]},
}


def sample(schema: Schema, draw: random.Random) -> Any:
    """Any value of a type, sparse or full."""
    if schema.type is Type.OBJECT:
        fields = (each for each in schema.fields.values() if draw.random() < 0.6 and each.path)
        return {each.name: sample(each.schema, draw) for each in fields}
    if schema.type is Type.LIST:
        return [sample(schema.of, draw) for _ in range(draw.randrange(3))]
    if schema.type is Type.MAP:
        return {key: sample(schema.of, draw) for key in draw.sample(["a", "b.c/d", ""], draw.randrange(3))}
    if schema.type is Type.INTEGER:
        return draw.choice([0, 1, *INTEGER_BOUNDS[schema.format]])
    return SAMPLES[schema.type](draw)


@pytest.mark.parametrize("kind", [pytest.param(kind, id=str(kind)) for kind in every_kind()])
def test_round_trip(kind: Kind[Any]) -> None:
    draw = random.Random(str(kind))
    for _ in range(30):
        tree = normalise(kind, sample(schema_of(kind), draw)).tree
        message = from_tree(kind, tree)
        assert to_tree(message) == tree
        assert to_tree(kind.message.FromString(message.SerializeToString())) == tree
        assert normalise(kind, tree).tree == tree


@pytest.mark.parametrize(
    ("message", "tree"),
    [
        pytest.param(Machine(), {}, id="nothing"),
        pytest.param(Machine(metadata=ObjectMeta(creation_timestamp=Time())), {"metadata": {}}, id="Go's zero time"),
        pytest.param(Machine(metadata={"generation": 2**53 + 1}), {"metadata": {"generation": 2**53 + 1}}, id="int64"),
        pytest.param(Secret(data={"a": b"\x00\xff"}), {"data": {"a": "AP8="}}, id="bytes"),
        pytest.param(
            Lease(spec={"lease_duration_seconds": 0, "renew_time": {"seconds": 1, "nanos": 1999}}),
            {"spec": {"leaseDurationSeconds": 0, "renewTime": "1970-01-01T00:00:01.000001Z"}},
            id="an optional zero, a micro time",
        ),
    ],
)
def test_to_tree(message: Any, tree: Tree) -> None:
    kind: Kind[Any] = kind_of(type(message))
    assert to_tree(message) == {"apiVersion": kind.api_version, "kind": kind.name} | tree


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError, match="no field 'spce'"):
        from_tree(kind_of(Machine), {"spce": {}})


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        to_tree(Machine(metadata=ObjectMeta(creation_timestamp=Time(seconds=1 << 60))))
