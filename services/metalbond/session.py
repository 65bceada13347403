"""One session's handshake, keepalives and timers, for both sides. Pure: bytes and sockets are elsewhere, time is given.

    dialling side                accepting side
    HELLO ──────────────────────▶            both take the lower interval
          ◀────────────────────── HELLO
    KEEPALIVE ──────────────────▶
          ◀────────────────────── KEEPALIVE  established on both sides

Only the dialling side originates keepalives; the accepting one answers each. What is not part of the handshake
(subscriptions, updates) is only checked for its place here and left to the caller.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from services.metalbond.wire import Frame, Hello, Keepalive, ProtocolError, Update

DEFAULT_INTERVAL: Final = 5  # seconds
DEAD_INTERVALS: Final = 2.5  # a peer is dead after so many silent intervals
HANDSHAKE_SECONDS: Final = 10.0


class State(Enum):
    """Where a session stands."""

    CONNECTING = "connecting"
    HELLO_SENT = "hello-sent"
    HELLO_RECEIVED = "hello-received"
    ESTABLISHED = "established"
    CLOSED = "closed"


class SessionExpired(Exception):
    """The other side said nothing for too long. `cause` is a short constant for counters."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause


class Session:
    """`interval` is our keepalive interval in seconds, at least 1; the negotiated one replaces it.

    Any frame counts as a sign of life, not only keepalives: a peer that is busy sending us routes is alive.
    """

    def __init__(self, interval: int, *, now: float, handshake_seconds: float = HANDSHAKE_SECONDS) -> None:
        if interval < 1:
            raise ValueError(f"keepalive: {interval} is less than one second")
        self.state = State.CONNECTING
        self.interval = interval
        self._handshake_until = now + handshake_seconds
        self._heard = now

    def receive(self, frame: Frame, now: float) -> list[Frame]:
        """Frames to send in answer. Raises ProtocolError, and is CLOSED then, for a frame out of its place."""
        self._heard = now
        try:
            if isinstance(frame, Hello):
                return self._hello(frame, now)
            if isinstance(frame, Keepalive):
                return self._keepalive()
            self._check_place(frame)
        except ProtocolError:
            self.state = State.CLOSED
            raise
        return []

    def check_update(self) -> None:
        """An update arrived. Raises ProtocolError, and is CLOSED then, when it is out of its place."""
        if not self._may_update():
            state, self.state = self.state, State.CLOSED
            raise ProtocolError("out of place", f"UPDATE while {state.value}")

    def heard(self, now: float) -> None:
        """Bytes arrived."""
        self._heard = now

    @property
    def deadline(self) -> float:
        """When `check` is due, unless something is heard before."""
        if self.state is State.ESTABLISHED:
            return self._heard + self.interval * DEAD_INTERVALS
        return self._handshake_until

    def check(self, now: float) -> None:
        """Raises SessionExpired, and is CLOSED then, when the other side is silent for 2.5 intervals or doesn't
        finish the handshake in time."""
        if now < self.deadline:
            return
        state, self.state = self.state, State.CLOSED
        if state is State.ESTABLISHED:
            raise SessionExpired("dead peer", f"nothing heard for {now - self._heard:.1f} s")
        raise SessionExpired("handshake timeout", f"still {state.value}")

    def _hello(self, frame: Hello, now: float) -> list[Frame]:
        raise NotImplementedError

    def _keepalive(self) -> list[Frame]:
        raise NotImplementedError

    def _check_place(self, frame: Frame) -> None:
        raise NotImplementedError

    def _may_update(self) -> bool:
        return self.state is State.ESTABLISHED

    def _out_of_place(self, frame: Frame) -> ProtocolError:
        return ProtocolError("out of place", f"{type(frame).__name__.upper()} while {self.state.value}")


class AcceptingSession(Session):
    """The side that listened."""

    def _hello(self, frame: Hello, now: float) -> list[Frame]:
        if self.state is not State.CONNECTING:
            raise self._out_of_place(frame)
        self.interval = min(self.interval, frame.keepalive_interval)
        self.state = State.HELLO_SENT
        return [Hello(self.interval, is_server=True, reassembles=frame.reassembles)]

    def _keepalive(self) -> list[Frame]:
        if self.state is State.HELLO_SENT:
            self.state = State.ESTABLISHED
        if self.state is not State.ESTABLISHED:
            raise self._out_of_place(Keepalive())
        return [Keepalive()]

    def _check_place(self, frame: Frame) -> None:
        if not (self._may_update() if isinstance(frame, Update) else self.state is State.ESTABLISHED):
            raise self._out_of_place(frame)

    def _may_update(self) -> bool:
        # Dialling peers may announce as soon as they said HELLO; a subscription answered then would break them.
        return self.state in (State.HELLO_SENT, State.ESTABLISHED)


class DiallingSession(Session):
    """The side that connected; a `reflector` says that it is one."""

    def __init__(
        self,
        interval: int,
        *,
        now: float,
        handshake_seconds: float = HANDSHAKE_SECONDS,
        reflector: bool = False,
    ) -> None:
        super().__init__(interval, now=now, handshake_seconds=handshake_seconds)
        self._reflector = reflector
        self._next_keepalive = now

    def opened(self) -> list[Frame]:
        """Frames to send when TCP is up."""
        self.state = State.HELLO_SENT
        return [Hello(self.interval, self._reflector, reassembles=True)]

    @property
    def next_keepalive(self) -> float:
        """When `due` has something."""
        return self._next_keepalive

    def due(self, now: float) -> list[Frame]:
        """The periodic keepalive when its time has come."""
        if self.state not in (State.HELLO_RECEIVED, State.ESTABLISHED) or now < self._next_keepalive:
            return []
        self._next_keepalive = now + self.interval
        return [Keepalive()]

    def _hello(self, frame: Hello, now: float) -> list[Frame]:
        if self.state is not State.HELLO_SENT:
            raise self._out_of_place(frame)
        self.interval = min(self.interval, frame.keepalive_interval)
        self.state = State.HELLO_RECEIVED
        self._next_keepalive = now + self.interval
        return [Keepalive()]

    def _keepalive(self) -> list[Frame]:
        if self.state is State.HELLO_RECEIVED:
            self.state = State.ESTABLISHED
        if self.state is not State.ESTABLISHED:
            raise self._out_of_place(Keepalive())
        return []

    def _check_place(self, frame: Frame) -> None:
        if not isinstance(frame, Update) or self.state not in (State.HELLO_RECEIVED, State.ESTABLISHED):
            raise self._out_of_place(frame)
