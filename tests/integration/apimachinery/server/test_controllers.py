"""What the server's own controllers do: expiry, garbage, namespaces of another server."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from protos.compute.v1alpha1.machine_pb2 import Machine
from services.apimachinery.client.grpc import GrpcClient
from services.apimachinery.controllers.garbage import collect_garbage
from services.apimachinery.controllers.namespaces import end_namespaces
from services.apimachinery.controllers.remote_namespaces import RemoteNamespaces
from services.apimachinery.server.admission import NamespaceLifecycle
from services.apimachinery.server.app import ApiServer
from services.apimachinery.server.auth.authorizer import AllowAll
from services.apimachinery.server.builtin import Namespace, NamespaceDefaults, builtin
from services.apimachinery.server.resource import define
from services.apimachinery.server.settings import ApiServerSettings
from services.core.model.hooks import HOOKS
from tests.integration.apimachinery.server.conftest import Api
from tests.support.eventually import eventually

MAPS = "/api/v1/namespaces/a/configmaps"
MACHINES = "/apis/compute.ironcore.dev/v1alpha1/namespaces/a/machines"


def settings(etcd: str) -> ApiServerSettings:
    return ApiServerSettings.model_construct(
        https_listen="127.0.0.1:0",
        grpc_listen="127.0.0.1:0",
        insecure=True,
        etcd_endpoints=etcd,
        etcd_prefix=f"/ft-{secrets.token_hex(6)}",
        compaction_interval=0,
    )


@pytest.fixture
async def core(server_etcd: str) -> AsyncIterator[Api]:
    """A server with namespaces; events live a second."""
    server = ApiServer(
        settings(server_etcd),
        builtin(event_lifetime=1),
        authorizer=lambda resources: AllowAll(),
        admission=lambda resources: [NamespaceDefaults(), NamespaceLifecycle(resources.of(Namespace).stored)],
        tasks=[collect_garbage, end_namespaces],
    )
    async with server.running(), aiohttp.ClientSession() as session:
        api = Api(server, session)
        await api.ok("POST", "/api/v1/namespaces", {"metadata": {"name": "a"}})
        yield api


@pytest.fixture
async def other(server_etcd: str, core: Api) -> AsyncIterator[Api]:
    """A server that takes its namespaces from `core`."""
    client = GrpcClient(core.server.grpc_address)
    namespaces = RemoteNamespaces(client)
    server = ApiServer(
        settings(server_etcd),
        [define(Machine, hooks=HOOKS[Machine])],
        authorizer=lambda resources: AllowAll(),
        admission=lambda resources: [namespaces],
        tasks=[namespaces.run, collect_garbage],
    )
    async with server.running(), aiohttp.ClientSession() as session:
        yield Api(server, session)
    await client.close()


async def missing(api: Api, path: str) -> bool:
    return (await api("GET", path))[0] == 404


async def test_events_expire(core: Api) -> None:
    path = "/api/v1/namespaces/a/events"
    about = {"kind": "Namespace", "name": "a", "apiVersion": "v1", "namespace": "a"}
    await core.ok("POST", path, {"metadata": {"name": "e"}, "involvedObject": about, "reason": "X", "type": "Normal"})
    await core.ok("GET", f"/apis/events.k8s.io/v1{path.removeprefix('/api/v1')}/e")
    await eventually(lambda: missing(core, f"{path}/e"), within=20, every=0.2)

    async def unlisted() -> bool:
        return not (await core.ok("GET", path))["items"]

    await eventually(unlisted)


def owned(name: str, owner: Any, **rest: Any) -> dict[str, Any]:
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"], **rest}
    return {"metadata": {"name": name, "ownerReferences": [{**reference, "uid": owner["metadata"]["uid"]}]}}


async def test_dependents_go_with_their_owner(core: Api) -> None:
    owner = await core.ok("POST", MAPS, {"metadata": {"name": "owner"}})
    child = await core.ok("POST", MAPS, owned("child", owner))
    await core.ok("POST", MAPS, owned("grandchild", child))
    await core.ok("DELETE", f"{MAPS}/owner")
    await eventually(lambda: missing(core, f"{MAPS}/grandchild"))
    assert await missing(core, f"{MAPS}/child")


async def test_one_of_two_owners_is_enough_to_stay(core: Api) -> None:
    first, second = [await core.ok("POST", MAPS, {"metadata": {"name": name}}) for name in ("first", "second")]
    child = owned("child", first)
    child["metadata"]["ownerReferences"] += owned("child", second)["metadata"]["ownerReferences"]
    await core.ok("POST", MAPS, child)
    await core.ok("DELETE", f"{MAPS}/first")

    async def owners() -> bool:
        read = await core.ok("GET", f"{MAPS}/child")
        return [item["name"] for item in read["metadata"]["ownerReferences"]] == ["second"]

    await eventually(owners)


async def test_an_owner_of_the_same_name_is_another_owner(core: Api) -> None:
    owner = await core.ok("POST", MAPS, {"metadata": {"name": "owner"}})
    owner["metadata"]["uid"] = "12345678-0000-0000-0000-000000000000"
    await core.ok("POST", MAPS, owned("child", owner))
    await eventually(lambda: missing(core, f"{MAPS}/child"))


async def test_foreground_deletion_waits_for_dependents(core: Api) -> None:
    owner = await core.ok("POST", MAPS, {"metadata": {"name": "owner"}})
    child = owned("child", owner, blockOwnerDeletion=True)
    child["metadata"]["finalizers"] = ["test.dev/hold"]
    await core.ok("POST", MAPS, child)
    await core.ok("DELETE", f"{MAPS}/owner", {"propagationPolicy": "Foreground"})

    async def child_is_deleting() -> bool:
        return "deletionTimestamp" in (await core.ok("GET", f"{MAPS}/child"))["metadata"]

    await eventually(child_is_deleting)
    assert not await missing(core, f"{MAPS}/owner")
    merge = {"Content-Type": "application/merge-patch+json"}
    await core.ok("PATCH", f"{MAPS}/child", {"metadata": {"finalizers": None}}, headers=merge)
    await eventually(lambda: missing(core, f"{MAPS}/owner"))


async def test_orphans_stay(core: Api) -> None:
    owner = await core.ok("POST", MAPS, {"metadata": {"name": "owner"}})
    await core.ok("POST", MAPS, owned("child", owner))
    await core.ok("DELETE", f"{MAPS}/owner", {"propagationPolicy": "Orphan"})
    await eventually(lambda: missing(core, f"{MAPS}/owner"))
    assert "ownerReferences" not in (await core.ok("GET", f"{MAPS}/child"))["metadata"]


async def test_a_namespace_waits_for_held_content_and_says_so(core: Api) -> None:
    await core.ok("POST", MAPS, {"metadata": {"name": "held", "finalizers": ["test.dev/hold"]}})
    await core.ok("DELETE", "/api/v1/namespaces/a")

    async def reported() -> bool:
        conditions = (await core.ok("GET", "/api/v1/namespaces/a"))["status"].get("conditions", [])
        return any("configmaps has 1" in item["message"] for item in conditions)

    await eventually(reported)
    status, tree = await core("POST", MAPS, {"metadata": {"name": "late"}})
    assert (status, "being terminated" in tree["message"]) == (403, True)
    merge = {"Content-Type": "application/merge-patch+json"}
    await core.ok("PATCH", f"{MAPS}/held", {"metadata": {"finalizers": None}}, headers=merge)
    await eventually(lambda: missing(core, "/api/v1/namespaces/a"))


async def test_namespaces_of_another_server(core: Api, other: Api) -> None:
    machine = {"metadata": {"name": "m"}, "spec": {"machineClassRef": {"name": "small"}}}
    await other.ok("POST", MACHINES, machine)
    status, tree = await other("POST", MACHINES.replace("/a/", "/b/"), machine)
    assert (status, tree["message"]) == (404, 'namespaces "b" not found')
    await core.ok("DELETE", "/api/v1/namespaces/a")
    await eventually(lambda: missing(other, f"{MACHINES}/m"), within=10)


async def test_content_of_a_namespace_that_ended_unseen(server_etcd: str, core: Api) -> None:
    """The other server was down when the namespace went."""
    common = settings(server_etcd)
    machine = {"metadata": {"name": "m"}, "spec": {"machineClassRef": {"name": "small"}}}
    async with aiohttp.ClientSession() as session:
        first = ApiServer(common, [define(Machine, hooks=HOOKS[Machine])], authorizer=lambda resources: AllowAll())
        async with first.running():
            await Api(first, session).ok("POST", MACHINES.replace("/a/", "/gone/"), machine)
        client = GrpcClient(core.server.grpc_address)
        namespaces = RemoteNamespaces(client)
        second = ApiServer(
            common,
            [define(Machine, hooks=HOOKS[Machine])],
            authorizer=lambda resources: AllowAll(),
            tasks=[namespaces.run],
        )
        async with second.running():
            api = Api(second, session)
            await eventually(lambda: missing(api, MACHINES.replace("/a/", "/gone/") + "/m"), within=10)
        await client.close()
