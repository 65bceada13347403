"""One session after the other with one server: through the best door that opens, again after each end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

from services.common.logs import get_logger
from services.common.tasks import Backoff
from services.metalbond.client_state import Upstream
from services.metalbond.connection import Traffic
from services.metalbond.session import SessionExpired
from services.metalbond.wire import ProtocolError

log = get_logger(__name__)

CLOSED: Final = "closed by the server"
STEADY_SECONDS: Final = 10.0


class ConnectionState(Enum):
    """Where the session with a server stands."""

    CONNECTING = "connecting"
    ESTABLISHED = "established"
    WAITING = "waiting to reconnect"


class DoorShut(Exception):
    """There is nobody behind this door: another of the same server may be tried at once."""


class DoorRefused(Exception):
    """The server, or we, refused the other's identity: no other door may be tried instead."""


class SessionEnded(Exception):
    """The server or the network ended the session. `cause` is a short constant for counters."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause


class Door(Protocol):
    """A way to a server."""

    @property
    def name(self) -> str:
        """Which protocol."""

    def wake(self) -> None:
        """The upstream has requests or something pending."""

    async def session(self, upstream: Upstream, traffic: Traffic) -> None:
        """Serves one session to its end. Raises DoorShut, DoorRefused, SessionEnded, SessionExpired,
        ProtocolError and OSError."""


@dataclass
class Ends:
    """Of the sessions and attempts with one server, since the client began."""

    sessions: Counter[str] = field(default_factory=Counter)  # by door
    fallbacks: int = 0
    ended: Counter[str] = field(default_factory=Counter)  # by cause


class Link:
    """The client's side of one server. `changed` is called whenever `state` is."""

    def __init__(self, upstream: Upstream, changed: Callable[[], None]) -> None:
        self.state = ConnectionState.CONNECTING
        self.error = ""
        self.traffic = Traffic()
        self.ends = Ends()
        self.doors: Sequence[Door] = ()
        self._upstream, self._changed = upstream, changed
        self._open: Door | None = None
        self._established_at: float | None = None
        self._backoff = Backoff(first=0.5, limit=10.0)

    @property
    def door(self) -> str:
        """Through which door the session goes; empty without one."""
        return self._open.name if self._open is not None and self.state is ConnectionState.ESTABLISHED else ""

    def wake(self) -> None:
        """The upstream has requests or something pending."""
        if self._open is not None:
            self._open.wake()

    def established(self) -> None:
        """For doors: the session has begun."""
        self._established_at = self._now()
        self._enter(ConnectionState.ESTABLISHED, "")
        self.ends.sessions[self.door] += 1
        self.ends.fallbacks += self._open is not self.doors[0]
        log.info("session established", server=self._upstream.name, door=self.door)

    async def run(self) -> None:
        """Sessions for ever, with back-off in between."""
        while True:
            self._enter(ConnectionState.CONNECTING, self.error)
            self._established_at = None
            cause, reason = await self._round()
            if self._established_at is not None and self._now() - self._established_at >= STEADY_SECONDS:
                self._backoff.reset()  # not for a server that breaks every session at its beginning
            self.ends.ended[cause] += 1
            if reason != self.error:
                log.warning("session ended", server=self._upstream.name, reason=reason)
            self._enter(ConnectionState.WAITING, reason)
            await asyncio.sleep(self._backoff.next())

    async def _round(self) -> tuple[str, str]:
        """Tries the doors in their order until one has had a session; why it ended, for counters and for people."""
        shut: list[str] = []
        for door in self.doors:
            self._open = door
            try:
                await door.session(self._upstream, self.traffic)
            except DoorShut as error:
                shut.append(f"{door.name}: {error}")
                continue
            except Exception as error:
                cause, reason = _explained(error)
                if cause == "internal error":  # our mistake with one server must not end the sessions with the others
                    log.error("session failed", server=self._upstream.name, error=reason, exc_info=error)
                return cause, "; ".join([*shut, reason])
            finally:
                self._open = None
                self._upstream.end(self._now())
            return CLOSED, CLOSED
        return "unreachable", "; ".join(shut)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _enter(self, state: ConnectionState, error: str) -> None:
        self.state, self.error = state, error
        self._changed()


def _explained(error: Exception) -> tuple[str, str]:
    text = str(error) or type(error).__name__
    match error:
        case ProtocolError() | SessionExpired() | SessionEnded():
            return error.cause, text
        case DoorRefused():
            return "refused", text
        case OSError():
            return "connection failed", text
        case _:
            return "internal error", f"{type(error).__name__}: {text}"
