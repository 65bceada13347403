"""The status page: a live table for people, and the original's JSON and YAML for programs.

    /             page that refreshes itself
    /routes.json  all routes in the original's shape; ?vni=N for one network
    /routes.yaml  the same as YAML
    /status.json  what the page shows: peers, and the first routes that match its filters

It is plain HTTP without authentication, as the original's is: bind it to an address that only operators reach.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from ipaddress import ip_network
from itertools import groupby
from typing import Any, Final, Protocol

import orjson
import yaml
from aiohttp import web

from services.common.addresses import join_address, split_address
from services.metalbond.client import MetalbondClient
from services.metalbond.routes import NextHop, Route, Vni, check_vni

SHOWN_ROUTES: Final = 500
ROUTES_AT_ONCE: Final = 500  # converted between two turns of others
MOST_TABLES: Final = 4  # told at once; each holds a network's routes in words, some 400 bytes a route
WRITE_SECONDS: Final = 30.0


class StatusSource(Protocol):
    """What the page is about."""

    @property
    def title(self) -> str:
        """Which side it is."""

    def vnis(self) -> list[Vni]:
        """VNIs that have routes."""

    def count(self, vni: Vni) -> int:
        """How many routes a VNI has."""

    def routes(self, vni: Vni) -> Iterator[Route]:
        """Received routes of a VNI, as they are when the iteration begins."""

    def peers(self) -> list[dict[str, Any]]:
        """One row for each session: name and what else there is to say, flat."""


class ClientSource:
    """A client's view."""

    title: Final = "client"

    def __init__(self, client: MetalbondClient) -> None:
        self._client = client

    def vnis(self) -> list[Vni]:
        """VNIs of which something was learned."""
        return sorted(self._client.vnis)

    def count(self, vni: Vni) -> int:
        """Learned routes of the VNI, hidden ones included."""
        return self._client.count(vni)

    def routes(self, vni: Vni) -> Iterator[Route]:
        """Learned routes of the VNI."""
        return self._client.iterate(vni)

    def peers(self) -> list[dict[str, Any]]:
        """The servers."""
        return [
            {
                "name": name,
                "state": status.state.value,
                "door": status.door,
                "routes": status.routes,
                "pending": status.pending,
                "updates in": status.traffic.updates_in,
                "updates out": status.traffic.updates_out,
                "sessions": sum(status.ends.sessions.values()),
                "error": status.error,
            }
            for name, status in self._client.servers.items()
        ]


@asynccontextmanager
async def status_server(listen: str, source: StatusSource) -> AsyncIterator[str]:
    """Serves the page while the context is open and yields the bound address. Raises ValueError and OSError."""
    host, port = split_address(listen)
    pages = _Pages(source)
    application = web.Application()
    application.add_routes(
        [
            web.get("/", pages.page),
            web.get("/routes.json", pages.routes_json),
            web.get("/routes.yaml", pages.routes_yaml),
            web.get("/status.json", pages.status_json),
        ]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host or None, port).start()
        yield join_address(host, runner.addresses[0][1])
    finally:
        await runner.cleanup()


class _Told(web.StreamResponse):
    """A long answer. One that nobody reads ends with TimeoutError, and its connection with it."""

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        async with asyncio.timeout(WRITE_SECONDS):
            await super().write(data)


