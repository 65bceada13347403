"""What the tests of deployment files share."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from services.common.settings import ServiceSettings
from tools.settings_reference import COMMANDS

ROOT = Path(__file__).resolve().parents[3]


def settings_of(service: str, process: str) -> type[ServiceSettings]:
    """The settings of `ferrite SERVICE PROCESS`."""
    module, name = COMMANDS[f"{service} {process}"]
    found: type[ServiceSettings] = getattr(import_module(module), name)
    return found
