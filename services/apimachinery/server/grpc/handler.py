"""Answers typed services and the generic one from the same pipeline and reader as REST."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Final

import grpc

from protos.api.v1 import resources_pb2
from protos.k8s.meta.v1 import meta_pb2
from services.apimachinery.errors import ApiError, BadRequest, MethodNotAllowed, NotFound
from services.apimachinery.schema.converter import from_tree, to_tree
from services.apimachinery.schema.decode import FieldValidation, decode, normalise
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server import reader, wire
from services.apimachinery.server.auth.identity import User
from services.apimachinery.server.call import Call, DeleteOptions
from services.apimachinery.server.changes import Patch, PatchType
from services.apimachinery.server.grpc.errors import abort
from services.apimachinery.server.grpc.methods import Method, methods
from services.apimachinery.server.observe import Seen, answering
from services.apimachinery.server.pipeline import Pipeline
from services.apimachinery.server.registry import Resources
from services.apimachinery.server.resource import Resource
from services.apimachinery.store.watch_cache import Item
from services.common import telemetry
from services.common.telemetry_grpc import header_of

Identify = Callable[[Any], Awaitable[User]]

_VERBS: Final = {
    "Get": "get",
    "List": "list",
    "Watch": "watch",
    "Create": "create",
    "Update": "update",
    "UpdateStatus": "update",
    "Patch": "patch",
    "Delete": "delete",
    "DeleteCollection": "deletecollection",
}
_PATCHES: Final = {
    resources_pb2.JSON_PATCH: PatchType.JSON,
    resources_pb2.MERGE_PATCH: PatchType.MERGE,
    resources_pb2.STRATEGIC_MERGE_PATCH: PatchType.STRATEGIC,
    resources_pb2.APPLY_PATCH: PatchType.APPLY,
}
_EVENTS: Final = {
    "ADDED": resources_pb2.ADDED,
    "MODIFIED": resources_pb2.MODIFIED,
    "DELETED": resources_pb2.DELETED,
}


class ResourceHandler(grpc.GenericRpcHandler):  # type: ignore[misc]
    """All kinds of a server. `identify` names the caller of a context or raises Unauthorized."""

    def __init__(self, pipeline: Pipeline, resources: Resources, identify: Identify) -> None:
        self._pipeline, self._resources, self._identify = pipeline, resources, identify
        self._handlers = {path: self._handler(method) for path, method in methods(resources).items()}

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a path, None for a path that is not ours."""
        return self._handlers.get(handler_call_details.method)

    def _handler(self, method: Method) -> Any:
        if method.streams:

            async def stream(request: Any, context: Any) -> AsyncIterator[bytes]:
                with self._answering(method, request, context) as seen:
                    try:
                        async for part in self._watch(method, request, context):
                            yield part
                    except ApiError as error:
                        seen.code = error.code
                        await abort(context, error)

            return grpc.unary_stream_rpc_method_handler(stream, request_deserializer=method.request.FromString)

        async def unary(request: Any, context: Any) -> bytes:
            with self._answering(method, request, context) as seen:
                try:
                    return await self._unary(method, request, context)
                except (grpc.aio.AbortError, asyncio.CancelledError):
                    raise
                except Exception as error:
                    seen.code = error.code if isinstance(error, ApiError) else 500
                    await abort(context, error)
                    raise AssertionError("abort raises") from None

        return grpc.unary_unary_rpc_method_handler(unary, request_deserializer=method.request.FromString)

    def _answering(self, method: Method, request: Any, context: Any) -> AbstractContextManager[Seen]:
        resource, named = method.resource, getattr(request, "resource", None)
        if resource is None and named is not None:
            resource = self._resources.find(named.group, named.version, named.plural)
        subresource = "status" if method.name == "UpdateStatus" else getattr(request, "subresource", "")
        obj = f"{getattr(request, 'namespace', '')}/{getattr(request, 'name', '')}"
        header = header_of(context.invocation_metadata()) if telemetry.enabled() else None
        return answering("grpc", _VERBS[method.name], resource, subresource, obj, header)

    async def _call(self, method: Method, request: Any, context: Any) -> Call:
        user = await self._identify(context)
        resource = method.resource or self._named(request.resource)
        call = Call(user, _VERBS[method.name], resource, validation=FieldValidation.STRICT)
        if method.name == "UpdateStatus":
            call.subresource = "status"
        if hasattr(request, "subresource"):
            call.subresource = request.subresource
        if call.subresource and call.subresource not in resource.subresources:
            raise NotFound(f"{resource.kind.resource} has no subresource {call.subresource!r}")
        if hasattr(request, "namespace"):
            call.namespace = request.namespace
        call.name = getattr(request, "name", "")
        if call.namespace and not resource.kind.namespaced:
            raise BadRequest(f"namespace is not allowed: {resource.kind.resource} is cluster-scoped")
        if call.name and resource.kind.namespaced and not call.namespace:
            raise BadRequest(f"namespace is required: {resource.kind.resource} is namespaced")
        options = getattr(request, "options", None)
        if options is not None:
            call.dry_run, call.field_manager, call.force = options.dry_run, options.field_manager, options.force
        call.dry_run = call.dry_run or getattr(request, "dry_run", False)
        call.field_manager = call.field_manager or _agent(context)
        return call

    def _named(self, name: Any) -> Resource:
        resource = self._resources.find(name.group, name.version, name.plural)
        if resource is None:
            raise NotFound(f"resource: no kind {name.plural!r} in {name.group or 'the core group'}/{name.version}")
        return resource

    async def _unary(self, method: Method, request: Any, context: Any) -> bytes:
        call = await self._call(method, request, context)
        answer = _Answer(call.resource, method, _as_json(method, request))
        if call.resource.storage is None:
            if call.verb != "create":
                raise MethodNotAllowed(f"{call.kind.resource} can only be created")
            return answer.tree(await self._pipeline.answer(call, _body(call, method, request)))
        if call.verb == "get":
            await self._pipeline.authorize(call)
            _need_name(call)
            return answer.object(await reader.get(call))
        if call.verb == "list":
            await self._pipeline.authorize(call)
            return answer.list(await reader.list_objects(call, _list_query(request)))
        return await self._changed(call, method, request, answer)

    async def _changed(self, call: Call, method: Method, request: Any, answer: _Answer) -> bytes:
        if call.verb == "patch":
            _need_name(call)
            if request.type not in _PATCHES:
                raise BadRequest("type: the kind of patch is required")
            return answer.object(await self._pipeline.patch(call, Patch(_PATCHES[request.type], request.patch)))
        if call.verb == "delete":
            _need_name(call)
            options = DeleteOptions(request.uid, request.resource_version, request.propagation_policy)
            return answer.object((await self._pipeline.delete(call, options)).item)
        if call.verb == "deletecollection":
            query = reader.ListQuery(labels=request.label_selector, fields=request.field_selector)
            options = DeleteOptions(propagation=request.propagation_policy)
            items = await self._pipeline.delete_collection(call, options, query)
            return answer.list(reader.Listing(items, max((item.revision for item in items), default=0)))
        tree = _body(call, method, request)
        metadata = tree.get("metadata", {})
        call.namespace = metadata.get("namespace", "")
        if call.verb == "create":
            return answer.object(await self._pipeline.create(call, tree))
        call.name = metadata.get("name", "")
        _need_name(call)
        return answer.object(await self._pipeline.update(call, tree))

    async def _watch(self, method: Method, request: Any, context: Any) -> AsyncIterator[bytes]:
        call = await self._call(method, request, context)
        await self._pipeline.authorize(call)
        if call.resource.storage is None:
            raise MethodNotAllowed(f"{call.kind.resource} can only be created")
        answer = _Answer(call.resource, method, _as_json(method, request))
        query = reader.ListQuery(
            labels=request.label_selector,
            fields=request.field_selector,
            resource_version=request.resource_version,
            bookmarks=request.bookmarks,
        )
        async for batch in await reader.watch(call, query):
            for event in batch.events:
                yield answer.event(_EVENTS[event.type], event.item)
            if batch.bookmark:
                yield answer.bookmark(batch.bookmark)


