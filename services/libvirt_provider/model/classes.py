"""Machine classes: what a pool offers, and how many machines of each the host holds in total."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.apimachinery.schema.quantity import Quantity

CPU: Final = "cpu"
MEMORY: Final = "memory"


@dataclass(frozen=True)
class MachineClass:
    """One class: its resources in whole units (CPUs, bytes), `cpu` and `memory` among them."""

    name: str
    resources: Mapping[str, int]

    @property
    def cpus(self) -> int:
        """Virtual CPUs."""
        return self.resources[CPU]

    @property
    def memory(self) -> int:
        """Guest memory, bytes."""
        return self.resources[MEMORY]


@dataclass(frozen=True)
class HostResources:
    """What the host gives to guests: CPUs (overcommitment included) and bytes of memory (reserve deducted)."""

    cpus: int
    memory: int


def parse_classes(document: Any) -> dict[str, MachineClass]:
    """Reads a list of objects shaped like MachineClass (`metadata.name`, `capabilities`), by name.

    Fractions are rounded up, as clients of the runtime interface do. Raises ValueError naming entry and rule.
    """
    if not isinstance(document, list):
        raise ValueError("the machine classes must be a list of objects with metadata.name and capabilities")
    classes: dict[str, MachineClass] = {}
    for index, entry in enumerate(document):
        parsed = _class(f"[{index}]", entry)
        if parsed.name in classes:
            raise ValueError(f"[{index}].metadata.name: {parsed.name!r} stands twice")
        classes[parsed.name] = parsed
    return classes


def quantity(machine_class: MachineClass, host: HostResources) -> int:
    """How many machines of the class the whole host holds: the total, running ones are not deducted."""
    return min(host.cpus // machine_class.cpus, host.memory // machine_class.memory)


def _class(where: str, entry: Any) -> MachineClass:
    metadata = entry.get("metadata") if isinstance(entry, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise ValueError(f"{where}.metadata.name: must be a non-empty string")
    capabilities = entry.get("capabilities")
    if not isinstance(capabilities, dict):
        raise ValueError(f"{where}.capabilities: must be a map from resource to quantity")
    resources = {str(key): _amount(f"{where}.capabilities.{key}", value) for key, value in capabilities.items()}
    for key in (CPU, MEMORY):
        if key not in resources:
            raise ValueError(f"{where}.capabilities.{key}: must be given")
    return MachineClass(name, resources)


def _amount(where: str, value: Any) -> int:
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError(f"{where}: {value!r} is not a quantity")
    try:
        amount = Quantity.parse(str(value)).value
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if amount <= 0:
        raise ValueError(f"{where}: must be greater than zero")
    return amount
