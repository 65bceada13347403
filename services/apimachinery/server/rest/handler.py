"""A request of the Kubernetes API: from URL, headers and body to a call of the pipeline or reader, and back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from google.protobuf.message import DecodeError

from protos.k8s.meta.v1 import meta_pb2
from services.apimachinery.errors import (
    ApiError,
    BadRequest,
    InternalError,
    MethodNotAllowed,
    NotFound,
    UnsupportedMediaType,
)
from services.apimachinery.schema.converter import encoder, to_tree
from services.apimachinery.schema.decode import FieldValidation, decode, parse_json, parse_yaml
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server import reader
from services.apimachinery.server.auth.identity import User
from services.apimachinery.server.call import Call, DeleteOptions
from services.apimachinery.server.changes import Patch, PatchType
from services.apimachinery.server.pipeline import Deleted, Pipeline
from services.apimachinery.server.registry import Resources
from services.apimachinery.server.resource import Resource
from services.apimachinery.server.rest import encode
from services.apimachinery.server.rest.media import JSON, PROTOBUF, YAML, Accepted, accepted, body_form, unwrap
from services.apimachinery.server.rest.target import Target
from services.common.logs import get_logger

log = get_logger(__name__)

COALESCE_SECONDS = 0.025  # least time between two writes of a busy watch
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


class Handler:
    """Answers requests for resources."""

    def __init__(self, pipeline: Pipeline, resources: Resources) -> None:
        self._pipeline, self._resources = pipeline, resources

    async def handle(self, request: web.Request, user: User, target: Target) -> web.StreamResponse:
        """Answers one request; ApiError is for the caller to encode."""
        resource = self._resources.find(target.group, target.version, target.plural)
        if resource is None:
            raise NotFound("the server could not find the requested resource")
        call = self._call(request, user, target, resource)
        accept = accepted(
            request.headers.get("Accept", ""),
            protobuf=resource.builtin,
            include=request.query.get("includeObject", ""),
        )
        if request.method == "GET":
            return await self._read(request, call, accept)
        if request.method == "DELETE":
            return await self._delete(request, call, accept)
        if request.method not in _VERBS:
            raise MethodNotAllowed(f"the server does not allow {request.method} on the requested resource")
        if resource.storage is None:
            return await self._review(request, call, accept)
        return await self._write(request, call, accept)

    def _call(self, request: web.Request, user: User, target: Target, resource: Resource) -> Call:
        query = request.query
        kind = resource.kind
        if target.namespace and not kind.namespaced:
            raise NotFound("the server could not find the requested resource")
        if target.subresource and target.subresource not in resource.subresources:
            raise NotFound(f"{kind.resource} has no subresource {target.subresource!r}")
        if target.name and kind.namespaced and not target.namespace:
            raise NotFound("the server could not find the requested resource")
        return Call(
            user,
            verb_of(request, target),
            resource,
            namespace=target.namespace,
            name=target.name,
            subresource=target.subresource,
            dry_run=_dry_run(query.getall("dryRun", [])),
            field_manager=query.get("fieldManager", "") or _agent(request),
            force=_flag(query, "force"),
            validation=_validation(query.get("fieldValidation", "")),
        )

    async def _read(self, request: web.Request, call: Call, accept: Accepted) -> web.StreamResponse:
        await self._pipeline.authorize(call)
        if call.resource.storage is None:
            raise MethodNotAllowed(f"{call.kind.resource} can only be created")
        if call.verb == "get":
            item = await reader.get(call, request.query.get("resourceVersion", ""))
            return _answer(encode.object_body(call.resource, item, accept), accept)
        query = _list_query(request.query)
        if call.verb == "watch":
            return await self._watch(request, call, query, accept)
        return _answer(encode.list_body(call.resource, await reader.list_objects(call, query), accept), accept)

    async def _watch(
        self, request: web.Request, call: Call, query: reader.ListQuery, accept: Accepted
    ) -> web.StreamResponse:
        batches = await reader.watch(call, query)
        encoder = encode.WatchEncoder(call.resource, accept)
        media = f"{accept.media};stream=watch" if accept.media == PROTOBUF else JSON
        response = web.StreamResponse(headers={"Content-Type": media, "Cache-Control": "no-cache, private"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        loop, last = asyncio.get_running_loop(), 0.0
        try:
            async for batch in batches:
                await response.write(encoder.frames(batch))
                # A burst is gathered while we wait; a lone event is never delayed.
                pause = COALESCE_SECONDS - (loop.time() - last)
                last = loop.time()
                if batch.events and pause > 0:
                    await asyncio.sleep(pause)
        except ApiError as error:
            await response.write(encoder.error(error))
        finally:
            await batches.aclose()
        await response.write_eof()
        return response

    async def _write(self, request: web.Request, call: Call, accept: Accepted) -> web.Response:
        code = 200
        if call.verb == "patch":
            item = await self._pipeline.patch(call, await _patch(request))
        elif call.verb == "create":
            if call.name:
                raise MethodNotAllowed("the server does not allow this method on the requested resource")
            code, item = 201, await self._pipeline.create(call, await _tree(request, call))
        else:
            if not call.name:
                raise MethodNotAllowed("the server does not allow this method on the requested resource")
            item = await self._pipeline.update(call, await _tree(request, call))
        return _answer(encode.object_body(call.resource, item, accept), accept, code, call.warnings)

    async def _review(self, request: web.Request, call: Call, accept: Accepted) -> web.Response:
        if call.verb != "create":
            raise MethodNotAllowed(f"{call.kind.resource} can only be created")
        answer = await self._pipeline.answer(call, await _tree(request, call))
        return _answer(encode.tree_body(answer, accept, call.resource), accept, 201, call.warnings)

    async def _delete(self, request: web.Request, call: Call, accept: Accepted) -> web.Response:
        options = await _delete_options(request, call)
        plain = Accepted(YAML if accept.media == YAML else JSON)
        if call.verb == "deletecollection":
            query = _list_query(request.query)
            items = await self._pipeline.delete_collection(call, options, query)
            listing = reader.Listing(items, max((item.revision for item in items), default=0))
            return _answer(encode.list_body(call.resource, listing, accept), accept)
        deleted: Deleted = await self._pipeline.delete(call, options)
        if deleted.gone and not call.dry_run:
            return _answer(encode.tree_body(encode.success_tree(call.resource, deleted.item), plain), plain)
        return _answer(encode.object_body(call.resource, deleted.item, accept), accept)


def refusal(error: Exception) -> web.Response:
    """The answer for a failure; an unexpected one is logged, its text stays inside."""
    if not isinstance(error, ApiError):
        log.error("request failed", error=f"{type(error).__name__}: {error}", exc_info=error)
        error = InternalError("an error on the server has prevented the request from succeeding")
    headers = {"Retry-After": "1"} if error.code in (429, 503, 504) else {}
    body = encode.tree_body(encode.status_tree(error), Accepted())
    return web.Response(body=body, status=error.code, content_type=JSON, headers=headers)


def _answer(body: bytes, accept: Accepted, code: int = 200, warnings: list[str] | None = None) -> web.Response:
    response = web.Response(
        body=body, status=code, headers={"Content-Type": accept.media, "Cache-Control": "no-cache, private"}
    )
    for text in warnings or ():
        quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


def verb_of(request: web.Request, target: Target) -> str:
    """What a request for a resource is, in the words of Kubernetes' authorization."""
    if request.method == "GET":
        if target.watch or _flag(request.query, "watch"):
            return "watch"
        return "get" if target.name else "list"
    if request.method == "DELETE":
        return "delete" if target.name else "deletecollection"
    return _VERBS.get(request.method, request.method.lower())


