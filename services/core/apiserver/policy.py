"""Roles of the system's components, which the core API server keeps; also those for the kinds of net and metalnet.

A component's group is its role's name (client certificate: organisation = group, common name = user).
"""

from __future__ import annotations

from typing import Final

from services.apimachinery.server.auth.bootstrap import EVERYBODY, FULL, READ, WRITE, Grant, SystemRole

COMPUTE, STORAGE, NETWORKING, IPAM = (f"{word}.ironcore.dev" for word in ("compute", "storage", "networking", "ipam"))
APINET, METALNET = "core.apinet.ironcore.dev", "networking.metalnet.ironcore.dev"
CERTIFICATES: Final = "certificates.k8s.io"
CHANGE: Final = (*READ, "update", "patch")

EVENTS: Final = (
    Grant(("create", "patch", "update"), ["events"]),
    Grant(("create", "patch", "update"), ["events"], "events.k8s.io"),
)
LEASES: Final = Grant(FULL, ["leases"], "coordination.k8s.io")


def _signing(client: str) -> tuple[Grant, ...]:
    return (
        Grant(("create", "get", "list", "watch"), ["certificatesigningrequests"], CERTIFICATES),
        Grant(("create",), [f"certificatesigningrequests/{client}"], CERTIFICATES),
    )


MACHINE_POOLS: Final = SystemRole(
    "compute.ironcore.dev:system:machinepools",
    [
        Grant((*READ, *WRITE, "delete", "deletecollection"), ["secrets"]),
        Grant(READ, ["configmaps", "namespaces"]),
        *EVENTS,
        LEASES,
        *_signing("machinepoolclient"),
        Grant(("create",), ["tokenreviews"], "authentication.k8s.io"),
        Grant(("create",), ["subjectaccessreviews"], "authorization.k8s.io"),
        Grant(READ, ["machineclasses"], COMPUTE),
        Grant(FULL, ["machinepools"], COMPUTE),
        Grant(CHANGE, ["machines"], COMPUTE),
        Grant(("get", "patch", "update"), ["machines/status", "machinepools/status", "machines/finalizers"], COMPUTE),
        Grant(READ, ["prefixes"], IPAM),
        Grant(CHANGE, ["networkinterfaces"], NETWORKING),
        Grant(("get", "patch", "update"), ["networkinterfaces/status"], NETWORKING),
        Grant(READ, ["networks", "virtualips"], NETWORKING),
        Grant(CHANGE, ["volumes"], STORAGE),
    ],
    groups=["compute.ironcore.dev:system:machinepools"],
)


def _storage_pools(pools: str, classes: str, pool: str, objects: list[str], client: str) -> SystemRole:
    statuses = [f"{name}/status" for name in (pool, *objects)]
    return SystemRole(
        f"storage.ironcore.dev:system:{pools}",
        [
            Grant((*READ, *WRITE, "delete", "deletecollection"), ["secrets"]),
            Grant(READ, ["namespaces"]),
            *EVENTS,
            LEASES,
            *_signing(client),
            Grant(READ, [classes], STORAGE),
            Grant(FULL, [pool], STORAGE),
            Grant(CHANGE, objects, STORAGE),
            Grant(("get", "patch", "update"), [*statuses, *(f"{name}/finalizers" for name in objects)], STORAGE),
        ],
        groups=[f"storage.ironcore.dev:system:{pools}"],
    )


NETWORK_PLUGINS: Final = SystemRole(
    "networking.ironcore.dev:system:networkplugins",
    [
        *_signing("networkpluginclient"),
        *EVENTS,
        LEASES,
        Grant(READ, ["namespaces"]),
        Grant(READ, ["prefixes"], IPAM),
        Grant(CHANGE, ["*"], NETWORKING),
        Grant(("create", "delete"), ["loadbalancerroutings"], NETWORKING),
        Grant(("get", "patch", "update"), ["*/status", "*/finalizers"], NETWORKING),
    ],
    groups=["networking.ironcore.dev:system:networkplugins"],
)

POOL_LIFECYCLE: Final = SystemRole(
    "compute.ironcore.dev:system:pool-lifecycle-controllers",
    [
        Grant((*READ, "patch", "update", "delete"), ["machinepools"], COMPUTE),
        Grant(READ, ["machines"], COMPUTE),
    ],
    groups=["compute.ironcore.dev:system:pool-lifecycle-controllers"],
)

# The control plane's own processes (scheduler, controllers) work on all of core's kinds.
CONTROLLERS: Final = SystemRole(
    "core.ironcore.dev:system:controllers",
    [
        Grant(FULL, ["secrets", "configmaps", "events", "namespaces"]),
        Grant(FULL, ["events"], "events.k8s.io"),
        LEASES,
        Grant(FULL, ["*"], COMPUTE),
        Grant(FULL, ["*"], STORAGE),
        Grant(FULL, ["*"], NETWORKING),
        Grant(FULL, ["*"], IPAM),
        Grant(FULL, ["*"], "core.ironcore.dev"),
        Grant((*READ, "update", "patch"), ["certificatesigningrequests"], CERTIFICATES),
        Grant(("update", "patch"), ["certificatesigningrequests/approval"], CERTIFICATES),
        Grant(("approve", "sign"), ["signers"], CERTIFICATES),
        Grant(("create",), ["subjectaccessreviews"], "authorization.k8s.io"),
    ],
    groups=["core.ironcore.dev:system:controllers"],
)

