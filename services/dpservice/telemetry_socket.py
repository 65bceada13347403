"""DPDK's telemetry socket (protocol v2): a greeting, then for each command one packet of JSON with what it asks for."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from services.common.logs import get_logger
from services.dpservice.figures import Device, Figures, counters, is_running
from services.dpservice.original_metrics import graph, heap, xstats

ANSWER_LIMIT: Final = 6 * 1024
"""The original's exporter reads that much of an answer, and DPDK too leaves out what does not fit."""
COMMAND_LIMIT: Final = 1024
CONNECTIONS: Final = 10  # as DPDK
DOWN: Final = {"status": "DOWN"}
NODES: Final = "Node_0_to_255"
log = get_logger(__name__)


class Telemetry:
    """Answers commands. Unknown ones, and those about what isn't there, are answered by null."""

    def __init__(self, figures: Figures, version: str) -> None:
        self._figures, self._version = figures, version
        self._commands: dict[str, Callable[[str], Any]] = {
            "/": lambda _: sorted(self._commands),
            "/info": lambda _: self.greeting(),
            "/eal/heap_list": lambda _: [0],
            "/eal/heap_info": lambda number: heap(figures) | {"Name": "tables"} if number == "0" else None,
            "/ethdev/list": lambda _: list(range(len(figures.devices))),
            "/ethdev/info": self._info,
            "/ethdev/link_status": self._link,
            "/ethdev/xstats": self._xstats,
            "/dp_service/graph/call_count": lambda _: {NODES: graph(figures)},
            "/dp_service/graph/obj_count": lambda _: {NODES: graph(figures)},
            # Neither is counted: packets are not worked through in bursts, nor by one thread.
            "/dp_service/graph/cycle_count": lambda _: {NODES: dict.fromkeys(graph(figures), 0)},
            "/dp_service/graph/realloc_count": lambda _: {NODES: dict.fromkeys(graph(figures), 0)},
            "/dp_service/nat/used_port_count": lambda _: {owner.id: owner.nat_ports for owner in figures.owners()},
            "/dp_service/firewall/rule_count": lambda _: {owner.id: owner.rules for owner in figures.owners()},
            "/dp_service/virtsvc/used_port_count": lambda _: figures.service_ports(),
            "/dp_service/table/saturation": lambda _: {
                name: {"capacity": capacity, "entries": entries}
                for name, (capacity, entries) in figures.original_tables().items()
            },
        }

    def greeting(self) -> dict[str, Any]:
        """What a client gets first."""
        return {"version": self._version, "pid": os.getpid(), "max_output_len": ANSWER_LIMIT}

    def answer(self, command: str) -> bytes:
        """`/name` or `/name,parameter`. Raises OSError."""
        name, _, parameter = command.partition(",")
        serve = self._commands.get(name)
        return fitted(name, serve(parameter) if serve else None)

    def _device(self, number: str) -> Device | None:
        known = number.isascii() and number.isdigit() and int(number) < len(self._figures.devices)
        return self._figures.devices[int(number)] if known else None

    def _info(self, number: str) -> Any:
        device = self._device(number)
        if device is None:
            return None
        return {"name": device.name, "port_id": int(number), "nb_rx_queues": 1, "nb_tx_queues": 1}

    def _link(self, number: str) -> Any:
        device = self._device(number)
        if device is None:
            return None
        try:
            return {"status": "UP", "duplex": "full-duplex"} if is_running(device.netdev) else DOWN
        except OSError:
            return DOWN

    def _xstats(self, number: str) -> Any:
        device = self._device(number)
        if device is None:
            return None
        return next((xstats(fields) for _, fields in counters([device])), {})


def fitted(name: str, value: Any) -> bytes:
    """The answer as JSON; of a dictionary that is too large, as many members as there is room for."""
    while True:
        text = json.dumps({name: value}, separators=(",", ":")).encode()
        if len(text) <= ANSWER_LIMIT or not isinstance(value, dict | list) or len(value) < 2:
            return text
        keep = max(1, len(value) * ANSWER_LIMIT // len(text) - 1)
        value = dict(list(value.items())[:keep]) if isinstance(value, dict) else value[:keep]


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    address_family = socket.AF_UNIX
    socket_type = socket.SOCK_SEQPACKET
    daemon_threads = True
    block_on_close = False

    def __init__(self, path: Path, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self.free = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(str(path), _Handler)  # type: ignore[arg-type]  # the address of this family is a path

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is no event."""


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        if not self.server.free.acquire(blocking=False):
            return
        try:
            telemetry: Telemetry = self.server.telemetry
            self.request.send(json.dumps(telemetry.greeting()).encode())
            while command := self.request.recv(COMMAND_LIMIT):
                self.request.send(telemetry.answer(command.decode(errors="replace").rstrip("\0\n")))
        finally:
            self.server.free.release()


@contextmanager
def telemetry_socket(path: Path | None, telemetry: Telemetry) -> Iterator[None]:
    """Serves while the context is open; nowhere without a path. Raises OSError, also when another process serves it."""
    if path is None:
        yield
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _clear(path)
    server = _Server(path, telemetry)
    path.chmod(0o600)
    threading.Thread(target=server.serve_forever, name="telemetry", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        path.unlink(missing_ok=True)


def _clear(path: Path) -> None:
    """Takes away the socket of a process that is gone."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as trying:
        try:
            trying.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            return
        else:
            raise OSError(f"{path}: another process serves it")
