"""Each option of protos/api/v1/options.proto, on a kind made for the purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

from protos.api.v1 import options_pb2
from protos.k8s.intstr import intstr_pb2
from protos.k8s.meta.v1 import meta_pb2
from protos.k8s.resource import resource_pb2
from services.apimachinery.errors import BadRequest
from services.apimachinery.kinds import Kind, kind_of
from services.apimachinery.patch.fields import fields_of
from services.apimachinery.schema.converter import from_tree, to_tree
from services.apimachinery.schema.decode import normalise
from services.apimachinery.schema.defaults import apply_defaults
from services.apimachinery.schema.openapi import Definitions
from services.apimachinery.schema.schema import Tree, schema_of
from services.apimachinery.schema.validate import validate

IMPORTED = (options_pb2, intstr_pb2, meta_pb2, resource_pb2)  # a descriptor pool wants a file's imports first
ROOT = Path(__file__).parents[4]
PROTO = """
syntax = "proto3";
package ferrite.test.v1;
import "protos/api/v1/options.proto";
import "protos/k8s/meta/v1/meta.proto";
import "protos/k8s/intstr/intstr.proto";
import "protos/k8s/resource/resource.proto";

message Sample {
  option (ferrite.api.v1.kind) = {group: "test.ironcore.dev" version: "v1" plural: "samples"};
  k8s.io.apimachinery.pkg.apis.meta.v1.ObjectMeta metadata = 1;
  Spec spec = 2;
}

message Spec {
  option (ferrite.api.v1.message) = {at_least_one_of: {names: ["either", "or"]}};
  string either = 1;
  string or = 2;
  Common common = 3 [(ferrite.api.v1.field) = {inline: true}];
  repeated string few = 4 [(ferrite.api.v1.field) = {min_items: 1, max_items: 2, unique_items: true}];
  repeated string set = 5 [(ferrite.api.v1.field) = {list_set: true, values: ["x", "y"]}];
  repeated int32 numbers = 6 [(ferrite.api.v1.field) = {minimum: 1, maximum: 9}];
  repeated Item items = 7 [(ferrite.api.v1.field) = {list_map_key: "name", list_map_more_keys: ["space"]}];
  repeated string must = 8 [(ferrite.api.v1.field) = {required: true}];
  Item limited = 9 [(ferrite.api.v1.field) = {allowed_members: ["name"]}];
  map<string, string> keys = 10 [(ferrite.api.v1.field) = {allowed_keys: ["a", "b"]}];
  map<string, Names> lists = 11;
  Item unset = 12 [(ferrite.api.v1.field) = {empty_is_unset: true}];
  Item whole = 13 [(ferrite.api.v1.field) = {atomic: true}];
  string filled = 14 [(ferrite.api.v1.field) = {required: true, filled_in: true, default: "\\"f\\""}];
  optional bool maybe = 15 [(ferrite.api.v1.field) = {default: "true"}];
  string id = 16 [(ferrite.api.v1.field) = {format: "uuid", secret: true}];
  string address = 17 [(ferrite.api.v1.field) = {format: "ip", immutable: true}];
  k8s.io.apimachinery.pkg.util.intstr.IntOrString port = 18;
  k8s.io.apimachinery.pkg.api.resource.Quantity size = 19;
  k8s.io.apimachinery.pkg.apis.meta.v1.Duration span = 20;
  repeated int64 always = 21 [(ferrite.api.v1.field) = {always_present: true}];
}

message Common {
  option (ferrite.api.v1.message) = {at_most_one_of: {names: ["left", "right"]}};
  string left = 1 [(ferrite.api.v1.field) = {immutable: true}];
  string right = 2;
  repeated string more = 3;
}

message Item {
  string name = 1 [(ferrite.api.v1.field) = {required: true}];
  string space = 2;
  string fixed = 3 [(ferrite.api.v1.field) = {immutable: true}];
}

