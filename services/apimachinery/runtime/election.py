"""Who leads: the pure rules of leader election over one Lease.

Clocks of different machines are never compared: how long a holder has been silent is measured on the observer's own
monotonic clock (`now`), from the moment it saw the lease change. Wall-clock times (`wall`, Unix seconds) are only
written for people. Default times are those of Kubernetes' components: 15, 10 and 2 seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Timing:
    """Seconds. A leader that could not renew for `renew_deadline` stops before others may start after `lease`."""

    lease: float = 15.0
    renew_deadline: float = 10.0
    retry: float = 2.0

    def __post_init__(self) -> None:
        if not self.lease > self.renew_deadline > self.retry > 0:
            raise ValueError(f"leader election needs lease > renew deadline > retry > 0, not {self}")


@dataclass(frozen=True)
class Record:
    """What the lease says."""

    holder: str
    lease: float
    acquired: float
    renewed: float
    transitions: int


class Election:
    """One candidate's view. `observe` what the server holds, write what `claim` returns, then report `written`."""

    def __init__(self, identity: str, timing: Timing) -> None:
        self.identity = identity
        self.timing = timing
        self._record: Record | None = None
        self._seen_at = 0.0
        self._renewed_at: float | None = None

    def observe(self, record: Record | None, now: float) -> None:
        """Takes note of the lease as read from the server (None: there is none)."""
        if record != self._record:
            self._record, self._seen_at = record, now
        if record is None or record.holder != self.identity:
            self._renewed_at = None

    def claim(self, now: float, wall: float) -> Record | None:
        """What to write to become or stay leader; None while somebody else holds the lease."""
        record = self._record
        if record is None:
            return Record(self.identity, self.timing.lease, wall, wall, 0)
        if record.holder == self.identity:
            return replace(record, renewed=wall, lease=self.timing.lease)
        if record.holder and now < self._seen_at + record.lease:
            return None
        return Record(self.identity, self.timing.lease, wall, wall, record.transitions + 1)

    def written(self, record: Record, sent_at: float) -> None:
        """The server took `record`, in a request that was sent at `sent_at`."""
        self._record, self._seen_at = record, sent_at
        # The request's start counts: the lease may have been renewed at any moment since.
        self._renewed_at = sent_at

    def leads_until(self) -> float | None:
        """The moment from which this candidate must no longer act; None when it does not lead."""
        return None if self._renewed_at is None else self._renewed_at + self.timing.renew_deadline

    def leads(self, now: float) -> bool:
        """Whether this candidate leads."""
        until = self.leads_until()
        return until is not None and now < until

    @property
    def holder(self) -> str:
        """The leader as last seen; empty when nobody is."""
        return self._record.holder if self._record else ""

    def release(self, wall: float) -> Record | None:
        """What to write so that another may lead at once; None when this candidate does not hold the lease."""
        if self._record is None or self._record.holder != self.identity:
            return None
        return replace(self._record, holder="", renewed=wall, lease=1.0)