# The API servers of net and metalnet ask this one who may do what, and which namespaces there are.
API_SERVERS: Final = SystemRole(
    "core.ironcore.dev:system:apiservers",
    [
        Grant(("create",), ["subjectaccessreviews"], "authorization.k8s.io"),
        Grant(("create",), ["tokenreviews"], "authentication.k8s.io"),
        Grant(READ, ["namespaces"]),
    ],
    groups=["core.ironcore.dev:system:apiservers"],
)

_POLICY: Final = ["networkpolicies", "networkpolicyrules"]
_BALANCING: Final = ["loadbalancers", "loadbalancerroutings"]

APINETLETS: Final = SystemRole(
    "apinet.ironcore.dev:system:apinetlets",
    [
        Grant(FULL, ["ips", *_BALANCING, "natgateways", "natgatewayautoscalers", *_POLICY, "networks"], APINET),
        Grant(CHANGE, ["networkinterfaces"], APINET),
        Grant(("get", "patch", "update"), ["*/status"], APINET),
        *_signing("apinetletclient"),
        *EVENTS,
        LEASES,
        Grant(READ, ["namespaces"]),
    ],
    groups=["apinet.ironcore.dev:system:apinetlets"],
)

METALNETLETS: Final = SystemRole(
    "apinet.ironcore.dev:system:metalnetlets",
    [
        Grant(FULL, ["nodes"], APINET),
        Grant(CHANGE, ["instances", "networkinterfaces", "networks"], APINET),
        Grant(("get", "patch", "update"), ["*/status", "*/finalizers"], APINET),
        Grant(READ, [*_BALANCING, "natgateways", "nattables", *_POLICY], APINET),
        Grant(FULL, ["*"], METALNET),
        Grant(CHANGE, ["nodes"]),
        *_signing("metalnetletclient"),
        *EVENTS,
        LEASES,
        Grant(READ, ["namespaces"]),
    ],
    groups=["apinet.ironcore.dev:system:metalnetlets"],
)

NET_CONTROLLERS: Final = SystemRole(
    "apinet.ironcore.dev:system:controllers",
    [
        Grant(FULL, ["instances", "loadbalancerroutings", "nattables", "networkpolicyrules"], APINET),
        Grant((*READ, *WRITE), ["daemonsets"], APINET),
        Grant(CHANGE, ["natgateways", "networkinterfaces"], APINET),
        Grant((*READ, "patch", "delete"), ["ipaddresses"], APINET),
        Grant((*READ, "delete"), ["networkids"], APINET),
        Grant(READ, ["ips", "loadbalancers", "natgatewayautoscalers", "networkpolicies", "networks", "nodes"], APINET),
        Grant(("get", "patch", "update"), ["*/status"], APINET),
        *EVENTS,
        LEASES,
        Grant(READ, ["namespaces"]),
    ],
    groups=["apinet.ironcore.dev:system:controllers"],
)

# The provider of machines attaches their interfaces in net's API.
MACHINE_PROVIDERS: Final = SystemRole(
    "apinet.ironcore.dev:system:machineproviders",
    [
        Grant(FULL, ["networkinterfaces"], APINET),
        Grant(READ, ["networks", "nodes"], APINET),
    ],
    groups=["apinet.ironcore.dev:system:machineproviders"],
)

# The agent of each hypervisor.
METALNET_AGENTS: Final = SystemRole(
    "metalnet.ironcore.dev:system:agents",
    [
        Grant(CHANGE, ["*"], METALNET),
        Grant(("get", "patch", "update"), ["*/status", "*/finalizers"], METALNET),
        Grant((*READ, *WRITE), ["nodes"]),
        Grant(("get", "patch", "update"), ["nodes/status"]),
        *EVENTS,
        LEASES,
        Grant(READ, ["namespaces"]),
    ],
    groups=["metalnet.ironcore.dev:system:agents"],
)

SYSTEM_ROLES: Final = (
    *EVERYBODY,
    MACHINE_POOLS,
    _storage_pools("volumepools", "volumeclasses", "volumepools", ["volumes", "volumesnapshots"], "volumepoolclient"),
    _storage_pools("bucketpools", "bucketclasses", "bucketpools", ["buckets"], "bucketpoolclient"),
    NETWORK_PLUGINS,
    POOL_LIFECYCLE,
    CONTROLLERS,
    API_SERVERS,
    APINETLETS,
    METALNETLETS,
    NET_CONTROLLERS,
    MACHINE_PROVIDERS,
    METALNET_AGENTS,
)
