"""What only a real server can show: selectors, paging, all patch types, TLS, restarts, deadlines."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from ferrite.dev.certificates import Authority, Identity
from protos.compute.v1alpha1.machine_class_pb2 import MachineClass
from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.k8s.core.v1.config_map_pb2 import ConfigMap
from protos.k8s.core.v1.secret_pb2 import Secret
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.client import kubeconfig, paging
from services.apimachinery.client.connect import ServerSettings, connect
from services.apimachinery.client.grpc import GrpcClient
from services.apimachinery.client.interface import Change, Client, Patch
from services.apimachinery.client.kubeconfig import Access
from services.apimachinery.client.rest import RestClient
from services.apimachinery.errors import ApiError, BadRequest, Conflict, Gone, Invalid, NotFound, Timeout, Unavailable
from services.apimachinery.runtime.informer import LISTS, Informer
from services.common.tls import TlsFiles
from tests.support.apiserver import TestServer
from tests.support.eventually import eventually


def config(name: str, **labels: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default", labels=labels))


async def test_selectors(client: Client) -> None:
    for name, labels in (("a", {"app": "web"}), ("b", {"app": "web", "tier": "db"}), ("c", {})):
        await client.create(config(name, **labels))
    found = await client.list(ConfigMap, labels="app=web,tier!=db")
    assert [obj.metadata.name for obj in found.items] == ["a"]
    found = await client.list(ConfigMap, fields="metadata.name=c")
    assert [obj.metadata.name for obj in found.items] == ["c"]
    events = client.watch(ConfigMap, labels="app=web", resource_version=found.resource_version)
    # Who no longer matches is gone for this watch.
    await client.patch(ConfigMap, "a", {"metadata": {"labels": {"app": "db"}}}, "default")
    async with asyncio.timeout(10):
        event = await anext(events)
    assert (event.change, event.object.metadata.name) == (Change.DELETED, "a")
    await events.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("labels", ["app in (", "=x"])
async def test_a_malformed_selector_is_refused(client: Client, labels: str) -> None:
    with pytest.raises(BadRequest):
        await client.list(ConfigMap, labels=labels)
    with pytest.raises(BadRequest):
        async for _ in client.watch(ConfigMap, labels=labels):
            pass


async def test_long_lists_come_in_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "PAGE_SIZE", 3)
    names = [f"c{number}" for number in range(8)]
    for name in names:
        await client.create(config(name))
    page = await client.list(ConfigMap)
    assert [obj.metadata.name for obj in page.items] == names
    assert page.resource_version == page.items[-1].metadata.resource_version


@pytest.mark.parametrize(
    ("how", "patch", "data"),
    [
        pytest.param(Patch.MERGE, {"data": {"x": None, "z": "3"}}, {"y": "2", "z": "3"}, id="merge"),
        pytest.param(Patch.STRATEGIC, {"data": {"z": "3"}}, {"x": "1", "y": "2", "z": "3"}, id="strategic"),
        pytest.param(Patch.JSON, [{"op": "remove", "path": "/data/x"}], {"y": "2"}, id="JSON patch"),
    ],
)
async def test_patch_types(client: Client, how: Patch, patch: Any, data: dict[str, str]) -> None:
    obj = config("a")
    obj.data.update({"x": "1", "y": "2"})
    await client.create(obj)
    assert dict((await client.patch(ConfigMap, "a", patch, "default", how=how)).data) == data


def configured(**data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name="a", namespace="default"), data=data)


async def test_apply_owns_fields(client: Client) -> None:
    assert dict((await client.apply(configured(x="1"), "one")).data) == {"x": "1"}
    with pytest.raises(Conflict) as raised:
        await client.apply(configured(x="2"), "two", force=False)
    assert [cause.field for cause in raised.value.causes] == [".data.x"]
    assert (await client.apply(configured(x="2"), "two")).data["x"] == "2"
    both = await client.apply(configured(y="3"), "one")
    assert dict(both.data) == {"x": "2", "y": "3"}
    assert {entry.manager for entry in both.metadata.managed_fields} == {"one", "two"}
    # What a manager no longer states goes, unless another states it too.
    assert dict((await client.apply(configured(), "two")).data) == {"y": "3"}


async def test_apply_of_a_status(client: Client) -> None:
    pool = MachinePool(metadata=ObjectMeta(name="p"))
    pool.spec.provider_id = "x://p"
    await client.create(pool)
    applied = MachinePool(metadata=ObjectMeta(name="p"))
    applied.status.state = "Ready"
    stored = await client.apply(applied, "poollet", subresource="status")
    assert (stored.status.state, stored.spec.provider_id) == ("Ready", "x://p")


async def test_a_broken_rule_names_its_field(client: Client) -> None:
    with pytest.raises(Invalid) as raised:
        await client.create(MachineClass(metadata=ObjectMeta(name="Not_a_name"), capabilities={"cpu": "1"}))
    error = raised.value
    assert "metadata.name" in [cause.field for cause in error.causes]
    assert (error.group, error.name) == ("compute.ironcore.dev", "Not_a_name")


async def test_binary_data_survives(client: Client) -> None:
    blob = bytes(range(256))
    await client.create(Secret(metadata=ObjectMeta(name="s", namespace="default"), data={"blob": blob}))
    assert (await client.get(Secret, "s", "default")).data["blob"] == blob


@pytest.mark.parametrize("name", ["", "..", "."])
async def test_what_is_no_name_deletes_nothing(client: Client, name: str) -> None:
    await client.create(config("a"))
    with pytest.raises((BadRequest, NotFound)):
        await client.delete(ConfigMap, name, "default")
    assert len((await client.list(ConfigMap)).items) == 1


async def test_a_kind_that_is_not_served(client: Client) -> None:
    from protos.k8s.core.v1.node_pb2 import Node

    with pytest.raises(NotFound):
        await client.get(Node, "n")


async def test_a_compacted_version_is_gone(client: Client, etcd: str) -> None:
    first = await client.create(config("a"))
    with pytest.raises(Gone):
        async for _ in client.watch(ConfigMap, resource_version="1"):
            pass
    assert first.metadata.resource_version != "1"


async def test_clients_outlive_a_restart_of_the_server(client: Client, server: TestServer) -> None:
    await client.create(config("a"))
    await server.stop()
    with pytest.raises(Unavailable):
        await client.get(ConfigMap, "a", "default")
    await server.start()
    await eventually(lambda: client.get(ConfigMap, "a", "default"), within=10)


async def test_an_informer_resumes_after_a_restart_of_the_server(client: Client, server: TestServer) -> None:
    informer = Informer(client, ConfigMap)
    task = asyncio.create_task(informer.run())
    try:
        await informer.synced()
        lists = LISTS.labels("configmaps")._value.get()
        await client.create(config("a"))
        await eventually(lambda: informer.get("a", "default"))
        await server.stop()
        await server.start()
        await eventually(lambda: client.create(config("b")), within=10)
        await eventually(lambda: informer.get("b", "default"), within=15)
        assert LISTS.labels("configmaps")._value.get() == lists
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
async def silent_port() -> Any:
    """A server that takes connections and never answers."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    made = await asyncio.start_server(hold, "127.0.0.1", 0)
    yield made.sockets[0].getsockname()[1]
    made.close()


