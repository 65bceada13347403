"""The client's end of the gRPC door: one stream from its opening to its end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import grpc

from protos.metalbond.v1 import metalbond_pb2 as pb
from protos.metalbond.v1 import metalbond_pb2_grpc as pb_grpc
from services.common.addresses import split_address
from services.common.grpc_client import grpc_channel
from services.common.logs import get_logger
from services.common.tls import TlsFiles
from services.metalbond.client_state import Upstream
from services.metalbond.connection import Traffic, until_first
from services.metalbond.link import DoorRefused, DoorShut, SessionEnded
from services.metalbond.runs import Run, Splitter
from services.metalbond.wire import ProtocolError, Subscribe, Update

log = get_logger(__name__)

OPEN_SECONDS: Final = 5.0
WINDOW: Final = 32  # batches that the server may have on their way
BATCH_BYTES: Final = 64 * 1024
APPLIED_AT_ONCE: Final = 512  # updates, between which others of the process get their turn
SHORTEST_PING_SECONDS: Final = 5  # servers end connections that ping more often
PING_INTERVALS: Final = 1.5  # an answer to a ping may take so many; with the interval itself 2.5, as by TCP


class GrpcDoor:
    """`address` is `host:port` or `unix:/path`; `keepalive` and `hold` are in seconds; `node` is our name; a
    `reflector` says that it is one. `began` and
    `learned` are called when a session is established and whenever routes may have changed."""

    name: Final = "grpc"

    def __init__(
        self,
        address: str,
        tls: TlsFiles | None,
        *,
        keepalive: int,
        hold: int,
        node: str,
        began: Callable[[], None],
        learned: Callable[[], None],
        reflector: bool = False,
    ) -> None:
        self._address, self._tls = address, None if address.startswith("unix:") else tls
        ping = max(keepalive, SHORTEST_PING_SECONDS)
        patience = int(ping * PING_INTERVALS * 1000)
        self._options = (
            ("grpc.keepalive_time_ms", ping * 1000),
            ("grpc.keepalive_timeout_ms", patience),
            ("grpc.http2.ping_timeout_ms", patience),  # holds for keepalive pings too, and is a minute by default
            ("grpc.http2.max_pings_without_data", 0),  # no limit: by default the third waits for a minute
        )
        self._hello = pb.SessionHello(node=node, hold_seconds=hold, window=WINDOW, reflector=reflector)
        self._began, self._learned = began, learned
        self._session: _Session | None = None

    def wake(self) -> None:
        """The upstream has requests or something pending."""
        if self._session is not None:
            self._session.wake()

    async def session(self, upstream: Upstream, traffic: Traffic) -> None:
        """Serves one session; returns when the server closed it. Raises DoorShut when nobody offers sessions there,
        DoorRefused for an identity, ProtocolError, and SessionEnded for any other end."""
        try:
            channel = grpc_channel(self._address, tls=self._tls, options=self._options)
        except (OSError, ValueError) as error:
            raise DoorRefused(f"our certificate can't be used: {error}") from error
        async with channel:
            call = pb_grpc.RouteReflectorStub(channel).Session()
            try:
                window = await self._open(call)
                self._session = _Session(call, upstream, window, traffic, self._learned)
                upstream.begin(asyncio.get_running_loop().time(), marks=True, forgets=False)
                self._began()
                await self._session.run()
            except grpc.aio.AioRpcError as error:
                raise await self._explained(error, opened=self._session is not None) from error
            finally:
                self._session = None
                call.cancel()

    async def _open(self, call: Any) -> int:
        """Says hello; how many batches the server accepts unacknowledged."""
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await call.write(pb.SessionRequest(hello=self._hello))
                answer = await call.read()
        except TimeoutError as error:
            raise DoorShut(f"no answer within {OPEN_SECONDS:.0f} s") from error
        if answer is grpc.aio.EOF:
            raise DoorShut("closed without an answer")
        if answer.WhichOneof("frame") != "hello" or answer.hello.window < 1:
            raise ProtocolError("bad hello", "the first answer must be a hello with a window of at least 1")
        return int(answer.hello.window)

    async def _explained(self, error: grpc.aio.AioRpcError, *, opened: bool) -> Exception:
        code, details = error.code(), error.details() or ""
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return DoorRefused(f"grpc: {code.name}: {details}")
        if opened or code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED):
            return SessionEnded(f"grpc {code.name.lower()}", details)
        if self._tls is not None and code is grpc.StatusCode.UNAVAILABLE and (reason := await self._tls_trouble()):
            return DoorRefused(f"grpc: TLS: {reason}")
        return DoorShut(details)

    async def _tls_trouble(self) -> str:
        """Why TLS with the server fails, which gRPC does not tell; empty when it is something else."""
        assert self._tls is not None
        context = self._tls.client_context()
        context.set_alpn_protocols(["h2"])
        host, port = split_address(self._address)
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
                try:
                    # By TLS 1.3 the server looks at our certificate after our side of the handshake is done.
                    if not await reader.read(1):
                        return "the server closed the connection when it had seen our certificate"
                finally:
                    writer.close()
        except ssl.SSLError as error:
            return error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else str(error)
        except OSError:
            pass  # TimeoutError among them
        return ""


class _Session:
    def __init__(
        self, call: Any, upstream: Upstream, window: int, traffic: Traffic, learned: Callable[[], None]
    ) -> None:
        self._call, self._upstream, self._window = call, upstream, window
        self._traffic, self._learned = traffic, learned
        self._clock = asyncio.get_running_loop().time
        self._pending = upstream.open()
        self._awake = asyncio.Event()
        self._sent = self._confirmed = 0  # our batches
        self._applied = self._acknowledged = 0  # the server's
        self._announced_all = False

    async def run(self) -> None:
        await until_first(self._read(), self._write_forever())

    def wake(self) -> None:
        self._awake.set()

    async def _read(self) -> None:
        while (response := await self._call.read()) is not grpc.aio.EOF:
            match response.WhichOneof("frame"):
                case "batch":
                    await self._apply(response.batch)
                case "table_end":
                    self._upstream.table_end(response.table_end.vni)
                case "acknowledge":
                    if not self._confirmed <= response.acknowledge <= self._sent:
                        raise ProtocolError("bad acknowledgement", f"{response.acknowledge} of {self._sent} batches")
                    self._confirmed = response.acknowledge
                case "refusal":
                    self._upstream.refused(response.refusal.vni, response.refusal.announcing, response.refusal.reason)
                case "hello":
                    raise ProtocolError("out of place", "a second hello")
                case _:
                    continue  # of a newer server
            self._awake.set()

    async def _apply(self, batch: pb.RouteBatch) -> None:
        if batch.sequence != self._applied + 1:
            raise ProtocolError("bad batch", f"number {batch.sequence} follows {self._applied}")
        splitter, count = Splitter(), 0
        try:
            for run in splitter.feed(batch.updates):
                if not isinstance(run, Run):
                    raise ProtocolError("bad batch", f"a {type(run).__name__} among its updates")
                for route in run.routes:
                    self._upstream.receive(Update(run.removed, run.vni, route), self._clock())
                    count += 1
                    if count % APPLIED_AT_ONCE == 0:
                        self._learned()
                        await asyncio.sleep(0)
        finally:
            self._traffic.updates_in += count
            self._learned()
        if splitter.incomplete:
            raise ProtocolError("bad batch", "its end cuts a frame")
        self._traffic.bytes_in += len(batch.updates)
        self._applied = batch.sequence

    async def _write_forever(self) -> None:
        while True:
            self._awake.clear()
            requests = self._upstream.requests(self._clock())
            for request in requests:
                await self._write(
                    pb.SessionRequest(subscribe=request.vni)
                    if isinstance(request, Subscribe)
                    else pb.SessionRequest(unsubscribe=request.vni)
                )
            await self._acknowledge()
            if not (requests or await self._write_batch()):
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._upstream.next_request):
                        await self._awake.wait()

    async def _acknowledge(self) -> None:
        if self._acknowledged < self._applied:
            self._acknowledged = self._applied
            await self._write(pb.SessionRequest(acknowledge=self._acknowledged))

    async def _write_batch(self) -> bool:
        """Whether something was written, so that there may be more."""
        if self._pending and self._sent - self._confirmed < self._window:
            frames = self._pending.take_frames(BATCH_BYTES)
            updates = b"".join(frames)
            self._sent += 1
            await self._write(pb.SessionRequest(batch=pb.RouteBatch(sequence=self._sent, updates=updates)))
            self._traffic.updates_out += len(frames)
            self._traffic.bytes_out += len(updates)
            return True
        if not self._pending and not self._announced_all:
            self._announced_all = True
            await self._write(pb.SessionRequest(announced_all=True))
        return False

    async def _write(self, request: pb.SessionRequest) -> None:
        await self._call.write(request)
