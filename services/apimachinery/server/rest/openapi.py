"""The documents /openapi/v2 and /openapi/v3."""

from __future__ import annotations

from aiohttp import web

from services.apimachinery.errors import NotFound
from services.apimachinery.server.registry import Resources


class OpenApi:
    """Made once per server."""

    def __init__(self, resources: Resources, title: str) -> None:
        self._resources, self._title = resources, title

    def answer(self, request: web.Request) -> web.Response:
        """One of the documents, in the form that the client accepts."""
        raise NotFound("the server could not find the requested resource")
