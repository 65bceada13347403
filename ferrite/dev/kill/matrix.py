"""The kill matrix: which processes are harmed, how, and what must hold meanwhile. Pure: nothing is harmed here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from ferrite.dev.plan import ClusterPlan

CONTROL_PLANE: Final = (
    *("etcd", "core-apiserver", "core-controllers", "net-apiserver", "metalnet-apiserver", "apinetlet", "metalnetlet"),
    *("metalbond", "ceph-mon", "ceph-mgr", "ceph-osd", "ceph-provider", "volumepoollet"),
)
NODE: Final = ("dpservice", "agent", "provider", "poollet", "libvirtd")
CEPH: Final = ("ceph-mon", "ceph-mgr", "ceph-osd")
# Those that most depends on are stopped alone, all others together with their kind: each case lasts half a minute.
STOPPED: Final = ("core-apiserver", "metalbond", "hv1-dpservice", "etcd")
STOP_SECONDS: Final = 30.0
# A restarted data plane may miss the packet that arrives while its programs are exchanged.
LOST_BY_DATA_PLANE: Final = 1


class Harm(Enum):
    """What is done to the victims."""

    KILL = "kill -9 of"
    KILL_GUESTS = "kill -9 of the guests and of"
    STOP = "SIGSTOP for 30 s to"
    FULL_DISK = "full disk of"
    QUOTA = "exhausted quota of"


@dataclass(frozen=True)
class Case:
    """One harm. `victims` are names of processes; `node` is where the machine that is applied meanwhile must go."""

    name: str
    harm: Harm
    victims: tuple[str, ...]
    node: str = ""

    @property
    def lost_packets(self) -> int | None:
        """How many pings between guests may be lost; None when a guest itself is harmed."""
        if self.harm is Harm.KILL_GUESTS:
            return None
        return LOST_BY_DATA_PLANE if any(victim.endswith("-dpservice") for victim in self.victims) else 0

    @property
    def restarts(self) -> bool:
        """Whether the victims come back as new processes."""
        return self.harm in (Harm.KILL, Harm.KILL_GUESTS)

    @property
    def ends_watches(self) -> bool:
        """Whether a client of the core API loses its connection (and must be able to go on with a new one)."""
        return self.restarts and "core-apiserver" in self.victims


def cases(plan: ClusterPlan) -> list[Case]:
    """The whole matrix, in the order in which it is run; the guests die last."""
    first, last = plan.hypervisors[0].name, plan.hypervisors[-1].name
    found = [Case(name, Harm.KILL, (name,)) for name in CONTROL_PLANE]
    found += [Case(f"{first}-{name}", Harm.KILL, (f"{first}-{name}",), first) for name in NODE]
    found.append(Case(f"{last}", Harm.KILL, _all_of(last), last))
    found.append(Case("control", Harm.KILL, CONTROL_PLANE))
    found += [Case(f"stop-{name}", Harm.STOP, (name,), first if name.startswith(first) else "") for name in STOPPED]
    found.append(Case("stop-ceph", Harm.STOP, CEPH))
    rest = tuple(name for name in CONTROL_PLANE if name not in STOPPED + CEPH)
    found.append(Case("stop-control", Harm.STOP, rest))
    found.append(Case(f"stop-{last}", Harm.STOP, _all_of(last), last))
    found.append(Case("full-etcd", Harm.FULL_DISK, ("etcd",)))
    found.append(Case("quota-etcd", Harm.QUOTA, ("etcd",)))
    found.append(Case(f"full-{first}-provider", Harm.FULL_DISK, (f"{first}-provider",), first))
    found.append(Case(f"{last}-guests", Harm.KILL_GUESTS, _all_of(last), last))
    return found


def chosen(plan: ClusterPlan, only: list[str]) -> list[Case]:
    """The cases of these names, or all. ValueError for a name that is none."""
    found = cases(plan)
    unknown = set(only) - {case.name for case in found}
    if unknown:
        names = ", ".join(case.name for case in found)
        raise ValueError(f"{', '.join(sorted(unknown))}: no such case; there are {names}")
    return [case for case in found if not only or case.name in only]


def _all_of(node: str) -> tuple[str, ...]:
    return tuple(f"{node}-{name}" for name in NODE)
