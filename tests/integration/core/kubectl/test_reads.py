"""Every verb that reads, on every kind, with both versions of kubectl."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from tests.support.kubectl import Cli
from tests.support.kubectl_samples import Sample, Samples, originals
from tests.support.processes import stop

WATCH_SECONDS = 30.0
WATCHES_AT_A_TIME = 8
KINDS = [sample.kind for sample in originals()]


def resources(samples: Iterable[Sample], separator: str = ",") -> str:
    """All resources as one argument; events are told apart by their groups."""
    return separator.join(sample.resource for sample in samples)


def names(output: str) -> set[str]:
    return set(output.split())


def every(samples: Iterable[Sample]) -> set[str]:
    return {sample.reference for sample in samples}


def test_get_by_name(cli: Cli, world: Samples) -> None:
    got = cli("get", "-n", world.namespace, *(f"{each.resource}/{each.name}" for each in world), "-o", "name")
    assert names(got) == every(world)
    said = cli.refused("get", "-n", world.namespace, *(f"{each.resource}/no-such" for each in world))
    assert [each.kind for each in world if f'{each.resource} "no-such" not found' not in said] == []


def test_lists(cli: Cli, world: Samples) -> None:
    listed = names(cli("get", "-n", world.namespace, resources(world), "-o", "name"))
    assert every(world) <= listed
    everywhere = json.loads(cli("get", "-A", resources(world), "-o", "json"))["items"]
    found = {(item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]) for item in everywhere}
    wanted = {(each.tree["kind"], world.namespace if each.namespaced else "", each.name) for each in world}
    assert wanted <= found
    assert {"default", "kube-system"} <= {name for kind, _, name in found if kind == "Namespace"}


def test_selectors(cli: Cli, world: Samples) -> None:
    cli("label", *world.files, "--overwrite", f"select={world.namespace}")
    by_label = cli("get", "-A", resources(world), "-o", "name", "-l", f"select in (x,{world.namespace}),!absent")
    # events are shown in both of their groups
    assert names(by_label) >= every(world)
    assert len(names(by_label)) == len(world.all) + 2
    event = world.all["Event.events.k8s.io"]
    by_name = cli("get", "-A", resources(world), "-o", "name", f"--field-selector=metadata.name={event.name}")
    assert names(by_name) == {event.reference, f"event/{event.name}"}
    name = next(iter(world)).name
    by_name = cli("get", "-A", resources(world), "-o", "name", f"--field-selector=metadata.name={name}")
    assert names(by_name) == every(world) - {event.reference} | {f"{event.printed}/{name}"}


@pytest.mark.parametrize(
    ("resource", "selector", "found"),
    [
        ("machines", "spec.machinePoolRef.name=hv-1,spec.machineClassRef.name=small", True),
        ("machines", "spec.machinePoolRef.name=", False),
        ("machines", "spec.machineClassRef.name!=small", False),
        ("volumes", "spec.volumePoolRef.name=ceph,spec.volumeClassRef.name=fast", True),
        ("volumes", "spec.volumePoolRef.name=", False),
        ("buckets", "spec.bucketPoolRef.name=rgw,spec.bucketClassRef.name=standard", True),
        ("secrets", "type=compute.ironcore.dev/ignition", True),
        ("secrets", "type=Opaque", False),
        ("events", "involvedObject.kind=Machine,involvedObject.name=web-1,type=Normal", True),
        ("events.events.k8s.io", "regarding.kind=Machine,reason=OutOfCapacity", True),
    ],
)
def test_field_selectors(cli: Cli, world: Samples, resource: str, selector: str, found: bool) -> None:
    said = cli("get", "-n", world.namespace, resource, "-o", "name", f"--field-selector={selector}")
    sample = next(each for each in world if each.resource.partition(".")[0] == resource or each.resource == resource)
    assert (sample.reference in names(said)) is found


def test_unknown_field_selectors(cli: Cli, world: Samples) -> None:
    said = cli.each({each.kind: ["get", each.resource, "-A", "--field-selector=spec.colour=blue"] for each in world})
    assert [kind for kind, each in said.items() if "spec.colour" not in each.err or each.code == 0] == []


def test_short_names(cli: Cli, world: Samples) -> None:
    short = {name: each for each in world for name in each.short_names if each.group != "events.k8s.io"}
    call = ["get", "-n", world.namespace, "-o", "name"]
    assert set(short) == {*("cm", "ev", "ns", "csr"), *("net", "nic", "netpol", "vip", "lb", "lbr", "lbrt", "ngw")}
    got = cli(*call, *(f"{name}/{each.name}" for name, each in short.items()))
    assert got.split() == [each.reference for each in short.values()]


def test_output_forms(cli: Cli, world: Samples) -> None:
    objects = {item["metadata"]["uid"]: item for item in json.loads(cli("get", *world.files, "-o", "json"))["items"]}
    assert len(objects) == len(world.all)
    as_yaml = yaml.safe_load(cli("get", *world.files, "-o", "yaml"))["items"]
    assert {item["metadata"]["uid"]: item["kind"] for item in as_yaml} == {
        uid: item["kind"] for uid, item in objects.items()
    }
    path = cli("get", *world.files, "-o", "jsonpath={range .items[*]}{.kind}/{.metadata.name}{'\\n'}{end}")
    assert names(path) == {f"{each.tree['kind']}/{each.name}" for each in world}
    columns = cli("get", *world.files, "-o", "custom-columns=UID:.metadata.uid,NO:.spec.noSuch", "--no-headers")
    assert {tuple(line.split()) for line in columns.splitlines()} == {(uid, "<none>") for uid in objects}
    template = cli("get", *world.files, "-o", "go-template={{range .items}}{{.metadata.uid}} {{end}}")
    assert names(template) == set(objects)
    newest_last = cli("get", *world.files, "--sort-by=.metadata.name", "-o", "name")
    assert names(newest_last) == every(world)
    wide = cli("get", "-n", world.namespace, resources(world), "-o", "wide", "--show-labels", "--show-kind")
    assert [each.kind for each in world if each.reference not in wide] == []
    sheets = cli("get", "-n", world.namespace, resources(world), "--chunk-size=1", "-o", "name")
    assert every(world) <= names(sheets)


def test_describe(cli: Cli, world: Samples) -> None:
    told = cli("describe", *world.files)
    assert [
        each.kind for each in world if not re.search(rf"^Name:\s+{re.escape(each.name)}$", told, re.MULTILINE)
    ] == []
    # a value from deep inside of some kinds: describers know the built-in ones, the others are shown as trees
    for text in (
        "encryptionKey:  32 bytes",
        "0b1c3c9e-8a2f-4a52-9a31-0c8b6b0b5f11",
        "gardenlinux",
        "machines.compute.ironcore.dev/status",
        "anna",
    ):
        assert text.lower() in told.lower()


NESTED = {
    "Namespace": "status.phase",
    "Secret": "data",
    "ConfigMap": "binaryData",
    "Event": "involvedObject.uid",
    "Event.events.k8s.io": "regarding.uid",
    "Lease": "spec.renewTime",
    "CertificateSigningRequest": "spec.usages",
    "ClusterRole": "rules.nonResourceURLs",
    "ClusterRoleBinding": "roleRef.name",
    "Role": "rules.verbs",
    "RoleBinding": "subjects.apiGroup",
    "ResourceQuota": "spec.scopeSelector.matchExpressions.operator",
    "Machine": "spec.volumes.ephemeral.volumeTemplate.spec.resources",
    "MachineClass": "capabilities",
    "MachinePool": "status.daemonEndpoints.machinepoolletEndpoint.port",
    "Volume": "status.access.volumeAttributes",
    "VolumeClass": "resizePolicy",
    "VolumePool": "spec.taints.effect",
    "VolumeSnapshot": "status.snapshotID",
    "Bucket": "status.access.endpoint",
    "BucketClass": "capabilities",
    "BucketPool": "status.availableBucketClasses.name",
    "Network": "spec.peerings.prefixes.prefixRef.name",
    "NetworkInterface": "spec.ips.ephemeral.prefixTemplate.spec.parentSelector.matchLabels",
    "NetworkPolicy": "spec.ingress.from.ipBlock.except",
    "VirtualIP": "spec.targetRef.uid",
    "LoadBalancer": "spec.ports.endPort",
    "LoadBalancerRouting": "destinations.targetRef.providerID",
    "NATGateway": "spec.portsPerNetworkInterface",
    "Prefix": "spec.parentRef.name",
    "PrefixAllocation": "spec.prefixSelector.matchExpressions.values",
}


def test_explain(cli: Cli, world: Samples) -> None:
    assert set(NESTED) == set(KINDS)

    def question(each: Sample, path: str = "", *more: str) -> list[str]:
        return ["explain", f"{each.plural}{path}", f"--api-version={each.tree['apiVersion']}", *more]

    nested = cli.each({each.kind: question(each, f".{NESTED[each.kind]}") for each in world})
    wanted = {kind: path.rpartition(".")[2] for kind, path in NESTED.items()}
    assert [kind for kind, said in nested.items() if not explains(said.out, wanted[kind])] == []
    plain = cli("explain", "machines")
    assert "<empty>" not in plain, "each field of a kind is described"
    trees = cli.each({each.kind: question(each, "", "--recursive") for each in world})
    assert {kind: described(said.out) for kind, said in trees.items()} == {
        each.kind: each.tree["kind"] for each in world
    }
    assert [
        kind for kind, said in trees.items() if not re.search(rf"^\s+{wanted[kind]}\s", said.out, re.MULTILINE)
    ] == []


def described(text: str) -> str:
    """The kind, if it is described."""
    found = re.search(r"^KIND:\s+(\S+)", text, re.MULTILINE)
    description = text.partition("DESCRIPTION:")[2].partition("FIELDS:")[0].strip()
    return found[1] if found and description not in ("", "<empty>") else ""


def explains(text: str, field: str) -> bool:
    """The field's type and a description."""
    found = re.search(rf"^(?:FIELD|RESOURCE):\s+{field}\s+<\S+>$", text, re.MULTILINE)
    return bool(found and text.partition("DESCRIPTION:")[2].strip() and "<empty>" not in text)


