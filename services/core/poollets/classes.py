"""Which class of the runtime a class of the API means, and how much of it a pool has. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.apimachinery.schema.quantity import Quantity

Capabilities = Mapping[str, int]


@dataclass(frozen=True)
class Share:
    """How much of a class a pool has in all, and how much of that is not promised to anybody."""

    capacity: int
    allocatable: int


def capabilities(resources: Mapping[str, str]) -> dict[str, int]:
    """A class's capabilities as a runtime counts them: whole numbers, rounded up."""
    return {name: Quantity.parse(value).value for name, value in resources.items()}


def match(name: str, wanted: Capabilities, offered: Mapping[str, Capabilities]) -> str | None:
    """The runtime's class of that name if it can exactly what is wanted, else the only class that can.

    None when no class can, or several can and none has the name: guessing could give a machine another size.
    """
    if name in offered and dict(offered[name]) == dict(wanted):
        return name
    same = [other for other, capabilities in offered.items() if dict(capabilities) == dict(wanted)]
    return same[0] if len(same) == 1 else None


def shares(
    wanted: Mapping[str, Capabilities],
    offered: Mapping[str, Capabilities],
    quantities: Mapping[str, int],
    used: Mapping[str, int],
) -> dict[str, Share]:
    """What a pool publishes, by name of the API's class and in its order; only classes that the runtime has."""
    found = {}
    for name in sorted(wanted):
        runtime_class = match(name, wanted[name], offered)
        if runtime_class is not None:
            total = quantities[runtime_class]
            found[name] = Share(total, max(0, total - used.get(name, 0)))
    return found
