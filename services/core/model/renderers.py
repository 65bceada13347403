"""Cells of printer columns that no path can say. None prints what the column has for a missing value."""

from __future__ import annotations

from typing import Final

from services.apimachinery.schema.hooks import KindHooks
from services.apimachinery.schema.schema import Tree

SHOWN_TARGETS: Final = 3


def local_disk_image(machine: Tree) -> str | None:
    """The image of the first disk that has one."""
    images = (volume.get("localDisk", {}).get("image") for volume in machine.get("spec", {}).get("volumes", []))
    return next((image for image in images if image), None)


def available_classes(pool: Tree) -> str | None:
    """The names of the classes that a pool offers, sorted."""
    status = pool.get("status", {})
    members = ("availableMachineClasses", "availableVolumeClasses", "availableBucketClasses")
    return ",".join(sorted(item["name"] for member in members for item in status.get(member, []))) or None


def routing_targets(routing: Tree) -> str | None:
    """The first addresses of a load balancer's destinations, and how many more there are."""
    addresses = [destination.get("ip", "") for destination in routing.get("destinations", [])]
    rest = len(addresses) - SHOWN_TARGETS
    return ",".join(addresses[:SHOWN_TARGETS]) + (f" + {rest} more" if rest > 0 else "") or None


def prefix_request(allocation: Tree) -> str | None:
    """The range or the length that is asked for."""
    spec = allocation.get("spec", {})
    length = spec.get("prefixLength")
    return spec.get("prefix") or (f"/{length}" if length else None)


def interface_selector(policy: Tree) -> str:
    """A policy's selector in kubectl's notation."""
    selector = policy.get("spec", {}).get("networkInterfaceSelector", {})
    parts = [f"{key}={value}" for key, value in sorted(selector.get("matchLabels", {}).items())]
    parts += [_requirement(expression) for expression in selector.get("matchExpressions", [])]
    return ",".join(parts) or "<none>"


def quota_usage(quota: Tree) -> str:
    """`name: used/hard` of each limited name."""
    status = quota.get("status", {})
    used = status.get("used", {})
    return ", ".join(f"{name}: {used.get(name, '0')}/{hard}" for name, hard in sorted(status.get("hard", {}).items()))


def _requirement(expression: Tree) -> str:
    key, operator = expression.get("key", ""), expression.get("operator", "")
    if operator == "Exists":
        return str(key)
    if operator == "DoesNotExist":
        return f"!{key}"
    word = "in" if operator == "In" else "notin"
    return f"{key} {word} ({','.join(sorted(expression.get('values', [])))})"


class PoolHooks(KindHooks):
    """Machine, volume and bucket pools."""

    renderers = {"available-classes": available_classes}  # noqa: RUF012


class RoutingHooks(KindHooks):
    """LoadBalancerRouting."""

    renderers = {"routing-targets": routing_targets}  # noqa: RUF012
