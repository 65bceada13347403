"""What the two OpenAPI versions share: the types of a set of kinds and the operations on them.

kubectl reads from them how to explain a field, how lists are merged, and which operations know `dryRun` and
`fieldValidation`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from protos.k8s.meta.v1 import meta_pb2
from services.apimachinery.kinds import Kind
from services.apimachinery.schema.schema import Field, ListType, Schema, Tree, Type, message_schema, schema_of

GVK: Final = "x-kubernetes-group-version-kind"
ACTION: Final = "x-kubernetes-action"

PATCH_TYPES: Final = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)

_FORMATS: Final = {"ip": "ip", "cidr": "ip-prefix", "uuid": "uuid"}
_PLAIN: Final[dict[Type, Tree]] = {
    Type.STRING: {"type": "string"},
    Type.BOOLEAN: {"type": "boolean"},
    Type.BYTES: {"type": "string", "format": "byte"},
    Type.TIME: {"type": "string", "format": "date-time"},
    Type.MICRO_TIME: {"type": "string", "format": "date-time"},
    Type.DURATION: {"type": "string"},
    Type.QUANTITY: {"type": "string"},
    Type.RAW: {"type": "object"},
}


@dataclass(frozen=True)
class Parameter:
    """A parameter of the query."""

    name: str
    type: str
    description: str


_LIST: Final = (
    Parameter("labelSelector", "string", "Only objects whose labels match this selector."),
    Parameter("fieldSelector", "string", "Only objects whose fields match this selector."),
    Parameter("limit", "integer", "Most objects of one page."),
    Parameter("continue", "string", "Token of the page before."),
    Parameter("resourceVersion", "string", "How old the answer may be."),
    Parameter("resourceVersionMatch", "string", "How resourceVersion is meant: NotOlderThan or Exact."),
    Parameter("timeoutSeconds", "integer", "When the server ends the request."),
    Parameter("watch", "boolean", "Stream changes in place of a list."),
    Parameter("allowWatchBookmarks", "boolean", "Stream also events that carry only a newer resourceVersion."),
)
_DRY_RUN: Final = Parameter("dryRun", "string", "All: do everything but store the object.")
_WRITE: Final = (
    _DRY_RUN,
    Parameter("fieldManager", "string", "Who writes, for metadata.managedFields."),
    Parameter("fieldValidation", "string", "What becomes of unknown and repeated fields: Ignore, Warn or Strict."),
)
_FORCE: Final = Parameter("force", "boolean", "Server-side apply takes over fields that another manager owns.")
_DELETE: Final = (
    _DRY_RUN,
    Parameter("gracePeriodSeconds", "integer", "Seconds until the object goes."),
    Parameter("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
)


@dataclass(frozen=True)
class Operation:
    """One method on one path. `body` and `answer` are names of definitions, empty for none."""

    path: str
    method: str
    action: str
    kind: Kind[Any]
    answer: str
    body: str = ""
    parameters: tuple[Parameter, ...] = ()

    @property
    def id(self) -> str:
        """A name that is unique in a document."""
        places = "".join(part.strip("{}").capitalize() for part in self.path.split("/") if part)
        return f"{self.action}{places}"

    @property
    def description(self) -> str:
        """What the operation does, in a line."""
        return f"{self.action} {self.kind.plural}"

    @property
    def extensions(self) -> Tree:
        """What kubectl looks for."""
        return {ACTION: self.action, GVK: gvk(self.kind)}


def operations_of(kind: Kind[Any]) -> list[Operation]:
    """All operations on a kind, the status subresource included; a review can only be created."""
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    many = f"{root}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{root}/{kind.plural}"
    body, listed = definition_name(kind.message.DESCRIPTOR.full_name), list_name(kind)
    create = Operation(many, "post", "post", kind, body, body, _WRITE)
    if kind.rules.ephemeral:
        return [create]
    status, options = definition_name(_STATUS.full_name), definition_name(_DELETE_OPTIONS.full_name)
    found = [
        create,
        Operation(many, "get", "list", kind, listed, parameters=_LIST),
        Operation(many, "delete", "deletecollection", kind, status, options, (*_LIST[:2], *_DELETE)),
        Operation(f"{many}/{{name}}", "delete", "delete", kind, status, options, _DELETE),
        *_on_object(kind, f"{many}/{{name}}", body),
    ]
    if kind.has_status:
        found += _on_object(kind, f"{many}/{{name}}/status", body)
    if kind.namespaced:
        found.append(Operation(f"{root}/{kind.plural}", "get", "list", kind, listed, parameters=_LIST))
    return found


def _on_object(kind: Kind[Any], path: str, body: str) -> list[Operation]:
    return [
        Operation(path, "get", "get", kind, body),
        Operation(path, "put", "put", kind, body, body, _WRITE),
        Operation(path, "patch", "patch", kind, body, body, (*_WRITE, _FORCE)),
    ]


def gvk(kind: Kind[Any]) -> Tree:
    """Group, version and kind, as the extension has them."""
    return {"group": kind.group, "kind": kind.name, "version": kind.version}


def definition_name(full_name: str) -> str:
    """Name of a message's definition; Kubernetes' own begin with io.k8s there."""
    return f"io.k8s.{full_name.removeprefix('k8s.io.')}" if full_name.startswith("k8s.io.") else full_name


def list_name(kind: Kind[Any]) -> str:
    """Name of the definition of a kind's list."""
    return f"{definition_name(kind.message.DESCRIPTOR.full_name)}List"