class _Pages:
    def __init__(self, source: StatusSource) -> None:
        self._source = source
        self._tables = 0
        self._page = files("services.metalbond").joinpath("status.html").read_text().replace("TITLE", source.title)

    async def page(self, request: web.Request) -> web.Response:
        return web.Response(
            text=self._page,
            content_type="text/html",
            headers={"Content-Security-Policy": "default-src 'self' 'unsafe-inline'"},
        )

    async def status_json(self, request: web.Request) -> web.Response:
        vnis = self._asked(request)
        text = request.query.get("text", "")
        rows: list[dict[str, Any]] = []
        for vni in vnis:
            for count, route in enumerate(self._source.routes(vni)):
                if len(rows) >= SHOWN_ROUTES:
                    break
                if count % ROUTES_AT_ONCE == 0:
                    await asyncio.sleep(0)
                row = {"vni": vni, "destination": str(route.destination), "hop": str(route.next_hop)}
                if text in row["destination"] or text in row["hop"]:  # type: ignore[operator]
                    rows.append(row)
        body = {
            "date": _now(),
            "version": _version(),
            "peers": self._source.peers(),
            "vnis": {str(vni): self._source.count(vni) for vni in self._source.vnis()},
            "routes": rows,
            "shown": SHOWN_ROUTES,
        }
        return web.Response(body=orjson.dumps(body), content_type="application/json")

    async def routes_json(self, request: web.Request) -> web.StreamResponse:
        response = _Told(headers={"Content-Type": "application/json"})
        vnis = self._asked(request)
        with self._turn():
            await response.prepare(request)
            await self._tell_json(response, vnis)
            await response.write_eof()
        return response

    async def routes_yaml(self, request: web.Request) -> web.StreamResponse:
        response = _Told(headers={"Content-Type": "text/yaml"})
        vnis = self._asked(request)
        with self._turn():
            await response.prepare(request)
            await self._tell_yaml(response, vnis)
            await response.write_eof()
        return response

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._tables >= MOST_TABLES:
            raise web.HTTPServiceUnavailable(text="too many ask for the table at once\n", headers={"Retry-After": "5"})
        self._tables += 1
        try:
            yield
        finally:
            self._tables -= 1

    async def _tell_json(self, response: web.StreamResponse, vnis: list[Vni]) -> None:
        await response.write(f'{{\n  "date": {json.dumps(_now())},\n  "vnet": {{'.encode())
        for index, vni in enumerate(vnis):
            await response.write(f'{"," if index else ""}\n    "{vni}": {{'.encode())
            separator = ""
            async for part in self._destinations(vni):
                lines = (
                    f"\n      {json.dumps(_key(destination))}: {_indented([_shown(hop) for hop in hops])}"
                    for destination, hops in part
                )
                await response.write((separator + ",".join(lines)).encode())
                separator = ","
            await response.write(b"\n    }")
        await response.write(f'\n  }},\n  "metalbondVersion": {json.dumps(_version())}\n}}\n'.encode())

    async def _tell_yaml(self, response: web.StreamResponse, vnis: list[Vni]) -> None:
        await response.write(yaml.safe_dump({"date": _now()}).encode())
        await response.write(b"vnet:\n" if vnis else b"vnet: {}\n")
        for vni in vnis:
            await response.write(f"    {vni}:\n".encode())
            async for part in self._destinations(vni):
                lines = []
                for destination, hops in part:
                    lines.append(f"        {json.dumps(_key(destination))}:\n")
                    for hop in hops:
                        fields = "".join(
                            f"              {k.lower()}: {json.dumps(v)}\n" for k, v in _shown(hop).items()
                        )
                        lines.append(f"            - {fields.lstrip()}")
                await response.write("".join(lines).encode())
        await response.write(yaml.safe_dump({"metalbondversion": _version()}).encode())

    def _asked(self, request: web.Request) -> list[Vni]:
        only = request.query.get("vni", "")
        if not only:
            return self._source.vnis()
        try:
            vni = check_vni(int(only))
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"vni: {error}\n") from None
        return [vni] if vni in self._source.vnis() else []

    async def _destinations(self, vni: Vni) -> AsyncIterator[list[tuple[str, list[NextHop]]]]:
        """Destinations with their hops, some at a time, both sorted by their text."""
        routes: list[tuple[str, str, NextHop]] = []
        for count, route in enumerate(self._source.routes(vni)):
            routes.append((str(route.destination), str(route.next_hop), route.next_hop))
            if count % ROUTES_AT_ONCE == 0:
                await asyncio.sleep(0)
        routes.sort(key=lambda row: row[:2])
        part = []
        for destination, rows in groupby(routes, key=lambda row: row[0]):
            part.append((destination, [hop for _, _, hop in rows]))
            if len(part) >= ROUTES_AT_ONCE:
                yield part
                part = []
                await asyncio.sleep(0)
        if part:
            yield part


def _key(destination: str) -> str:
    network = ip_network(destination)
    return json.dumps({"IPVersion": network.version, "Prefix": destination}, separators=(",", ":"))


def _shown(hop: NextHop) -> dict[str, Any]:
    first, last = hop.nat_ports or (0, 0)
    return {
        "TargetAddress": str(hop.address),
        "TargetVNI": hop.target_vni,
        "Type": int(hop.type),
        "NATPortRangeFrom": first,
        "NATPortRangeTo": last,
    }


def _indented(hops: list[dict[str, Any]]) -> str:
    return json.dumps(hops, indent=2).replace("\n", "\n      ")


def _now() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")


def _version() -> str:
    try:
        return version("ferrite")
    except PackageNotFoundError:
        return "development"
