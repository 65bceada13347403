"""The OpenAPI documents: what kubectl looks for in them, and that the two forms of v2 say the same."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from protos.openapi.v2.openapi_pb2 import Document
from services.apimachinery.schema.openapi_v2 import openapi_v2, openapi_v2_protobuf
from services.apimachinery.schema.openapi_v3 import openapi_v3, openapi_v3_index
from services.apimachinery.schema.schema import Tree
from tests.unit.apimachinery.schema.every_kind import every_kind

GVK = "x-kubernetes-group-version-kind"
V2 = openapi_v2(every_kind(), "ferrite", "0.1")
V3 = openapi_v3(every_kind(), "compute.ironcore.dev", "v1alpha1", "ferrite", "0.1")
MACHINES = "/apis/compute.ironcore.dev/v1alpha1/namespaces/{namespace}/machines"
MACHINE = {"group": "compute.ironcore.dev", "kind": "Machine", "version": "v1alpha1"}


def definition(document: Tree, kind: str) -> Tree:
    schemas = document.get("definitions") or document["components"]["schemas"]
    return next(each for each in schemas.values() if {**MACHINE, "kind": kind} in each.get(GVK, []))


def references(tree: Any) -> set[str]:
    if isinstance(tree, dict):
        return {tree["$ref"]} if isinstance(tree.get("$ref"), str) else set().union(*map(references, tree.values()))
    return set().union(*map(references, tree)) if isinstance(tree, list) else set()


@pytest.mark.parametrize(
    ("document", "start"), [(V2, "#/definitions/"), (V3, "#/components/schemas/")], ids=["v2", "v3"]
)
def test_every_reference_leads_somewhere(document: Tree, start: str) -> None:
    schemas = document.get("definitions") or document["components"]["schemas"]
    assert {ref.removeprefix(start) for ref in references(document)} <= schemas.keys()


@pytest.mark.parametrize("document", [V2, V3], ids=["v2", "v3"])
def test_kinds_and_lists_are_found_by_their_names(document: Tree) -> None:
    machine = definition(document, "Machine")
    assert list(machine["properties"])[:3] == ["apiVersion", "kind", "metadata"]
    assert machine["description"].startswith("Machine")
    assert "items" in definition(document, "MachineList")["properties"]


@pytest.mark.parametrize("document", [V2, V3], ids=["v2", "v3"])
def test_operations_say_what_they_are(document: Tree) -> None:
    actions = {
        (path.removeprefix(MACHINES), method): operation["x-kubernetes-action"]
        for path, item in document["paths"].items()
        if path.startswith(MACHINES) and path.removeprefix(MACHINES)[:1] in ("", "/")
        for method, operation in item.items()
        if method != "parameters"
    }
    assert actions == {
        ("", "get"): "list",
        ("", "post"): "post",
        ("", "delete"): "deletecollection",
        ("/{name}", "get"): "get",
        ("/{name}", "put"): "put",
        ("/{name}", "patch"): "patch",
        ("/{name}", "delete"): "delete",
        ("/{name}/status", "get"): "get",
        ("/{name}/status", "put"): "put",
        ("/{name}/status", "patch"): "patch",
    }
    patch = document["paths"][f"{MACHINES}/{{name}}"]["patch"]
    assert patch[GVK] == MACHINE
    assert {"dryRun", "fieldValidation", "fieldManager", "force"} <= {each["name"] for each in patch["parameters"]}


@pytest.mark.parametrize("document", [V2, V3], ids=["v2", "v3"])
def test_merging_is_described(document: Tree) -> None:
    schemas = document.get("definitions") or document["components"]["schemas"]
    volumes = schemas["ferrite.compute.v1alpha1.MachineSpec"]["properties"]["volumes"]
    assert {name: value for name, value in volumes.items() if name.startswith("x-")} == {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "x-kubernetes-patch-merge-key": "name",
        "x-kubernetes-patch-strategy": "merge,retainKeys",
    }
    metadata = schemas["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]["properties"]
    assert metadata["finalizers"]["x-kubernetes-list-type"] == "set"
    assert metadata["creationTimestamp"]["format"] == "date-time"


def test_requirements() -> None:
    spec = V2["definitions"]["ferrite.compute.v1alpha1.MachineSpec"]
    assert spec["required"] == ["machineClassRef"]
    assert spec["properties"]["power"]["enum"] == ["Off", "On"]
    volume = V2["definitions"]["ferrite.compute.v1alpha1.MachineVolume"]
    assert volume["required"] == ["name"], "the server fills in the device"


def test_everything_is_described() -> None:
    assert [name for name, schema in V2["definitions"].items() if not schema["description"]] == []
    bare = [
        f"{name}.{member}"
        for name, schema in V2["definitions"].items()
        for member, described in schema["properties"].items()
        if not described.get("description")
    ]
    assert bare == []


def test_operation_ids_are_unique() -> None:
    ids = [
        operation["operationId"]
        for item in V2["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    assert len(ids) == len(set(ids))


def test_the_protobuf_form_says_the_same() -> None:
    document = Document.FromString(openapi_v2_protobuf(V2))
    assert {each.name for each in document.paths.path} == V2["paths"].keys()
    definitions = {each.name: each.value for each in document.definitions.additional_properties}
    assert definitions.keys() == V2["definitions"].keys()
    for name, schema in V2["definitions"].items():
        members = {each.name: each.value for each in definitions[name].properties.additional_properties}
        assert members.keys() == schema["properties"].keys()
        for member, described in schema["properties"].items():
            assert members[member].ref == described.get("$ref", "")
            assert list(members[member].type.value) == ([described["type"]] if "type" in described else [])
    patch = next(each for each in document.paths.path if each.name == f"{MACHINES}/{{name}}").value.patch
    extensions = {each.name: orjson.loads(each.value.yaml) for each in patch.vendor_extension}
    assert extensions == {"x-kubernetes-action": "patch", GVK: MACHINE}
    queries = {each.parameter.non_body_parameter.query.name for each in patch.parameters}
    assert "dryRun" in queries


def test_the_index() -> None:
    assert openapi_v3_index({"apis/a/v1": "h", "api/v1": "g"}) == {
        "paths": {
            "api/v1": {"serverRelativeURL": "/openapi/v3/api/v1?hash=g"},
            "apis/a/v1": {"serverRelativeURL": "/openapi/v3/apis/a/v1?hash=h"},
        }
    }
