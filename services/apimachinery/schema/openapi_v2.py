"""/openapi/v2: the document as JSON tree, and as the protobuf bytes that kubectl demands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from protos.openapi.v2.openapi_pb2 import Document
from services.apimachinery.kinds import Kind
from services.apimachinery.schema.openapi import PATCH_TYPES, Definitions, Operation, operations_of
from services.apimachinery.schema.schema import Tree

PROTOBUF_MEDIA_TYPE: Final = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"

_REF: Final = "#/definitions/"
_JSON: Final = ("application/json", "application/yaml")


def openapi_v2(kinds: Iterable[Kind[Any]], title: str, version: str) -> Tree:
    """The document for all kinds of a server."""
    served = list(kinds)
    paths: dict[str, Tree] = {}
    for operation in (each for kind in served for each in operations_of(kind)):
        path = paths.setdefault(operation.path, {"parameters": _path_parameters(operation.path)})
        path[operation.method] = _operation(operation)
    return {
        "swagger": "2.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "definitions": Definitions(served, _REF, wrap_refs=False).found,
    }


def openapi_v2_protobuf(document: Tree) -> bytes:
    """The document in protobuf form."""
    paths = [{"name": name, "value": _path_message(item)} for name, item in document["paths"].items()]
    parts: dict[str, Any] = {
        "swagger": document["swagger"],
        "info": document["info"],
        "paths": {"path": paths},
        "definitions": {"additional_properties": _named_schemas(document["definitions"])},
    }
    return Document(**parts).SerializeToString()


def _operation(operation: Operation) -> Tree:
    parameters: list[Tree] = []
    if operation.body:
        body = {"in": "body", "name": "body", "required": True, "schema": {"$ref": f"{_REF}{operation.body}"}}
        parameters.append(body | {"required": operation.action not in ("delete", "deletecollection")})
    parameters += [
        {"in": "query", "name": each.name, "type": each.type, "description": each.description, "uniqueItems": True}
        for each in operation.parameters
    ]
    return {
        "operationId": operation.id,
        "description": operation.description,
        "consumes": list(PATCH_TYPES if operation.method == "patch" else _JSON),
        "produces": list(_JSON),
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "schema": {"$ref": f"{_REF}{operation.answer}"}}},
    } | operation.extensions


def _path_parameters(path: str) -> list[Tree]:
    described = {"namespace": "Namespace of the object.", "name": "Name of the object."}
    return [
        {"in": "path", "name": name, "type": "string", "required": True, "description": text, "uniqueItems": True}
        for name, text in described.items()
        if f"{{{name}}}" in path
    ]


def _path_message(item: Tree) -> Tree:
    message: Tree = {method: _operation_message(operation) for method, operation in item.items() if method in _METHODS}
    return message | {"parameters": [_parameter_message(each) for each in item["parameters"]]}


_METHODS: Final = frozenset({"get", "put", "post", "delete", "patch"})


def _operation_message(operation: Tree) -> Tree:
    codes = [
        {
            "name": code,
            "value": {
                "response": {
                    "description": each["description"],
                    "schema": {"schema": _schema_message(each["schema"])},
                }
            },
        }
        for code, each in operation["responses"].items()
    ]
    return {
        "description": operation["description"],
        "operation_id": operation["operationId"],
        "produces": operation["produces"],
        "consumes": operation["consumes"],
        "parameters": [_parameter_message(each) for each in operation["parameters"]],
        "responses": {"response_code": codes},
        "vendor_extension": _extensions(operation),
    }


def _parameter_message(parameter: Tree) -> Tree:
    if parameter["in"] == "body":
        body = {"name": "body", "place": "body", "required": parameter["required"]}
        return {"parameter": {"body_parameter": body | {"schema": _schema_message(parameter["schema"])}}}
    common = {name: parameter[name] for name in ("name", "type", "description")} | {"place": parameter["in"]}
    if parameter["in"] == "path":
        common["required"] = True
    return {"parameter": {"non_body_parameter": {parameter["in"]: common}}}


def _schema_message(schema: Tree) -> Tree:
    message: Tree = {name: schema[name] for name in ("format", "description", "required") if name in schema}
    if "$ref" in schema:
        message["ref"] = schema["$ref"]
    if "type" in schema:
        message["type"] = {"value": [schema["type"]]}
    if "enum" in schema:
        message["enum"] = [_any(value) for value in schema["enum"]]
    if "items" in schema:
        message["items"] = {"schema": [_schema_message(schema["items"])]}
    if "additionalProperties" in schema:
        message["additional_properties"] = {"schema": _schema_message(schema["additionalProperties"])}
    if "properties" in schema:
        message["properties"] = {"additional_properties": _named_schemas(schema["properties"])}
    message["vendor_extension"] = _extensions(schema)
    return message


def _named_schemas(schemas: Tree) -> list[Tree]:
    return [{"name": name, "value": _schema_message(schema)} for name, schema in schemas.items()]


def _extensions(tree: Tree) -> list[Tree]:
    return [{"name": name, "value": _any(value)} for name, value in tree.items() if name.startswith("x-")]


def _any(value: Any) -> Tree:
    return {"yaml": orjson.dumps(value).decode()}
