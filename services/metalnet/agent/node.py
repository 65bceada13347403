"""This hypervisor in the partition's API: a Node, and a Lease whose renewal says that the agent lives."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Final

from protos.k8s.coordination.v1.lease_pb2 import Lease
from protos.k8s.core.v1.node_pb2 import Node
from services.apimachinery.client.interface import Client
from services.apimachinery.client.objects import is_deleting
from services.apimachinery.errors import AlreadyExists, ApiError, NotFound
from services.apimachinery.runtime.conditions import FALSE, TRUE, set_condition
from services.apimachinery.runtime.owners import set_owner_reference
from services.apimachinery.runtime.times import micro_time
from services.common.logs import get_logger
from services.common.tasks import Backoff

log = get_logger(__name__)

# As kubelets do.
HEARTBEAT_SECONDS: Final = 10.0
MISSED_HEARTBEATS: Final = 4  # after so many the node counts as lost
HOSTNAME_LABEL: Final = "kubernetes.io/hostname"


class NodeRegistration:
    """`problem()` says why the node can't take work, "" when it can; `addresses` are where the node is reached."""

    def __init__(
        self,
        client: Client,
        name: str,
        lease_namespace: str,
        addresses: Sequence[str],
        problem: Callable[[], str],
        *,
        heartbeat: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._client, self._name, self._lease_namespace = client, name, lease_namespace
        self._addresses, self._problem = addresses, problem
        self._heartbeat = heartbeat
        self._wake = asyncio.Event()

    def changed(self) -> None:
        """The node's state may be another one."""
        self._wake.set()

    async def run(self) -> None:
        """Registers and renews until cancelled."""
        backoff = Backoff(first=0.5, limit=self._heartbeat)
        while True:
            self._wake.clear()
            try:
                node = await self._ensure_node()
                if not is_deleting(node):
                    await self._report(node)
                    await self._renew(node)
                backoff.reset()
                delay = self._heartbeat
            except ApiError as error:
                log.warning("node was not reported", node=self._name, error=error.message)
                delay = backoff.next()
            try:
                async with asyncio.timeout(delay):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _ensure_node(self) -> Node:
        try:
            node = await self._client.get(Node, self._name)
        except NotFound:
            node = Node()
            node.metadata.name = self._name
            node.metadata.labels[HOSTNAME_LABEL] = self._name
            try:
                node = await self._client.create(node)
            except AlreadyExists:
                return await self._client.get(Node, self._name)
            log.info("node registered", node=self._name)
        if node.metadata.labels.get(HOSTNAME_LABEL) != self._name and not is_deleting(node):
            labels = {"metadata": {"labels": {HOSTNAME_LABEL: self._name}}}
            node = await self._client.patch(Node, self._name, labels)
        return node

    async def _report(self, node: Node) -> None:
        status = type(node.status)()
        status.CopyFrom(node.status)
        problem = self._problem()
        set_condition(
            status.conditions,
            "Ready",
            FALSE if problem else TRUE,
            "DataplaneUnavailable" if problem else "AgentReady",
            problem or "the agent programs the data plane",
        )
        del status.addresses[:]
        for address in self._addresses:
            status.addresses.add(type="InternalIP", address=address)
        status.addresses.add(type="Hostname", address=self._name)
        machine = platform.uname()
        info = status.node_info
        info.kernel_version, info.operating_system = machine.release, machine.system.lower()
        info.architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine, machine.machine)
        info.kubelet_version = f"ferrite {version('ferrite')}"
        if status != node.status:
            status_of_now = Node(metadata=node.metadata, spec=node.spec, status=status)
            await self._client.update_status(status_of_now)

    async def _renew(self, node: Node) -> None:
        try:
            lease = await self._client.get(Lease, self._name, self._lease_namespace)
        except NotFound:
            lease = Lease()
            lease.metadata.name, lease.metadata.namespace = self._name, self._lease_namespace
        lease.spec.holder_identity = self._name
        lease.spec.lease_duration_seconds = max(1, round(MISSED_HEARTBEATS * self._heartbeat))
        lease.spec.renew_time.CopyFrom(micro_time(time.time()))
        set_owner_reference(node, lease)
        if lease.metadata.resource_version:
            await self._client.update(lease)
        else:
            await self._client.create(lease)
