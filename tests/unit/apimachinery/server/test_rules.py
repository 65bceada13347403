from __future__ import annotations

from typing import Any

import pytest

from services.apimachinery.server.auth.authorizer import Attributes, forbidden
from services.apimachinery.server.auth.identity import User
from services.apimachinery.server.auth.rules import Policy, Rule

COMPUTE = "compute.ironcore.dev"
READ = {"verbs": ["get", "list"], "apiGroups": [COMPUTE], "resources": ["machines"]}


@pytest.mark.parametrize(
    ("rule", "what", "granted"),
    [
        pytest.param(READ, Attributes("get", COMPUTE, "machines"), True, id="verb and resource"),
        pytest.param(READ, Attributes("delete", COMPUTE, "machines"), False, id="another verb"),
        pytest.param(READ, Attributes("get", "", "machines"), False, id="another group"),
        pytest.param(
            READ, Attributes("get", COMPUTE, "machines", "status"), False, id="a subresource is its own right"
        ),
        pytest.param(
            {**READ, "resources": ["*/status"]}, Attributes("get", COMPUTE, "machines", "status"), True, id="any status"
        ),
        pytest.param({**READ, "resources": ["*"]}, Attributes("get", COMPUTE, "x", "status"), True, id="everything"),
        pytest.param(
            {**READ, "resourceNames": ["a"]}, Attributes("get", COMPUTE, "machines", name="a"), True, id="a name"
        ),
        pytest.param({**READ, "resourceNames": ["a"]}, Attributes("list", COMPUTE, "machines"), False, id="no name"),
        pytest.param(
            {"verbs": ["get"], "nonResourceURLs": ["/apis/*"]}, Attributes("get", path="/apis/x"), True, id="URL prefix"
        ),
        pytest.param(
            {"verbs": ["get"], "nonResourceURLs": ["/apis"]}, Attributes("get", path="/apis/x"), False, id="URL"
        ),
        pytest.param(
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, Attributes("x", path="/"), False, id="no URL"
        ),
    ],
)
def test_rules(rule: dict[str, Any], what: Attributes, granted: bool) -> None:
    assert Rule.of(rule).grants(what) is granted


def role(name: str, namespace: str = "") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "rules": [READ]}


def binding(kind: str, name: str, subject: dict[str, str], namespace: str = "") -> dict[str, Any]:
    metadata = {"name": "b", "namespace": namespace}
    return {"metadata": metadata, "roleRef": {"kind": kind, "name": name}, "subjects": [subject]}


BOB = {"kind": "User", "name": "bob"}


@pytest.mark.parametrize(
    ("policy", "user", "namespace", "allowed"),
    [
        pytest.param(
            Policy.of([role("r")], [binding("ClusterRole", "r", BOB)], [], []), "bob", "any", True, id="cluster"
        ),
        pytest.param(
            Policy.of([role("r")], [], [], [binding("ClusterRole", "r", BOB, "a")]), "bob", "a", True, id="here"
        ),
        pytest.param(
            Policy.of([role("r")], [], [], [binding("ClusterRole", "r", BOB, "a")]), "bob", "b", False, id="there"
        ),
        pytest.param(
            Policy.of([], [], [role("r", "a")], [binding("Role", "r", BOB, "a")]), "bob", "a", True, id="Role"
        ),
        pytest.param(
            Policy.of([], [], [role("r", "b")], [binding("Role", "r", BOB, "a")]), "bob", "a", False, id="not ours"
        ),
        pytest.param(Policy.of([], [binding("ClusterRole", "r", BOB)], [], []), "bob", "a", False, id="no such role"),
        pytest.param(
            Policy.of([role("r")], [binding("ClusterRole", "r", BOB)], [], []), "eve", "a", False, id="another"
        ),
        pytest.param(
            Policy.of([role("r")], [binding("ClusterRole", "r", {"kind": "Group", "name": "team"})], [], []),
            "carol",
            "a",
            True,
            id="a group",
        ),
        pytest.param(
            Policy.of([role("r")], [binding("ClusterRole", "r", {"kind": "User", "name": "team"})], [], []),
            "carol",
            "a",
            False,
            id="a group is no user",
        ),
    ],
)
def test_policies(policy: Policy, user: str, namespace: str, allowed: bool) -> None:
    who = User(user, ("team",) if user == "carol" else ())
    assert (policy.allows(who, Attributes("get", COMPUTE, "machines", namespace=namespace)) is not None) is allowed


@pytest.mark.parametrize(
    ("what", "text"),
    [
        pytest.param(
            Attributes("get", COMPUTE, "machines", namespace="default", name="m1"),
            'machines.compute.ironcore.dev "m1" is forbidden: User "bob" cannot get resource "machines" in API group '
            '"compute.ironcore.dev" in the namespace "default"',
            id="an object",
        ),
        pytest.param(
            Attributes("list", "", "secrets"),
            'secrets is forbidden: User "bob" cannot list resource "secrets" in API group "" at the cluster scope',
            id="a list",
        ),
        pytest.param(
            Attributes("get", path="/metrics"), 'forbidden: User "bob" cannot get path "/metrics"', id="a URL"
        ),
    ],
)
def test_refusals_say_what_to_grant(what: Attributes, text: str) -> None:
    assert forbidden(User("bob"), what).message == text
