"""What kubectl finds out about the server: resources, versions, rights."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

import pytest

from tests.support.kubectl import Cli
from tests.support.kubectl_samples import Sample, Samples, originals

VERBS = {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
REVIEWS = {
    ("selfsubjectreviews", "authentication.k8s.io/v1", "SelfSubjectReview"),
    ("tokenreviews", "authentication.k8s.io/v1", "TokenReview"),
    ("selfsubjectaccessreviews", "authorization.k8s.io/v1", "SelfSubjectAccessReview"),
    ("selfsubjectrulesreviews", "authorization.k8s.io/v1", "SelfSubjectRulesReview"),
    ("subjectaccessreviews", "authorization.k8s.io/v1", "SubjectAccessReview"),
}


def discovered(samples: Iterable[Sample]) -> set[tuple[str, str, str, bool, str]]:
    return {
        (each.plural, ",".join(each.short_names), each.tree["apiVersion"], each.namespaced, each.tree["kind"])
        for each in samples
    }


def test_resources(cli: Cli) -> None:
    text = cli("api-resources", "--cached=false", "-o", "wide")
    head, *lines = text.splitlines()
    columns = ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND", "VERBS"]
    starts = [head.index(name) for name in columns]
    found, reviews = set(), set()
    for line in lines:
        name, short, version, namespaced, kind, verbs = (
            line[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)
        )
        if set(re.findall(r"\w+", verbs)) >= VERBS:
            found.add((name, short, version, namespaced == "true", kind))
        else:
            assert re.findall(r"\w+", verbs) == ["create"], line
            reviews.add((name, version, kind))
    assert found == discovered(originals())
    assert reviews == REVIEWS


def test_versions(cli: Cli) -> None:
    wanted = {sample.tree["apiVersion"] for sample in originals()} | {version for _, version, _ in REVIEWS}
    assert set(cli("api-versions").split()) == wanted
    told = json.loads(cli("version", "-o", "json"))
    assert told["serverVersion"]["gitVersion"] == "v1.32.0+ferrite"


def test_raw_paths(cli: Cli) -> None:
    assert cli("get", "--raw", "/readyz") == "ok"
    group = json.loads(cli("get", "--raw", "/apis/compute.ironcore.dev/v1alpha1"))
    subresources = {item["name"] for item in group["resources"] if "/" in item["name"]}
    assert subresources == {"machines/status", "machinepools/status"}


def test_an_administrator_may_do_everything(cli: Cli, world: Samples) -> None:
    asked = {
        f"{verb} {each.kind}": ["auth", "can-i", verb, each.resource]
        for verb, each in zip(
            ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"] * 4, world, strict=False
        )
    }
    assert {call: said.out.strip() for call, said in cli.each(asked).items()} == dict.fromkeys(asked, "yes")


@pytest.mark.parametrize(
    ("verb", "resource", "may"),
    [
        ("get", "secrets/s", True),
        ("get", "secrets/other", False),
        ("list", "secrets", False),
        ("delete", "volumes.storage.ironcore.dev", True),
        ("update", "machines.compute.ironcore.dev/any", True),
        ("delete", "machines.compute.ironcore.dev", False),
        ("get", "/metrics", True),
        ("get", "/logs", False),
    ],
)
def test_rights_of_others(cli: Cli, rights: Samples, verb: str, resource: str, may: bool) -> None:
    said = cli.run("auth", "can-i", verb, resource, "-n", rights.namespace, "--as=anna")
    assert (said.out.strip().splitlines()[-1], said.code) == (("yes", 0) if may else ("no", 1)), str(said)


def test_others_are_held_to_their_rights(cli: Cli, rights: Samples) -> None:
    said = cli.refused("get", "secrets", "-n", rights.namespace, "--as=anna", "--as-group=team:red")
    assert 'User "anna" cannot list resource "secrets"' in said
    listed = cli("auth", "can-i", "--list", "-n", rights.namespace, "--as=anna")
    assert re.search(r"^secrets\s+\[\]\s+\[s\]\s+\[get watch\]$", listed, re.MULTILINE), listed
    assert re.search(r"^volumes.storage.ironcore.dev\s+\[\]\s+\[\]\s+\[\*\]$", listed, re.MULTILINE), listed
    everything = cli("auth", "can-i", "--list")
    assert re.search(r"^\*\.\*\s+\[\]\s+\[\]\s+\[\*\]$", everything, re.MULTILINE), everything


@pytest.fixture(scope="module")
def rights(cli: Cli, world: Samples) -> Samples:
    """Roles and bindings of the set, bound to each other; anna may read the Secret `s` and more."""
    role = {"rules": [*world.all["Role"].tree["rules"]]}
    role["rules"][0] = {**role["rules"][0], "resourceNames": ["s"]}
    names = {kind: world.all[kind].name for kind in ("Role", "ClusterRole")}
    cli("-n", world.namespace, "patch", "role", names["Role"], "--type=merge", "-p", json.dumps(role))
    for kind, binding in (("Role", "rolebinding"), ("ClusterRole", "clusterrolebinding")):
        name = f"{world.namespace}-anna"
        flag = f"--{kind.lower()}={names[kind]}"
        cli("-n", world.namespace, "create", binding, name, flag, "--user=anna")
    return world
