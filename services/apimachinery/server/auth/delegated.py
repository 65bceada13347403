"""Authorization by another API server: SubjectAccessReview, with a short memory for answers."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from protos.k8s.authentication.v1.token_review_pb2 import TokenReview
from protos.k8s.authorization.v1.subject_access_review_pb2 import SubjectAccessReview
from services.apimachinery.client.interface import Client
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.auth.authorizer import Attributes, Decision
from services.apimachinery.server.auth.identity import MASTERS, User

ALLOWED_SECONDS: Final = 10.0  # a revoked right lives on for as long
DENIED_SECONDS: Final = 5.0
MEMORY: Final = 10_000

Question = tuple[str, tuple[str, ...], Attributes]


class DelegatedAuthorizer:
    """Asks the server behind `client`; raises its ApiError (Unavailable) when it can't be asked."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._answers: OrderedDict[Question, tuple[float, Decision]] = OrderedDict()

    async def decide(self, user: User, what: Attributes) -> Decision:
        """The answer of the other server, or a remembered one."""
        if MASTERS in user.groups:
            return Decision(True, f"members of {MASTERS} may do everything")
        question = (user.name, user.groups, what)
        known = self._answers.get(question)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        answer = await self._client.create(_review(user, what))
        decision = Decision(answer.status.allowed and not answer.status.denied, answer.status.reason)
        seconds = ALLOWED_SECONDS if decision.allowed else DENIED_SECONDS
        self._answers[question] = (time.monotonic() + seconds, decision)
        self._answers.move_to_end(question)
        if len(self._answers) > MEMORY:
            self._answers.popitem(last=False)
        return decision

    async def rules(self, user: User, namespace: str) -> list[Tree] | None:
        """The other server answers questions only."""
        return None


class DelegatedTokens:
    """Bearer tokens are judged by the server behind `client`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def user(self, token: str) -> User | None:
        """The token's user, or None."""
        review = TokenReview()
        review.spec.token = token
        status = (await self._client.create(review)).status
        if not status.authenticated:
            return None
        return User(status.user.username, tuple(status.user.groups), status.user.uid)


def _review(user: User, what: Attributes) -> SubjectAccessReview:
    review = SubjectAccessReview()
    review.spec.user, review.spec.uid = user.name, user.uid
    review.spec.groups.extend(user.groups)
    if what.path:
        review.spec.non_resource_attributes.path = what.path
        review.spec.non_resource_attributes.verb = what.verb
        return review
    asked = review.spec.resource_attributes
    asked.verb, asked.group, asked.version, asked.resource = what.verb, what.group, what.version, what.resource
    asked.subresource, asked.namespace, asked.name = what.subresource, what.namespace, what.name
    return review
