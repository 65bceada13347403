"""Defaults and rules, as the options of the protos state them, told in Kubernetes' words."""

from __future__ import annotations

from typing import Any

import pytest

from protos.compute.v1alpha1.machine_class_pb2 import MachineClass
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from protos.k8s.core.v1.namespace_pb2 import Namespace
from protos.networking.v1alpha1.nat_gateway_pb2 import NATGateway
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from services.apimachinery.kinds import kind_of
from services.apimachinery.schema.decode import normalise
from services.apimachinery.schema.defaults import apply_defaults
from services.apimachinery.schema.schema import Tree
from services.apimachinery.schema.validate import invalid, validate
from tests.unit.apimachinery.schema.every_kind import every_kind

MACHINE = kind_of(Machine)
REF = {"machineClassRef": {"name": "small"}}


def machine(spec: Tree | None = None, **metadata: Any) -> Tree:
    tree = {"metadata": {"name": "m", "namespace": "ns", **metadata}, "spec": {**REF, **(spec or {})}}
    return defaulted(Machine, tree)


def defaulted(message: Any, tree: Tree) -> Tree:
    canonical = normalise(kind_of(message), tree).tree
    apply_defaults(kind_of(message), canonical)
    return canonical


def found(message: Any, tree: Tree, old: Tree | None = None, *, status: bool = False) -> list[tuple[str, str, str]]:
    causes = validate(kind_of(message), tree, old, status=status)
    return [(cause.field, cause.reason.removeprefix("FieldValue"), cause.message) for cause in causes]


def test_defaults() -> None:
    tree = {"spec": {"networkInterfaces": [{"name": "a", "ephemeral": {"networkInterfaceTemplate": {}}}]}}
    assert defaulted(Machine, tree)["spec"]["power"] == "On"
    assert defaulted(Machine, {"spec": {"power": "Off"}})["spec"]["power"] == "Off"
    assert defaulted(Machine, {"status": {"volumes": [{"name": "a"}]}})["status"]["volumes"][0]["state"] == "Pending"
    assert defaulted(NATGateway, {"spec": {}})["spec"]["portsPerNetworkInterface"] == 2048


def test_defaults_are_not_shared() -> None:
    one, other = defaulted(Machine, {}), defaulted(Machine, {})
    one["spec"]["power"] = "Off"
    assert other["spec"]["power"] == "On"


@pytest.mark.parametrize("kind", [pytest.param(kind, id=str(kind)) for kind in every_kind()])
def test_defaults_are_canonical(kind: Any) -> None:
    tree = normalise(kind, {}).tree
    apply_defaults(kind, tree)
    assert normalise(kind, tree).tree == tree


def test_a_fitting_machine() -> None:
    volumes = [
        {"name": "a", "device": "oda", "localDisk": {}},
        {"name": "b", "device": "odb", "volumeRef": {"name": "v"}},
    ]
    assert found(Machine, machine({"volumes": volumes})) == []


@pytest.mark.parametrize(
    ("spec", "causes"),
    [
        pytest.param(
            {"machineClassRef": None},
            [("spec.machineClassRef", "Required", "Required value")],
            id="a missing reference",
        ),
        pytest.param(
            {"machineClassRef": {}}, [("spec.machineClassRef", "Required", "Required value")], id="an empty one"
        ),
        pytest.param(
            {"power": "on"},
            [("spec.power", "NotSupported", 'Unsupported value: "on": supported values: "Off", "On"')],
            id="another value",
        ),
        pytest.param(
            {"volumes": [{"name": "a", "device": "oda"}]},
            [
                (
                    "spec.volumes[0]",
                    "Required",
                    "Required value: must specify exactly one of volumeRef, emptyDisk, localDisk, ephemeral",
                )
            ],
            id="no source",
        ),
        pytest.param(
            {"volumes": [{"name": "a", "device": "oda", "localDisk": {}, "volumeRef": {"name": "v"}}]},
            [
                (
                    "spec.volumes[0].localDisk",
                    "Forbidden",
                    "Forbidden: may not be specified together with volumeRef",
                )
            ],
            id="two sources",
        ),
        pytest.param(
            {"volumes": [{"name": "a", "device": d, "localDisk": {}} for d in ("oda", "odb")]},
            [("spec.volumes[1].name", "Duplicate", 'Duplicate value: "a"')],
            id="a key twice",
        ),
        pytest.param(
            {"volumes": [{"name": "a", "device": "oda", "localDisk": {"sizeLimit": "-1"}}]},
            [
                (
                    "spec.volumes[0].localDisk.sizeLimit",
                    "Invalid",
                    'Invalid value: "-1": must be greater than or equal to 0',
                )
            ],
            id="a negative quantity",
        ),
        pytest.param(
            {"networkInterfaces": [{"networkInterfaceRef": {"name": "n"}}]},
            [("spec.networkInterfaces[0].name", "Required", "Required value")],
            id="an item without name",
        ),
    ],
)
def test_values(spec: Tree, causes: list[tuple[str, str, str]]) -> None:
    assert found(Machine, machine(spec)) == causes