message Names {
  option (ferrite.api.v1.message) = {as_list: true};
  repeated string names = 1;
}
"""


@pytest.fixture(scope="module")
def kind(tmp_path_factory: pytest.TempPathFactory) -> Kind[Any]:
    place = tmp_path_factory.mktemp("proto")
    (place / "sample.proto").write_text(PROTO)
    well_known = Path(protoc.__file__).parent / "_proto"
    out = place / "set.pb"
    options = [f"-I{place}", f"-I{ROOT}", f"-I{well_known}", f"--descriptor_set_out={out}", str(place / "sample.proto")]
    assert protoc.main(["protoc", *options]) == 0
    for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
        descriptor_pool.Default().Add(file)
    descriptor = descriptor_pool.Default().FindMessageTypeByName("ferrite.test.v1.Sample")
    return kind_of(message_factory.GetMessageClass(descriptor))


FIT: Tree = {"either": "e", "must": ["m"], "filled": "f", "always": [], "maybe": True}


def sample(kind: Kind[Any], spec: Tree) -> Tree:
    tree = normalise(kind, {"metadata": {"name": "s"}, "spec": {**FIT, **spec}}).tree
    apply_defaults(kind, tree)
    return tree


@pytest.mark.parametrize(
    ("spec", "causes"),
    [
        pytest.param({}, [], id="nothing wrong"),
        pytest.param({"either": ""}, [("spec", "Required")], id="at least one of"),
        pytest.param({"or": "o"}, [], id="both of at least one"),
        pytest.param({"left": "l", "right": "r"}, [("spec.right", "Forbidden")], id="at most one of, inlined"),
        pytest.param({"few": ["a", "b", "c"]}, [("spec.few", "TooMany")], id="too many items"),
        pytest.param({"few": ["a", "a"]}, [("spec.few[1]", "Duplicate")], id="unique items"),
        pytest.param({"set": ["x", "x"]}, [("spec.set[1]", "Duplicate")], id="a set"),
        pytest.param({"set": ["x", "z"]}, [("spec.set[1]", "NotSupported")], id="values of items"),
        pytest.param(
            {"numbers": [0, 5, 10]},
            [("spec.numbers[0]", "Invalid"), ("spec.numbers[2]", "Invalid")],
            id="bounds of items",
        ),
        pytest.param({"items": [{"name": "a"}, {"name": "a", "space": "b"}]}, [], id="two keys"),
        pytest.param({"items": [{"name": "a"}, {"name": "a"}]}, [("spec.items[1]", "Duplicate")], id="both keys equal"),
        pytest.param({"must": []}, [("spec.must", "Required")], id="a required list"),
        pytest.param({"limited": {"name": "a", "space": ""}}, [], id="allowed members"),
        pytest.param(
            {"limited": {"name": "a", "space": "b"}}, [("spec.limited.space", "Forbidden")], id="other members"
        ),
        pytest.param({"keys": {"a": "1", "c": "1"}}, [("spec.keys.c", "NotSupported")], id="other keys"),
        pytest.param({"unset": {}}, [], id="an empty object that counts as absent"),
        pytest.param({"whole": {}}, [("spec.whole.name", "Required")], id="an empty object that counts"),
        pytest.param({"id": "x"}, [("spec.id", "Invalid")], id="no UUID"),
        pytest.param({"address": "fe80::1%eth0"}, [("spec.address", "Invalid")], id="an address with a zone"),
    ],
)
def test_rules(kind: Kind[Any], spec: Tree, causes: list[tuple[str, str]]) -> None:
    found = validate(kind, sample(kind, spec))
    assert [(cause.field, cause.reason.removeprefix("FieldValue")) for cause in found] == causes


def test_a_secret_is_not_told(kind: Kind[Any]) -> None:
    (cause,) = validate(kind, sample(kind, {"id": "hunter2"}))
    assert "hunter2" not in cause.message


@pytest.mark.parametrize(
    ("before", "after", "paths"),
    [
        pytest.param({"left": "a"}, {"left": "b"}, ["spec.left"], id="an inlined member"),
        pytest.param({"address": "2001:DB8::1"}, {"address": "2001:db8:0::1"}, [], id="the same address"),
        pytest.param({"address": "10.0.0.1"}, {"address": "10.0.0.2"}, ["spec.address"], id="another address"),
        pytest.param(
            {"items": [{"name": "a", "fixed": "1"}, {"name": "b", "fixed": "1"}]},
            {"items": [{"name": "b", "fixed": "2"}, {"name": "c", "fixed": "3"}]},
            ["spec.items[0].fixed"],
            id="items are known by their keys",
        ),
    ],
)
def test_change(kind: Kind[Any], before: Tree, after: Tree, paths: list[str]) -> None:
    assert [cause.field for cause in validate(kind, sample(kind, after), sample(kind, before))] == paths


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        pytest.param({"left": "l", "more": ["m"]}, {"left": "l", "more": ["m"]}, id="inlined"),
        pytest.param(
            {"lists": {"a": ["x"], "b": []}}, {"lists": {"a": ["x"], "b": []}}, id="messages that stand for lists"
        ),
        pytest.param({"unset": {}, "whole": {}}, {"whole": {}}, id="empty objects"),
        pytest.param({"maybe": False}, {"maybe": False}, id="an optional false"),
        pytest.param({"port": "http"}, {"port": "http"}, id="a named port"),
        pytest.param({"port": 0}, {"port": 0}, id="port 0"),
        pytest.param({"size": 1024, "span": "90m"}, {"size": "1024", "span": "1h30m0s"}, id="quantity and duration"),
        pytest.param({"always": [-1]}, {"always": [-1]}, id="an int64 list"),
    ],
)
def test_round_trip(kind: Kind[Any], spec: Tree, canonical: Tree) -> None:
    tree = sample(kind, spec)
    assert tree["spec"] == FIT | canonical
    assert to_tree(from_tree(kind, tree)) == tree


@pytest.mark.parametrize("port", [1 << 40, 1.5, True, []])
def test_no_ports(kind: Kind[Any], port: Any) -> None:
    with pytest.raises(BadRequest, match=r"spec\.port"):
        normalise(kind, {"spec": {"port": port}})


def test_defaults(kind: Kind[Any]) -> None:
    assert sample(kind, {"filled": None, "maybe": None})["spec"] == FIT
    assert sample(kind, {"maybe": False})["spec"]["maybe"] is False


def test_ownership(kind: Kind[Any]) -> None:
    spec = {"whole": {"name": "a"}, "items": [{"name": "a"}], "set": ["x"], "left": "l", "lists": {"k": ["v"]}}
    paths = {path[1:] for path in fields_of(schema_of(kind), {"spec": spec})}
    item = 'k:{"name":"a","space":""}'
    assert paths == {
        ("f:whole",),
        ("f:items", item),
        ("f:items", item, "f:name"),
        ("f:set", 'v:"x"'),
        ("f:left",),
        ("f:lists", "f:k"),
    }


def test_openapi(kind: Kind[Any]) -> None:
    spec = Definitions([kind], "#/", wrap_refs=False).found["ferrite.test.v1.Spec"]
    assert spec["required"] == ["must"]
    assert {"left", "right", "more"} <= spec["properties"].keys()
    assert spec["properties"]["items"]["x-kubernetes-list-map-keys"] == ["name", "space"]
    assert spec["properties"]["items"]["x-kubernetes-patch-merge-key"] == "name"
    assert spec["properties"]["whole"]["x-kubernetes-map-type"] == "atomic"
    assert spec["properties"]["lists"]["additionalProperties"] == {"type": "array", "items": {"type": "string"}}
    assert spec["properties"]["port"] == {"format": "int-or-string", "type": "string"}
