"""The Kubernetes REST transport: works on any Kubernetes API server that serves the kinds."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from random import uniform
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import orjson
from google.protobuf.message import Message
from yarl import URL

from services.apimachinery.client.errors import from_kubernetes_status
from services.apimachinery.client.interface import Change, Page, Patch, WatchEvent
from services.apimachinery.client.kubeconfig import Access
from services.apimachinery.client.objects import M, metadata_of
from services.apimachinery.client.paging import all_pages
from services.apimachinery.errors import ApiError, BadRequest, InternalError, Timeout, Unavailable
from services.apimachinery.kinds import kind_of
from services.apimachinery.schema.converter import from_tree, to_tree
from services.apimachinery.schema.decode import normalise
from services.common.telemetry_context import HEADER, traceparent

DEADLINE_SECONDS: Final = 30.0
"""Of one unary call; a page of a list is one call."""
WATCH_SECONDS: Final = (300.0, 600.0)
"""After a time in this range the server ends a watch (client-go: 5 to 10 minutes): not all clients at once."""
WATCH_SILENCE_SECONDS: Final = 90.0
"""A watch that brings nothing for so long, not even a bookmark (servers send one a minute), is taken up anew."""
CONNECT_SECONDS: Final = 10.0
MAX_LINE_BYTES: Final = 64 * 1024 * 1024

_JSON: Final = "application/json"
_APPLY: Final = "application/apply-patch+yaml"

_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""A watch only listens: without probes it would never notice that its server's machine is gone."""


class RestClient:
    """`Client` over HTTP. `manager` names the writer in managedFields and in the User-Agent."""

    def __init__(self, access: Access, *, manager: str = "", deadline: float = DEADLINE_SECONDS) -> None:
        self._access = access
        self._manager = manager
        self._deadline = deadline
        self._timeout = aiohttp.ClientTimeout(total=deadline, connect=CONNECT_SECONDS)
        self._context = access.ssl_context()
        self._session: aiohttp.ClientSession | None = None

    async def get(self, kind: type[M], name: str, namespace: str = "") -> M:
        return _typed(kind, await self._call("GET", _object_path(kind, namespace, name)))

    async def list(self, kind: type[M], namespace: str = "", *, labels: str = "", fields: str = "") -> Page[M]:
        async def page(limit: int, token: str) -> tuple[list[M], str, str]:
            selection = _parameters(
                labelSelector=labels, fieldSelector=fields, limit=str(limit or ""), **{"continue": token}
            )
            tree = await self._call("GET", _path(kind, namespace), selection)
            metadata = tree.get("metadata") or {}
            items = [_typed(kind, item) for item in tree.get("items") or ()]
            return items, metadata.get("resourceVersion", ""), metadata.get("continue", "")

        return await all_pages(page)

    async def watch(
        self, kind: type[M], namespace: str = "", *, labels: str = "", fields: str = "", resource_version: str = ""
    ) -> AsyncIterator[WatchEvent[M]]:
        seconds = uniform(*WATCH_SECONDS)
        selection = _parameters(
            watch="true",
            allowWatchBookmarks="true",
            labelSelector=labels,
            fieldSelector=fields,
            resourceVersion=resource_version,
            timeoutSeconds=str(int(seconds)),
        )
        timeout = aiohttp.ClientTimeout(
            total=seconds + self._deadline, connect=CONNECT_SECONDS, sock_read=WATCH_SILENCE_SECONDS
        )
        try:
            async with self._request("GET", _path(kind, namespace), selection, timeout=timeout) as answer:
                await _check(answer)
                try:
                    async for line in _lines(answer.content):
                        yield _event(kind, orjson.loads(line))
                except TimeoutError:
                    return  # as if the server had closed: go on from the last version
        except TimeoutError as error:
            raise Timeout(f"{self._access.server}: no answer to the watch") from error
        except (aiohttp.ClientError, ssl.SSLError, OSError, orjson.JSONDecodeError) as error:
            raise self._unavailable(error) from error

    async def create(self, obj: M) -> M:
        path = _path(type(obj), metadata_of(obj).namespace)
        return await self._write("POST", path, obj)

    async def update(self, obj: M) -> M:
        metadata = metadata_of(obj)
        return await self._write("PUT", _object_path(type(obj), metadata.namespace, metadata.name), obj)

    async def update_status(self, obj: M) -> M:
        metadata = metadata_of(obj)
        return await self._write("PUT", _object_path(type(obj), metadata.namespace, metadata.name, "status"), obj)

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
        path = _object_path(kind, namespace, name, subresource)
        options = _parameters(fieldManager=self._manager)
        return _typed(kind, await self._call("PATCH", path, options, patch, how.value))

    async def apply(self, obj: M, manager: str, *, force: bool = True, subresource: str = "") -> M:
        metadata = metadata_of(obj)
        path = _object_path(type(obj), metadata.namespace, metadata.name, subresource)
        options = _parameters(fieldManager=manager, force="true" if force else "false")
        return _typed(type(obj), await self._call("PATCH", path, options, to_tree(obj), _APPLY))

    async def delete(self, kind: type[M], name: str, namespace: str = "", *, uid: str = "") -> None:
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        await self._call("DELETE", _object_path(kind, namespace, name), body=body)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _write(self, method: str, path: str, obj: M) -> M:
        options = _parameters(fieldManager=self._manager)
        return _typed(type(obj), await self._call(method, path, options, to_tree(obj)))

    async def _call(
        self,
        method: str,
        path: str,
        parameters: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = _JSON,
    ) -> dict[str, Any]:
        try:
            async with self._request(method, path, parameters or {}, body, content_type, self._timeout) as answer:
                await _check(answer)
                tree: dict[str, Any] = orjson.loads(await answer.read())
                return tree
        except TimeoutError as error:
            raise Timeout(f"{self._access.server}: no answer within {self._deadline:.0f} s") from error
        except (aiohttp.ClientError, ssl.SSLError, OSError, orjson.JSONDecodeError) as error:
            raise self._unavailable(error) from error

    def _request(
        self,
        method: str,
        path: str,
        parameters: dict[str, str],
        body: Any = None,
        content_type: str = _JSON,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> Any:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._context or True, limit=0, socket_factory=_socket)
            self._session = aiohttp.ClientSession(connector=connector)
        headers = {"Accept": _JSON, "User-Agent": self._manager or "ferrite"}
        if method != "GET" and (header := traceparent()):
            headers[HEADER] = header
        if token := self._access.bearer():
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            headers["Content-Type"] = content_type
        return self._session.request(
            method,
            URL(f"{self._access.server}{path}", encoded=True),
            params=parameters,
            data=None if body is None else orjson.dumps(body),
            headers=headers,
            timeout=timeout,
            server_hostname=self._access.server_name or None,
        )

    def _unavailable(self, error: Exception) -> ApiError:
        return Unavailable(f"{self._access.server}: {str(error) or type(error).__name__}")


