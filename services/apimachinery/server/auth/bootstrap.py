"""Roles and bindings that the server itself brings: reconciled at start, so that an upgrade can add rights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protos.k8s.rbac.v1.cluster_role_binding_pb2 import ClusterRoleBinding
from protos.k8s.rbac.v1.cluster_role_pb2 import ClusterRole
from services.apimachinery.errors import AlreadyExists
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.auth.identity import AUTHENTICATED, MASTERS
from services.apimachinery.server.loopback import Loopback
from services.common.logs import get_logger

log = get_logger(__name__)

RBAC: Final = "rbac.authorization.k8s.io"
AUTOUPDATE: Final = f"{RBAC}/autoupdate"  # "false" on a role keeps the server's hands off it, as in Kubernetes
BOOTSTRAPPING: Final = {"kubernetes.io/bootstrapping": "rbac-defaults"}
READ: Final = ("get", "list", "watch")
WRITE: Final = ("create", "update", "patch")
FULL: Final = (*READ, *WRITE, "delete", "deletecollection")


@dataclass(frozen=True)
class Grant:
    """A rule of a role: verbs on `resources` of `group`, or on URL `paths`."""

    verbs: Sequence[str]
    resources: Sequence[str] = ()
    group: str = ""
    paths: Sequence[str] = ()
    names: Sequence[str] = ()

    def tree(self) -> Tree:
        """The PolicyRule."""
        if self.paths:
            return {"verbs": list(self.verbs), "nonResourceURLs": list(self.paths)}
        rule: Tree = {"verbs": list(self.verbs), "apiGroups": [self.group], "resources": list(self.resources)}
        return {**rule, "resourceNames": list(self.names)} if self.names else rule


@dataclass(frozen=True)
class SystemRole:
    """A ClusterRole, bound to `groups` and `users` by a ClusterRoleBinding of the same name."""

    name: str
    grants: Sequence[Grant]
    groups: Sequence[str] = ()
    users: Sequence[str] = ()


EVERYBODY: Final = (
    SystemRole("cluster-admin", [Grant(["*"], ["*"], "*"), Grant(["*"], paths=["*"])], groups=[MASTERS]),
    SystemRole(
        "system:discovery",
        [Grant(["get"], paths=["/", "/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", "/version"])],
        groups=[AUTHENTICATED],
    ),
    SystemRole(
        "system:basic-user",
        [
            Grant(["create"], ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], "authorization.k8s.io"),
            Grant(["create"], ["selfsubjectreviews"], "authentication.k8s.io"),
        ],
        groups=[AUTHENTICATED],
    ),
    SystemRole(
        "system:auth-delegator",
        [
            Grant(["create"], ["subjectaccessreviews"], "authorization.k8s.io"),
            Grant(["create"], ["tokenreviews"], "authentication.k8s.io"),
        ],
    ),
)


async def reconcile(loopback: Loopback, roles: Sequence[SystemRole]) -> None:
    """Creates missing roles and bindings; brings rules and subjects of changed ones back. Raises ApiError."""
    for role in roles:
        await _ensure(loopback, ClusterRole, role.name, {"rules": [grant.tree() for grant in role.grants]})
        subjects = [{"kind": "Group", "apiGroup": RBAC, "name": name} for name in role.groups]
        subjects += [{"kind": "User", "apiGroup": RBAC, "name": name} for name in role.users]
        if subjects:
            reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role.name}
            await _ensure(loopback, ClusterRoleBinding, role.name, {"subjects": subjects, "roleRef": reference})


async def _ensure(loopback: Loopback, message: type, name: str, content: Tree) -> None:
    resource = loopback.resources.of(message)
    found = await loopback.get(resource, name)
    if found is None:
        metadata = {"name": name, "labels": dict(BOOTSTRAPPING), "annotations": {AUTOUPDATE: "true"}}
        try:
            await loopback.create(resource, {"metadata": metadata, **content})
        except AlreadyExists:
            return  # another server was faster
    elif found["metadata"].get("annotations", {}).get(AUTOUPDATE) == "true" and any(
        found.get(field) != value for field, value in content.items()
    ):
        await loopback.change(resource, name, "", lambda tree: tree.update(content))
        log.info("system role updated", role=name, kind=resource.kind.name)
