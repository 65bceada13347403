"""Answers as bytes: objects, lists, tables, watch frames and Status, in the form that was agreed on."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import yaml

from protos.k8s.meta.v1 import meta_pb2
from services.apimachinery.errors import ApiError
from services.apimachinery.schema.columns import cells_of, table
from services.apimachinery.schema.converter import encoder, from_tree
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server import wire
from services.apimachinery.server.reader import Batch, Listing
from services.apimachinery.server.resource import Resource
from services.apimachinery.server.rest.media import PARTIAL, PARTIAL_LIST, PROTOBUF, TABLE, YAML, Accepted, wrap
from services.apimachinery.server.storage import dumps
from services.apimachinery.store.watch_cache import Event, Item

META_V1: Final = "meta.k8s.io/v1"
INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"


def object_body(resource: Resource, item: Item, accept: Accepted) -> bytes:
    """One object."""
    if accept.media == PROTOBUF:
        return wrap(resource.kind.api_version, resource.kind.name, resource.wire(item))
    if accept.transform == TABLE:
        return _text(_table(resource, [item], {"resourceVersion": str(item.revision)}, accept), accept)
    if accept.transform:
        return _text(_partial(resource.tree(item)), accept)
    return _text(resource.tree(item), accept) if accept.media == YAML else resource.json(item)


def list_body(resource: Resource, listing: Listing, accept: Accepted) -> bytes:
    """A list."""
    kind, meta = resource.kind, _list_meta(listing)
    if accept.media == PROTOBUF:
        message = meta_pb2.ListMeta(resource_version=meta["resourceVersion"])
        setattr(message, "continue", listing.continue_token)
        if listing.remaining is not None and listing.continue_token:
            message.remaining_item_count = listing.remaining
        parts = [
            wire.field(1, message.SerializeToString()),
            *(wire.field(2, resource.wire(item)) for item in listing.items),
        ]
        return wrap(kind.api_version, f"{kind.name}List", b"".join(parts))
    if accept.transform == TABLE:
        return _text(_table(resource, listing.items, meta, accept), accept)
    if accept.transform in (PARTIAL, PARTIAL_LIST):
        items = [_partial(resource.tree(item)) for item in listing.items]
        return _text({"kind": PARTIAL_LIST, "apiVersion": META_V1, "metadata": meta, "items": items}, accept)
    head = dumps({"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": meta})
    body = head[:-1] + b',"items":[' + b",".join([resource.json(item) for item in listing.items]) + b"]}"
    return _text(orjson.loads(body), accept) if accept.media == YAML else body


def tree_body(tree: Tree, accept: Accepted, resource: Resource | None = None) -> bytes:
    """Any tree (a review's answer, a Status)."""
    if accept.media == PROTOBUF and resource is not None:
        raw = from_tree(resource.kind, tree).SerializeToString()
        return wrap(resource.kind.api_version, resource.kind.name, raw)
    return _text(tree, accept)


class WatchEncoder:
    """Frames of one watch; a table's columns are told once."""

    def __init__(self, resource: Resource, accept: Accepted) -> None:
        self._resource, self._accept = resource, accept
        self._columns_told = False

    def frames(self, batch: Batch) -> bytes:
        """The bytes of a batch."""
        parts = [self._event(event) for event in batch.events]
        if batch.bookmark:
            parts.append(self._bookmark(batch))
        return b"".join(parts)

    def error(self, error: ApiError) -> bytes:
        """The frame that tells why a watch ends."""
        if self._accept.media == PROTOBUF:
            return _proto_frame("ERROR", wrap("v1", "Status", status_message(error).SerializeToString()))
        return b'{"type":"ERROR","object":' + dumps(status_tree(error)) + b"}\n"

    def _event(self, event: Event) -> bytes:
        resource, item = self._resource, event.item
        if self._accept.media == PROTOBUF:
            return _proto_frame(event.type, wrap(resource.kind.api_version, resource.kind.name, resource.wire(item)))
        if self._accept.transform == TABLE:
            body = dumps(self._row(item))
        elif self._accept.transform:
            body = dumps(_partial(resource.tree(item)))
        else:
            body = resource.json(item)
        return b'{"type":"' + event.type.encode() + b'","object":' + body + b"}\n"

    def _row(self, item: Item) -> Tree:
        made = _table(self._resource, [item], {"resourceVersion": str(item.revision)}, self._accept)
        if self._columns_told:
            made["columnDefinitions"] = []
        self._columns_told = True
        return made

    def _bookmark(self, batch: Batch) -> bytes:
        kind = self._resource.kind
        metadata: Tree = {"resourceVersion": str(batch.bookmark)}
        if batch.initial_end:
            metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        if self._accept.media == PROTOBUF:
            raw = wire.field(
                1,
                meta_pb2.ObjectMeta(
                    resource_version=metadata["resourceVersion"], annotations=metadata.get("annotations")
                ).SerializeToString(),
            )
            return _proto_frame("BOOKMARK", wrap(kind.api_version, kind.name, raw))
        body: Tree = {"kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata}
        if self._accept.transform == TABLE:
            body = {"kind": TABLE, "apiVersion": META_V1, "metadata": metadata, "columnDefinitions": [], "rows": []}
        elif self._accept.transform:
            body.update(kind=PARTIAL, apiVersion=META_V1)
        return b'{"type":"BOOKMARK","object":' + dumps(body) + b"}\n"


def status_message(error: ApiError) -> meta_pb2.Status:
    """A refusal as Kubernetes' Status."""
    status = meta_pb2.Status(status="Failure", message=error.message, reason=error.reason, code=error.code)
    if error.name or error.kind or error.group or error.causes:
        status.details.name, status.details.group, status.details.kind = error.name, error.group, error.kind
        for cause in error.causes:
            status.details.causes.add(reason=cause.reason, message=cause.message, field=cause.field)
    if error.code in (429, 504):
        status.details.retry_after_seconds = 1
    return status


def status_tree(error: ApiError) -> Tree:
    """A refusal as Kubernetes' Status, JSON."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        **encoder(meta_pb2.Status.DESCRIPTOR)(status_message(error)),
    }


def success_tree(resource: Resource, item: Item) -> Tree:
    """The answer to a deletion that is complete."""
    metadata = resource.tree(item)["metadata"]
    details = {"name": metadata["name"], "kind": resource.kind.plural, "uid": metadata["uid"]}
    if resource.kind.group:
        details["group"] = resource.kind.group
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _text(tree: Any, accept: Accepted) -> bytes:
    if accept.media == YAML:
        text: bytes = yaml.dump(tree, Dumper=yaml.CSafeDumper, encoding="utf-8", allow_unicode=True)
        return text
    return dumps(tree)


def _table(resource: Resource, items: Sequence[Item], metadata: Tree, accept: Accepted) -> Tree:
    now, rows = datetime.now(UTC), []
    for item in items:
        tree = resource.tree(item)
        shown = {"None": None, "Object": tree}.get(accept.include, _partial(tree))
        rows.append((cells_of(resource.kind, tree, now, resource.renderers), shown))
    return table(resource.kind, rows, metadata)


def _partial(tree: Tree) -> Tree:
    return {"kind": PARTIAL, "apiVersion": META_V1, "metadata": tree["metadata"]}


def _list_meta(listing: Listing) -> Tree:
    meta: Tree = {"resourceVersion": str(listing.resource_version)}
    if listing.continue_token:
        meta["continue"] = listing.continue_token
        if listing.remaining is not None:
            meta["remainingItemCount"] = listing.remaining
    return meta


def _proto_frame(event: str, enveloped: bytes) -> bytes:
    message = meta_pb2.WatchEvent(type=event)
    message.object.raw = enveloped
    raw = message.SerializeToString()
    return struct.pack(">I", len(raw)) + raw
