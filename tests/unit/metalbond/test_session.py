"""The handshake and its timers, in simulated time."""

from __future__ import annotations

import pytest

from services.metalbond.session import AcceptingSession, DiallingSession, Session, SessionExpired, State
from services.metalbond.wire import Frame, Hello, Keepalive, ProtocolError, RouteFrame, Subscribe, Unsubscribe, Update

UPDATE = Update(False, 23, RouteFrame(b""))  # type: ignore[arg-type]


def accepting(state: State) -> AcceptingSession:
    session = AcceptingSession(5, now=0.0)
    steps: dict[State, list[Frame]] = {
        State.CONNECTING: [],
        State.HELLO_SENT: [Hello(5)],
        State.ESTABLISHED: [Hello(5), Keepalive()],
    }
    for frame in steps[state]:
        session.receive(frame, 0.0)
    assert session.state is state
    return session


def dialling(state: State) -> DiallingSession:
    session = DiallingSession(5, now=0.0)
    assert session.opened() == [Hello(5, reassembles=True)]
    steps: dict[State, list[Frame]] = {
        State.HELLO_SENT: [],
        State.HELLO_RECEIVED: [Hello(5, True)],
        State.ESTABLISHED: [Hello(5, True), Keepalive()],
    }
    for frame in steps[state]:
        session.receive(frame, 0.0)
    assert session.state is state
    return session


@pytest.mark.parametrize(
    ("session", "received", "then", "sent"),
    [
        pytest.param(
            accepting(State.CONNECTING), Hello(3), State.HELLO_SENT, [Hello(3, True)], id="the lower interval wins"
        ),
        pytest.param(
            accepting(State.CONNECTING), Hello(9), State.HELLO_SENT, [Hello(5, True)], id="ours may be the lower"
        ),
        pytest.param(
            accepting(State.HELLO_SENT), Keepalive(), State.ESTABLISHED, [Keepalive()], id="handshake done, server"
        ),
        pytest.param(accepting(State.HELLO_SENT), UPDATE, State.HELLO_SENT, [], id="announced right after hello"),
        pytest.param(
            accepting(State.ESTABLISHED), Keepalive(), State.ESTABLISHED, [Keepalive()], id="keepalives are answered"
        ),
        pytest.param(accepting(State.ESTABLISHED), Subscribe(23), State.ESTABLISHED, [], id="subscribed in place"),  # type: ignore[arg-type]
        pytest.param(
            dialling(State.HELLO_SENT), Hello(3, True), State.HELLO_RECEIVED, [Keepalive()], id="keepalive at once"
        ),
        pytest.param(dialling(State.HELLO_RECEIVED), Keepalive(), State.ESTABLISHED, [], id="handshake done, client"),
        pytest.param(dialling(State.ESTABLISHED), Keepalive(), State.ESTABLISHED, [], id="answers aren't answered"),
        pytest.param(dialling(State.ESTABLISHED), UPDATE, State.ESTABLISHED, [], id="updates of a server"),
    ],
)
def test_frames_in_their_place(session: Session, received: Frame, then: State, sent: list[Frame]) -> None:
    assert session.receive(received, now=1.0) == sent
    assert session.state is then


@pytest.mark.parametrize(
    ("session", "received"),
    [
        pytest.param(accepting(State.CONNECTING), Keepalive(), id="keepalive before hello"),
        pytest.param(accepting(State.CONNECTING), UPDATE, id="update before hello"),
        pytest.param(accepting(State.HELLO_SENT), Hello(5), id="hello twice"),
        pytest.param(accepting(State.HELLO_SENT), Subscribe(23), id="subscribed before established"),  # type: ignore[arg-type]
        pytest.param(accepting(State.ESTABLISHED), Hello(5), id="hello when established"),
        pytest.param(dialling(State.HELLO_SENT), Keepalive(), id="server sends keepalive first"),
        pytest.param(dialling(State.HELLO_SENT), UPDATE, id="server sends updates first"),
        pytest.param(dialling(State.ESTABLISHED), Subscribe(23), id="server subscribes"),  # type: ignore[arg-type]
        pytest.param(dialling(State.ESTABLISHED), Unsubscribe(23), id="server unsubscribes"),  # type: ignore[arg-type]
    ],
)
def test_frames_out_of_place_close_the_session(session: Session, received: Frame) -> None:
    with pytest.raises(ProtocolError, match="out of place"):
        session.receive(received, now=1.0)
    assert session.state is State.CLOSED


@pytest.mark.parametrize(
    ("session", "alive_until", "cause"),
    [
        pytest.param(accepting(State.CONNECTING), 10.0, "handshake timeout", id="never says hello"),
        pytest.param(accepting(State.HELLO_SENT), 10.0, "handshake timeout", id="stops after hello"),
        pytest.param(dialling(State.HELLO_SENT), 10.0, "handshake timeout", id="server never answers"),
        pytest.param(accepting(State.ESTABLISHED), 12.5, "dead peer", id="silent for two and a half intervals"),
        pytest.param(dialling(State.ESTABLISHED), 12.5, "dead peer", id="silent server"),
    ],
)
def test_silence_ends_a_session(session: Session, alive_until: float, cause: str) -> None:
    assert session.deadline == alive_until
    session.check(alive_until - 0.1)
    with pytest.raises(SessionExpired) as ended:
        session.check(alive_until)
    assert ended.value.cause == cause
    assert session.state is State.CLOSED


def test_any_frame_is_a_sign_of_life() -> None:
    session = accepting(State.ESTABLISHED)
    session.receive(UPDATE, now=12.0)
    session.check(24.0)
    assert session.deadline == 24.5


def test_a_client_sends_keepalives_in_the_negotiated_rhythm() -> None:
    session = DiallingSession(5, now=0.0)
    session.opened()
    session.receive(Hello(3, True), now=1.0)
    sent = [now for now in range(1, 12) if session.due(float(now))]
    assert sent == [4, 7, 10]


def test_a_zero_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="keepalive"):
        DiallingSession(0, now=0.0)