async def _tree(request: web.Request, call: Call) -> Tree:
    body = await request.read()
    form = body_form(request.headers.get("Content-Type", ""), protobuf=call.resource.builtin)
    kind = call.kind
    if form == PROTOBUF:
        api_version, name, raw = unwrap(body)
        if (api_version, name) != (kind.api_version, kind.name):
            raise BadRequest(f"the body holds {name} of {api_version}, expected {kind.name} of {kind.api_version}")
        try:
            return to_tree(kind.message.FromString(raw))
        except (DecodeError, ValueError) as error:
            raise BadRequest(f"the body is not a {kind.name}: {error}") from None
    decoded = decode(kind, body, call.validation, yaml=form == YAML)
    call.warnings += decoded.warnings
    return decoded.tree


async def _patch(request: web.Request) -> Patch:
    media = request.headers.get("Content-Type", "").partition(";")[0].strip()
    try:
        how = PatchType(media)
    except ValueError:
        served = ", ".join(item.value for item in PatchType)
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format - accepted media types include: {served}"
        ) from None
    return Patch(how, await request.read())


async def _delete_options(request: web.Request, call: Call) -> DeleteOptions:
    tree = await _options_tree(request)
    query = request.query
    call.dry_run = call.dry_run or _dry_run(tree.get("dryRun") or [])
    conditions = tree.get("preconditions") or {}
    propagation = tree.get("propagationPolicy") or query.get("propagationPolicy", "")
    if tree.get("orphanDependents") is not None:  # the older form of the same
        propagation = propagation or ("Orphan" if tree["orphanDependents"] else "Background")
    grace = tree.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
    try:
        seconds = None if grace is None else int(grace)
    except (TypeError, ValueError):
        raise BadRequest(f"gracePeriodSeconds must be a whole number, got {grace!r}") from None
    return DeleteOptions(
        str(conditions.get("uid") or ""), str(conditions.get("resourceVersion") or ""), str(propagation), seconds
    )


