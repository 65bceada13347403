"""What kubectl asks first: which groups, versions and resources are served."""

from __future__ import annotations

from collections.abc import Iterable

from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.registry import Resources
from services.apimachinery.server.resource import Resource

_SUBRESOURCE_VERBS = ["get", "patch", "update"]


def versions(address: str) -> Tree:
    """The answer to /api."""
    servers = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": servers}


def group_list(resources: Resources) -> Tree:
    """The answer to /apis."""
    groups = sorted({resource.kind.group for resource in resources if resource.kind.group})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(resources, name) for name in groups]}


def group(resources: Resources, name: str) -> Tree | None:
    """The answer to /apis/<group>; None for an unknown group."""
    if not any(resource.kind.group == name for resource in resources):
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(resources, name)}


def resource_list(resources: Resources, name: str, version: str) -> Tree | None:
    """The answer to /api/v1 and /apis/<group>/<version>; None when nothing is served there."""
    served = [item for item in resources if (item.kind.group, item.kind.version) == (name, version)]
    if not served:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{name}/{version}" if name else version,
        "resources": [entry for resource in served for entry in _entries(resource)],
    }


def _group(resources: Resources, name: str) -> Tree:
    versions = sorted({resource.kind.version for resource in resources if resource.kind.group == name})
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _entries(resource: Resource) -> Iterable[Tree]:
    kind = resource.kind
    entry: Tree = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.name,
        "verbs": list(resource.verbs),
    }
    if kind.rules.short_names:
        entry["shortNames"] = list(kind.rules.short_names)
    yield entry
    for name in resource.subresources:
        yield {
            "name": f"{kind.plural}/{name}",
            "singularName": "",
            "namespaced": kind.namespaced,
            "kind": kind.name,
            "verbs": ["update"] if name == "finalize" else _SUBRESOURCE_VERBS,
        }
