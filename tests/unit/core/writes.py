"""A write as the API server's pipeline prepares it: defaults, admission of devices, schema, hooks."""

from __future__ import annotations

import copy

from google.protobuf.message import Message

from protos.compute.v1alpha1.machine_pb2 import Machine
from services.apimachinery.kinds import kind_of
from services.apimachinery.schema.decode import normalise
from services.apimachinery.schema.defaults import apply_defaults
from services.apimachinery.schema.schema import Tree
from services.apimachinery.schema.validate import validate
from services.core.model.devices import assign_devices
from services.core.model.hooks import HOOKS


def completed(kind: type[Message], spec: Tree, name: str = "x", status: Tree | None = None) -> Tree:
    """The object with its defaults."""
    served = kind_of(kind)
    tree: Tree = {"apiVersion": served.api_version, "kind": served.name, "spec": copy.deepcopy(spec)}
    tree["metadata"] = {"name": name, "namespace": "ns"}
    if status is not None:
        tree["status"] = copy.deepcopy(status)
    tree = normalise(served, tree).tree
    apply_defaults(served, tree)
    HOOKS[kind].default(tree)
    if kind is Machine:
        assign_devices(tree)
    return tree


def causes(kind: type[Message], new: Tree, old: Tree | None = None, *, status: bool = False) -> list[tuple[str, str]]:
    """Fields and cause types (without `FieldValue`) of a write's refusal; `new` and `old` are completed."""
    found = validate(kind_of(kind), new, old, status=status) or HOOKS[kind].validate(new, old)
    return [(cause.field, cause.reason.removeprefix("FieldValue")) for cause in found]
