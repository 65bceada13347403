"""Nodes that are gone: those whose agent falls silent are Unknown, those without a Node object hold nobody up.

Deleting the Node says that a hypervisor won't come back (an agent that lives registers it again at once). Its deleted
interfaces then lose the finalizer that its agent can't take off any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from protos.k8s.coordination.v1.lease_pb2 import Lease
from protos.k8s.core.v1.node_pb2 import Node
from protos.metalnet.v1alpha1.network_interface_pb2 import NetworkInterface
from services.apimachinery.errors import ApiError, NotFound
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.loopback import Loopback
from services.common.logs import get_logger
from services.metalnet.model.heartbeat import Absences, Heartbeat, Heartbeats
from services.metalnet.model.names import INTERFACE_FINALIZER

log = get_logger(__name__)

LOOK_SECONDS: Final = 5.0


def watch_nodes(namespace: str, patience: float) -> Callable[[Loopback], Awaitable[None]]:
    """A task for `ApiServer`; `namespace` is where the agents keep their leases, `patience` how many seconds
    a node may have no Node object."""

    async def run(loopback: Loopback) -> None:
        heartbeats, absences = Heartbeats(), Absences(patience)
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for name in heartbeats.lost(_present(loopback, namespace), clock()):
                try:
                    await _mark(loopback, name)
                except ApiError as error:
                    log.warning("lost node was not marked", node=name, error=error.message)
            held = _held(loopback)
            nodes = {str(node["metadata"]["name"]) for node in loopback.cached(loopback.resources.of(Node))}
            for name in absences.over(held.keys() - nodes, clock()):
                for interface in held[name]:
                    try:
                        await _release(loopback, interface, name)
                    except ApiError as error:
                        log.warning("interface was not released", node=name, error=error.message)

    return run


def _held(loopback: Loopback) -> dict[str, list[Tree]]:
    """Deleted interfaces that wait for their node's agent, by node."""
    found: dict[str, list[Tree]] = {}
    for interface in loopback.cached(loopback.resources.of(NetworkInterface)):
        metadata = interface["metadata"]
        if "deletionTimestamp" in metadata and INTERFACE_FINALIZER in metadata.get("finalizers", []):
            found.setdefault(str(interface["spec"].get("nodeName", "")), []).append(interface)
    return found


async def _release(loopback: Loopback, interface: Tree, node: str) -> None:
    uid = interface["metadata"]["uid"]

    def release(tree: Tree) -> None:
        if tree["metadata"]["uid"] == uid and tree["spec"].get("nodeName", "") == node:
            finalizers = tree["metadata"].get("finalizers", [])
            tree["metadata"]["finalizers"] = [name for name in finalizers if name != INTERFACE_FINALIZER]

    name, namespace = interface["metadata"]["name"], interface["metadata"]["namespace"]
    try:
        await loopback.change(loopback.resources.of(NetworkInterface), name, namespace, release)
    except NotFound:
        return
    log.info("interface released for a node that is gone", interface=f"{namespace}/{name}", node=node)


def _present(loopback: Loopback, namespace: str) -> dict[str, Heartbeat]:
    found = {}
    for lease in loopback.cached(loopback.resources.of(Lease), namespace):
        spec = lease.get("spec", {})
        if "renewTime" in spec:
            seconds = float(spec.get("leaseDurationSeconds", 0))
            found[str(lease["metadata"]["name"])] = Heartbeat(str(spec["renewTime"]), seconds)
    return found


async def _mark(loopback: Loopback, name: str) -> None:
    resource = loopback.resources.of(Node)
    node = await loopback.get(resource, name)
    if node is None or (_ready(node) or {}).get("status") in (None, "Unknown"):
        return
    await loopback.change(resource, name, "", _make_unknown, subresource="status")
    log.info("node lost", node=name)


def _ready(node: Tree) -> Tree | None:
    conditions = node.get("status", {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == "Ready"), None)


def _make_unknown(node: Tree) -> None:
    ready = _ready(node)
    if ready is not None:
        ready.update(
            status="Unknown",
            reason="AgentLost",
            message="the node's agent has stopped renewing its lease",
            lastTransitionTime=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