@pytest.mark.parametrize(
    ("message", "tree", "paths"),
    [
        pytest.param(
            MachineClass,
            {"capabilities": {"cpu": "0", "x": "-1"}},
            [("capabilities.cpu", "Invalid"), ("capabilities.x", "Invalid"), ("capabilities.memory", "Required")],
            id="capabilities",
        ),
        pytest.param(MachineClass, {}, [("capabilities", "Required")], id="no capabilities"),
        pytest.param(
            NATGateway,
            {
                "spec": {
                    "type": "Public",
                    "ipFamily": "IPv5",
                    "networkRef": {"name": "N_"},
                    "portsPerNetworkInterface": 3,
                }
            },
            [
                ("spec.ipFamily", "NotSupported"),
                ("spec.networkRef.name", "Invalid"),
                ("spec.portsPerNetworkInterface", "Invalid"),
            ],
            id="a NAT gateway",
        ),
        pytest.param(
            Prefix, {"spec": {"ipFamily": "IPv4", "prefix": "10.0.0.0"}}, [("spec.prefix", "Invalid")], id="no CIDR"
        ),
        pytest.param(
            Prefix,
            {"spec": {"ipFamily": "IPv4", "prefixLength": 129, "parentSelector": {"matchLabels": {"-": "v"}}}},
            [("spec.prefixLength", "Invalid"), ("spec.parentSelector.matchLabels", "Invalid")],
            id="a length, a selector",
        ),
    ],
)
def test_other_kinds(message: Any, tree: Tree, paths: list[tuple[str, str]]) -> None:
    metadata = {"name": "a", **({"namespace": "ns"} if kind_of(message).namespaced else {})}
    got = found(message, defaulted(message, {"metadata": metadata, **tree}))
    assert sorted((field, reason) for field, reason, _ in got) == sorted(paths)


@pytest.mark.parametrize(
    ("expression", "causes"),
    [
        pytest.param({"key": "a", "operator": "In"}, [("values", "Required")], id="In without values"),
        pytest.param({"key": "a", "operator": "Exists", "values": ["x"]}, [("values", "Forbidden")], id="Exists with"),
        pytest.param({"key": "a", "operator": "Is"}, [("operator", "NotSupported")], id="unknown operator"),
        pytest.param({"key": "a b", "operator": "Exists"}, [("key", "Invalid")], id="bad key"),
        pytest.param({"key": "a", "operator": "In", "values": ["b c"]}, [("values[0]", "Invalid")], id="bad value"),
    ],
)
def test_label_selectors(expression: Tree, causes: list[tuple[str, str]]) -> None:
    spec = {"ipFamily": "IPv4", "prefixLength": 24, "parentSelector": {"matchExpressions": [expression]}}
    tree = defaulted(Prefix, {"metadata": {"name": "a", "namespace": "ns"}, "spec": spec})
    base = "spec.parentSelector.matchExpressions[0]."
    assert [(field.removeprefix(base), reason) for field, reason, _ in found(Prefix, tree)] == causes


FROZEN = "Forbidden: field is immutable"


@pytest.mark.parametrize(
    ("before", "after", "paths"),
    [
        pytest.param({}, {"power": "Off"}, [], id="mutable"),
        pytest.param({}, {"machineClassRef": {"name": "x"}}, ["spec.machineClassRef"], id="immutable"),
        pytest.param({"machinePoolRef": {"name": "p"}}, {"machinePoolRef": {"name": "p"}}, [], id="kept"),
        pytest.param({}, {"machinePoolRef": {"name": "p"}}, [], id="set once"),
        pytest.param(
            {"machinePoolRef": {"name": "p"}}, {"machinePoolRef": {"name": "q"}}, ["spec.machinePoolRef"], id="twice"
        ),
        pytest.param({"machinePoolRef": {"name": "p"}}, {}, ["spec.machinePoolRef"], id="cleared"),
        pytest.param({}, {"guestConfig": {"hostname": "h"}}, ["spec.guestConfig"], id="introduced later"),
        pytest.param({"guestConfig": {"hostname": "h"}}, {}, ["spec.guestConfig"], id="removed"),
    ],
)
def test_change(before: Tree, after: Tree, paths: list[str]) -> None:
    assert found(Machine, machine(after), machine(before)) == [(path, "Forbidden", FROZEN) for path in paths]


@pytest.mark.parametrize(
    ("memory", "paths"),
    [("1048576Ki", []), ("1073741824", []), ("2Gi", ["capabilities"])],
    ids=["other unit", "bytes", "other"],
)
def test_quantities_are_frozen_by_their_amount(memory: str, paths: list[str]) -> None:
    old, new = (
        defaulted(MachineClass, {"metadata": {"name": "c"}, "capabilities": {"cpu": "1", "memory": text}})
        for text in ("1Gi", memory)
    )
    assert [field for field, _, _ in found(MachineClass, new, old)] == paths


