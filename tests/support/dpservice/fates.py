"""What may become of a packet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from services.dpservice.model.rows import PortNumber


@dataclass(frozen=True)
class Delivered:
    """Given to a guest of this host: the frame that it gets."""

    port: PortNumber
    frame: bytes


@dataclass(frozen=True)
class Tunnelled:
    """Sent out by an uplink (0 or 1): the whole frame with its outer header."""

    uplink: int
    frame: bytes


@dataclass(frozen=True)
class Passed:
    """None of ours: the host's own network stack gets it as it is."""


@dataclass(frozen=True)
class Dropped:
    """Counted under one of these reasons; several where rules overlap and their order is nobody's promise."""

    reasons: frozenset[str]


Fate: TypeAlias = Delivered | Tunnelled | Passed | Dropped


def dropped(*reasons: str) -> Dropped:
    return Dropped(frozenset(reasons))
