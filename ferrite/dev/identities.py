"""Who gets a certificate in a cluster: the users and groups that RBAC grants rights to. Pure."""

from __future__ import annotations

from typing import Final

from ferrite.dev.certificates import Identity
from ferrite.dev.plan import ClusterPlan

PARTITION: Final = "dev"
NET_NAMESPACE: Final = "default"
VOLUME_POOL: Final = "ceph"


def identities(plan: ClusterPlan) -> dict[str, Identity]:
    """Who gets a certificate, by file name: user and groups are what RBAC grants rights to."""
    control = (str(plan.control.ip), "localhost", "127.0.0.1")
    found = {
        "admin": Identity("admin", ("system:masters",)),
        "core-apiserver": Identity("ferrite:core-apiserver", (), control),
        "net-apiserver": Identity("ferrite:net-apiserver", ("core.ironcore.dev:system:apiservers",), control),
        "metalnet-apiserver": Identity("ferrite:metalnet-apiserver", ("core.ironcore.dev:system:apiservers",), control),
        "core-controllers": Identity("ferrite:core-controllers", ("core.ironcore.dev:system:controllers",)),
        "apinetlet": Identity(
            f"apinet.ironcore.dev:system:apinetlet:{NET_NAMESPACE}",
            ("apinet.ironcore.dev:system:apinetlets", "networking.ironcore.dev:system:networkplugins"),
        ),
        "metalnetlet": Identity(
            f"apinet.ironcore.dev:system:metalnetlet:{PARTITION}", ("apinet.ironcore.dev:system:metalnetlets",)
        ),
        "metalbond": Identity("ferrite:metalbond", (), (str(plan.fabric.management),)),
        "volumepoollet": Identity(
            f"storage.ironcore.dev:system:volumepool:{VOLUME_POOL}", ("storage.ironcore.dev:system:volumepools",)
        ),
    }
    for node in plan.hypervisors:
        found[f"{node.name}-agent"] = Identity(
            f"metalnet.ironcore.dev:system:agent:{node.name}", ("metalnet.ironcore.dev:system:agents",)
        )
        found[f"{node.name}-provider"] = Identity(
            f"apinet.ironcore.dev:system:machineprovider:{node.name}",
            ("apinet.ironcore.dev:system:machineproviders",),
        )
        found[f"{node.name}-poollet"] = Identity(
            f"compute.ironcore.dev:system:machinepool:{node.name}", ("compute.ironcore.dev:system:machinepools",)
        )
    return found
