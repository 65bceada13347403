"""Calls that the serving thread answers by itself: a client sees what it would see of gRPC's own server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from services.dpservice.api.short_calls import ShortCalls, supported

PATH: Final = "/test.Echo/Say"
LIMIT: Final = 1000


class Refused(Exception):
    pass


class Mute(Exception):
    def __str__(self) -> str:
        raise Refused


def test_installed_release_is_known() -> None:
    assert supported(), f"gRPC {grpc.__version__}: see that its server still does what short_calls says, then add it"


@contextmanager
def serving(
    path: Path,
    answer: Callable[[bytes, Any], bytes],
    busy: Callable[[], bool] = lambda: False,
    interceptors: tuple[Any, ...] = (),
) -> Iterator[tuple[grpc.Server, grpc.Channel]]:
    options = [("grpc.max_receive_message_length", LIMIT)]
    server = grpc.server(futures.ThreadPoolExecutor(1, "pool"), options=options)
    calls = ShortCalls(server, interceptors, busy)
    calls.add(PATH, grpc.unary_unary_rpc_method_handler(answer, _decoded, bytes))
    server.add_insecure_port(f"unix:{path}")
    server.start()
    calls.start()
    with grpc.insecure_channel(f"unix:{path}") as channel:
        yield server, channel
    assert server.stop(5).wait(10)


def _decoded(message: bytes) -> bytes:
    if message == b"nonsense":
        raise ValueError("no such message")
    return message


def _say(channel: grpc.Channel, message: bytes, timeout: float = 5) -> bytes:
    return bytes(channel.unary_unary(PATH)(message, timeout=timeout))


def test_many_calls_are_answered_in_one_thread(tmp_path: Path) -> None:
    names = set()

    def answer(request: bytes, context: Any) -> bytes:
        names.add(threading.current_thread().name)
        return request * 2

    with serving(tmp_path / "socket", answer) as (_, channel):
        say = channel.unary_unary(PATH)
        pending = [say.future(str(number).encode(), timeout=10) for number in range(500)]
        assert [each.result() for each in pending] == [str(number).encode() * 2 for number in range(500)]
    assert len(names) == 1
    assert not any("pool" in name or "grpc-" in name for name in names)


def _answer(request: bytes, context: Any) -> bytes:
    match request:
        case b"abort":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Invalid ü")
        case b"fail":
            raise Refused("no luck")
        case b"odd":
            raise Refused("no \udc80")
        case b"mute":
            raise Mute
        case b"no bytes":
            return None  # type: ignore[return-value]
    return request


@pytest.mark.parametrize(
    ("message", "code", "details"),
    [
        pytest.param(b"abort", grpc.StatusCode.INVALID_ARGUMENT, "Invalid ü", id="aborted"),
        pytest.param(b"fail", grpc.StatusCode.UNKNOWN, "Exception calling application: no luck", id="failed"),
        pytest.param(b"odd", grpc.StatusCode.UNKNOWN, "Exception calling application: no ?", id="no UTF-8"),
        pytest.param(b"mute", grpc.StatusCode.INTERNAL, "no answer", id="no text"),
        pytest.param(b"nonsense", grpc.StatusCode.INTERNAL, "Exception deserializing request!", id="unreadable"),
        pytest.param(b"x" * (LIMIT + 1), grpc.StatusCode.RESOURCE_EXHAUSTED, None, id="too long"),
        pytest.param(b"no bytes", grpc.StatusCode.INTERNAL, "Failed to serialize response!", id="unwritable"),
    ],
)
def test_what_goes_wrong_has_the_status_of_grpcs_own_server(
    tmp_path: Path, message: bytes, code: grpc.StatusCode, details: str | None
) -> None:
    with serving(tmp_path / "socket", _answer) as (_, channel):
        with pytest.raises(grpc.RpcError) as error:
            _say(channel, message)
        assert error.value.code() is code
        assert details is None or error.value.details() == details
        assert _say(channel, b"still there") == b"still there"


def test_call_without_message_is_unimplemented(tmp_path: Path) -> None:
    with serving(tmp_path / "socket", _answer) as (_, channel):
        with pytest.raises(grpc.RpcError) as error:
            channel.stream_unary(PATH)(iter(()), timeout=5)
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_what_nobody_waits_for_is_not_done(tmp_path: Path) -> None:
    done: list[bytes] = []

    def answer(request: bytes, context: Any) -> bytes:
        if request == b"slow":
            time.sleep(0.5)
        if context.is_active():
            done.append(request)
        return request

    with serving(tmp_path / "socket", answer) as (_, channel):
        say = channel.unary_unary(PATH)
        slow = say.future(b"slow", timeout=5)
        time.sleep(0.1)
        late = [say.future(b"late", timeout=0.2) for _ in range(50)]
        assert {each.code() for each in late} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        assert slow.result() == b"slow"
        assert _say(channel, b"next") == b"next"
    assert done == [b"slow", b"next"]


def test_call_that_would_wait_leaves_the_others_alone(tmp_path: Path) -> None:
    lock, waits = threading.Lock(), threading.Event()

    def answer(request: bytes, context: Any) -> bytes:
        if request == b"wait":
            waits.set()
            with lock:
                return request
        return request

    with serving(tmp_path / "socket", answer, busy=lambda: lock.locked() and not waits.is_set()) as (_, channel):
        with lock:
            waiting = channel.unary_unary(PATH).future(b"wait", timeout=10)
            assert waits.wait(5)
            assert _say(channel, b"other") == b"other"
            assert not waiting.done()
        assert waiting.result() == b"wait"


def test_calls_of_a_client_that_is_gone_are_not_done(tmp_path: Path) -> None:
    """Its successor must not find them done after its own."""
    done: list[bytes] = []
    begun = threading.Event()

    def answer(request: bytes, context: Any) -> bytes:
        if request == b"slow":
            begun.set()
            time.sleep(0.5)
        if context.is_active():
            done.append(request)
        return request

    with serving(tmp_path / "socket", answer) as (_, successor):
        with grpc.insecure_channel(f"unix:{tmp_path / 'socket'}") as channel:
            say = channel.unary_unary(PATH)
            slow = say.future(b"slow")
            assert begun.wait(5)
            late = [say.future(b"late") for _ in range(300)]
            time.sleep(0.2)
        assert _say(successor, b"next") == b"next"
        assert _say(successor, b"last") == b"last"
        assert all(each.done() for each in (slow, *late))
    assert done == [b"slow", b"next", b"last"], "only what had begun"


def test_waiting_call_that_is_given_up_is_not_done(tmp_path: Path) -> None:
    done: list[bytes] = []
    begun, ended = threading.Event(), threading.Event()

    def answer(request: bytes, context: Any) -> bytes:
        if request == b"first":
            begun.set()
            assert ended.wait(5)
        if context.is_active():
            done.append(request)
        return request

    with serving(tmp_path / "socket", answer, busy=lambda: True) as (_, channel):
        say = channel.unary_unary(PATH)
        first = say.future(b"first", timeout=10)
        assert begun.wait(5)
        second, third = say.future(b"second", timeout=10), say.future(b"third", timeout=10)
        time.sleep(0.2)
        second.cancel()
        time.sleep(0.2)
        ended.set()
        assert (first.result(), third.result()) == (b"first", b"third")
    assert done == [b"first", b"third"]


@pytest.mark.parametrize("busy", [False, True])
def test_a_stop_amid_many_calls_ends_and_leaves_none_unanswered(tmp_path: Path, busy: bool) -> None:
    done: list[bytes] = []

    def answer(request: bytes, context: Any) -> bytes:
        time.sleep(0.0005)
        done.append(request)
        return request

    with serving(tmp_path / "socket", answer, busy=lambda: busy) as (server, channel):
        say = channel.unary_unary(PATH)
        pending = [say.future(str(number).encode(), timeout=10) for number in range(1000)]
        assert pending[50].result() == b"50"
        stopped = server.stop(5)
        codes = [each.code() for each in pending]
        assert stopped.wait(10)
    refused = {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}  # those that no one has begun
    assert set(codes) - refused == {grpc.StatusCode.OK}
    assert len(done) == codes.count(grpc.StatusCode.OK), "what was done was answered"


def test_call_that_is_being_answered_outlives_a_stop(tmp_path: Path) -> None:
    begun = threading.Event()

    def answer(request: bytes, context: Any) -> bytes:
        begun.set()
        time.sleep(0.3)
        return request

    with serving(tmp_path / "socket", answer, busy=lambda: True) as (server, channel):
        pending = channel.unary_unary(PATH).future(b"last", timeout=5)
        assert begun.wait(5)
        stopped = server.stop(5)
        assert pending.result() == b"last"
        assert stopped.wait(5)
        with pytest.raises(grpc.RpcError):
            _say(channel, b"too late", timeout=1)


def test_interceptors_see_calls_and_their_metadata(tmp_path: Path) -> None:
    seen = []

    class Interceptor(grpc.ServerInterceptor):  # type: ignore[misc]
        def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
            seen.append((details.method, dict(details.invocation_metadata)["traceparent"]))
            handler = continuation(details)
            return grpc.unary_unary_rpc_method_handler(
                lambda request, context: handler.unary_unary(request, context) + b"!",
                handler.request_deserializer,
                handler.response_serializer,
            )

    with serving(tmp_path / "socket", _answer, interceptors=(Interceptor(),)) as (_, channel):
        for _ in range(2):
            say = channel.unary_unary(PATH)
            assert say(b"hello", timeout=5, metadata=[("traceparent", "x")]) == b"hello!"
    assert seen == [(PATH, "x")] * 2
