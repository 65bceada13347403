"""The Kubernetes kinds that a control plane can't do without, and their rules beyond the schema."""

from __future__ import annotations

from base64 import b64encode

from protos.k8s.certificates.v1.certificate_signing_request_pb2 import CertificateSigningRequest
from protos.k8s.coordination.v1.lease_pb2 import Lease
from protos.k8s.core.v1 import event_pb2 as core_event
from protos.k8s.core.v1.config_map_pb2 import ConfigMap
from protos.k8s.core.v1.namespace_pb2 import Namespace
from protos.k8s.core.v1.secret_pb2 import Secret
from protos.k8s.events.v1 import event_pb2 as events_event
from protos.k8s.rbac.v1.cluster_role_binding_pb2 import ClusterRoleBinding
from protos.k8s.rbac.v1.cluster_role_pb2 import ClusterRole
from protos.k8s.rbac.v1.role_binding_pb2 import RoleBinding
from protos.k8s.rbac.v1.role_pb2 import Role
from services.apimachinery.errors import Cause
from services.apimachinery.kinds import kind_of
from services.apimachinery.schema import causes
from services.apimachinery.schema.hooks import KindHooks
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.call import Call
from services.apimachinery.server.events import from_core, to_core
from services.apimachinery.server.resource import Definition, View, define

EVENT_LIFETIME = 3600  # seconds, as in Kubernetes
KUBERNETES_FINALIZER = "kubernetes"


class SecretHooks(KindHooks):
    """The write-only `stringData`, and secrets that must not change any more."""

    def default(self, tree: Tree) -> None:
        """stringData moves into data."""
        for name, text in (tree.pop("stringData", None) or {}).items():
            tree.setdefault("data", {})[name] = b64encode(text.encode()).decode()

    def validate(self, new: Tree, old: Tree | None) -> list[Cause]:
        """Immutable secrets keep their data."""
        return _immutable(new, old, ("data",))


class ConfigMapHooks(KindHooks):
    """Config maps that must not change any more."""

    def validate(self, new: Tree, old: Tree | None) -> list[Cause]:
        """Immutable config maps keep their data; a key stands in one of data and binaryData."""
        found = _immutable(new, old, ("data", "binaryData"))
        both = set(new.get("data", {})) & set(new.get("binaryData", {}))
        return found + [causes.duplicate(f"data[{key}]", key) for key in sorted(both)]


def builtin(event_lifetime: int = EVENT_LIFETIME) -> list[Definition]:
    """Definitions of the built-in kinds; events expire after `event_lifetime` seconds."""
    view = View(core_event.Event, to_core, from_core)
    return [
        define(Namespace, subresources={"finalize": _merge_finalizers}),
        define(Secret, hooks=SecretHooks(), encrypted=True),
        define(ConfigMap, hooks=ConfigMapHooks()),
        define(core_event.Event, lifetime=event_lifetime),
        define(events_event.Event, view=view),
        define(Lease),
        define(CertificateSigningRequest, subresources={"approval": _merge_approval}),
        *map(define, (ClusterRole, ClusterRoleBinding, Role, RoleBinding)),
    ]


class NamespaceDefaults:
    """A new namespace is Active and held by the deletion of its content, until that lets it go by `finalize`."""

    async def admit(self, call: Call, new: Tree | None, old: Tree | None) -> None:
        """Sets finalizer and phase of a new namespace; keeps the finalizers of another."""
        if new is None or call.kind is not kind_of(Namespace):
            return
        if old is not None and not call.subresource:
            new["spec"] = old.get("spec", {})
        elif call.verb == "create":
            finalizers = new.setdefault("spec", {}).setdefault("finalizers", [])
            if KUBERNETES_FINALIZER not in finalizers:
                finalizers.append(KUBERNETES_FINALIZER)
            new["status"] = {"phase": "Active"}
            new["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = new["metadata"]["name"]


class SigningRequester:
    """Who asks for a certificate is written by the server, not by the one who asks."""

    async def admit(self, call: Call, new: Tree | None, old: Tree | None) -> None:
        """Notes the caller in the spec of a new request."""
        if call.verb != "create" or new is None or call.kind is not kind_of(CertificateSigningRequest):
            return
        spec = new.setdefault("spec", {})
        for name in ("uid", "extra"):
            spec.pop(name, None)
        spec["username"], spec["groups"] = call.user.name, list(call.user.groups)
        if call.user.uid:
            spec["uid"] = call.user.uid


def _immutable(new: Tree, old: Tree | None, names: tuple[str, ...]) -> list[Cause]:
    if old is None or not old.get("immutable"):
        return []
    found = [
        causes.forbidden(name, "field is immutable when `immutable` is set")
        for name in names
        if new.get(name) != old.get(name)
    ]
    if not new.get("immutable"):
        found.append(causes.forbidden("immutable", "field is immutable when `immutable` is set"))
    return found


def _merge_finalizers(old: Tree, new: Tree) -> Tree:
    return {**old, "spec": new.get("spec", {})}


def _merge_approval(old: Tree, new: Tree) -> Tree:
    """The approval endpoint changes the conditions and nothing else."""
    status = {name: value for name, value in old.get("status", {}).items() if name != "conditions"}
    if conditions := new.get("status", {}).get("conditions"):
        status["conditions"] = conditions
    return {**old, "status": status}
