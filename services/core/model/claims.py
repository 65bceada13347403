"""Claims: which machine has a volume or an interface. Pure.

A claim is exclusive and names its claimer by uid: a new claimer of the same name does not inherit it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from protos.common.v1alpha1.common_pb2 import LocalUIDReference


class Step(Enum):
    """What the claimer's side does about one object."""

    KEEP = "it is ours"
    ADOPT = "claim it"
    RELEASE = "give it back"
    SKIP = "it is not ours, or nothing can be done now"


@dataclass(frozen=True)
class Claimer:
    """A machine that claims, by uid."""

    uid: str
    deleting: bool


def next_step(
    claimer: Claimer, claim: LocalUIDReference | None, *, selected: bool, deleting: bool, unclaimable: bool = False
) -> Step:
    """The rule of claiming: `selected` when the claimer's spec names the object, `deleting` when the object goes.

    An unclaimable volume counts as taken.
    """
    if claim is not None and claim.uid:
        if claim.uid != claimer.uid:
            return Step.SKIP
        if selected:
            return Step.KEEP
        return Step.SKIP if claimer.deleting else Step.RELEASE
    free = selected and not claimer.deleting and not deleting and not unclaimable
    return Step.ADOPT if free else Step.SKIP


def is_stale(claim: LocalUIDReference, claimer_uid: str | None) -> bool:
    """Whether a claim's holder is gone: nobody has its name (None), or somebody else does."""
    return claimer_uid is None or claim.uid != claimer_uid
