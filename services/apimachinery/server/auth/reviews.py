"""Answers of the review kinds: may someone do something, who am I, whose token is this."""

from __future__ import annotations

from protos.k8s.authentication.v1.self_subject_review_pb2 import SelfSubjectReview
from protos.k8s.authentication.v1.token_review_pb2 import TokenReview
from protos.k8s.authorization.v1.self_subject_access_review_pb2 import SelfSubjectAccessReview
from protos.k8s.authorization.v1.self_subject_rules_review_pb2 import SelfSubjectRulesReview
from protos.k8s.authorization.v1.subject_access_review_pb2 import SubjectAccessReview
from services.apimachinery.errors import Invalid
from services.apimachinery.schema import causes
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.auth.authorizer import Attributes, Authorizer
from services.apimachinery.server.auth.identity import TokenAuthenticator, User
from services.apimachinery.server.resource import Definition


class Reviews:
    """The questions about rights; `authorizer` is set once the server has one."""

    authorizer: Authorizer

    def __init__(self, tokens: TokenAuthenticator | None = None) -> None:
        self._tokens = tokens

    def definitions(self) -> list[Definition]:
        """The kinds that are answered here."""
        return [
            Definition(SubjectAccessReview, answer=self._subject_access),
            Definition(SelfSubjectAccessReview, answer=self._self_access),
            Definition(SelfSubjectRulesReview, answer=self._self_rules),
            Definition(SelfSubjectReview, answer=_self_subject),
            Definition(TokenReview, answer=self._token),
        ]

    async def _subject_access(self, caller: User, tree: Tree) -> Tree:
        spec = tree["spec"]
        if not spec.get("user") and not spec.get("groups"):
            cause = causes.required("spec.user", "at least one of user or group must be specified")
            raise Invalid(f"SubjectAccessReview is invalid: {cause.field}: {cause.message}", [cause])
        user = User(spec.get("user", ""), tuple(spec.get("groups", ())), spec.get("uid", ""))
        return await self._decided(user, tree)

    async def _self_access(self, caller: User, tree: Tree) -> Tree:
        return await self._decided(caller, tree)

    async def _self_rules(self, caller: User, tree: Tree) -> Tree:
        rules = await self.authorizer.rules(caller, tree["spec"].get("namespace", ""))
        status: Tree = {"resourceRules": [], "nonResourceRules": [], "incomplete": rules is None}
        if rules is None:
            status["evaluationError"] = "the authorizer of this server does not list rules"
        for rule in rules or ():
            status["nonResourceRules" if "nonResourceURLs" in rule else "resourceRules"].append(rule)
        return {**tree, "status": status}

    async def _decided(self, user: User, tree: Tree) -> Tree:
        decision = await self.authorizer.decide(user, _attributes(tree["spec"]))
        status: Tree = {"allowed": decision.allowed}
        if decision.reason:
            status["reason"] = decision.reason
        return {**tree, "status": status}

    async def _token(self, caller: User, tree: Tree) -> Tree:
        user = await self._tokens.user(tree["spec"]["token"]) if self._tokens else None
        spec = {name: value for name, value in tree["spec"].items() if name != "token"}
        status: Tree = {"error": "the token is not valid"}
        if user is not None:
            status = {"authenticated": True, "user": _user_info(user)}
        return {**tree, "spec": {**spec, "token": ""}, "status": status}


async def _self_subject(caller: User, tree: Tree) -> Tree:
    return {**tree, "status": {"userInfo": _user_info(caller)}}


def _user_info(user: User) -> Tree:
    info: Tree = {"username": user.name, "groups": list(user.groups)}
    return {**info, "uid": user.uid} if user.uid else info


def _attributes(spec: Tree) -> Attributes:
    if "nonResourceAttributes" in spec:
        asked = spec["nonResourceAttributes"]
        return Attributes(asked.get("verb", ""), path=asked.get("path", ""))
    asked = spec.get("resourceAttributes", {})
    names = ("verb", "group", "resource", "subresource", "namespace", "name", "version")
    return Attributes(**{name: asked.get(name, "") for name in names})