_STATUS: Final = meta_pb2.Status.DESCRIPTOR
_DELETE_OPTIONS: Final = meta_pb2.DeleteOptions.DESCRIPTOR
_LIST_META: Final = meta_pb2.ListMeta.DESCRIPTOR


class Definitions:
    """The types of some kinds and all they refer to; `ref` is what stands before a type's name in a reference."""

    def __init__(self, kinds: Iterable[Kind[Any]], ref: str, *, wrap_refs: bool) -> None:
        self.found: dict[str, Tree] = {}
        self._ref, self._wrap_refs = ref, wrap_refs
        for descriptor in (_STATUS, _DELETE_OPTIONS):
            self._add(message_schema(descriptor))
        for kind in kinds:
            self._add_kind(kind)

    def _add_kind(self, kind: Kind[Any]) -> None:
        schema = schema_of(kind)
        name = definition_name(schema.name)
        self.found[name] = self._object(schema) | {GVK: [gvk(kind)]}
        type_meta = {name: self._property(schema.fields[name]) for name in ("apiVersion", "kind")}
        items = {"type": "array", "description": "The objects.", "items": self._type(schema)}
        version = self._described(self._type(message_schema(_LIST_META)), "Version and paging.")
        self.found[list_name(kind)] = {
            "description": f"{kind.name}List is a page of {kind.plural}.",
            "type": "object",
            "required": ["items"],
            "properties": type_meta | {"metadata": version, "items": items},
            GVK: [gvk(kind) | {"kind": f"{kind.name}List"}],
        }

    def _add(self, schema: Schema) -> None:
        name = definition_name(schema.name)
        if name not in self.found:
            self.found[name] = {}  # stands in while the members are described
            self.found[name] = self._object(schema)

    def _object(self, schema: Schema) -> Tree:
        found: Tree = {"description": schema.description, "type": "object"}
        required = [
            each.name
            for each in schema.fields.values()
            if each.rules.required and not each.rules.default and not each.rules.filled_in
        ]
        if required:
            found["required"] = sorted(required)
        found["properties"] = {member.name: self._property(member) for member in schema.fields.values()}
        if schema.atomic:
            found["x-kubernetes-map-type"] = "atomic"
        return found

    def _property(self, member: Field) -> Tree:
        found = self._described(self._type(member.schema), member.description)
        inner = found["items"] if member.schema.type is Type.LIST else found
        if member.rules.values:
            inner["enum"] = sorted(member.rules.values)
        if member.rules.format in _FORMATS and inner.get("type") == "string":
            inner["format"] = _FORMATS[member.rules.format]
        return found | _merging(member)

    def _type(self, schema: Schema) -> Tree:
        if schema.type is Type.OBJECT:
            self._add(schema)
            return {"$ref": f"{self._ref}{definition_name(schema.name)}"}
        if schema.type is Type.LIST:
            return {"type": "array", "items": self._type(schema.of)}
        if schema.type is Type.MAP:
            return {"type": "object", "additionalProperties": self._type(schema.of)}
        if schema.type in (Type.INTEGER, Type.NUMBER):
            return {"type": schema.type.value, "format": schema.format}
        if schema.type is Type.INT_OR_STRING:
            any_of = {"oneOf": [{"type": "integer"}, {"type": "string"}]} if self._wrap_refs else {"type": "string"}
            return {"format": "int-or-string"} | any_of
        return dict(_PLAIN[schema.type])

    def _described(self, found: Tree, description: str) -> Tree:
        """OpenAPI 3.0 ignores what stands beside a $ref, so that there it is wrapped."""
        if "$ref" in found and self._wrap_refs:
            found = {"allOf": [found]}
        return {"description": description} | found if description else found


def _merging(member: Field) -> Tree:
    """How server-side apply and strategic merge patches treat a list or map."""
    if member.schema.type is not Type.LIST:
        objects = (Type.OBJECT, Type.MAP)
        return {"x-kubernetes-map-type": "atomic"} if member.rules.atomic and member.schema.type in objects else {}
    if member.list_type is ListType.ATOMIC:
        return {"x-kubernetes-list-type": "atomic"}
    strategy = "merge,retainKeys" if member.rules.retain_keys else "merge"
    if member.list_type is ListType.SET:
        return {"x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": strategy}
    return {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": list(member.map_keys),
        "x-kubernetes-patch-merge-key": member.rules.list_map_key,
        "x-kubernetes-patch-strategy": strategy,
    }
