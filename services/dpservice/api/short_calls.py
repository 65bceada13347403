"""Short unary calls, answered by the thread in which gRPC's synchronous server hears of them.

gRPC hands every call to a thread of its pool, which asks for the message and sleeps until the serving thread has it:
three changes of thread, each of which waits for the interpreter's lock, and locks and conditions for each call. Here
the serving thread itself asks for the message and answers it, which takes a fifth of the time (docs/performance.md).
A call that is answered so holds up all others, so this is for work that neither waits nor grows with the tables; when
it would have to wait for another call, it does that in a thread.

Before it answers, the thread hears of the calls that are there already: whoever has many in flight gets some answers
at a time, which wakes it less often, and code that has just run runs faster again.

gRPC has no public way for this. Its server takes any callable as the tag of an event, a call in its set of states
is one that it waits for when it stops, and what its serving thread does with one event is a function: that is all that
is used, and only with releases where it is known to be so. With others the same handlers run on threads.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Sequence
from concurrent import futures
from contextvars import Context
from typing import Any, Final, NoReturn

import grpc
from grpc import _server
from grpc._cython import cygrpc

from services.common.logs import get_logger

log = get_logger(__name__)

KNOWN_RELEASES: Final = ("1.85.",)
UNFINISHED: Final = (None, ())  # what gRPC's server takes for: this call goes on
EVENTS_AT_ONCE: Final = 64  # a call has four: it comes, its message comes, its client has done, its answer has gone
_NONE_LEFT: Final = cygrpc.CompletionType.queue_timeout
_RECEIVE_CLOSE: Final = cygrpc.ReceiveCloseOnServerOperation
_RECEIVE_MESSAGE: Final = cygrpc.ReceiveMessageOperation
Details = namedtuple("Details", ("method", "invocation_metadata"))


def supported() -> bool:
    """Is this gRPC's release one whose server is known?"""
    return bool(grpc.__version__.startswith(KNOWN_RELEASES))


class ShortCalls:
    """`busy` says that a call would have to wait for another one. Methods are added before the server starts."""

    def __init__(
        self, server: grpc.Server, interceptors: Sequence[grpc.ServerInterceptor], busy: Callable[[], bool]
    ) -> None:
        self.busy, self.interceptors = busy, interceptors
        self.threads = futures.ThreadPoolExecutor(1, "grpc-waiting")  # Python code runs on one at a time
        self._server, self._state = server, server._state
        self._methods: dict[str, Any] = {}
        self._unanswered: list[tuple[_Call, bytes]] = []

    def add(self, path: str, handler: Any) -> None:
        """A unary method `/package.Service/Method`."""
        self._server._cy_server.register_method(path)
        self._methods[path] = handler

    def start(self) -> None:
        """Takes calls; after the server's own start."""
        for path, handler in self._methods.items():
            self.expect(path, handler)

    def expect(self, path: str, handler: Any) -> None:
        """Takes one more call of a method, unless the server is being stopped."""
        state = self._state
        with state.lock:
            if state.stage is _server._ServerStage.STARTED:
                call = _Call(self, path, handler)
                state.rpc_states.add(call)
                queue = state.completion_queue
                state.server.request_registered_call(queue, queue, path, call.begun)

    def answer(self, call: _Call, message: bytes) -> None:
        """Answers a call, and others that have come meanwhile."""
        unanswered, state = self._unanswered, self._state
        unanswered.append((call, message))
        if len(unanswered) > 1:  # one below us on the stack hears of them
            return
        for _ in range(EVENTS_AT_ONCE):
            event = state.completion_queue.poll(0)
            if event.completion_type == _NONE_LEFT:
                break
            _server._process_event_and_continue(state, event)  # goes on: a call waits for its answer
            del event  # as gRPC's own loop does: it may hold the last reference to a call
        self._unanswered, busy = [], False
        for call, message in unanswered:
            busy = busy or self.busy()
            if busy:
                self.threads.submit(call.answer, message)
            else:
                call.answer(message)


