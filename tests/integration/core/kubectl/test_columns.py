"""The printer columns of the core kinds: exact headers, the values of a full object and of an almost empty one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from tests.support.kubectl import Cli
from tests.support.kubectl_samples import Samples

IMAGE = "registry.example.org/os/gardenlinux:1443"
AGE = r"\d+[smh]\d*[sm]?"


@dataclass(frozen=True)
class Row:
    """`bare` is the rest of a manifest with required fields only; None where a full object says it all."""

    headers: str
    full: tuple[str, ...]
    bare: dict[str, Any] | None = None
    empty: tuple[str, ...] = ()


FAMILY = {"ipFamily": "IPv4"}
NETWORK = {"networkRef": {"name": "blue"}}
ROWS = {
    "Machine": Row(
        "NAME MACHINECLASSREF IMAGE MACHINEPOOLREF STATE AGE",
        ("small", IMAGE, "hv-1", "Running"),
        {"spec": {"machineClassRef": {"name": "small"}}},
        ("small", "<none>", "<none>", "Pending"),
    ),
    "MachineClass": Row("NAME CPU MEMORY AGE", ("2", "4Gi")),
    "MachinePool": Row("NAME MACHINECLASSES AGE", ("large,small",), {}, ("<none>",)),
    "Volume": Row(
        "NAME VOLUMEPOOLREF IMAGE VOLUMECLASS STATE AGE",
        ("ceph", IMAGE, "fast", "Available"),
        {},
        ("<none>", "<none>", "<none>", "Pending"),
    ),
    "VolumeClass": Row("NAME TPS IOPS AGE", ("100Mi", "1k")),
    "VolumePool": Row("NAME VOLUMECLASSES AGE", ("fast,slow",), {}, ("<none>",)),
    "VolumeSnapshot": Row(
        "NAME VOLUMEREF STATE AGE",
        ("data-1", "Ready"),
        {"spec": {"volumeRef": {"name": "v"}}},
        ("v", "Pending"),
    ),
    "Bucket": Row(
        "NAME BUCKETPOOLREF BUCKETCLASS STATE AGE",
        ("rgw", "standard", "Available"),
        {},
        ("<none>", "<none>", "Pending"),
    ),
    "BucketClass": Row("NAME TPS IOPS AGE", ("10Mi", "100")),
    "BucketPool": Row("NAME BUCKETCLASSES AGE", ("standard",), {}, ("<none>",)),
    "Network": Row(
        "NAME STATE PROVIDERID AGE", ("Available", "ironcore-net://default/blue/100/0b1c3c9e"), {}, ("<unknown>", "")
    ),
    "NetworkInterface": Row(
        "NAME NETWORK MACHINE IPS PREFIXES VIRTUALIP STATE AGE",
        ("blue", "web-1", "10.0.0.7,fd00::7", "10.0.8.0/24", "198.51.100.7", "Available"),
        {"spec": {**NETWORK, "ips": [{"value": "10.0.0.1"}]}},
        ("blue", "<none>", "<none>", "<none>", "<none>", "Pending"),
    ),
    "NetworkPolicy": Row(
        "NAME NETWORK NIC-SELECTOR AGE",
        ("blue", "app=web,tier in (back,front)"),
        {"spec": {**NETWORK, "policyTypes": ["Ingress"]}},
        ("blue", "<none>"),
    ),
    "VirtualIP": Row("NAME EXTERNALIP AGE", ("198.51.100.7",), {"spec": {"type": "Public", **FAMILY}}, ("None",)),
    "LoadBalancer": Row(
        "NAME IPS AGE",
        ("10.0.0.100",),
        {"spec": {"type": "Public", "ipFamilies": ["IPv4"], **NETWORK}},
        ("None",),
    ),
    "NATGateway": Row(
        "NAME IPS AGE",
        ("198.51.100.8,198.51.100.9",),
        {"spec": {"type": "Public", **FAMILY, **NETWORK}},
        ("None",),
    ),
    "LoadBalancerRouting": Row(
        "NAME TARGETS AGE",
        ("10.0.0.7,10.0.0.8,10.0.0.9 + 2 more",),
        {"networkRef": {"name": "blue", "uid": "u"}},
        ("<unset>",),
    ),
    "Prefix": Row(
        "NAME PREFIX PARENT PHASE AGE",
        ("10.1.0.0/24", "blue-range", "Allocated"),
        {"spec": {**FAMILY, "prefixLength": 24, "parentSelector": {}}},
        ("<none>", "<none>", "Pending"),
    ),
    "PrefixAllocation": Row(
        "NAME PREFIX REQUEST STATE RESULT AGE",
        ("blue-range", "/24", "Allocated", "10.1.0.0/24"),
        {"spec": {**FAMILY, "prefix": "10.0.0.0/24", "prefixSelector": {}}},
        ("<none>", "10.0.0.0/24", "Pending", "<unknown>"),
    ),
    "ResourceQuota": Row(
        "NAME REQUEST AGE", ("count/machines.compute.ironcore.dev: 2/10, requests.cpu: 4/20",), {}, ("",)
    ),
    # The built-in kinds, as kubectl users know them.
    "Namespace": Row("NAME STATUS AGE", ("Active",)),
    "Secret": Row("NAME TYPE DATA AGE", ("compute.ironcore.dev/ignition", "2"), {}, ("Opaque", "0")),
    "ConfigMap": Row("NAME DATA AGE", ("3",), {}, ("0",)),
    "Lease": Row("NAME HOLDER AGE", ("controllers-0",), {}, ("",)),
    "CertificateSigningRequest": Row(
        "NAME SIGNERNAME REQUESTOR REQUESTEDDURATION CONDITION AGE",
        ("kubernetes.io/kube-apiserver-client", "admin", "24h", "Pending"),
    ),
    "RoleBinding": Row("NAME ROLE AGE", ("Role/secret-reader",)),
    "ClusterRoleBinding": Row("NAME ROLE AGE", ("ClusterRole/machine-operator",)),
    "Role": Row("NAME AGE", ()),
    "ClusterRole": Row("NAME AGE", ()),
}


def tables(text: str) -> dict[str, list[list[str]]]:
    """The cells of the tables of one `get` by the resource that the names start with, headers first."""
    found = {}
    for block in text.rstrip("\n").split("\n\n"):
        head, *lines = block.splitlines()
        starts = [match.start() for match in re.finditer(r"\S+", head)]
        bounds = [*pairwise(starts), (starts[-1], None)]
        rows = [[line[start:end].strip() for start, end in bounds] for line in (head, *lines)]
        found[rows[1][0].partition("/")[0]] = rows
    return found


@pytest.fixture(scope="module")
def bare(cli: Cli, world: Samples) -> str:
    """The name of the objects that have required fields only, beside those of the world."""
    name = world.namespace.replace("t-", "bare-")
    trees = {
        kind: {**rest, "metadata": {"name": name}, "apiVersion": world.all[kind].tree["apiVersion"]}
        | {"kind": world.all[kind].tree["kind"]}
        for kind, row in ROWS.items()
        if (rest := row.bare) is not None
    }
    cli("create", "-n", world.namespace, "-f", world.written(world.place.with_suffix(".bare"), trees))
    return name


def test_columns(cli: Cli, world: Samples, bare: str) -> None:
    resources = ",".join(world.all[kind].resource for kind in ROWS)
    found = tables(cli("get", "-n", world.namespace, resources))
    for kind, row in ROWS.items():
        sample = world.all[kind]
        headers, *lines = found[sample.printed]
        assert headers == row.headers.split(), kind
        by_name = {name: rest for name, *rest in lines}
        *full, age = by_name[sample.reference]
        assert tuple(full) == row.full, kind
        assert re.fullmatch(AGE, age), kind
        if row.bare is not None:
            assert tuple(by_name[f"{sample.printed}/{bare}"][:-1]) == row.empty, f"{kind} without anything"
