"""Lists and watches over REST: versions, paging, selectors, forms."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from typing import Any

import pytest

from protos.k8s.core.v1.config_map_pb2 import ConfigMap, ConfigMapList
from protos.k8s.core.v1.secret_pb2 import Secret
from protos.k8s.meta.v1.meta_pb2 import WatchEvent
from services.apimachinery.server.rest.media import PROTOBUF, unwrap, wrap
from services.apimachinery.store.etcd import Etcd, EtcdSettings
from tests.integration.apimachinery.server.conftest import Api

MAPS = "/api/v1/namespaces/a/configmaps"
SECRETS = "/api/v1/namespaces/a/secrets"
MERGE = {"Content-Type": "application/merge-patch+json"}


async def create(api: Api, *names: str, **labels: str) -> list[Any]:
    return [await api.ok("POST", MAPS, {"metadata": {"name": name, "labels": labels}}) for name in names]


def names(tree: Any) -> list[str]:
    return [item["metadata"]["name"] for item in tree["items"]]


async def compact(api: Api) -> None:
    storage = next(item for item in api.server.resources.storages() if item.kind.plural == "configmaps")
    _, revision = await storage.etcd.get(storage.touch)
    await storage.etcd.compact(revision)


async def test_pages_show_one_moment(api: Api) -> None:
    await create(api, "a", "b", "c", "d", "e")
    first = await api.ok("GET", MAPS, limit=2)
    assert (names(first), first["metadata"]["remainingItemCount"]) == (["a", "b"], 3)
    await create(api, "bb")
    await api.ok("DELETE", f"{MAPS}/c")
    second = await api.ok("GET", MAPS, limit=2, continue_=first["metadata"]["continue"])
    third = await api.ok("GET", MAPS, limit=2, continue_=second["metadata"]["continue"])
    assert (names(second), names(third), third["metadata"].get("continue")) == (["c", "d"], ["e"], None)
    assert first["metadata"]["resourceVersion"] == third["metadata"]["resourceVersion"]
    assert names(await api.ok("GET", MAPS)) == ["a", "b", "bb", "d", "e"]


async def test_an_old_page_is_gone(api: Api) -> None:
    await create(api, "a", "b", "c")
    first = await api.ok("GET", MAPS, limit=1)
    await create(api, "d")
    await compact(api)
    status, tree = await api("GET", MAPS, limit=1, continue_=first["metadata"]["continue"])
    assert (status, tree["reason"]) == (410, "Expired")


async def test_resource_versions_of_lists(api: Api) -> None:
    made = await create(api, "a", "b")
    then = made[0]["metadata"]["resourceVersion"]
    assert names(await api.ok("GET", MAPS, resourceVersion=then, resourceVersionMatch="Exact")) == ["a"]
    assert names(await api.ok("GET", MAPS, resourceVersion=then, limit=5)) == ["a"], "with a limit: exactly"
    later = names(await api.ok("GET", MAPS, resourceVersion=then, resourceVersionMatch="NotOlderThan"))
    assert later in (["a"], ["a", "b"]), "as old as asked for, or newer"
    newest = made[1]["metadata"]["resourceVersion"]
    assert names(await api.ok("GET", MAPS, resourceVersion=newest)) == ["a", "b"]
    await api.ok("GET", MAPS, resourceVersion="0")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        pytest.param({"resourceVersion": "x"}, 400, id="no number"),
        pytest.param({"resourceVersionMatch": "Exact"}, 400, id="match without version"),
        pytest.param({"resourceVersion": "1", "resourceVersionMatch": "Near"}, 400, id="unknown match"),
        pytest.param({"resourceVersion": "0", "resourceVersionMatch": "Exact"}, 400, id="exactly any"),
        pytest.param({"continue": "abc"}, 400, id="a made-up token"),
        pytest.param({"limit": "-1"}, 400, id="a negative limit"),
        pytest.param({"limit": "many"}, 400, id="a limit in words"),
        pytest.param({"labelSelector": "a in ("}, 400, id="bad labels"),
        pytest.param({"fieldSelector": "spec.colour=red"}, 400, id="a field nobody can select by"),
        pytest.param({"resourceVersion": "9999999999"}, 504, id="the future"),
    ],
)
async def test_bad_queries(api: Api, query: dict[str, str], code: int) -> None:
    status, tree = await api("GET", MAPS, **query)
    assert (status, tree["kind"]) == (code, "Status")


async def test_selectors(api: Api) -> None:
    await create(api, "a", tier="db")
    await create(api, "b", tier="web")
    assert names(await api.ok("GET", MAPS, labelSelector="tier in (db)")) == ["a"]
    assert names(await api.ok("GET", MAPS, fieldSelector="metadata.name=b")) == ["b"]
    assert names(await api.ok("GET", "/api/v1/configmaps", labelSelector="tier")) == ["a", "b"]


class Watch:
    """A watch over REST, line by line."""

    def __init__(self, api: Api, path: str = MAPS, **query: Any) -> None:
        params = {"watch": "true", **{name: str(value) for name, value in query.items()}}
        self._request = api.session.get(f"http://{api.server.rest_address}{path}", params=params)

    async def __aenter__(self) -> Watch:
        self.answer = await self._request.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._request.__aexit__(*error)

    async def next(self) -> Any:
        async with asyncio.timeout(10):
            return json.loads(await self.answer.content.readline() or b"null")

    async def told(self, count: int) -> list[tuple[str, str]]:
        events = [await self.next() for _ in range(count)]
        return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


async def test_a_watch_resumes_after_a_version(api: Api) -> None:
    made = await create(api, "a", "b")
    async with Watch(api, resourceVersion=made[0]["metadata"]["resourceVersion"]) as watch:
        await api.ok("DELETE", f"{MAPS}/a")
        assert await watch.told(2) == [("ADDED", "b"), ("DELETED", "a")]


async def test_a_watch_without_version_begins_with_what_is_there(api: Api) -> None:
    await create(api, "a", "b")
    async with Watch(api) as watch:
        assert await watch.told(2) == [("ADDED", "a"), ("ADDED", "b")]
        await create(api, "c")
        assert await watch.told(1) == [("ADDED", "c")]


async def test_initial_events_end_with_a_bookmark(api: Api) -> None:
    await create(api, "a")
    query = {"sendInitialEvents": "true", "allowWatchBookmarks": "true", "resourceVersionMatch": "NotOlderThan"}
    async with Watch(api, **query) as watch:
        assert await watch.told(1) == [("ADDED", "a")]
        bookmark = await watch.next()
        assert bookmark["type"] == "BOOKMARK"
        assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_watch_ends_in_time_with_a_bookmark(api: Api) -> None:
    made = await create(api, "a")
    version = made[0]["metadata"]["resourceVersion"]
    async with Watch(api, resourceVersion=version, timeoutSeconds=1, allowWatchBookmarks="true") as watch:
        assert (await watch.next())["type"] == "BOOKMARK"
        assert await watch.next() is None


async def test_a_watch_from_before_the_history_is_gone(api: Api) -> None:
    await create(api, "a", "b")
    cache = next(item for item in api.server.resources.storages() if item.kind.plural == "configmaps").cache
    cache._oldest = cache.revision  # what a restart or a long history leaves
    status, tree = await api("GET", MAPS, watch="true", resourceVersion=1)
    assert (status, tree["reason"]) == (410, "Expired")


async def test_a_watch_from_a_version_that_never_was_is_gone(api: Api) -> None:
    """A client that outlived a restored backup must list again, not wait for the version to come."""
    status, tree = await api("GET", MAPS, watch="true", resourceVersion=9_999_999_999)
    assert (status, tree["reason"]) == (410, "Expired")


async def test_a_burst_comes_in_few_writes(api: Api) -> None:
    made = await create(api, "x")
    async with Watch(api, resourceVersion=made[0]["metadata"]["resourceVersion"]) as watch:
        burst = [api("POST", MAPS, {"metadata": {"name": f"n{n}"}}) for n in range(50)]
        await asyncio.gather(*burst)
        assert len({name for _, name in await watch.told(50)}) == 50


async def test_kubernetes_protobuf_both_ways(api: Api) -> None:
    url = f"http://{api.server.rest_address}{SECRETS}"
    secret = Secret(data={"password": b"hunter2"})
    secret.metadata.name = "s"
    headers = {"Content-Type": PROTOBUF, "Accept": f"{PROTOBUF},application/json"}
    body = wrap("v1", "Secret", secret.SerializeToString())
    async with api.session.post(url, data=body, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (201, PROTOBUF)
        api_version, kind, raw = unwrap(await answer.read())
    made = Secret.FromString(raw)
    assert (api_version, kind, made.data["password"], made.metadata.namespace) == ("v1", "Secret", b"hunter2", "a")
    read = await api.ok("GET", f"{SECRETS}/s")
    assert read["data"]["password"] == base64.b64encode(b"hunter2").decode()
    assert read["metadata"]["resourceVersion"] == made.metadata.resource_version


async def test_kubernetes_protobuf_lists_and_watches(api: Api) -> None:
    await create(api, "a", "b")
    url = f"http://{api.server.rest_address}{MAPS}"
    async with api.session.get(url, headers={"Accept": PROTOBUF}) as answer:
        _, kind, raw = unwrap(await answer.read())
    found = ConfigMapList.FromString(raw)
    assert (kind, [item.metadata.name for item in found.items]) == ("ConfigMapList", ["a", "b"])
    query = {"watch": "true", "resourceVersion": found.items[0].metadata.resource_version}
    async with api.session.get(url, params=query, headers={"Accept": PROTOBUF}) as answer:
        (length,) = struct.unpack(">I", await answer.content.readexactly(4))
        event = WatchEvent.FromString(await answer.content.readexactly(length))
    assert event.type == "ADDED"
    assert ConfigMap.FromString(unwrap(event.object.raw)[2]).metadata.name == "b"


async def test_tables_and_metadata_only(api: Api) -> None:
    await create(api, "a")
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    found = await api.ok("GET", MAPS, headers={"Accept": table})
    assert found["kind"] == "Table"
    assert found["rows"][0]["cells"][0] == "a"
    assert found["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    found = await api.ok("GET", MAPS, headers={"Accept": partial})
    assert (found["kind"], found["items"][0]["metadata"]["name"]) == ("PartialObjectMetadataList", "a")


async def test_the_server_describes_itself(api: Api) -> None:
    groups = await api.ok("GET", "/apis")
    assert "compute.ironcore.dev" in [group["name"] for group in groups["groups"]]
    served = await api.ok("GET", "/apis/compute.ironcore.dev/v1alpha1")
    assert {"machines", "machines/status", "machineclasses"} <= {item["name"] for item in served["resources"]}
    assert "v1" in (await api.ok("GET", "/api"))["versions"]
    assert (await api.ok("GET", "/version"))["gitVersion"]
    assert "definitions" in await api.ok("GET", "/openapi/v2")
    assert "apis/compute.ironcore.dev/v1alpha1" in (await api.ok("GET", "/openapi/v3"))["paths"]


async def test_readiness_follows_etcd(api: Api) -> None:
    url = f"http://{api.server.rest_address}/readyz"
    async with api.session.get(url) as answer:
        assert (answer.status, await answer.text()) == (200, "ok")
    api.server._etcd.settings = EtcdSettings(("127.0.0.1:1",), deadline=0.2)
    await Etcd.close(api.server._etcd)
    async with api.session.get(url) as answer:
        assert answer.status == 500
        assert "etcd" in await answer.text()
    async with api.session.get(url.replace("readyz", "livez")) as answer:
        assert answer.status == 200
