"""`ferrite metalbond routes|peers|monitor`: what a reflector knows and what changes, for people and scripts."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import grpc
import orjson
import typer
from google.protobuf.json_format import MessageToDict

from protos.metalbond.v1 import metalbond_pb2 as pb
from protos.metalbond.v1 import metalbond_pb2_grpc as pb_grpc
from services.common import logs
from services.common.grpc_client import grpc_channel
from services.common.tls import TlsFiles, tls_files
from services.metalbond.client import Change, ConnectionState, MetalbondClient, own_name
from services.metalbond.client_settings import parse_vni
from services.metalbond.routes import NextHop, NextHopType, Vni

DEFAULT_ADDRESS: Final = "unix:/run/ferrite/metalbond.sock"
PAGE: Final = 10_000
CALL_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.2

_TYPES: Final = {
    pb.NEXT_HOP_TYPE_STANDARD: "STANDARD",
    pb.NEXT_HOP_TYPE_NAT: "NAT",
    pb.NEXT_HOP_TYPE_LOADBALANCER_TARGET: "LOADBALANCER_TARGET",
}


class Output(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


Address = Annotated[
    str, typer.Option(help="gRPC door of the reflector: unix:/path or host:port", envvar="FERRITE_METALBOND_ADDRESS")
]
TlsCa = Annotated[str, typer.Option(help="PEM file with the authority of the server", envvar="FERRITE_TLS_CA")]
TlsCert = Annotated[str, typer.Option(help="PEM file with your certificate", envvar="FERRITE_TLS_CERT")]
TlsKey = Annotated[str, typer.Option(help="PEM file with your key", envvar="FERRITE_TLS_KEY")]
Format = Annotated[Output, typer.Option("--output", "-o", help="table, or JSON for scripts")]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The route reflector. `server` and `client` are processes (each takes --config FILE and --help); the commands"
    " below ask a running server.",
)


def main(arguments: list[str]) -> None:
    """Runs a command. Raises SystemExit with its code."""
    app(arguments, prog_name="ferrite metalbond")


@app.command("server", add_help_option=False)
@app.command("client", add_help_option=False)
def process() -> None:
    """A process; see its --help."""
    raise typer.Exit(2)  # never reached: processes are started before this module is loaded


@app.command()
def routes(
    vni: Annotated[str, typer.Option(help="only this virtual network")] = "",
    output: Format = Output.TABLE,
    address: Address = DEFAULT_ADDRESS,
    tls_ca: TlsCa = "",
    tls_cert: TlsCert = "",
    tls_key: TlsKey = "",
) -> None:
    """Lists the routes with the peers that they come from, sorted by VNI and destination."""
    only = _vni(vni) if vni else None
    _run(lambda: _routes(only, output, address, _tls(tls_ca, tls_cert, tls_key)))


@app.command()
def peers(
    output: Format = Output.TABLE,
    address: Address = DEFAULT_ADDRESS,
    tls_ca: TlsCa = "",
    tls_cert: TlsCert = "",
    tls_key: TlsKey = "",
) -> None:
    """Lists the sessions, and lost ones whose routes are kept."""
    _run(lambda: _peers(output, address, _tls(tls_ca, tls_cert, tls_key)))


@app.command()
def monitor(
    vnis: Annotated[list[str], typer.Argument(help="virtual networks to follow", metavar="VNI...")],
    server: Annotated[
        list[str],
        typer.Option(help="a reflector as for `client`: host:port[/grpc-port] or unix:/path; repeatable"),
    ] = [DEFAULT_ADDRESS],  # noqa: B006 (read by typer)
    output: Format = Output.TABLE,
    grpc_port: Annotated[int, typer.Option(help="gRPC port of servers that name none; 0 = TCP only")] = 0,
    tls_ca: TlsCa = "",
    tls_cert: TlsCert = "",
    tls_key: TlsKey = "",
) -> None:
    """Follows routes of virtual networks until interrupted: first those that exist, then every change."""
    followed = [Vni(_vni(vni)) for vni in vnis]
    _run(lambda: _monitor(followed, server, output, grpc_port, _tls(tls_ca, tls_cert, tls_key)))


async def _routes(only: int | None, output: Output, address: str, tls: TlsFiles | None) -> None:
    count = 0
    if output is Output.TABLE:
        print(f"{'VNI':>8}  {'DESTINATION':<43}  {'NEXT HOP':<39}  {'TYPE':<24}  SOURCES")
    async with _reflector(address, tls) as stub:
        request = pb.ListRoutesRequest(page_size=PAGE)
        if only is not None:
            request.vni = only
        while True:
            page = await stub.ListRoutes(request, timeout=CALL_SECONDS)
            if output is Output.TABLE:
                sys.stdout.write("".join(map(_line, page.routes)))
            else:
                _write_json(page.routes, first=count == 0)
            count += len(page.routes)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
    if output is Output.JSON:
        print("]" if count else "[]")


def _line(status: pb.RouteStatus) -> str:
    route, hop = status.route, status.route.next_hop
    kind = _TYPES.get(hop.type, "unknown")
    ports = f" {hop.nat_port_from}-{hop.nat_port_to}" if hop.type == pb.NEXT_HOP_TYPE_NAT else ""
    target = f" in VNI {hop.target_vni}" if hop.target_vni else ""
    sources = ", ".join(status.sources) + (" (stale)" if status.stale else "")
    return f"{route.vni:>8}  {route.destination:<43}  {hop.address + target:<39}  {kind + ports:<24}  {sources}\n"


def _write_json(page: Any, *, first: bool) -> None:
    rows = []
    for status in page:
        route, hop = status.route, status.route.next_hop
        row: dict[str, Any] = {
            "vni": route.vni,
            "destination": route.destination,
            "nextHop": {"address": hop.address, "type": _TYPES.get(hop.type, "unknown"), "targetVni": hop.target_vni},
            "sources": list(status.sources),
            "stale": status.stale,
        }
        if hop.type == pb.NEXT_HOP_TYPE_NAT:
            row["nextHop"] |= {"natPortFrom": hop.nat_port_from, "natPortTo": hop.nat_port_to}
        rows.append(orjson.dumps(row).decode())
    if rows:
        sys.stdout.write(("[" if first else ",\n") + ",\n".join(rows))


async def _peers(output: Output, address: str, tls: TlsFiles | None) -> None:
    async with _reflector(address, tls) as stub:
        listed = (await stub.ListPeers(pb.ListPeersRequest(), timeout=CALL_SECONDS)).peers
    if output is Output.JSON:
        print(orjson.dumps([MessageToDict(peer) for peer in listed], option=orjson.OPT_INDENT_2).decode())
        return
    rows = [("NAME", "STATE", "SINCE", "ROUTES", "VNIS", "PENDING", "IN", "OUT")]
    for peer in listed:
        since = peer.connected_at.ToDatetime().astimezone() if peer.HasField("connected_at") else None
        rows.append(
            (
                peer.name,
                pb.PeerState.Name(peer.state).removeprefix("PEER_STATE_").lower(),
                "" if since is None else f"{since:%Y-%m-%d %H:%M:%S}",
                str(peer.routes),
                str(len(peer.subscriptions)),
                str(peer.pending),
                str(peer.updates_received),
                str(peer.updates_sent),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


async def _monitor(vnis: list[Vni], servers: list[str], output: Output, grpc_port: int, tls: TlsFiles | None) -> None:
    logs.configure("warning", "text", service="metalbond-monitor")
    node = f"{own_name(tls)}/monitor-{socket.gethostname()}-{os.getpid()}"
    client = MetalbondClient(servers, node=node, hold=0, tls=tls, grpc_port=grpc_port)
    for vni in vnis:
        client.subscribe(vni)
    async with client, asyncio.TaskGroup() as tasks:
        tasks.create_task(_report_servers(client))
        async for change in client.changes():
            _report(change.kind, change.route.vni, str(change.route.destination), change.route.next_hop, output)


def _report(kind: Change, vni: Vni, destination: str, hop: NextHop, output: Output) -> None:
    now = datetime.now().astimezone()
    if output is Output.TABLE:
        sign = "+" if kind is Change.ADDED else "-"
        print(f"{now:%H:%M:%S.%f} {sign} VNI {vni}: {destination} via {hop}", flush=True)
        return
    known = hop.type in tuple(NextHopType)
    row: dict[str, Any] = {
        "time": now.isoformat(),
        "change": kind.value,
        "vni": vni,
        "destination": destination,
        "nextHop": {
            "address": str(hop.address),
            "type": NextHopType(hop.type).name if known else "unknown",
            "targetVni": hop.target_vni,
        },
    }
    if hop.nat_ports is not None:
        row["nextHop"] |= {"natPortFrom": hop.nat_ports[0], "natPortTo": hop.nat_ports[1]}
    print(orjson.dumps(row).decode(), flush=True)


async def _report_servers(client: MetalbondClient) -> None:
    told: dict[str, tuple[ConnectionState, str]] = {}
    while True:
        for name, status in client.servers.items():
            state = (status.state, status.error)
            if told.get(name) == state or (status.state is ConnectionState.CONNECTING and name in told):
                continue
            told[name] = state
            how = f" by {status.door}" if status.door else ""
            why = f": {status.error}" if status.error else ""
            print(f"# {name}: {status.state.value}{how}{why}", file=sys.stderr, flush=True)
        await asyncio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def _reflector(address: str, tls: TlsFiles | None) -> AsyncIterator[pb_grpc.RouteReflectorStub]:
    async with grpc_channel(address, tls=None if address.startswith("unix:") else tls) as channel:
        yield pb_grpc.RouteReflectorStub(channel)


def _run(command: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await command()

    try:
        asyncio.run(run())
    except grpc.aio.AioRpcError as error:
        _fail(f"{error.code().name}: {error.details()}", 1)
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `| head` has seen enough
            raise typer.Exit(0) from None
        _fail(str(error), 2)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _fail(text: str, code: int) -> None:
    print(f"ferrite metalbond: {text}", file=sys.stderr)
    raise typer.Exit(code)


def _tls(ca: str, cert: str, key: str) -> TlsFiles | None:
    return tls_files(ca, cert, key)


def _vni(text: str) -> int:
    try:
        return parse_vni(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
