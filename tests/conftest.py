"""Which tests may run beside each other (`pytest -n 2 --dist loadgroup`): those of one component follow each other.

A test's sweep removes what a killed run of the same component left, so two workers must not share a component.
"""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent
SHARED = {"metalnet": "dpservice"}  # metalnet's packets go through dpservice's namespaces

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("ferrite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ferrite")


# gRPC's threads go when its last object does, and come back in the network namespace of whichever thread makes, or only
# frees, the next one; this one keeps those that the main thread began.
_grpc_threads = grpc.insecure_channel("unix:/nonexistent")
_grpc_threads.subscribe(lambda _: None, try_to_connect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test with its group."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item.path.relative_to(ROOT))))


def group_of(path: Path) -> str:
    """The group of a test file, given relative to this folder: a component, or the file itself if it shares nothing."""
    level, component = path.parts[0], path.parts[1]
    if level == "integration" and component == "core":
        return f"core-{path.parts[2]}"
    if level == "integration":
        return SHARED.get(component, component)
    return str(path)
