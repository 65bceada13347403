"""Nodes whose agent is not heard of any more are Unknown, so that nobody takes their last word for the present."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from protos.k8s.coordination.v1.lease_pb2 import Lease
from protos.k8s.core.v1.node_pb2 import Node
from services.apimachinery.errors import ApiError
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.loopback import Loopback
from services.common.logs import get_logger
from services.metalnet.model.heartbeat import Heartbeat, Heartbeats

log = get_logger(__name__)

LOOK_SECONDS: Final = 5.0
LEASE_NAMESPACE: Final = "kube-node-lease"


def watch_nodes(namespace: str = LEASE_NAMESPACE) -> Callable[[Loopback], Awaitable[None]]:
    """A task for `ApiServer`; `namespace` is where the agents keep their leases."""

    async def run(loopback: Loopback) -> None:
        heartbeats = Heartbeats()
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for name in heartbeats.lost(_present(loopback, namespace), clock()):
                try:
                    await _mark(loopback, name)
                except ApiError as error:
                    log.warning("lost node was not marked", node=name, error=error.message)

    return run


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
