"""The controllers by the names that `--controllers` takes, and what each is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler
from services.core.controllers.class_protection import (
    bucket_class_protection,
    machine_class_protection,
    volume_class_protection,
)
from services.core.controllers.eviction import Eviction
from services.core.controllers.interface_prefixes import InterfacePrefixes, LoadBalancerPrefixes
from services.core.controllers.interface_virtual_ips import InterfaceVirtualIPs
from services.core.controllers.machine_interfaces import MachineInterfaces
from services.core.controllers.machine_volumes import MachineVolumes
from services.core.controllers.network_protection import NetworkProtection
from services.core.controllers.pool_lifecycle import PoolLifecycle
from services.core.controllers.prefix_allocations import PrefixAllocationScheduler
from services.core.controllers.prefixes import Prefixes
from services.core.controllers.release import interface_release, virtual_ip_release, volume_release
from services.core.scheduler.scheduler import Scheduler
from services.core.scheduler.subjects import MACHINES, VOLUMES


@dataclass(frozen=True)
class Times:
    """Seconds; see the settings of the process."""

    prefix_allocation_timeout: float = 1.0
    machine_pool_grace: float = 50.0


CONTROLLERS: Final[Mapping[str, Callable[[Manager, Times], Reconciler]]] = {
    "machineephemeralnetworkinterface": lambda manager, _: MachineInterfaces(manager),
    "machineephemeralvolume": lambda manager, _: MachineVolumes(manager),
    "machinescheduler": lambda manager, _: Scheduler(manager, MACHINES),
    "machineeviction": lambda manager, _: Eviction(manager),
    "machineclass": lambda manager, _: machine_class_protection(manager),
    "machinepoollifecycle": lambda manager, times: PoolLifecycle(manager, times.machine_pool_grace),
    "bucketclass": lambda manager, _: bucket_class_protection(manager),
    "volumerelease": lambda manager, _: volume_release(manager),
    "volumescheduler": lambda manager, _: Scheduler(manager, VOLUMES),
    "volumeclass": lambda manager, _: volume_class_protection(manager),
    "prefix": lambda manager, times: Prefixes(manager, times.prefix_allocation_timeout),
    "prefixallocationscheduler": lambda manager, _: PrefixAllocationScheduler(manager),
    "loadbalancerephemeralprefix": lambda manager, _: LoadBalancerPrefixes(manager),
    "networkprotection": lambda manager, _: NetworkProtection(manager),
    "networkinterfaceephemeralprefix": lambda manager, _: InterfacePrefixes(manager),
    "networkinterfaceephemeralvirtualip": lambda manager, _: InterfaceVirtualIPs(manager),
    "networkinterfacerelease": lambda manager, _: interface_release(manager),
    "virtualiprelease": lambda manager, _: virtual_ip_release(manager),
}


def selected(text: str) -> list[str]:
    """The controllers that a comma-separated list chooses: `*` is all, `name` adds and `-name` removes one.

    A list that only removes starts from all. Raises ValueError for a name that there is not.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    unknown = sorted({word.removeprefix("-") for word in words} - {"*", *CONTROLLERS})
    if unknown:
        raise ValueError(f"unknown controllers: {', '.join(unknown)}; there are {', '.join(sorted(CONTROLLERS))}")
    removed = {word[1:] for word in words if word.startswith("-")}
    named = {word for word in words if not word.startswith("-")}
    everything = "*" in named or not named
    return [name for name in CONTROLLERS if (everything or name in named) and name not in removed]
