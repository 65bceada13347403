"""The documents /openapi/v2 and /openapi/v3, made at first use and kept."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Final

from aiohttp import web

from services.apimachinery.errors import NotFound
from services.apimachinery.schema.openapi_v2 import PROTOBUF_MEDIA_TYPE, openapi_v2, openapi_v2_protobuf
from services.apimachinery.schema.openapi_v3 import openapi_v3, openapi_v3_index
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.registry import Resources
from services.apimachinery.server.storage import dumps

# The name that clients ask for has an "@", which media types may not have: answers carry this one, as Kubernetes' do.
_PROTOBUF: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_VERSION: Final = "0.1"


class OpenApi:
    """The documents of one server."""

    def __init__(self, resources: Resources, title: str) -> None:
        self._kinds = [resource.kind for resource in resources]
        self._title = title
        self._v3: dict[str, bytes] = {}

    def answer(self, request: web.Request) -> web.Response:
        """One of the documents, in the form that the client accepts. Raises NotFound."""
        path = request.path.removeprefix("/openapi/")
        if path == "v2":
            accept = request.headers.get("Accept", "")
            if PROTOBUF_MEDIA_TYPE in accept or _PROTOBUF in accept:
                return _document(request, self._v2_protobuf, _PROTOBUF)
            return _document(request, self._v2_json, "application/json")
        if path == "v3":
            return _document(request, dumps(self._index()), "application/json")
        place = path.removeprefix("v3/")
        if place not in self._places():
            raise NotFound("the server could not find the requested resource")
        return _document(request, self._v3_of(place), "application/json")

    @cached_property
    def _v2(self) -> Tree:
        return openapi_v2(self._kinds, self._title, _VERSION)

    @cached_property
    def _v2_json(self) -> bytes:
        return dumps(self._v2)

    @cached_property
    def _v2_protobuf(self) -> bytes:
        return openapi_v2_protobuf(self._v2)

    def _places(self) -> dict[str, tuple[str, str]]:
        """`api/v1`, `apis/<group>/<version>` -> group, version."""
        return {
            f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}": (kind.group, kind.version)
            for kind in self._kinds
        }

    def _index(self) -> Tree:
        return openapi_v3_index({place: _tag(self._v3_of(place)) for place in self._places()})

    def _v3_of(self, place: str) -> bytes:
        if place not in self._v3:
            self._v3[place] = dumps(openapi_v3(self._kinds, *self._places()[place], self._title, _VERSION))
        return self._v3[place]


def _tag(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32].upper()


def _document(request: web.Request, body: bytes, media: str) -> web.Response:
    tag = f'"{_tag(body)}"'
    headers = {"ETag": tag, "Vary": "Accept", "Content-Type": media}
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers)
