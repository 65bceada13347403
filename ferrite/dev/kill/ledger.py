"""What the API acknowledged, and whether the store still agrees. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Found:
    """An object as the API lists it."""

    uid: str
    deleting: bool


@dataclass
class Ledger:
    """Objects by `kind/name`. Between a request for deletion and its answer both outcomes are right."""

    created: dict[str, str] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    acknowledged: int = 0

    def note_created(self, key: str, uid: str) -> None:
        """The server answered: stored, as `uid`."""
        self.created[key] = uid
        self.deleted.discard(key)
        self.acknowledged += 1

    def note_deleting(self, key: str) -> None:
        """Deletion is about to be asked for."""
        self.created.pop(key, None)

    def note_deleted(self, key: str) -> None:
        """The server answered: deleted, or marked as deleting."""
        self.deleted.add(key)
        self.acknowledged += 1

    def lies(self, found: Mapping[str, Found], kinds: Set[str]) -> list[str]:
        """Acknowledged writes of these kinds that the server no longer knows, one phrase each."""
        wrong = []
        for key, uid in self.created.items():
            present = found.get(key)
            if key.partition("/")[0] not in kinds:
                continue
            if present is None:
                wrong.append(f"{key} was acknowledged and is gone")
            elif present.uid != uid:
                wrong.append(f"{key} is another object than the one acknowledged")
            elif present.deleting:
                wrong.append(f"{key} is being deleted and nobody asked for it")
        for key in self.deleted:
            if key.partition("/")[0] in kinds and key in found and not found[key].deleting:
                wrong.append(f"{key} was deleted and is back")
        return wrong
