"""Which class of the runtime a class of the API means. Pure."""

from __future__ import annotations

from collections.abc import Mapping

Capabilities = Mapping[str, int]


def match(name: str, wanted: Capabilities, offered: Mapping[str, Capabilities]) -> str | None:
    """The runtime's class of that name if it can exactly what is wanted, else the only class that can.

    None when no class can, or several can and none has the name: guessing could give a machine another size.
    """
    if name in offered and dict(offered[name]) == dict(wanted):
        return name
    same = [other for other, capabilities in offered.items() if dict(capabilities) == dict(wanted)]
    return same[0] if len(same) == 1 else None