def _socket(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    for level, option, value in _KEEPALIVE:
        made.setsockopt(level, option, value)
    return made


def _path(kind: type[Message], namespace: str) -> str:
    """Of a collection."""
    served = kind_of(kind)
    parts = ["apis", served.group, served.version] if served.group else ["api", served.version]
    if namespace:
        parts += ["namespaces", _segment(namespace)]
    return "/" + "/".join([*parts, served.plural])


def _object_path(kind: type[Message], namespace: str, name: str, subresource: str = "") -> str:
    path = f"{_path(kind, namespace)}/{_segment(name)}"
    return f"{path}/{subresource}" if subresource else path


def _segment(name: str) -> str:
    # An empty name would turn the deletion of an object into that of all.
    if name in ("", ".", ".."):
        raise BadRequest(f"{name!r} is not a name")
    return quote(name, safe="")


def _parameters(**values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _typed(kind: type[M], tree: Mapping[str, Any]) -> M:
    """The message; members that a newer or foreign server has and our schema does not are left out."""
    served = kind_of(kind)
    try:
        return from_tree(served, normalise(served, tree).tree)
    except BadRequest as error:
        raise InternalError(f"the server sent an object that is none: {error.message}") from error


def _event(kind: type[M], tree: Mapping[str, Any]) -> WatchEvent[M]:
    if tree["type"] == "ERROR":
        raise from_kubernetes_status(tree["object"])
    return WatchEvent(Change(tree["type"]), _typed(kind, tree["object"]))


async def _check(answer: aiohttp.ClientResponse) -> None:
    if answer.status < 300:
        return
    body = await answer.read()
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = None
    if not isinstance(status, dict):
        # A proxy's page, not a Status.
        status = {"message": f"the server answered {answer.status}: {body[:200].decode(errors='replace')}"}
    raise from_kubernetes_status(status, answer.status)


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length up to a sane limit (the reader's own ends at 64 KiB); OSError for a longer one."""
    rest = b""
    async for chunk in stream.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
        if len(rest) > MAX_LINE_BYTES:
            raise OSError(f"a watch event is longer than {MAX_LINE_BYTES} bytes")
        # A long burst must not keep other tasks waiting.
        await asyncio.sleep(0)
