"""What the server refuses, as kubectl tells it: the field and the rule."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.support.kubectl import Cli
from tests.support.kubectl_samples import Samples, originals

KINDS = [sample.kind for sample in originals()]


def test_unknown_fields(cli: Cli, fresh: Samples) -> None:
    """The current one asks the server to be strict; the old one looks into the OpenAPI document by itself."""
    trees = {sample.kind: misspelt(sample.tree) for sample in fresh}
    place = fresh.written(fresh.place.with_suffix(".bad"), {kind: tree for kind, (tree, _) in trees.items()})
    if cli.old:  # it stops at the first
        calls = {kind: ["create", "-f", str(place / f"{kind.lower()}.yaml")] for kind in trees}
        said = {kind: each.err for kind, each in cli.each(calls).items()}
        assert [kind for kind in trees if 'unknown field "colour"' not in said[kind]] == []
    else:
        lines = cli.refused("create", "-n", fresh.namespace, "--validate=strict", "-f", place).splitlines()
        found = sorted(line.partition(f"{place}/")[2].partition('": ')[::2] for line in lines)
        assert [name for name, _ in found] == sorted(f"{kind.lower()}.yaml" for kind in trees)
        paths = {f"{kind.lower()}.yaml": path for kind, (_, path) in trees.items()}
        assert [name for name, line in found if f'unknown field "{paths[name]}"' not in line] == []
    assert not cli("get", *fresh.files, "--ignore-not-found", "-o", "name"), "nothing is stored"


def misspelt(tree: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The manifest with a field that the schema does not know, as deep as a spec goes, and the field's path."""
    bad = copy.deepcopy(tree)
    if "spec" in bad:
        bad["spec"]["colour"] = "blue"
        return bad, "spec.colour"
    bad["colour"] = "blue"
    return bad, "colour"


@pytest.mark.parametrize(
    ("kind", "patch", "message"),
    [
        ("CertificateSigningRequest", {"spec": {"signerName": "example.org/x"}}, "spec: Forbidden: field is immutable"),
        ("ClusterRoleBinding", {"roleRef": {"name": "x"}}, "roleRef: Forbidden: field is immutable"),
        ("RoleBinding", {"roleRef": {"name": "x"}}, "roleRef: Forbidden: field is immutable"),
        ("Secret", {"type": "Opaque"}, "type: Forbidden: field is immutable"),
        (
            "Machine",
            {"spec": {"machineClassRef": {"name": "x"}}},
            "spec.machineClassRef: Forbidden: field is immutable",
        ),
        ("Machine", {"spec": {"machinePoolRef": {"name": "x"}}}, "spec.machinePoolRef: Forbidden: field is immutable"),
        ("Machine", {"spec": {"guestConfig": {"hostname": "x"}}}, "spec.guestConfig: Forbidden: field is immutable"),
        ("MachineClass", {"capabilities": {"cpu": "4"}}, "capabilities: Forbidden: field is immutable"),
        ("MachinePool", {"spec": {"providerID": "x"}}, "spec.providerID: Forbidden: field is immutable"),
        ("Volume", {"spec": {"volumeClassRef": {"name": "x"}}}, "spec.volumeClassRef: Forbidden: field is immutable"),
        ("Volume", {"spec": {"volumePoolRef": {"name": "x"}}}, "spec.volumePoolRef: Forbidden: field is immutable"),
        ("Volume", {"spec": {"encryption": None}}, "spec.encryption: Forbidden: field is immutable"),
        ("VolumeClass", {"capabilities": {"iops": "4"}}, "capabilities: Forbidden: field is immutable"),
        ("VolumePool", {"spec": {"providerID": "x"}}, "spec.providerID: Forbidden: field is immutable"),
        ("VolumeSnapshot", {"spec": {"volumeRef": {"name": "x"}}}, "spec.volumeRef: Forbidden: field is immutable"),
        ("Bucket", {"spec": {"bucketClassRef": {"name": "x"}}}, "spec.bucketClassRef: Forbidden: field is immutable"),
        ("Bucket", {"spec": {"bucketPoolRef": {"name": "x"}}}, "spec.bucketPoolRef: Forbidden: field is immutable"),
        ("BucketClass", {"capabilities": {"tps": "4"}}, "capabilities: Forbidden: field is immutable"),
        ("BucketPool", {"spec": {"providerID": "x"}}, "spec.providerID: Forbidden: field is immutable"),
        ("Network", {"spec": {"providerID": "x"}}, "spec.providerID: Forbidden: field is immutable"),
        ("NetworkInterface", {"spec": {"networkRef": {"name": "x"}}}, "spec.networkRef: Forbidden: field is immutable"),
        ("NetworkInterface", {"spec": {"attributes": None}}, "spec.attributes: Forbidden: field is immutable"),
        ("NetworkPolicy", {"spec": {"networkRef": {"name": "x"}}}, "spec.networkRef: Forbidden: field is immutable"),
        ("VirtualIP", {"spec": {"ipFamily": "IPv6"}}, "spec.ipFamily: Forbidden: field is immutable"),
        ("LoadBalancer", {"spec": {"networkRef": {"name": "x"}}}, "spec.networkRef: Forbidden: field is immutable"),
        ("NATGateway", {"spec": {"networkRef": {"name": "x"}}}, "spec.networkRef: Forbidden: field is immutable"),
        ("Prefix", {"spec": {"prefix": "10.2.0.0/24"}}, "spec.prefix: Forbidden: field is immutable"),
        ("Prefix", {"spec": {"parentSelector": None}}, "spec.parentSelector: Forbidden: field is immutable"),
        ("PrefixAllocation", {"spec": {"prefixLength": 25}}, "spec.prefixLength: Forbidden: field is immutable"),
        ("PrefixAllocation", {"spec": {"prefixRef": {"name": "x"}}}, "spec.prefixRef: Forbidden: field is immutable"),
        ("Namespace", {"metadata": {"name": "x"}}, "metadata.name: Invalid value"),
    ],
)
def test_immutable_fields(cli: Cli, world: Samples, kind: str, patch: dict[str, Any], message: str) -> None:
    sample = world.all[kind]
    call = ["patch", "-n", world.namespace, sample.resource, sample.name, "--type=merge", "-p", json.dumps(patch)]
    assert message in cli.refused(*call)


