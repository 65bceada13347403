"""Images in a registry: the pull half of the OCI distribution protocol, with anonymous bearer tokens."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from services.libvirt_provider.images.manifest import INDEX_TYPE, MANIFEST_TYPE, MAX_DOCUMENT_BYTES, Descriptor
from services.libvirt_provider.images.reference import RegistryReference
from services.libvirt_provider.images.source import ImageUnavailable

CHUNK_BYTES: Final = 256 * 1024
# A pull of gigabytes may take long, but never be silent for this many seconds.
TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=10, sock_read=30)
_CHALLENGE: Final = re.compile(r'(\w+)="([^"]*)"')


class RegistrySource:
    """One image of a registry. `plain_http` leaves out TLS."""

    def __init__(self, reference: RegistryReference, *, plain_http: bool) -> None:
        self._reference = reference
        scheme = "http" if plain_http else "https"
        self._base = f"{scheme}://{reference.host}/v2/{reference.repository}"
        self._token = ""

    async def document(self, digest: str) -> bytes:
        wanted = digest or self._reference.digest or self._reference.tag
        headers = {"Accept": f"{MANIFEST_TYPE}, {INDEX_TYPE}"}
        async with self._get(f"{self._base}/manifests/{wanted}", headers) as response:
            content = await response.content.read(MAX_DOCUMENT_BYTES)
            while not response.content.at_eof():
                more = await response.content.read(MAX_DOCUMENT_BYTES)
                content += more
                if len(content) > MAX_DOCUMENT_BYTES:
                    raise ImageUnavailable(f"{response.url}: the manifest is longer than {MAX_DOCUMENT_BYTES} bytes")
            return content

    async def blob(self, descriptor: Descriptor, offset: int) -> AsyncIterator[bytes]:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self._get(f"{self._base}/blobs/{descriptor.digest}", headers) as response:
            # A server may ignore the range and send all of it.
            skip = offset if response.status == 200 else 0
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                useful = chunk[skip:]
                skip = max(0, skip - len(chunk))
                if useful:
                    yield useful

    @asynccontextmanager
    async def _get(self, url: str, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with aiohttp.ClientSession(timeout=TIMEOUT, trust_env=True) as session:
                response = await session.get(url, headers=headers | self._authorization())
                if response.status == 401:
                    challenge = response.headers.get("WWW-Authenticate", "")
                    response.release()
                    self._token = await self._fetch_token(session, challenge)
                    response = await session.get(url, headers=headers | self._authorization())
                async with response:
                    if response.status not in (200, 206):
                        raise ImageUnavailable(f"{url} answered {response.status} {response.reason}")
                    yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ImageUnavailable(f"{url}: {type(error).__name__} {error}") from error

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    async def _fetch_token(self, session: aiohttp.ClientSession, challenge: str) -> str:
        parameters = dict(_CHALLENGE.findall(challenge))
        if not challenge.lower().startswith("bearer ") or "realm" not in parameters:
            raise ImageUnavailable(f"{self._reference.host} wants credentials of a kind that is not supported")
        query = {key: parameters[key] for key in ("service", "scope") if key in parameters}
        async with session.get(parameters["realm"], params=query) as response:
            if response.status != 200:
                raise ImageUnavailable(f"{self._reference.host} gave no token: {response.status} {response.reason}")
            answer = await response.json()
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str):
            raise ImageUnavailable(f"{self._reference.host} gave no token in its answer")
        return token
