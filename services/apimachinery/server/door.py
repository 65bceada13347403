"""What both doors need of a request before it reaches the pipeline: who calls."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from services.apimachinery.errors import Unauthorized
from services.apimachinery.server.auth.identity import (
    ANONYMOUS,
    SYSTEM,
    TokenAuthenticator,
    User,
    user_of_peer,
    user_of_pem,
)


class Identities:
    """Names callers by certificate or bearer token. `open_to_all` makes everybody the administrator (insecure mode)."""

    def __init__(self, tokens: TokenAuthenticator | None = None, *, open_to_all: bool = False) -> None:
        self._tokens, self._open_to_all = tokens, open_to_all

    async def of_request(self, request: web.Request) -> User:
        """The caller of an HTTP request; anonymous without credentials. Raises Unauthorized for bad ones."""
        if self._open_to_all:
            return SYSTEM
        transport = request.transport
        user = user_of_peer(transport.get_extra_info("peercert") if transport else None)
        if user is not None:
            return user
        return await self._by_token(request.headers.get("Authorization", ""))

    async def of_call(self, context: Any) -> User:
        """The caller of an RPC. Raises Unauthorized without credentials."""
        if self._open_to_all:
            return SYSTEM
        pem = (context.auth_context() or {}).get("x509_pem_cert")
        user = user_of_pem(bytes(pem[0])) if pem else None
        if user is None:
            metadata = {str(name): str(value) for name, value in context.invocation_metadata() or ()}
            user = await self._by_token(metadata.get("authorization", ""))
        if user is ANONYMOUS:
            raise Unauthorized("Unauthorized: a client certificate or a bearer token is required")
        return user

    async def _by_token(self, header: str) -> User:
        scheme, _, token = header.partition(" ")
        if not header:
            return ANONYMOUS
        if scheme.lower() != "bearer" or self._tokens is None:
            raise Unauthorized("Unauthorized")
        user = await self._tokens.user(token.strip())
        if user is None:
            raise Unauthorized("Unauthorized")
        return user