class _Answer:
    """Serialized answers of one method: stored bytes are wrapped, not parsed."""

    def __init__(self, resource: Resource, method: Method, as_json: bool) -> None:
        self._resource, self._as_json = resource, as_json
        self._generic = method.resource is None
        self._answer = method.answer

    def object(self, item: Item) -> bytes:
        """One object."""
        if not self._generic:
            return self._resource.wire(item)
        if self._as_json:
            return wire.field(2, self._resource.json(item))
        return wire.field(1, self._any(self._resource.wire(item)))

    def tree(self, tree: Tree) -> bytes:
        """A review's answer."""
        raw: bytes = from_tree(self._resource.kind, tree).SerializeToString()
        return raw if not self._generic else wire.field(1, self._any(raw))

    def list(self, listing: reader.Listing) -> bytes:
        """A page."""
        meta: Any = resources_pb2.ListMeta()
        if self._answer.fields_by_name["metadata"].message_type is meta_pb2.ListMeta.DESCRIPTOR:
            meta = meta_pb2.ListMeta()
        meta.resource_version = str(listing.resource_version)
        setattr(meta, "continue", listing.continue_token)
        if listing.remaining:
            meta.remaining_item_count = listing.remaining
        head = wire.field(1, meta.SerializeToString())
        return head + b"".join([wire.field(2, self.object(item)) for item in listing.items])

    def event(self, kind: int, item: Item) -> bytes:
        """One change."""
        return wire.number_field(1, kind) + wire.field(2, self.object(item))

    def bookmark(self, revision: int) -> bytes:
        """A version to resume from."""
        metadata = meta_pb2.ObjectMeta(resource_version=str(revision))
        body = wire.field(1, metadata.SerializeToString())
        if self._generic and self._as_json:
            kind = self._resource.kind
            head = b'{"apiVersion":"%b","kind":"%b",' % (kind.api_version.encode(), kind.name.encode())
            body = wire.field(2, head + b'"metadata":{"resourceVersion":"%d"}}' % revision)
        elif self._generic:
            body = wire.field(1, self._any(body))
        return wire.number_field(1, resources_pb2.BOOKMARK) + wire.field(2, body)

    def _any(self, raw: bytes) -> bytes:
        name = self._resource.kind.message.DESCRIPTOR.full_name
        return wire.field(1, f"type.googleapis.com/{name}".encode()) + wire.field(2, raw)