async def test_a_server_that_never_answers(silent_port: int, transport: str) -> None:
    address = f"127.0.0.1:{silent_port}"
    client: Client = (
        GrpcClient(address, deadline=0.5)
        if transport == "grpc"
        else RestClient(Access(f"http://{address}"), deadline=0.5)
    )
    started = time.monotonic()
    with pytest.raises((Timeout, Unavailable)):
        await client.get(ConfigMap, "a", "default")
    assert time.monotonic() - started < 5
    await client.close()


async def test_a_stranger_is_not_let_in(server: TestServer, transport: str, tmp_path: Any) -> None:
    stranger = Authority(tmp_path / "stranger")
    cert, key = stranger.issue("client", Identity("tester", ("system:masters",)))
    files = TlsFiles(server.client_tls.ca, cert, key)
    client: Client
    if transport == "grpc":
        client = GrpcClient(server.grpc, tls=files, deadline=3)
    else:
        access = Access(
            f"https://{server.rest}", ca=files.ca.read_bytes(), cert=cert.read_bytes(), key=key.read_bytes()
        )
        client = RestClient(access, deadline=3)
    with pytest.raises(ApiError):
        await client.list(ConfigMap)
    await client.close()


async def test_a_server_of_another_authority_is_not_trusted(server: TestServer, transport: str, tmp_path: Any) -> None:
    other = Authority(tmp_path / "other")
    files = TlsFiles(other.certificate_file, server.client_tls.cert, server.client_tls.key)
    client: Client
    if transport == "grpc":
        client = GrpcClient(server.grpc, tls=files, deadline=3)
    else:
        client = RestClient(Access(f"https://{server.rest}", ca=files.ca.read_bytes()), deadline=3)
    with pytest.raises(Unavailable):
        await client.list(ConfigMap)
    await client.close()


async def test_connecting_by_settings(server: TestServer, transport: str, tmp_path: Any) -> None:
    files = server.client_tls
    if transport == "grpc":
        settings = ServerSettings(
            address=server.grpc, tls_ca=str(files.ca), tls_cert=str(files.cert), tls_key=str(files.key)
        )
    else:
        kubeconfig.write(tmp_path / "config", {"ft": server.access()}, "ft")
        settings = ServerSettings(kubeconfig=str(tmp_path / "config"))
    client = connect(settings, manager="someone")
    created = await client.create(config("a", app="web"))
    assert [entry.manager for entry in created.metadata.managed_fields] == ["someone"]
    await client.close()