async def _options_tree(request: web.Request) -> Mapping[str, Any]:
    body = await request.read()
    if not body:
        return {}
    form = body_form(request.headers.get("Content-Type", ""), protobuf=True)
    if form == PROTOBUF:
        _, _, raw = unwrap(body)
        options = meta_pb2.DeleteOptions.FromString(raw)
        tree: Mapping[str, Any] = encoder(meta_pb2.DeleteOptions.DESCRIPTOR)(options)
        return tree
    tree = parse_yaml(body) if form == YAML else parse_json(body)
    if not isinstance(tree, dict) or tree.get("kind", "DeleteOptions") != "DeleteOptions":
        raise BadRequest("the body of a deletion must be DeleteOptions")
    if not isinstance(tree.get("preconditions") or {}, dict):
        raise BadRequest("preconditions must be an object")
    return tree


def _list_query(query: Mapping[str, str]) -> reader.ListQuery:
    return reader.ListQuery(
        labels=query.get("labelSelector", ""),
        fields=query.get("fieldSelector", ""),
        limit=_number(query, "limit"),
        continue_token=query.get("continue", ""),
        resource_version=query.get("resourceVersion", ""),
        match=query.get("resourceVersionMatch", ""),
        bookmarks=_flag(query, "allowWatchBookmarks"),
        initial_events=_flag(query, "sendInitialEvents"),
        timeout=float(_number(query, "timeoutSeconds")),
    )


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "") or "0"
    try:
        return int(text)
    except ValueError:
        raise BadRequest(f"{name} must be a whole number, got {text!r}") from None


def _flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("1", "t", "true") if name in query else False


def _dry_run(values: Any) -> bool:
    if not isinstance(values, list) or any(value not in ("All", "") for value in values):
        raise BadRequest(f'dryRun: Unsupported value: {values}: supported values: "All"')
    return "All" in values


def _validation(text: str) -> FieldValidation:
    try:
        return FieldValidation(text or "Warn")
    except ValueError:
        raise BadRequest(
            f'fieldValidation: Unsupported value: "{text}": supported values: "Ignore", "Strict", "Warn"'
        ) from None


def _agent(request: web.Request) -> str:
    """The default field manager: the user agent's first word, as in Kubernetes."""
    return request.headers.get("User-Agent", "").partition("/")[0][:128] or "unknown"
