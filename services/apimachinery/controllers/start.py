"""What must exist from the start: the system's namespaces, roles and bindings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from protos.k8s.core.v1.namespace_pb2 import Namespace
from services.apimachinery.errors import AlreadyExists
from services.apimachinery.server.auth.bootstrap import SystemRole, reconcile
from services.apimachinery.server.loopback import Loopback
from services.common.logs import get_logger

log = get_logger(__name__)


def ensure_at_start(namespaces: Sequence[str], roles: Sequence[SystemRole]) -> Callable[[Loopback], Awaitable[None]]:
    """A preparation that creates what is missing. It raises ApiError while the store does not answer."""

    async def run(loopback: Loopback) -> None:
        await reconcile(loopback, roles)
        for name in namespaces:
            await _ensure_namespace(loopback, name)
        log.info("start-up objects ensured", roles=len(roles), namespaces=len(namespaces))

    return run


async def _ensure_namespace(loopback: Loopback, name: str) -> None:
    resource = loopback.resources.of(Namespace)
    if await loopback.get(resource, name) is None:
        try:
            await loopback.create(resource, {"metadata": {"name": name}})
        except AlreadyExists:
            return
