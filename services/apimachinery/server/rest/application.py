"""The HTTP application: every path of the server, errors as Status, metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from services.apimachinery.errors import ApiError, Forbidden, MethodNotAllowed, NotFound, Unauthorized
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.auth.authorizer import Attributes, require
from services.apimachinery.server.auth.identity import ANONYMOUS, User
from services.apimachinery.server.door import Identities
from services.apimachinery.server.observe import answering
from services.apimachinery.server.pipeline import Pipeline
from services.apimachinery.server.registry import Resources
from services.apimachinery.server.rest import discovery
from services.apimachinery.server.rest.encode import tree_body
from services.apimachinery.server.rest.handler import Handler, refusal, verb_of
from services.apimachinery.server.rest.impersonation import impersonated
from services.apimachinery.server.rest.media import JSON, YAML, Accepted
from services.apimachinery.server.rest.openapi import OpenApi
from services.apimachinery.server.rest.target import Target, parse_path
from services.common.telemetry_context import HEADER

MAX_BODY: Final = 3 * 1024 * 1024  # as kube-apiserver limits requests
OPEN_PATHS: Final = ("/healthz", "/livez", "/readyz", "/version")
# The API level that clients may expect; Ferrite's own version follows the plus sign.
VERSION: Final = {"major": "1", "minor": "32", "gitVersion": "v1.32.0+ferrite", "platform": "linux/amd64"}

# What is counted as itself: a client may send any method.
_VERBS: Final = frozenset(
    (
        "get",
        "list",
        "watch",
        "create",
        "update",
        "patch",
        "delete",
        "deletecollection",
        "post",
        "put",
        "head",
        "options",
    )
)

Check = Callable[[], Awaitable[str]]


class RestApplication:
    """Serves the REST API. `ready` tells what is wrong, "" when all is well."""

    def __init__(
        self, pipeline: Pipeline, resources: Resources, identities: Identities, ready: Check, title: str
    ) -> None:
        self._pipeline, self._resources, self._identities, self._ready = pipeline, resources, identities, ready
        self._handler = Handler(pipeline, resources)
        self._openapi = OpenApi(resources, title)

    def application(self) -> web.Application:
        """What a runner serves."""
        application = web.Application(client_max_size=MAX_BODY)
        application.router.add_route("*", "/{path:.*}", self._serve)
        return application

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        target = parse_path(request.path)
        resource = self._resources.find(target.group, target.version, target.plural) if target else None
        verb = verb_of(request, target) if target and resource else request.method.lower()
        subresource, obj = (target.subresource, f"{target.namespace}/{target.name}") if target else ("", "")
        header = request.headers.get(HEADER)
        with answering("rest", verb if verb in _VERBS else "other", resource, subresource, obj, header) as seen:
            try:
                response = await self._answer(request, target)
            except ConnectionError:
                raise
            except web.HTTPException as error:
                response = refusal(_of_http(error))
            except Exception as error:
                response = refusal(error)
            seen.code = response.status
        return response

    async def _answer(self, request: web.Request, target: Target | None) -> web.StreamResponse:
        path = request.path
        user = await impersonated(
            self._pipeline.authorizer, await self._identities.of_request(request), request.headers
        )
        if path.startswith(OPEN_PATHS):
            return await self._open(request)
        if target is not None and target.plural:
            if user is ANONYMOUS:
                raise Unauthorized("Unauthorized")
            return await self._handler.handle(request, user, target)
        await self._may_look(user, request)
        if request.method != "GET":
            raise MethodNotAllowed(f"the server does not allow {request.method} on {path}")
        if path.startswith("/openapi/"):
            return self._openapi.answer(request)
        found = self._discovery(path, request)
        if found is None:
            raise NotFound("the server could not find the requested resource")
        accept = Accepted(YAML if "yaml" in request.headers.get("Accept", "") else JSON)
        return web.Response(body=tree_body(found, accept), content_type=accept.media)

    def _discovery(self, path: str, request: web.Request) -> Tree | None:
        parts = [part for part in path.split("/") if part]
        if not parts:
            return {
                "paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
            }
        if parts == ["api"]:
            return discovery.versions(request.host)
        if parts == ["apis"]:
            return discovery.group_list(self._resources)
        if parts[0] == "apis" and len(parts) == 2:
            return discovery.group(self._resources, parts[1])
        target = parse_path(path)
        return discovery.resource_list(self._resources, target.group, target.version) if target else None

    async def _may_look(self, user: User, request: web.Request) -> None:
        if user is ANONYMOUS:
            raise Unauthorized("Unauthorized")
        self._pipeline.require_started(user)
        await require(self._pipeline.authorizer, user, Attributes(request.method.lower(), path=request.path))

    async def _open(self, request: web.Request) -> web.Response:
        if request.path == "/version":
            return web.Response(body=tree_body(dict(VERSION), Accepted()), content_type=JSON)
        problem = await self._ready() if request.path.startswith("/readyz") else ""
        return web.Response(text=problem or "ok", status=500 if problem else 200)


def _of_http(error: web.HTTPException) -> ApiError:
    """aiohttp's own refusals (a body that is too large) as ours."""
    if error.status == 413:
        refused = Forbidden(f"the request body is larger than {MAX_BODY} bytes")
        refused.code, refused.reason = 413, "RequestEntityTooLarge"  # type: ignore[misc]
        return refused
    return NotFound(error.reason)
