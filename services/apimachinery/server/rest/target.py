"""What a URL of the API means. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A resource, perhaps one object of it and a subresource; `plural` is empty for a version's discovery."""

    group: str
    version: str
    plural: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    watch: bool = False


def parse_path(path: str, namespace_subresources: Sequence[str] = ("status", "finalize")) -> Target | None:
    """The target of `/api/v1/...` and `/apis/<group>/<version>/...`; None for any other path."""
    parts = [part for part in path.split("/") if part]
    if len(parts) >= 2 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 3 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    watch = rest[:1] == ["watch"]  # the old form of ?watch=true
    rest = rest[1:] if watch else rest
    namespace = ""
    # /namespaces/<name> and /namespaces/<name>/status are about the namespace itself.
    if rest[:1] == ["namespaces"] and len(rest) > 2 and not (len(rest) == 3 and rest[2] in namespace_subresources):
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3:
        return None
    plural, name, subresource = [*rest, "", "", ""][:3]
    return Target(group, version, plural, namespace, name, subresource, watch)
