"""Rules of a kind that its schema can't say; services register one object of these beside each kind that has any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from services.apimachinery.errors import Cause
from services.apimachinery.schema.schema import Tree

Renderer = Callable[[Tree], Any]


class KindHooks:
    """Does nothing: a service overrides what its kind needs. Pure, called on canonical trees."""

    # Cells of printer columns that name a renderer; None prints the column's `missing`.
    renderers: ClassVar[Mapping[str, Renderer]] = {}

    def default(self, tree: Tree) -> None:
        """Fills in, in place, what depends on other fields; runs after the schema's defaults."""

    def validate(self, new: Tree, old: Tree | None) -> list[Cause]:
        """Broken rules across fields; `old` is None on create. Runs after the schema's rules, if those all hold."""
        return []