def _as_json(method: Method, request: Any) -> bool:
    if method.resource is not None:
        return False
    if hasattr(request, "object"):
        return bool(request.object.WhichOneof("form") == "json")
    return bool(getattr(request, "as_json", False))


def _body(call: Call, method: Method, request: Any) -> Tree:
    """The written object, canonical. Raises BadRequest."""
    if not request.HasField("object"):
        raise BadRequest("object: the object to write is required")
    if method.resource is not None:
        return _typed_tree(call, request.object)
    form = request.object.WhichOneof("form")
    if form == "json":
        return decode(call.kind, request.object.json, call.validation).tree
    if form is None:
        raise BadRequest("object: want a typed message or JSON")
    message = call.kind.message()
    if not request.object.typed.Unpack(message):
        wanted = call.kind.message.DESCRIPTOR.full_name
        raise BadRequest(f"object.typed: want {wanted}, got {request.object.typed.type_url!r}")
    return _typed_tree(call, message)


def _typed_tree(call: Call, message: Any) -> Tree:
    try:
        tree = to_tree(message)
        return normalise(call.kind, tree).tree
    except ValueError as error:
        raise BadRequest(f"object: {error}") from None


def _need_name(call: Call) -> None:
    if not call.name:
        raise BadRequest("name is required")
    if call.kind.namespaced and not call.namespace:
        raise BadRequest(f"namespace is required: {call.kind.resource} is namespaced")


def _list_query(request: Any) -> reader.ListQuery:
    return reader.ListQuery(
        labels=request.label_selector,
        fields=request.field_selector,
        limit=request.limit,
        continue_token=getattr(request, "continue"),
        resource_version=request.resource_version,
    )


def _agent(context: Any) -> str:
    """The default field manager: the user agent's first word."""
    for name, value in context.invocation_metadata() or ():
        if name == "user-agent":
            return str(value).partition("/")[0][:128]
    return "unknown"
