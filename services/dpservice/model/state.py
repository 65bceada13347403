"""The state of a host's overlay and the rules that guard it: one class, made of one concern of the API each.

Every mutator checks in the order that clients know, raises a `Refusal` before anything is touched, and returns the
changes it made; `undo` takes them back. Limits are at least those of the original.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.dpservice.model.balancers import Balancers
from services.dpservice.model.captures import Captures
from services.dpservice.model.changes import AnyChange, inverted
from services.dpservice.model.concern import Limits
from services.dpservice.model.firewall import Firewall
from services.dpservice.model.interfaces import Interfaces, NewInterface
from services.dpservice.model.neighbors import Neighbors
from services.dpservice.model.prefixes import Prefixes
from services.dpservice.model.public_addresses import PublicAddresses
from services.dpservice.model.routes import Routes

__all__ = ["Limits", "Model", "NewInterface"]


class Model(Interfaces, Prefixes, Routes, PublicAddresses, Neighbors, Balancers, Firewall, Captures):
    """Everything that the API knows of one host. Pure; the caller programs the packets."""

    def rows(self) -> Iterator[AnyChange]:
        """Everything as if it had just appeared."""
        return self.tables.rows()

    def undo(self, changes: Sequence[AnyChange]) -> None:
        """Takes back what a mutator returned."""
        self.tables.put_all(inverted(changes))

    def restore(self, changes: Sequence[AnyChange]) -> None:
        """Puts recorded changes in without asking the rules again."""
        self.tables.put_all(changes)
