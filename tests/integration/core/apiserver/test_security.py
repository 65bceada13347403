"""Who may do what, and what lies in etcd."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest
import yaml

from ferrite.dev.certificates import Authority, Identity
from protos.api.v1 import resources_pb2, resources_pb2_grpc
from protos.k8s.authentication.v1.self_subject_review_pb2 import SelfSubjectReview
from protos.k8s.core.v1.config_map_pb2 import ConfigMap
from protos.k8s.core.v1.secret_pb2 import Secret
from services.apimachinery.client.grpc import GrpcClient
from services.apimachinery.errors import Forbidden
from services.apimachinery.server.auth.authorizer import Attributes
from services.apimachinery.server.auth.delegated import DelegatedAuthorizer
from services.apimachinery.server.auth.identity import User
from services.apimachinery.store.etcd import Etcd, EtcdSettings
from tests.integration.core.apiserver.conftest import CoreServer, Kubectl
from tests.support.eventually import eventually

POOLS = "compute.ironcore.dev:system:machinepools"
POOLLET = Identity("compute.ironcore.dev:system:machinepool:one", (POOLS,))


@pytest.fixture
def as_bob(core: CoreServer, tmp_path: Path) -> Kubectl:
    current = shutil.which("kubectl")
    assert current is not None
    return Kubectl(Path(current), core.kubeconfig(core.identity("bob", Identity("bob", ("team",)))), tmp_path)


async def test_a_stranger_may_look_around_and_nothing_else(as_bob: Kubectl) -> None:
    assert "machines" in await as_bob("api-resources")
    assert "bob" in await as_bob("auth", "whoami")
    said = await as_bob("get", "machines", fails=True)
    assert (
        'machines.compute.ironcore.dev is forbidden: User "bob" cannot list resource "machines" in API group '
        '"compute.ironcore.dev" in the namespace "default"' in said
    )


async def test_a_role_grants_in_its_namespace(as_bob: Kubectl, new_kubectl: Kubectl, namespace: str) -> None:
    inside = ("-n", namespace)
    await new_kubectl(*inside, "create", "role", "reader", "--verb=get,list", "--resource=configmaps")
    await new_kubectl(*inside, "create", "rolebinding", "reader", "--role=reader", "--group=team")

    async def reads() -> bool:
        return (await as_bob(*inside, "auth", "can-i", "list", "configmaps")).strip() == "yes"

    await eventually(reads)
    await as_bob(*inside, "get", "configmaps")
    assert "cannot create" in await as_bob(*inside, "create", "configmap", "x", fails=True)
    assert "cannot list" in await as_bob("-n", "default", "get", "configmaps", fails=True)


async def test_apply_needs_the_right_to_create(as_bob: Kubectl, new_kubectl: Kubectl, namespace: str) -> None:
    inside = ("-n", namespace)
    await new_kubectl(*inside, "create", "role", "patcher", "--verb=get,patch", "--resource=configmaps")
    await new_kubectl(*inside, "create", "rolebinding", "patcher", "--role=patcher", "--user=bob")
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}})
    said = await as_bob(*inside, "apply", "--server-side", "--validate=false", "-f", "-", stdin=text, fails=True)
    assert 'cannot create resource "configmaps"' in said


async def test_components_have_their_rights(core: CoreServer) -> None:
    client = GrpcClient(core.grpc, tls=core.identity("pollet", POOLLET))
    review = SelfSubjectReview()
    assert POOLS in (await client.create(review)).status.user_info.groups
    await client.list(Secret)
    with pytest.raises(Forbidden, match="cannot delete resource"):
        await client.delete(ConfigMap, "x", "default")
    await client.close()


async def test_rights_are_asked_for_by_other_servers(core: CoreServer) -> None:
    identity = Identity("net-apiserver", ("core.ironcore.dev:system:apiservers",))
    client = GrpcClient(core.grpc, tls=core.identity("net-apiserver", identity))
    authorizer = DelegatedAuthorizer(client)
    poollet = User(POOLLET.user, POOLLET.groups)
    machines = Attributes("list", "compute.ironcore.dev", "machines")
    allowed = await authorizer.decide(poollet, machines)
    assert (allowed.allowed, "machinepools" in allowed.reason) == (True, True)
    assert not (await authorizer.decide(User("bob"), machines)).allowed
    await client.close()


def test_without_certificate_only_health_is_told(core: CoreServer) -> None:
    context = ssl.create_default_context(cafile=str(core.admin_tls.ca))
    with urllib.request.urlopen(f"https://{core.rest}/healthz", context=context) as answer:
        assert answer.read() == b"ok"
    for path in ("/api/v1/secrets", "/apis", "/openapi/v2"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"https://{core.rest}{path}", context=context)
        assert refused.value.code == 401


async def test_a_foreign_certificate_is_refused(core: CoreServer, tmp_path: Path) -> None:
    cert, key = Authority(tmp_path).issue("eve", Identity("admin", ("system:masters",)))
    context = ssl.create_default_context(cafile=str(core.admin_tls.ca))
    context.load_cert_chain(cert, key)
    with pytest.raises(OSError):
        await asyncio.to_thread(
            urllib.request.urlopen, f"https://{core.rest}/api/v1/secrets", context=context, timeout=5
        )
    async with grpc.aio.insecure_channel(core.grpc) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await resources_pb2_grpc.ResourcesStub(channel).Get(resources_pb2.GetRequest(), timeout=2)


async def test_secrets_are_encrypted_in_etcd(core: CoreServer, new_kubectl: Kubectl, namespace: str) -> None:
    await new_kubectl("-n", namespace, "create", "secret", "generic", "s", "--from-literal=password=hunter2-plain")
    await new_kubectl("-n", namespace, "create", "configmap", "c", "--from-literal=password=hunter2-plain")
    etcd = Etcd(core.prefix, EtcdSettings((core.etcd,)))
    secret, _ = await etcd.get(f"{core.prefix}/core/secrets/{namespace}/s".encode())
    config, _ = await etcd.get(f"{core.prefix}/core/configmaps/{namespace}/c".encode())
    await etcd.close()
    assert secret is not None
    assert config is not None
    assert b"hunter2-plain" in config.value
    assert b"hunter2-plain" not in secret.value
    assert secret.value[:1] == b"e"
    assert "hunter2-plain" not in core.log.read_text()


async def test_a_removed_system_role_comes_back(core: CoreServer, new_kubectl: Kubectl) -> None:
    await new_kubectl("delete", "clusterrole", "system:basic-user")
    core.stop()
    core.start()
    assert "system:basic-user" in await new_kubectl("get", "clusterroles")
