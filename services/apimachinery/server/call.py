"""One request, whichever door it came through."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from services.apimachinery.schema.decode import FieldValidation
from services.apimachinery.server.auth.authorizer import Attributes
from services.apimachinery.server.auth.identity import User
from services.apimachinery.server.resource import Resource


@dataclass
class Call:
    """Who wants what. `warnings` are told to the client beside the answer."""

    user: User
    verb: str
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    dry_run: bool = False
    field_manager: str = ""
    force: bool = False
    validation: FieldValidation = FieldValidation.IGNORE
    warnings: list[str] = field(default_factory=list)
    # Keys outside of the object on which the write depends, with their mod revisions (admission fills them).
    guards: dict[bytes, int] = field(default_factory=dict)

    @property
    def kind(self) -> Any:
        """The requested kind."""
        return self.resource.kind

    @property
    def attributes(self) -> Attributes:
        """What an authorizer is asked."""
        return Attributes(
            self.verb,
            self.kind.group,
            self.kind.plural,
            self.subresource,
            self.namespace,
            self.name,
            self.kind.version,
        )


@dataclass(frozen=True)
class DeleteOptions:
    """How to delete: conditions, and what becomes of the objects that the deleted one owns."""

    uid: str = ""
    resource_version: str = ""
    propagation: str = ""  # Background (also when empty), Foreground or Orphan
    grace_seconds: int | None = None
