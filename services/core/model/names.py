"""Names of objects that are made for other objects, and the keys that mark them."""

from __future__ import annotations

from typing import Final

EPHEMERAL_MANAGED_BY: Final = "common.ironcore.dev/ephemeral-managed-by"
"""Annotation of objects that a controller made from a template of their owner."""
EPHEMERAL_MANAGER: Final = "ephemeral-manager"
"""Its value."""

ARCHITECTURE_LABEL: Final = "common.ironcore.dev/architecture"
"""Label of a MachineClass: the architecture of operating system images that fit."""
REGION_LABEL: Final = "topology.ironcore.dev/region"
ZONE_LABEL: Final = "topology.ironcore.dev/zone"
TOPOLOGY_LABELS: Final = (REGION_LABEL, ZONE_LABEL)

REQUESTER_LABEL: Final = "ipam.ironcore.dev/requester-uid"
"""Label of a PrefixAllocation: the uid of the Prefix that asks."""

MACHINE_CLASS_FINALIZER: Final = "compute.ironcore.dev/machineclass"
VOLUME_CLASS_FINALIZER: Final = "storage.ironcore.dev/volumeclass"
BUCKET_CLASS_FINALIZER: Final = "storage.ironcore.dev/bucketclass"
NETWORK_FINALIZER: Final = "networking.ironcore.dev/network"
PREFIX_FINALIZER: Final = "ipam.ironcore.dev/prefix"

MACHINE_POOL_LEASES: Final = "ironcore-machinepool-lease"
"""Namespace of the machine pools' heartbeat leases; each has the name of its pool."""


def machine_child(machine: str, item: str) -> str:
    """The ephemeral NetworkInterface or Volume of a machine's item."""
    return f"{machine}-{item}"


def ip_prefix(owner: str, index: int) -> str:
    """The ephemeral Prefix behind ips[index] of a NetworkInterface or LoadBalancer."""
    return f"{owner}-{index}"


def routed_prefix(interface: str, index: int) -> str:
    """The ephemeral Prefix behind prefixes[index] of a NetworkInterface."""
    return f"{interface}-pf-{index}"


def class_key(resource: str, class_name: str) -> str:
    """The key of a class in a pool's capacity; `resource` is `machine` or `volume`."""
    return f"class/{resource}.{class_name}"