@pytest.mark.parametrize("first", range(0, len(KINDS), WATCHES_AT_A_TIME), ids=lambda at: KINDS[at])
def test_watch(cli: Cli, fresh: Samples, tmp_path: Path, first: int) -> None:
    """Watches of a few kinds at a time see their objects come, change and go."""
    chosen = [fresh.all[kind] for kind in KINDS[first : first + WATCHES_AT_A_TIME]]
    place = fresh.written(tmp_path / "chosen", {each.kind: each.tree for each in chosen})
    files = ("-n", fresh.namespace, "-f", str(place))
    logs = {each: tmp_path / f"{each.kind}.log" for each in chosen}
    watch = ["-n", fresh.namespace, "-w", "--output-watch-events"]
    processes = [cli.begin("get", each.resource, *watch, log=log) for each, log in logs.items()]
    try:
        for call, seen in (
            (("create", *files), "ADDED"),
            (("label", *files, "seen=yes"), "MODIFIED"),
            (("delete", *files), "DELETED"),
        ):
            cli(*call)
            await_lines(logs, seen)
    finally:
        for process in processes:
            stop(process)


def await_lines(logs: dict[Sample, Path], event: str) -> None:
    deadline = time.monotonic() + WATCH_SECONDS
    while True:
        late = [each.kind for each, log in logs.items() if not saw(log.read_text(), event, each.name)]
        if not late:
            return
        assert time.monotonic() < deadline, f"{event} was not seen by the watches of {late}: {logs}"
        time.sleep(0.05)


def saw(text: str, event: str, name: str) -> bool:
    return re.search(rf"^{event}\s+(.*\s)?{re.escape(name)}\s", text, re.MULTILINE) is not None
