"""The gRPC door's sessions: one bidirectional stream carries batches of the frames that the TCP protocol has."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from protos.metalbond.v1 import metalbond_pb2 as pb
from services.common.logs import get_logger
from services.metalbond.connection import MAX_CONTROL_FRAMES, Traffic
from services.metalbond.routes import Vni, check_vni
from services.metalbond.runs import Run, Splitter, net
from services.metalbond.server.hub import PEER_CLOSED, STALL_SECONDS, Hub
from services.metalbond.server.policy import Rule
from services.metalbond.server.reflector import Peer
from services.metalbond.session import HANDSHAKE_SECONDS, SessionExpired, State
from services.metalbond.wire import ProtocolError

log = get_logger(__name__)

WINDOW: Final = 64  # batches that a peer may send before we acknowledge any
MAX_WINDOW: Final = 256
BATCH_BYTES: Final = 256 * 1024
MAX_BATCH_BYTES: Final = 1024 * 1024
LAST_WRITE_SECONDS: Final = 1.0
MAX_NODE: Final = 253  # characters; a DNS name has no more (RFC 1035 section 2.3.4)


class StreamPeer:
    """One stream after its hello."""

    door: Final = "grpc"
    keepalive: Final = 0
    state: Final = State.ESTABLISHED

    def __init__(self, hub: Hub, name: str, origin: str, hello: pb.SessionHello, rule: Rule) -> None:
        grace = min(float(hello.hold_seconds), hub.reflector.max_grace)
        self.peer = Peer(name, address_of(hello), reflector=hello.reflector, grace=grace)
        self.origin = origin
        self.rule = rule
        self.connected_at = time.time()
        self.traffic = Traffic()
        self._hub = hub
        self._clock = asyncio.get_running_loop().time
        self._window = min(hello.window, MAX_WINDOW)
        self._control: deque[pb.SessionResponse] = deque()
        self._received = self._acknowledged_by_us = 0
        self._sent = self._acknowledged = 0
        self._stalled_since: float | None = None  # no acknowledgement
        self._writing_since: float | None = None
        self._awake = asyncio.Event()
        self._stopping = False
        self._ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(pb.SessionResponse(hello=pb.SessionHello(node=hub.node, window=WINDOW, reflector=True)))

    async def serve(self, requests: AsyncIterator[pb.SessionRequest], context: Any) -> str:
        """Serves the peer to the end of its stream and says why it ended. Raises ProtocolError, SessionExpired and,
        when the connection is gone, OSError."""
        reading = asyncio.create_task(self._read(requests), name="metalbond stream reads")
        writing = asyncio.create_task(self._write(context), name="metalbond stream writes")
        try:
            await asyncio.wait({reading, writing, self._ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
            await self._stop_writing(writing)
            await asyncio.gather(reading, writing, return_exceptions=True)
        for ended in (self._ending, reading, writing):
            if ended.done() and not ended.cancelled():
                ended.result()
        return PEER_CLOSED

    def flush(self) -> None:
        """Something waits to be written."""
        self._awake.set()

    def check(self, now: float) -> None:
        """Ends a session whose peer acknowledges or reads nothing."""
        if self._stalled_since is not None and now - self._stalled_since > STALL_SECONDS:
            self.end("stalled", f"nothing acknowledged for {STALL_SECONDS:.0f} s")
        if self._writing_since is not None and now - self._writing_since > STALL_SECONDS:
            self.end("stalled", f"the peer read nothing for {STALL_SECONDS:.0f} s")

    def end(self, cause: str, detail: str) -> None:
        """Ends the stream."""
        if not self._ending.done():
            self._ending.set_exception(SessionExpired(cause, detail))

    def refuse(self, vni: Vni, *, announcing: bool, reason: str) -> None:
        """Tells the peer what it may not do."""
        # The hub bounds how often; one batch may ask for more at once than a peer may leave unread.
        self._control.append(pb.SessionResponse(refusal=pb.Refusal(vni=vni, announcing=announcing, reason=reason)))
        self._awake.set()

    async def _stop_writing(self, writing: asyncio.Task[None]) -> None:
        # A write that is cut short leaves the call in a state in which gRPC can't end it properly.
        self._stopping = True
        self._awake.set()
        await asyncio.wait({writing}, timeout=LAST_WRITE_SECONDS)
        writing.cancel()

    async def _read(self, requests: AsyncIterator[pb.SessionRequest]) -> None:
        async for request in requests:
            if self._ending.done():
                return
            self.traffic.bytes_in += request.ByteSize()
            try:
                self._receive(request)
            finally:
                self._hub.changed()
            self._awake.set()
            await asyncio.sleep(0)  # a stream that always has a message would otherwise never suspend

    def _receive(self, request: pb.SessionRequest) -> None:
        match request.WhichOneof("frame"):
            case "batch":
                self._batch(request.batch)
            case "subscribe":
                self._hub.subscribe(self, _vni(request.subscribe))
            case "unsubscribe":
                self._hub.reflector.unsubscribe(self.peer, _vni(request.unsubscribe))
            case "refresh":
                self._hub.reflector.refresh(self.peer, _vni(request.refresh))
            case "announced_all":
                self._hub.reflector.announced_all(self.peer, self._clock())
            case "acknowledge":
                if not self._acknowledged <= request.acknowledge <= self._sent:
                    raise ProtocolError("bad acknowledge", f"{request.acknowledge}, but {self._sent} batches were sent")
                self._acknowledged, self._stalled_since = request.acknowledge, None
            case "hello":
                raise ProtocolError("out of place", "a second hello")
            case _:
                raise ProtocolError("bad frame", "nothing that this server knows is set")

    def _batch(self, batch: pb.RouteBatch) -> None:
        if batch.sequence != self._received + 1:
            raise ProtocolError("bad batch", f"sequence: {batch.sequence} follows {self._received}")
        if len(batch.updates) > MAX_BATCH_BYTES:
            raise ProtocolError("bad batch", f"updates: {len(batch.updates)} bytes, more than {MAX_BATCH_BYTES}")
        now, splitter = self._clock(), Splitter()
        runs: list[Run] = []
        try:
            for run in splitter.feed(batch.updates):
                if not isinstance(run, Run):
                    raise ProtocolError("bad batch", f"updates: a {type(run).__name__.upper()} among them")
                self.traffic.updates_in += len(run.routes)
                runs.append(run)
        finally:  # also what came before a bad frame
            for run in net(runs):
                self._hub.apply(self, run, now)
        if splitter.incomplete:
            raise ProtocolError("bad batch", "updates: end inside a frame")
        self._received = batch.sequence

    def _put(self, response: pb.SessionResponse) -> None:
        if len(self._control) > MAX_CONTROL_FRAMES:
            raise ProtocolError("does not read", f"{len(self._control)} answers wait to be read")
        self._control.append(response)
        self._awake.set()

    async def _write(self, context: Any) -> None:
        while not self._stopping:
            self._awake.clear()
            while not self._stopping and (responses := self._responses()):
                for response in responses:
                    self.traffic.bytes_out += response.ByteSize()
                    self._writing_since = self._clock()
                    await _write(context, response)
                    self._writing_since = None
                self.traffic.updates_out = self.peer.told
            await self._awake.wait()

    def _responses(self) -> list[pb.SessionResponse]:
        responses = list(self._control)
        self._control.clear()
        if self._acknowledged_by_us < self._received:
            self._acknowledged_by_us = self._received
            responses.append(pb.SessionResponse(acknowledge=self._received))
        if not self.peer.ready:
            return responses
        if self._sent - self._acknowledged >= self._window:
            self._stalled_since = self._stalled_since or self._clock()
            return responses
        buffers, complete = self.peer.take(BATCH_BYTES, self._hub.observe)
        if buffers:
            self._sent += 1
            batch = pb.RouteBatch(sequence=self._sent, updates=b"".join(buffers))
            responses.append(pb.SessionResponse(batch=batch))
        responses += [pb.SessionResponse(table_end=pb.TableEnd(vni=vni)) for vni in complete]
        return responses


def address_of(hello: pb.SessionHello) -> str:
    """What a returning peer is recognised by."""
    return f"node {hello.node}"


async def first_hello(requests: AsyncIterator[pb.SessionRequest]) -> pb.SessionHello:
    """What the peer opens with. Raises ProtocolError for anything but a usable hello, and SessionExpired for none."""
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            request = await anext(aiter(requests))
    except TimeoutError as error:
        raise SessionExpired("handshake timeout", f"no hello for {HANDSHAKE_SECONDS:.0f} s") from error
    except StopAsyncIteration as error:
        raise ProtocolError("out of place", "the stream ended before a hello") from error
    if request.WhichOneof("frame") != "hello":
        raise ProtocolError("out of place", "a session begins with hello")
    hello = request.hello
    if not 0 < len(hello.node) <= MAX_NODE or not hello.node.isprintable():
        raise ProtocolError("bad hello", f"node: must be a name of up to {MAX_NODE} characters")
    if hello.window < 1:
        raise ProtocolError("bad hello", "window: must be at least 1")
    return hello


async def _write(context: Any, response: pb.SessionResponse) -> None:
    try:
        await context.write(response)
    except Exception as error:  # gRPC has several for a stream that is gone
        raise ConnectionResetError(f"{type(error).__name__}: {error}") from error


def status_of(error: Exception) -> grpc.StatusCode:
    """The code with which a session ends."""
    if isinstance(error, ProtocolError):
        return grpc.StatusCode.INVALID_ARGUMENT
    cause = error.cause if isinstance(error, SessionExpired) else ""
    return {
        "server stopped": grpc.StatusCode.UNAVAILABLE,
        "replaced": grpc.StatusCode.ABORTED,
        "too far behind": grpc.StatusCode.RESOURCE_EXHAUSTED,
        "": grpc.StatusCode.INTERNAL,
    }.get(cause, grpc.StatusCode.DEADLINE_EXCEEDED)


def _vni(number: int) -> Vni:
    try:
        return check_vni(number)
    except ValueError as error:
        raise ProtocolError("bad subscription", str(error)) from error
