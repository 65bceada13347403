"""What can be seen of the cluster at one moment: objects of the API servers, and what guests said on their consoles."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import Message

from ferrite.dev.cluster import admin_tls
from ferrite.dev.plan import ClusterPlan
from ferrite.dev.services import apis
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from protos.net.v1alpha1 import network_interface_pb2 as net
from protos.net.v1alpha1.network_pb2 import Network
from protos.net.v1alpha1.node_pb2 import Node
from protos.storage.v1alpha1.volume_pb2 import Volume
from protos.storage.v1alpha1.volume_pool_pb2 import VolumePool
from services.apimachinery.client.grpc import GrpcClient
from services.apimachinery.client.interface import Client
from services.apimachinery.client.objects import metadata_of
from services.apimachinery.errors import ApiError
from services.apimachinery.runtime.conditions import is_true

NAMESPACE = "default"
O = TypeVar("O", bound=Message)  # noqa: E741


@dataclass
class View:
    """One look. Objects are keyed by name; `consoles` by machine name; `problem` says who could not be asked."""

    machines: dict[str, Machine] = field(default_factory=dict)
    pools: dict[str, MachinePool] = field(default_factory=dict)
    volume_pools: dict[str, VolumePool] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    prefixes: dict[str, Prefix] = field(default_factory=dict)
    networks: dict[str, Network] = field(default_factory=dict)
    interfaces: dict[str, net.NetworkInterface] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    consoles: dict[str, str] = field(default_factory=dict)
    problem: str = ""

    def interface_of(self, machine: str) -> net.NetworkInterface | None:
        """The interface that the provider made for the machine, found by the address."""
        prefix = self.prefixes.get(f"{machine}-blue-0")
        address = prefix.spec.prefix.partition("/")[0] if prefix is not None else ""
        return next((found for found in self.interfaces.values() if address in found.spec.ips), None)

    def console(self, machine: str, pattern: str) -> re.Match[str] | None:
        """The first match in what the guest said."""
        return re.search(pattern, self.consoles.get(machine, ""))


class Observer:
    """Takes looks; reads what has changed only."""

    def __init__(self, plan: ClusterPlan) -> None:
        self._plan = plan
        self._clients: dict[str, Client] = {
            name: GrpcClient(api.grpc, tls=admin_tls(plan), manager="ferrite-dev") for name, api in apis(plan).items()
        }

    async def look(self) -> View:
        """One look at everything."""
        core, network = self._clients["core"], self._clients["net"]
        view = View()
        try:
            view.machines = await _all(core, Machine)
            view.pools = await _all(core, MachinePool)
            view.volume_pools = await _all(core, VolumePool)
            view.volumes = await _all(core, Volume)
            view.prefixes = await _all(core, Prefix)
            view.networks = await _all(network, Network)
            view.interfaces = await _all(network, net.NetworkInterface)
            view.nodes = await _all(network, Node)
        except ApiError as error:
            view.problem = f"{type(error).__name__}: {error.message}"
        for name, machine in view.machines.items():
            view.consoles[name] = _console(self._plan, machine)
        return view

    async def close(self) -> None:
        """Ends the connections."""
        for client in self._clients.values():
            await client.close()


def is_ready(view: View, plan: ClusterPlan) -> bool:
    """Whether machines could be scheduled and attached: pools, nodes and storage are there."""
    hypervisors = {node.name for node in plan.hypervisors}
    ready = {name for name, pool in view.pools.items() if is_true(pool.status.conditions, "Ready")}
    storage = any(pool.status.state == "Available" for pool in view.volume_pools.values())
    return not view.problem and hypervisors <= ready and len(view.nodes) >= len(hypervisors) and storage


async def _all(client: Client, kind: type[O]) -> dict[str, O]:
    page = await client.list(kind)
    return {metadata_of(obj).name: obj for obj in page.items}


def console_log(plan: ClusterPlan, machine: Machine) -> Path | None:
    """Where a machine's console is logged; None before it has a hypervisor."""
    pool, _, identity = machine.spec.machine_pool_ref.name, *machine.status.machine_id.rpartition("/")[1:]
    if not pool or not identity:
        return None
    return plan.state / pool / "provider" / "machines" / identity / "logs" / "console.log"


def _console(plan: ClusterPlan, machine: Machine) -> str:
    path = console_log(plan, machine)
    try:
        return path.read_text(errors="replace") if path is not None else ""
    except OSError:
        return ""
