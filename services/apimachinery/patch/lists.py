"""Lists whose items have an identity: keys, and the order of a merge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def interleaved(items: Sequence[T], key: Callable[[T], Any], wanted: Sequence[Any], before: Sequence[Any]) -> list[T]:
    """Items in an order that a patch wants, with those it doesn't speak of where they stood relative to the others.

    `wanted` are the keys in the patch's order, `before` the keys of the list as it was.
    """
    by_key = {key(item): item for item in items}
    rank = {each: at for at, each in enumerate(before)}
    chosen = [each for each in dict.fromkeys(wanted) if each in by_key]
    others = sorted((each for each in by_key if each not in set(chosen)), key=lambda each: rank.get(each, len(rank)))
    order: list[Any] = []
    for each in chosen:
        while others and each in rank and rank.get(others[0], len(rank)) < rank[each]:
            order.append(others.pop(0))
        order.append(each)
    return [by_key[each] for each in order + others]


def hashable(value: Any) -> Any:
    """A stand-in for a JSON scalar that keeps true apart from 1."""
    return (type(value).__name__, repr(value)) if isinstance(value, bool | dict | list) else value
