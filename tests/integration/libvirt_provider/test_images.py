"""The image cache against a registry over HTTP and layouts on disk."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from services.libvirt_provider.images.cache import Image, ImageCache, PullFailed
from tests.support.eventually import eventually

PREFIX = "application/vnd.ironcore.image."
ROOTFS = bytes(range(256)) * 8192  # 2 MiB


def put(layout: Path, content: bytes, media_type: str) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    (layout / "blobs" / "sha256" / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def make_layout(directory: Path, rootfs: bytes = ROOTFS) -> tuple[Path, str]:
    """A layout with the tag v1, an index of platforms; returns it and the manifest's digest."""
    (directory / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    config = put(directory, b'{"commandLine": "quiet"}', f"{PREFIX}config.v1+json")
    layers = [put(directory, rootfs, f"{PREFIX}rootfs")]
    manifest = put(directory, json.dumps({"config": config, "layers": layers}).encode(), "m")
    entry = manifest | {"platform": {"os": "linux", "architecture": "amd64"}}
    platforms = put(directory, json.dumps({"manifests": [entry]}).encode(), "i")
    tagged = platforms | {"annotations": {"org.opencontainers.image.ref.name": "v1"}}
    (directory / "index.json").write_text(json.dumps({"manifests": [tagged]}))
    return directory, str(manifest["digest"])


@dataclass
class Registry:
    """Serves a layout as the repository team/image; wants a token; can cut answers short."""

    layout: Path
    host: str = ""
    requests: list[str] = field(default_factory=list)
    cut_after: int | None = None

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path)
        if request.headers.get("Authorization") != "Bearer secret":
            challenge = f'Bearer realm="http://{self.host}/token",service="test",scope="pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        wanted = request.match_info["reference"]
        if wanted == "v1":
            wanted = json.loads((self.layout / "index.json").read_text())["manifests"][0]["digest"]
        path = self.layout / "blobs" / Path(*wanted.split(":"))
        return web.FileResponse(path) if path.exists() else web.Response(status=404)

    async def blob(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.path} {request.headers.get('Range', '')}".strip())
        path = self.layout / "blobs" / Path(*request.match_info["digest"].split(":"))
        if self.cut_after is None:
            return web.FileResponse(path)
        content = path.read_bytes()
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[: self.cut_after])
        assert request.transport is not None
        request.transport.close()
        return response

    async def token(self, request: web.Request) -> web.Response:
        return web.json_response({"token": "secret"})


@pytest_asyncio.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    serving = Registry(make_layout(tmp_path / "remote")[0])
    application = web.Application()
    application.router.add_get("/token", serving.token)
    application.router.add_get("/v2/team/image/manifests/{reference}", serving.manifest)
    application.router.add_get("/v2/team/image/blobs/{digest}", serving.blob)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    serving.host = f"127.0.0.1:{runner.addresses[0][1]}"
    yield serving
    await runner.cleanup()


def cache_for(tmp_path: Path, *hosts: str) -> ImageCache:
    cache = ImageCache(tmp_path / "cache", frozenset(hosts))
    cache.prepare()
    return cache


async def pulled(cache: ImageCache, reference: str) -> Image | PullFailed:
    async def outcome() -> Image | PullFailed | None:
        return cache.pull(reference)

    found: Image | PullFailed = await eventually(outcome, 20, lambda: reference)
    return found


async def test_concurrent_pulls_are_one(tmp_path: Path, registry: Registry) -> None:
    cache = cache_for(tmp_path, registry.host)
    reference = f"{registry.host}/team/image:v1"
    first, second = await asyncio.gather(pulled(cache, reference), pulled(cache, reference))
    assert isinstance(first, Image)
    assert first is second
    assert first.rootfs is not None
    assert first.rootfs.read_bytes() == ROOTFS
    assert first.command_line == "quiet"
    assert len([path for path in registry.requests if "/blobs/" in path]) == 2
    assert await cache.known(first.digest) == first


async def test_a_cut_pull_goes_on_where_it_ended(tmp_path: Path, registry: Registry) -> None:
    cache = cache_for(tmp_path, registry.host)
    reference = f"{registry.host}/team/image:v1"
    registry.cut_after = 1 << 20
    assert isinstance(await pulled(cache, reference), PullFailed)
    registry.cut_after = None
    image = await pulled(cache_for(tmp_path, registry.host), reference)  # another process, the same directory
    assert isinstance(image, Image)
    assert image.rootfs is not None
    assert image.rootfs.read_bytes() == ROOTFS
    assert any("bytes=" in path for path in registry.requests)


def no_blob(layout: Path) -> None:
    for path in (layout / "blobs" / "sha256").iterdir():
        if path.stat().st_size == len(ROOTFS):
            path.unlink()


def other_bytes(layout: Path) -> None:
    for path in (layout / "blobs" / "sha256").iterdir():
        if path.stat().st_size == len(ROOTFS):
            path.write_bytes(bytes(len(ROOTFS)))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(no_blob, "404", id="a blob is missing"),
        pytest.param(other_bytes, "another digest", id="a blob was replaced"),
        pytest.param(shutil.rmtree, "404|500", id="everything is gone"),
    ],
)
@pytest.mark.parametrize("kind", ["registry", "layout"])
async def test_a_damaged_image_is_refused(
    tmp_path: Path, registry: Registry, damage: Callable[[Path], None], says: str, kind: str
) -> None:
    damage(registry.layout)
    cache = cache_for(tmp_path, registry.host)
    reference = f"{registry.host}/team/image:v1" if kind == "registry" else f"oci-layout:{registry.layout}:v1"
    outcome = await pulled(cache, reference)
    assert isinstance(outcome, PullFailed)
    assert kind == "layout" or any(word in outcome.message for word in says.split("|"))


async def test_the_last_known_image_serves_while_the_source_is_away(tmp_path: Path) -> None:
    layout, digest = make_layout(tmp_path / "layout")
    image = await pulled(cache_for(tmp_path), f"oci-layout:{layout}:v1")
    assert isinstance(image, Image)
    assert image.digest == digest
    shutil.rmtree(layout)
    assert await pulled(cache_for(tmp_path), f"oci-layout:{layout}:v1") == image


async def test_a_moved_tag_is_seen(tmp_path: Path) -> None:
    layout, before = make_layout(tmp_path / "layout")
    first = await pulled(cache_for(tmp_path), f"oci-layout:{layout}:v1")
    _, after = make_layout(tmp_path / "layout", rootfs=b"another disk")
    second = await pulled(cache_for(tmp_path), f"oci-layout:{layout}:v1")
    assert isinstance(first, Image)
    assert isinstance(second, Image)
    assert (first.digest, second.digest) == (before, after)