def test_templates_freeze_nothing() -> None:
    def with_network(name: str) -> Tree:
        template = {"spec": {"networkRef": {"name": name}, "ipFamilies": ["IPv4"], "ips": [{"value": "10.0.0.1"}]}}
        nic = {"name": "n", "ephemeral": {"networkInterfaceTemplate": template}}
        return machine({"networkInterfaces": [nic]})

    assert found(Machine, with_network("b"), with_network("a")) == []
    nics = [
        defaulted(
            NetworkInterface, {"metadata": {"name": "n", "namespace": "ns"}, "spec": {"networkRef": {"name": name}}}
        )
        for name in "ab"
    ]
    assert ("spec.networkRef", "Forbidden", FROZEN) in found(NetworkInterface, nics[1], nics[0])


def test_each_endpoint_checks_its_part() -> None:
    tree = machine({"power": "x"}) | {"status": {"state": "Dreaming"}}
    assert [field for field, _, _ in found(Machine, tree)] == ["spec.power"]
    assert [field for field, _, _ in found(Machine, tree, status=True)] == ["status.state"]


OWNER = {"apiVersion": "v1", "kind": "Secret", "name": "s", "uid": "u"}


@pytest.mark.parametrize(
    ("metadata", "causes"),
    [
        pytest.param({"name": "a-b"}, [], id="a name"),
        pytest.param({"name": "a.b"}, [("name", "Invalid")], id="a machine's name has no dot"),
        pytest.param({"name": ""}, [("name", "Required")], id="no name"),
        pytest.param({"name": "A"}, [("name", "Invalid")], id="a bad name"),
        pytest.param({"name": "a" * 254}, [("name", "Invalid")], id="a long name"),
        pytest.param({"generateName": "abc-"}, [], id="a prefix"),
        pytest.param({"generateName": "Abc-"}, [("generateName", "Invalid")], id="a bad prefix"),
        pytest.param({"namespace": ""}, [("namespace", "Required")], id="no namespace"),
        pytest.param({"namespace": "a.b"}, [("namespace", "Invalid")], id="a bad namespace"),
        pytest.param({"labels": {"a/b": "c", "x": ""}}, [], id="labels"),
        pytest.param({"labels": {"a/b/c": "x"}}, [("labels", "Invalid")], id="a bad label key"),
        pytest.param({"labels": {"a": "b c"}}, [("labels.a", "Invalid")], id="a bad label value"),
        pytest.param({"annotations": {"a b": ""}}, [("annotations", "Invalid")], id="a bad annotation key"),
        pytest.param({"annotations": {"a": "x" * 262144}}, [("annotations", "TooLong")], id="long annotations"),
        pytest.param({"finalizers": ["a b"]}, [("finalizers[0]", "Invalid")], id="a bad finalizer"),
        pytest.param({"finalizers": ["orphan", "foregroundDeletion"]}, [("finalizers", "Invalid")], id="contradiction"),
        pytest.param({"ownerReferences": [OWNER]}, [], id="an owner"),
        pytest.param(
            {"ownerReferences": [{"uid": "u"}]},
            [(f"ownerReferences[0].{name}", "Required") for name in ("kind", "name", "apiVersion")],
            id="half an owner",
        ),
        pytest.param(
            {"ownerReferences": [{**OWNER, "uid": uid, "controller": True} for uid in "ab"]},
            [("ownerReferences", "Invalid")],
            id="two controllers",
        ),
    ],
)
def test_metadata(metadata: Tree, causes: list[tuple[str, str]]) -> None:
    assert [
        (field.removeprefix("metadata."), reason) for field, reason, _ in found(Machine, machine(**metadata))
    ] == causes


def test_a_namespace_has_none() -> None:
    tree = defaulted(Namespace, {"metadata": {"name": "a", "namespace": "b"}})
    assert [field for field, _, _ in found(Namespace, tree)] == ["metadata.namespace"]


@pytest.mark.parametrize(
    ("before", "after", "paths"),
    [
        pytest.param({"uid": "a"}, {"uid": "b"}, ["metadata.uid"], id="uid"),
        pytest.param({"generation": 2}, {"generation": 1}, ["metadata.generation"], id="generation"),
        pytest.param(
            {"deletionTimestamp": "2026-01-01T00:00:00Z"},
            {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]},
            ["metadata.finalizers"],
            id="a new finalizer while deleting",
        ),
        pytest.param({"labels": {"a": "b"}}, {}, [], id="labels are free"),
    ],
)
def test_metadata_change(before: Tree, after: Tree, paths: list[str]) -> None:
    assert [field for field, _, _ in found(Machine, machine(**after), machine(**before))] == paths


def test_the_refusal_sums_up() -> None:
    tree = defaulted(MachinePool, {"metadata": {"name": "P"}, "spec": {"taints": [{"effect": "No"}]}})
    causes = validate(kind_of(MachinePool), tree)
    refusal = invalid(kind_of(MachinePool), "P", causes)
    assert refusal.message.startswith('MachinePool.compute.ironcore.dev "P" is invalid: [metadata.name: Invalid value')
    assert refusal.causes == tuple(causes)
