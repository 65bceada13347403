"""Which tests may run beside each other (`pytest -n 2`): those of one component follow each other.

A test's sweep removes what a killed run of the same component left, so two workers must not share a component.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parent
SHARED = {"metalnet": "dpservice"}  # metalnet's packets go through dpservice's namespaces

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("ferrite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ferrite")


class ByComponent(LoadScopeScheduling):
    """Gives a worker all tests of a group."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(Path(nodeid.partition("::")[0]).relative_to(ROOT.name))


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByComponent:
    """Asked for by pytest-xdist."""
    return ByComponent(config, log)


def group_of(path: Path) -> str:
    """The group of a test file, given relative to this folder: a component, or the file itself if it shares nothing."""
    level, component = path.parts[0], path.parts[1]
    if level == "integration" and component == "core":
        return f"core-{path.parts[2]}"
    if level == "integration":
        return SHARED.get(component, component)
    return str(path)
