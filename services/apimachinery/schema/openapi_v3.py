"""/openapi/v3: one document per group and version, and the index that leads to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from services.apimachinery.kinds import Kind
from services.apimachinery.schema.openapi import PATCH_TYPES, Definitions, Operation, operations_of
from services.apimachinery.schema.schema import Tree

_REF: Final = "#/components/schemas/"
_JSON: Final = ("application/json", "application/yaml")


def openapi_v3(kinds: Iterable[Kind[Any]], group: str, version: str, title: str, api_version: str) -> Tree:
    """The document of one group and version, from all kinds of a server."""
    served = [kind for kind in kinds if (kind.group, kind.version) == (group, version)]
    paths: dict[str, Tree] = {}
    for operation in (each for kind in served for each in operations_of(kind)):
        path = paths.setdefault(operation.path, {"parameters": _path_parameters(operation.path)})
        path[operation.method] = _operation(operation)
    return {
        "openapi": "3.0.0",
        "info": {"title": title, "version": api_version},
        "paths": paths,
        "components": {"schemas": Definitions(served, _REF, wrap_refs=True).found},
    }


def openapi_v3_index(hashes: Mapping[str, str]) -> Tree:
    """The index; keys are "apis/<group>/<version>" or "api/v1", values change whenever the document does."""
    return {
        "paths": {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"} for path, digest in sorted(hashes.items())
        }
    }


def _operation(operation: Operation) -> Tree:
    tree: Tree = {
        "operationId": operation.id,
        "description": operation.description,
        "parameters": [
            {"in": "query", "name": each.name, "description": each.description, "schema": {"type": each.type}}
            for each in operation.parameters
        ],
        "responses": {"200": {"description": "OK", "content": _content(_JSON, operation.answer)}},
    }
    if operation.body:
        tree["requestBody"] = {
            "content": _content(PATCH_TYPES if operation.method == "patch" else ("*/*",), operation.body)
        }
    return tree | operation.extensions


def _path_parameters(path: str) -> list[Tree]:
    described = {"namespace": "Namespace of the object.", "name": "Name of the object."}
    return [
        {"in": "path", "name": name, "required": True, "description": text, "schema": {"type": "string"}}
        for name, text in described.items()
        if f"{{{name}}}" in path
    ]


def _content(media_types: Iterable[str], name: str) -> Tree:
    return {media: {"schema": {"$ref": f"{_REF}{name}"}} for media in media_types}
