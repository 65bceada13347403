"""RBAC from the stored roles and bindings, read from their watch caches."""

from __future__ import annotations

from protos.k8s.rbac.v1.cluster_role_binding_pb2 import ClusterRoleBinding
from protos.k8s.rbac.v1.cluster_role_pb2 import ClusterRole
from protos.k8s.rbac.v1.role_binding_pb2 import RoleBinding
from protos.k8s.rbac.v1.role_pb2 import Role
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.auth.authorizer import EVERYTHING, Attributes, Decision
from services.apimachinery.server.auth.identity import MASTERS, User
from services.apimachinery.server.auth.rules import Policy
from services.apimachinery.server.registry import Resources
from services.apimachinery.server.storage import Storage


class RbacAuthorizer:
    """Allows what a binding grants; everything else is denied."""

    def __init__(self, resources: Resources) -> None:
        kinds = (ClusterRole, ClusterRoleBinding, Role, RoleBinding)
        self._storages = [resources.of(kind).stored for kind in kinds]
        self._versions: tuple[int, ...] = ()
        self._policy = Policy()

    async def decide(self, user: User, what: Attributes) -> Decision:
        """Looks into the newest cached policy."""
        if MASTERS in user.groups:
            return Decision(True, f"members of {MASTERS} may do everything")
        why = (await self._current()).allows(user, what)
        return Decision(why is not None, why or "")

    async def rules(self, user: User, namespace: str) -> list[Tree] | None:
        """What the bindings of the user and the groups grant there."""
        if MASTERS in user.groups:
            return list(EVERYTHING)
        return [rule.tree() for rule in (await self._current()).rules(user, namespace)]

    async def _current(self) -> Policy:
        for storage in self._storages:
            await storage.cache.ready()
        versions = tuple(storage.cache.position for storage in self._storages)
        if versions != self._versions:
            self._policy = Policy.of(*map(_trees, self._storages))
            self._versions = versions
        return self._policy


def _trees(storage: Storage) -> list[Tree]:
    return [storage.tree(item) for item in storage.cache.select()]
