"""The question before each request: may this user do this?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from services.apimachinery.errors import Forbidden
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.auth.identity import MASTERS, User

EVERYTHING: Final[tuple[Tree, ...]] = (
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
)


@dataclass(frozen=True)
class Attributes:
    """What is asked for: a resource (`resource`, perhaps with subresource and name), or else a URL path."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    version: str = ""
    path: str = ""


@dataclass(frozen=True)
class Decision:
    """Allowed or not, and why."""

    allowed: bool
    reason: str = ""


class Authorizer(Protocol):
    """Answers; raises ApiError when it can't find out."""

    async def decide(self, user: User, what: Attributes) -> Decision:
        """Whether `user` may do `what`; whatever nobody allows is denied."""
        ...

    async def rules(self, user: User, namespace: str) -> list[Tree] | None:
        """What `user` may do in a namespace, as RBAC PolicyRules; None when that can't be listed."""
        ...


class AllowAll:
    """Everybody may do everything: only for servers started with an insecure flag."""

    async def decide(self, user: User, what: Attributes) -> Decision:
        """Yes."""
        return Decision(True, "authorization is switched off")

    async def rules(self, user: User, namespace: str) -> list[Tree] | None:
        """Everything."""
        return list(EVERYTHING)


async def require(authorizer: Authorizer, user: User, what: Attributes) -> None:
    """Raises Forbidden, in Kubernetes' words, unless the user may."""
    if MASTERS in user.groups:
        return
    decision = await authorizer.decide(user, what)
    if not decision.allowed:
        raise forbidden(user, what, decision.reason)


def forbidden(user: User, what: Attributes, reason: str = "") -> Forbidden:
    """The refusal; says what would have to be granted."""
    tail = f": {reason}" if reason else ""
    if what.path:
        return Forbidden(f'forbidden: User "{user.name}" cannot {what.verb} path "{what.path}"{tail}')
    resource = f"{what.resource}/{what.subresource}" if what.subresource else what.resource
    qualified = f"{what.resource}.{what.group}" if what.group else what.resource
    subject = f'{qualified} "{what.name}"' if what.name else qualified
    scope = f'in the namespace "{what.namespace}"' if what.namespace else "at the cluster scope"
    return Forbidden(
        f'{subject} is forbidden: User "{user.name}" cannot {what.verb} resource "{resource}" '
        f'in API group "{what.group}" {scope}{tail}',
        kind=what.resource,
        group=what.group,
        name=what.name,
    )
