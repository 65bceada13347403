"""Events exist in two groups, core/v1 and events.k8s.io/v1: the same stored objects in two forms. Pure."""

from __future__ import annotations

from typing import Final

from services.apimachinery.schema.schema import Tree

# events.k8s.io/v1 -> core/v1, which is stored as in Kubernetes; fields not listed have the same name in both.
_NAMES: Final = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_BACK: Final = {core: events for events, core in _NAMES.items()}
# Members of core/v1 that are written even when they are unset; events.k8s.io/v1 leaves them out.
_EMPTY_IN_CORE: Final = ("involvedObject", "firstTimestamp", "lastTimestamp", "reportingComponent", "source")


def to_core(tree: Tree) -> Tree:
    """The core/v1 form of an events.k8s.io/v1 Event."""
    core = {_NAMES.get(name, name): value for name, value in tree.items() if value is not None}
    return {**core, "apiVersion": "v1"}


def from_core(tree: Tree) -> Tree:
    """The events.k8s.io/v1 form of a core/v1 Event."""
    events: Tree = {}
    for name, value in tree.items():
        if name in _EMPTY_IN_CORE and not value:
            continue
        events[_BACK.get(name, name)] = value
    return {**events, "apiVersion": "events.k8s.io/v1"}
