"""How fast frames may go to a peer that can't put split frames together. Pure: the socket's figures are given.

The original implementation reads up to 65,535 bytes at once and takes the end of a read for the end of a frame. A peer
survives only while what it has not read yet stays below that, and no segment ends inside a frame. Nothing tells such a
peer from a better one, so all TCP peers get whole frames in small bursts; a peer that reads fast is served fast.
"""

from __future__ import annotations

from collections import deque
from typing import Final

BURST: Final = 16 * 1024  # bytes a peer may have unread; a quarter of what it survives
CHUNK: Final = 8 * 1024  # bytes handed to the kernel at once
POLL_SECONDS: Final = 0.001
FIRST_PROBE_SECONDS: Final = 0.01
LAST_PROBE_SECONDS: Final = 1.0


class WindowPacer:
    """Towards a peer that answers nothing: watches what TCP acknowledges and how its receive window shrinks.

    The window shrinks by what the application leaves unread, but a receiver that catches up doesn't say so by itself;
    hence, after a pause that doubles, one small probe goes out whose acknowledgement shows the window as it is then.
    """

    def __init__(self) -> None:
        self._open = 0
        self._pause = FIRST_PROBE_SECONDS
        self._paused_at: float | None = None

    def allowance(self, unacknowledged: int, window: int, now: float) -> int:
        """Bytes that may be sent now; zero: ask again after `POLL_SECONDS` or more.

        `unacknowledged` and `window` (the receive window that the peer advertised) are TCP's, in bytes.
        """
        self._open = max(self._open, window)
        room = BURST - unacknowledged
        if room < CHUNK:
            return 0
        unread = self._open - window
        if unread <= BURST:
            self._pause, self._paused_at = FIRST_PROBE_SECONDS, None
            return min(room, CHUNK)
        if self._paused_at is None:
            self._paused_at = now
        if unacknowledged or now - self._paused_at < self._pause:
            return 0
        self._pause, self._paused_at = min(self._pause * 2, LAST_PROBE_SECONDS), now
        return 1  # a single frame


class EchoPacer:
    """Towards a peer that answers each keepalive: what came before an answered keepalive has been read."""

    def __init__(self) -> None:
        self._sent = 0
        self._confirmed = 0
        self._probes: deque[int] = deque()

    def allowance(self) -> int:
        """Bytes that may be sent now; zero: wait for an answer."""
        room = BURST - (self._sent - self._confirmed)
        return min(room, CHUNK) if room > 0 else 0

    def sent(self, size: int) -> bool:
        """Counts `size` bytes of updates; True when a keepalive must follow them now."""
        self._sent += size
        return self._sent - (self._probes[-1] if self._probes else self._confirmed) >= CHUNK // 2

    def probed(self) -> None:
        """A keepalive was sent."""
        self._probes.append(self._sent)

    def answered(self) -> None:
        """A keepalive arrived; one beyond those sent means nothing."""
        if self._probes:
            self._confirmed = self._probes.popleft()
