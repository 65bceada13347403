"""Unmodified kubectl, Debian 12's and a current one, over mTLS."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.core.apiserver.conftest import Kubectl

SAMPLES = {
    "configmaps": {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"}},
    "secrets": {"apiVersion": "v1", "kind": "Secret", "data": {"password": "aHVudGVyMg=="}},
    "leases.coordination.k8s.io": {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15},
    },
    "machines.compute.ironcore.dev": {
        "apiVersion": "compute.ironcore.dev/v1alpha1",
        "kind": "Machine",
        "spec": {
            "machineClassRef": {"name": "small"},
            "volumes": [{"name": "root", "device": "oda", "localDisk": {"image": "debian"}}],
        },
    },
    "volumes.storage.ironcore.dev": {
        "apiVersion": "storage.ironcore.dev/v1alpha1",
        "kind": "Volume",
        "spec": {"volumeClassRef": {"name": "fast"}, "resources": {"storage": "1Gi"}},
    },
    "networks.networking.ironcore.dev": {
        "apiVersion": "networking.ironcore.dev/v1alpha1",
        "kind": "Network",
        "spec": {},
    },
    "networkinterfaces.networking.ironcore.dev": {
        "apiVersion": "networking.ironcore.dev/v1alpha1",
        "kind": "NetworkInterface",
        "spec": {"networkRef": {"name": "blue"}, "ipFamilies": ["IPv4"], "ips": [{"value": "10.0.0.1"}]},
    },
    "prefixes.ipam.ironcore.dev": {
        "apiVersion": "ipam.ironcore.dev/v1alpha1",
        "kind": "Prefix",
        "spec": {"prefix": "10.0.0.0/24"},
    },
}


def manifest(resource: str, name: str, **labels: str) -> str:
    return yaml.safe_dump({**SAMPLES[resource], "metadata": {"name": name, "labels": labels}})


@pytest.mark.parametrize("resource", SAMPLES)
async def test_the_life_of_an_object(new_kubectl: Kubectl, namespace: str, resource: str) -> None:
    await live(new_kubectl, namespace, resource)


@pytest.mark.parametrize("resource", ["secrets", "machines.compute.ironcore.dev"])
async def test_the_life_of_an_object_under_the_old_one(old: Kubectl, namespace: str, resource: str) -> None:
    """Each call takes it half a second, most of it for the OpenAPI document."""
    await live(old, namespace, resource)


async def live(kubectl: Kubectl, namespace: str, resource: str) -> None:
    """Everything that a person does to an object, from apply to delete."""
    in_namespace = ("-n", namespace)
    text = manifest(resource, "one", app="web")
    assert "created" in await kubectl(*in_namespace, "apply", "-f", "-", stdin=text)
    changed = manifest(resource, "one", app="web", tier="db")
    assert "configured" in await kubectl(*in_namespace, "apply", "-f", "-", stdin=changed)
    assert "unchanged" in await kubectl(*in_namespace, "apply", "-f", "-", stdin=changed)
    dry = await kubectl(*in_namespace, "apply", "--dry-run=server", "-f", "-", stdin=manifest(resource, "two"))
    assert "server dry run" in dry
    assert "serverside-applied" in await kubectl(
        *in_namespace, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=changed
    )
    assert "one" in await kubectl(*in_namespace, "get", resource, "-o", "wide", "-l", "tier=db")
    assert json.loads(await kubectl(*in_namespace, "get", resource, "one", "-o", "json"))["metadata"]["uid"]
    read = yaml.safe_load(await kubectl(*in_namespace, "get", resource, "one", "-o", "yaml"))
    assert read["metadata"]["labels"] == {"app": "web", "tier": "db"}
    assert await kubectl(*in_namespace, "get", resource, "-o", "jsonpath={.items[*].metadata.name}") == "one"
    for how, patch in (
        ("merge", {"metadata": {"annotations": {"a": "merge"}}}),
        ("strategic", {"metadata": {"annotations": {"b": "strategic"}}}),
        ("json", [{"op": "add", "path": "/metadata/annotations/c", "value": "json"}]),
    ):
        await kubectl(*in_namespace, "patch", resource, "one", f"--type={how}", "-p", json.dumps(patch))
    edited = await kubectl(*in_namespace, "edit", resource, "one", KUBE_EDITOR="sed -i s/strategic/edited/")
    assert "edited" in edited
    read = json.loads(await kubectl(*in_namespace, "get", resource, "one", "-o", "json"))
    notes = read["metadata"]["annotations"]
    assert (notes["a"], notes["b"], notes["c"]) == ("merge", "edited", "json")
    assert "one" in await kubectl(*in_namespace, "describe", resource, "one")
    assert "deleted" in await kubectl(*in_namespace, "delete", resource, "one", "--timeout=20s")
    assert "NotFound" in await kubectl(*in_namespace, "get", resource, "one", fails=True)


async def test_explain_reads_the_protos(kubectl: Kubectl) -> None:
    assert "machineClassRef" in await kubectl("explain", "machines.spec")
    assert "data" in await kubectl("explain", "secrets")


async def test_watch_streams_changes(kubectl: Kubectl, namespace: str) -> None:
    watch = await kubectl.watch("-n", namespace, "get", "configmaps", "-w", "--no-headers", "-o", "name")
    assert watch.stdout is not None
    await kubectl("-n", namespace, "create", "configmap", "seen")
    async with asyncio.timeout(60):
        assert await watch.stdout.readline() == b"configmap/seen\n"
    watch.terminate()
    await watch.wait()


async def test_unknown_fields_are_refused(new_kubectl: Kubectl, namespace: str) -> None:
    bad = yaml.safe_load(manifest("networks.networking.ironcore.dev", "blue"))
    bad["spec"] = {"colour": "blue"}
    said = await new_kubectl("-n", namespace, "apply", "-f", "-", stdin=yaml.safe_dump(bad), fails=True)
    assert "spec.colour" in said


async def test_invalid_objects_name_field_and_rule(kubectl: Kubectl, namespace: str) -> None:
    bad = yaml.safe_load(manifest("prefixes.ipam.ironcore.dev", "p"))
    bad["spec"] = {"prefix": "10.0.0.0/33"}
    said = await kubectl("-n", namespace, "create", "-f", "-", stdin=yaml.safe_dump(bad), fails=True)
    assert "spec.prefix: Invalid value" in said


@pytest.mark.parametrize("created_as", ["v1", "events.k8s.io/v1"])
async def test_events_are_one_thing_in_two_groups(kubectl: Kubectl, namespace: str, created_as: str) -> None:
    await kubectl("-n", namespace, "create", "-f", "-", stdin=manifest("machines.compute.ironcore.dev", "vm"))
    machine = json.loads(await kubectl("-n", namespace, "get", "machine", "vm", "-o", "json"))
    reference = {"apiVersion": machine["apiVersion"], "kind": "Machine", "name": "vm", "namespace": namespace}
    reference["uid"] = machine["metadata"]["uid"]
    event = {"kind": "Event", "apiVersion": created_as, "metadata": {"name": "vm.1"}, "type": "Normal"}
    event |= {"eventTime": "2026-01-02T03:04:05.000006Z", "reason": "Started", "action": "Start"}
    event |= {"reportingInstance": "test-1"}
    if created_as == "v1":
        event |= {"involvedObject": reference, "message": "it runs", "reportingComponent": "test.dev/x"}
    else:
        event |= {"regarding": reference, "note": "it runs", "reportingController": "test.dev/x"}
    await kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(event))
    core = json.loads(await kubectl("-n", namespace, "get", "events", "vm.1", "-o", "json"))
    newer = json.loads(await kubectl("-n", namespace, "get", "events.v1.events.k8s.io", "vm.1", "-o", "json"))
    assert core["metadata"]["uid"] == newer["metadata"]["uid"]
    assert (core["involvedObject"], core["message"]) == (newer["regarding"], newer["note"])
    assert core["reportingComponent"] == newer["reportingController"] == "test.dev/x"
    assert "it runs" in await kubectl("-n", namespace, "describe", "machine", "vm")
    assert "it runs" in await kubectl("-n", namespace, "get", "events")


async def test_deletion_waits_for_finalizers(kubectl: Kubectl, namespace: str) -> None:
    held = yaml.safe_load(manifest("configmaps", "held"))
    held["metadata"]["finalizers"] = ["test.dev/hold"]
    await kubectl("-n", namespace, "create", "-f", "-", stdin=yaml.safe_dump(held))
    await kubectl("-n", namespace, "delete", "configmap", "held", "--wait=false")
    read = json.loads(await kubectl("-n", namespace, "get", "configmap", "held", "-o", "json"))
    assert read["metadata"]["deletionTimestamp"]
    patch = '{"metadata":{"finalizers":null}}'
    await kubectl("-n", namespace, "patch", "configmap", "held", "--type=merge", "-p", patch)
    assert "NotFound" in await kubectl("-n", namespace, "get", "configmap", "held", fails=True)


async def test_namespaces_take_their_content_along(kubectl: Kubectl, namespace: str) -> None:
    for resource in ("configmaps", "machines.compute.ironcore.dev"):
        await kubectl("-n", namespace, "create", "-f", "-", stdin=manifest(resource, "x"))
    await kubectl("delete", "namespace", namespace, "--timeout=20s")
    assert "NotFound" in await kubectl("get", "namespace", namespace, fails=True)
    said = await kubectl("-n", namespace, "create", "configmap", "late", fails=True)
    assert f'namespaces "{namespace}" not found' in said


async def test_certificate_requests_are_approved(kubectl: Kubectl, namespace: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node-1")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()
    spec = {"request": pem, "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]}
    tree = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "spec": spec}
    tree |= {"metadata": {"name": namespace}}
    spec["username"] = "somebody-else"
    await kubectl("create", "-f", "-", stdin=json.dumps(tree))
    read = json.loads(await kubectl("get", "csr", namespace, "-o", "json"))
    assert read["spec"]["username"] == "admin", "the server says who asks"
    assert "approved" in await kubectl("certificate", "approve", namespace)
    assert "Approved" in await kubectl("get", "csr", namespace)


async def test_the_caller_is_the_certificate(new_kubectl: Kubectl) -> None:
    assert "system:masters" in await new_kubectl("auth", "whoami")
    assert (await new_kubectl("auth", "can-i", "delete", "machines")).strip() == "yes"