@pytest.mark.parametrize(
    ("kind", "patch", "message"),
    [
        ("Machine", {"spec": {"power": "Maybe"}}, 'spec.power: Unsupported value: "Maybe"'),
        ("Lease", {"spec": {"leaseDurationSeconds": -1}}, "spec.leaseDurationSeconds: Invalid value: -1"),
        ("ClusterRole", {"rules": [{"apiGroups": ["x"]}]}, "rules[0].verbs: Required value"),
        ("ResourceQuota", {"spec": {"hard": {"pods": "1"}}}, 'spec.hard.pods: Unsupported value: "pods"'),
        ("LoadBalancer", {"spec": {"ports": [{"port": 0}]}}, "spec.ports[0].port: "),
        ("LoadBalancerRouting", {"destinations": [{"ip": "10.0.0"}]}, "destinations[0].ip: Invalid value"),
        (
            "NATGateway",
            {"spec": {"portsPerNetworkInterface": 100}},
            "spec.portsPerNetworkInterface: Invalid value: 100",
        ),
        ("Network", {"spec": {"peerings": [{"name": "A_"}]}}, "spec.peerings[0].name: Invalid value"),
    ],
)
def test_bad_values(cli: Cli, world: Samples, kind: str, patch: dict[str, Any], message: str) -> None:
    sample = world.all[kind]
    call = ["patch", "-n", world.namespace, sample.resource, sample.name, "--type=merge", "-p", json.dumps(patch)]
    assert message in cli.refused(*call)


def test_finalizers_of_a_namespace_stay(cli: Cli, world: Samples) -> None:
    """Else its content would outlive it: only the namespace controller lets go, by the finalize subresource."""
    name = world.all["Namespace"].name
    cli("patch", "namespace", name, "--type=merge", "-p", '{"spec":{"finalizers":[]}}')
    assert cli("get", "namespace", name, "-o", "jsonpath={.spec.finalizers}") == '["kubernetes"]'
