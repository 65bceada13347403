"""The gRPC transport: `ferrite.api.v1.Resources`, which serves every kind as a typed message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any, Final, TypeVar

import grpc
import orjson
from google.protobuf.message import Message

from protos.api.v1 import resources_pb2, resources_pb2_grpc
from services.apimachinery.client.errors import from_grpc_error
from services.apimachinery.client.interface import Change, Page, Patch, WatchEvent
from services.apimachinery.client.objects import M, metadata_of
from services.apimachinery.client.paging import all_pages
from services.apimachinery.kinds import kind_of
from services.apimachinery.schema.converter import to_tree
from services.common.grpc_client import grpc_channel
from services.common.tls import TlsFiles

Answer = TypeVar("Answer")

DEADLINE_SECONDS: Final = 30.0
"""Of one unary call; a page of a list is one call."""

_PATCH_TYPES: Final = {
    Patch.JSON: resources_pb2.JSON_PATCH,
    Patch.MERGE: resources_pb2.MERGE_PATCH,
    Patch.STRATEGIC: resources_pb2.STRATEGIC_MERGE_PATCH,
}
_CHANGES: Final = {
    resources_pb2.ADDED: Change.ADDED,
    resources_pb2.MODIFIED: Change.MODIFIED,
    resources_pb2.DELETED: Change.DELETED,
    resources_pb2.BOOKMARK: Change.BOOKMARK,
}


class GrpcClient:
    """`Client` over gRPC. `manager` names the writer in managedFields."""

    def __init__(
        self,
        address: str,
        *,
        tls: TlsFiles | None = None,
        server_name: str = "",
        manager: str = "",
        deadline: float = DEADLINE_SECONDS,
    ) -> None:
        self._channel = grpc_channel(address, tls=tls, deadline=deadline, server_name=server_name)
        self._stub: Any = resources_pb2_grpc.ResourcesStub(self._channel)
        self._manager = manager

    async def get(self, kind: type[M], name: str, namespace: str = "") -> M:
        request = resources_pb2.GetRequest(resource=_resource(kind), namespace=namespace, name=name)
        return _typed(kind, await _answered(self._stub.Get(request)))

    async def list(self, kind: type[M], namespace: str = "", *, labels: str = "", fields: str = "") -> Page[M]:
        async def page(limit: int, token: str) -> tuple[list[M], str, str]:
            request = resources_pb2.ListRequest(
                resource=_resource(kind),
                namespace=namespace,
                label_selector=labels,
                field_selector=fields,
                limit=limit,
            )
            setattr(request, "continue", token)
            answer = await _answered(self._stub.List(request))
            items = [_typed(kind, item) for item in answer.items]
            return items, answer.metadata.resource_version, getattr(answer.metadata, "continue")

        return await all_pages(page)

    async def watch(
        self, kind: type[M], namespace: str = "", *, labels: str = "", fields: str = "", resource_version: str = ""
    ) -> AsyncIterator[WatchEvent[M]]:
        call = self._stub.Watch(
            resources_pb2.WatchRequest(
                resource=_resource(kind),
                namespace=namespace,
                label_selector=labels,
                field_selector=fields,
                resource_version=resource_version,
                bookmarks=True,
            )
        )
        try:
            async for event in call:
                yield WatchEvent(_CHANGES[event.type], _typed(kind, event.object))
        except grpc.aio.AioRpcError as error:
            raise from_grpc_error(error) from error
        finally:
            call.cancel()

    async def create(self, obj: M) -> M:
        return _typed(type(obj), await _answered(self._stub.Create(self._write(obj))))

    async def update(self, obj: M) -> M:
        return _typed(type(obj), await _answered(self._stub.Update(self._write(obj))))

    async def update_status(self, obj: M) -> M:
        return _typed(type(obj), await _answered(self._stub.UpdateStatus(self._write(obj))))

    async def patch(
        self,
        kind: type[M],
        name: str,
        patch: Mapping[str, Any] | Sequence[Any],
        namespace: str = "",
        *,
        how: Patch = Patch.MERGE,
        subresource: str = "",
    ) -> M:
        request = resources_pb2.PatchRequest(
            resource=_resource(kind),
            namespace=namespace,
            name=name,
            type=_PATCH_TYPES[how],
            patch=orjson.dumps(patch),
            subresource=subresource,
            options=resources_pb2.WriteOptions(field_manager=self._manager),
        )
        return _typed(kind, await _answered(self._stub.Patch(request)))

    async def apply(self, obj: M, manager: str, *, force: bool = True, subresource: str = "") -> M:
        metadata = metadata_of(obj)
        request = resources_pb2.PatchRequest(
            resource=_resource(type(obj)),
            namespace=metadata.namespace,
            name=metadata.name,
            type=resources_pb2.APPLY_PATCH,
            patch=orjson.dumps(to_tree(obj)),
            subresource=subresource,
            options=resources_pb2.WriteOptions(field_manager=manager, force=force),
        )
        return _typed(type(obj), await _answered(self._stub.Patch(request)))

    async def delete(self, kind: type[M], name: str, namespace: str = "", *, uid: str = "") -> None:
        request = resources_pb2.DeleteRequest(resource=_resource(kind), namespace=namespace, name=name, uid=uid)
        await _answered(self._stub.Delete(request))

    async def close(self) -> None:
        await self._channel.close()

    def _write(self, obj: Message) -> resources_pb2.ObjectWrite:
        write = resources_pb2.ObjectWrite(
            resource=_resource(type(obj)), options=resources_pb2.WriteOptions(field_manager=self._manager)
        )
        write.object.typed.Pack(obj)
        return write


def _resource(kind: type[Message]) -> resources_pb2.Resource:
    served = kind_of(kind)
    return resources_pb2.Resource(group=served.group, version=served.version, plural=served.plural)


def _typed(kind: type[M], answer: resources_pb2.Object) -> M:
    # The type was asked for by name; comparing type URLs would only refuse a server that moved a message.
    return kind.FromString(answer.typed.value)


async def _answered(call: Awaitable[Answer]) -> Answer:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise from_grpc_error(error) from error
