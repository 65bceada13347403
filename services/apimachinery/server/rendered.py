"""JSON that is kept with cached objects, within a budget of memory."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from services.apimachinery.store.watch_cache import Item

BUDGET_BYTES: Final = 128 * 1024 * 1024  # of all kinds of a server together


class Rendered:
    """What was made first is forgotten first: by then most of it belongs to old versions of objects."""

    def __init__(self, budget: int = BUDGET_BYTES) -> None:
        self._budget, self._used = budget, 0
        self._kept: deque[tuple[Item, Any, int]] = deque()

    def keep(self, item: Item, form: Any, made: bytes) -> None:
        """Keeps a form of an item with it."""
        item.rendered[form] = made
        self._kept.append((item, form, len(made)))
        self._used += len(made)
        while self._used > self._budget:
            old, old_form, size = self._kept.popleft()
            old.rendered.pop(old_form, None)
            self._used -= size
