"""What exists because of the cluster, by category, and what two looks differ in. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

# Category ("TAP claims", "RBD images", ...) → what there is of it; a name counts as often as it occurs.
Inventory = Mapping[str, Counter[str]]


def differences(before: Inventory, after: Inventory) -> dict[str, str]:
    """Category → what came (+) and what went (-); categories without a difference are left out."""
    found = {}
    for category in sorted(before.keys() | after.keys()):
        then, now = before.get(category, Counter()), after.get(category, Counter())
        words = [f"+{name}" for name in sorted((now - then).elements())]
        words += [f"-{name}" for name in sorted((then - now).elements())]
        if words:
            found[category] = " ".join(words)
    return found


def duplicates(owned: Iterable[tuple[str, str]]) -> list[str]:
    """(thing, owner) pairs → the things that have several owners, one phrase each."""
    owners: dict[str, set[str]] = {}
    for thing, owner in owned:
        owners.setdefault(thing, set()).add(owner)
    return [f"{thing} is of {' and '.join(sorted(who))}" for thing, who in sorted(owners.items()) if len(who) > 1]