class _Aborted(Exception):
    """The handler ended the call by its context."""


class _Call:
    """One call from before it comes to its end, and its handler's context.

    What gRPC calls runs in the serving thread and returns what its server wants to know: the call, when it is over.
    """

    __slots__ = ("_awaited", "_call", "_calls", "_cancelled", "_code", "_details", "_handler", "_metadata",
                 "_path")  # fmt: skip

    def __init__(self, calls: ShortCalls, path: str, handler: Any) -> None:
        self._calls, self._path, self._handler = calls, path, handler
        self._awaited = 2  # the end of the client's side, and that our answer has gone
        self._cancelled = False

    # What gRPC calls

    def begun(self, event: Any) -> tuple[Any, Any]:
        """A call has come, or the server is being stopped."""
        if not event.success:
            return self, ()
        self._calls.expect(self._path, self._handler)
        self._call = event.call
        self._metadata = event.invocation_metadata
        self._call.start_server_batch((_RECEIVE_CLOSE(0),), self.closed)
        self._call.start_server_batch((_RECEIVE_MESSAGE(0),), self.received)
        return UNFINISHED

    def received(self, event: Any) -> tuple[Any, Any]:
        """The message is there, or there is none."""
        message = event.batch_operations[0].message()
        if message is None:
            self._send(cygrpc.StatusCode.unimplemented, f'"{self._path}" requires exactly one request message.')
        else:
            self._calls.answer(self, message)
        return UNFINISHED

    def closed(self, event: Any) -> tuple[Any, Any]:
        """The client has its answer, or does not want it any more."""
        self._cancelled = event.batch_operations[0].cancelled()
        return self._done()

    def sent(self, event: Any) -> tuple[Any, Any]:
        """The answer has gone, or nobody was there to take it."""
        return self._done()

    def _done(self) -> tuple[Any, Any]:
        self._awaited -= 1
        return UNFINISHED if self._awaited else (self, ())

    # The context

    def is_active(self) -> bool:
        """Does the client still wait?"""
        return not self._cancelled

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """Ends the call with a status instead of an answer."""
        self._code, self._details = code, details
        raise _Aborted

    # The answer

    def answer(self, message: bytes) -> None:
        """Runs the handler, each in a context of its own if interceptors set variables in it."""
        try:
            if self._calls.interceptors:
                Context().run(self._run, message)
            else:
                self._run(message)
        except Exception:  # not even one without a text ends the serving thread
            log.exception("call without an answer", method=self._path)
            self._send(cygrpc.StatusCode.internal, "no answer")

    def _run(self, message: bytes) -> None:
        step = ""
        try:
            handler = self._intercepted()
            step = "Exception deserializing request!"
            request = handler.request_deserializer(message)
            step = ""
            answer = handler.unary_unary(request, self)
            step = "Failed to serialize response!"
            self._send(cygrpc.StatusCode.ok, "", handler.response_serializer(answer))
        except _Aborted:
            self._send(self._code.value[0], self._details)
        except Exception as error:
            log.exception("call failed", method=self._path)
            if step:
                self._send(cygrpc.StatusCode.internal, step)
            else:
                self._send(cygrpc.StatusCode.unknown, f"Exception calling application: {error}")

    def _intercepted(self) -> Any:
        handler = self._handler
        for interceptor in self._calls.interceptors:
            details = Details(self._path, self._metadata)
            handler = interceptor.intercept_service(lambda _, handler=handler: handler, details)
        return handler

    def _send(self, code: int, details: str, answer: bytes | None = None) -> None:
        status = cygrpc.SendStatusFromServerOperation(None, code, details.encode(errors="replace"), 0)
        headers = cygrpc.SendInitialMetadataOperation(None, 0)
        if answer is None:
            self._call.start_server_batch((headers, status), self.sent)
        else:
            self._call.start_server_batch((headers, cygrpc.SendMessageOperation(answer, 0), status), self.sent)
