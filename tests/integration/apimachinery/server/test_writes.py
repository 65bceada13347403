"""The write path: conflicts, isolation, dry run, deletion, allocation."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.integration.apimachinery.server.conftest import NUMBERS, Api, Make

MAPS = "/api/v1/namespaces/a/configmaps"
MACHINES = "/apis/compute.ironcore.dev/v1alpha1/namespaces/a/machines"
CLASSES = "/apis/compute.ironcore.dev/v1alpha1/machineclasses"
QUOTAS = "/apis/core.ironcore.dev/v1alpha1/namespaces/a/resourcequotas"
MERGE = {"Content-Type": "application/merge-patch+json"}


def config(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


def machine(name: str, **status: str) -> dict[str, Any]:
    tree: dict[str, Any] = {"metadata": {"name": name}, "spec": {"machineClassRef": {"name": "small"}, "power": "On"}}
    return {**tree, "status": status} if status else tree


def quota(name: str, **annotations: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": annotations}, "spec": {"hard": {"requests.cpu": "1"}}}


async def test_racing_patches_all_land(api: Api) -> None:
    await api.ok("POST", MAPS, config("x"))
    patches = [api("PATCH", f"{MAPS}/x", {"data": {f"k{n}": "v"}}, headers=MERGE) for n in range(6)]
    assert [status for status, _ in await asyncio.gather(*patches)] == [200] * 6
    assert len((await api.ok("GET", f"{MAPS}/x"))["data"]) == 6


async def test_of_racing_updates_of_one_version_one_wins(api: Api) -> None:
    stored = await api.ok("POST", MAPS, config("x"))
    updates = [api("PUT", f"{MAPS}/x", {**stored, "data": {"n": str(n)}}) for n in range(8)]
    assert sorted(status for status, _ in await asyncio.gather(*updates)) == [200] + [409] * 7


async def test_generation_counts_changes_of_the_spec(api: Api) -> None:
    stored = await api.ok("POST", MACHINES, machine("m"))
    assert stored["metadata"]["generation"] == 1
    labelled = await api.ok("PATCH", f"{MACHINES}/m", {"metadata": {"labels": {"a": "b"}}}, headers=MERGE)
    assert labelled["metadata"]["generation"] == 1
    off = await api.ok("PATCH", f"{MACHINES}/m", {"spec": {"power": "Off"}}, headers=MERGE)
    assert off["metadata"]["generation"] == 2
    again = await api.ok("PATCH", f"{MACHINES}/m", {"spec": {"power": "Off"}}, headers=MERGE)
    assert again["metadata"]["resourceVersion"] == off["metadata"]["resourceVersion"], "no change, no write"


async def test_status_is_isolated_both_ways(api: Api) -> None:
    stored = await api.ok("POST", MACHINES, machine("m", state="Running"))
    assert stored.get("status", {}).get("state") != "Running"
    done = await api.ok("PUT", f"{MACHINES}/m", {**stored, "status": {"state": "Running"}})
    assert done.get("status", {}).get("state") != "Running"
    both = {"spec": {"power": "Off"}, "status": {"state": "Running"}, "metadata": {"labels": {"a": "b"}}}
    done = await api.ok("PATCH", f"{MACHINES}/m/status", both, headers=MERGE)
    assert (done["status"]["state"], done["spec"]["power"]) == ("Running", "On")
    assert "labels" not in done["metadata"]
    assert done["metadata"]["generation"] == 1


async def test_server_kept_metadata_stays(api: Api) -> None:
    stored = await api.ok("POST", MAPS, config("x"))
    forged = {"uid": stored["metadata"]["uid"], "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 99}
    done = await api.ok("PATCH", f"{MAPS}/x", {"metadata": forged, "data": {"a": "b"}}, headers=MERGE)
    assert done["metadata"]["creationTimestamp"] == stored["metadata"]["creationTimestamp"]
    assert done["metadata"]["generation"] == 2
    status, refused = await api("PATCH", f"{MAPS}/x", {"metadata": {"uid": "other"}}, headers=MERGE)
    assert (status, refused["reason"]) == (409, "Conflict")


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "says"),
    [
        pytest.param("POST", MAPS, {"metadata": {}}, 422, "name or generateName is required", id="no name"),
        pytest.param("POST", MAPS, config("A!"), 422, "metadata.name: Invalid value", id="a bad name"),
        pytest.param("POST", MAPS, {"kind": "Secret", "apiVersion": "v1"}, 400, "does not match", id="another kind"),
        pytest.param("POST", MAPS, {"metadata": {"name": "x", "namespace": "b"}}, 400, "namespace", id="another place"),
        pytest.param("POST", MAPS, [1], 400, "expected an object", id="no object"),
        pytest.param("PUT", f"{MAPS}/no", config("no"), 404, "not found", id="put never creates"),
        pytest.param("PUT", f"{MACHINES}/no", machine("no"), 422, "must be specified", id="no resourceVersion"),
        pytest.param("POST", MACHINES, {"metadata": {"name": "m"}}, 422, "machineClassRef", id="no spec"),
        pytest.param("POST", f"{MAPS}/x", config("x"), 405, "not allow", id="POST to an object"),
        pytest.param("PUT", MAPS, config("x"), 405, "not allow", id="PUT to a list"),
        pytest.param("GET", "/api/v1/namespaces/a/nothings", None, 404, "could not find", id="no such resource"),
        pytest.param("GET", f"{MAPS}/x/status", None, 404, "subresource", id="no such subresource"),
        pytest.param("DELETE", f"{MAPS}/no", None, 404, "not found", id="delete what is not there"),
        pytest.param("DELETE", f"{MAPS}/no", {"propagationPolicy": "Up"}, 422, "Unsupported value", id="bad policy"),
        pytest.param("GET", "/nothing", None, 404, "could not find", id="no such path"),
    ],
)
async def test_bad_requests_say_why(api: Api, method: str, path: str, body: Any, code: int, says: str) -> None:
    status, tree = await api(method, path, body)
    assert (status, tree["kind"], tree["code"]) == (code, "Status", code), tree
    assert says in tree["message"]


async def test_bodies_in_unknown_forms(api: Api) -> None:
    url = f"http://{api.server.rest_address}{MAPS}"
    async with api.session.post(url, data=b"<x/>", headers={"Content-Type": "text/xml"}) as answer:
        assert answer.status == 415
    async with api.session.get(url, headers={"Accept": "text/html"}) as answer:
        assert answer.status == 406
    async with api.session.post(url, data=b"{", headers={"Content-Type": "application/json"}) as answer:
        assert (answer.status, "not valid JSON" in (await answer.json())["message"]) == (400, True)
    async with api.session.post(url, data=b"x" * (4 << 20), headers={"Content-Type": "application/json"}) as answer:
        assert answer.status == 413


async def test_yaml_in_and_out(api: Api) -> None:
    url = f"http://{api.server.rest_address}{MAPS}"
    headers = {"Content-Type": "application/yaml", "Accept": "application/yaml"}
    async with api.session.post(url, data=b"metadata: {name: y}\ndata: {a: b}\n", headers=headers) as answer:
        assert answer.status == 201
        assert "name: y" in await answer.text()


async def test_unknown_fields_warn_or_fail(api: Api) -> None:
    url = f"http://{api.server.rest_address}{MAPS}"
    async with api.session.post(url, json={**config("x"), "colour": "red"}) as answer:
        assert answer.status == 201
        assert answer.headers["Warning"] == '299 - "unknown field \\"colour\\""'
    status, tree = await api("POST", MAPS, {**config("y"), "colour": "red"}, fieldValidation="Strict")
    assert (status, 'unknown field "colour"' in tree["message"]) == (400, True)


async def test_a_dry_run_stores_nothing(api: Api) -> None:
    done = await api.ok("POST", MAPS, config("x"), dryRun="All")
    assert done["metadata"]["uid"]
    assert (await api("GET", f"{MAPS}/x"))[0] == 404
    stored = await api.ok("POST", MAPS, config("x", a="1"))
    await api.ok("PATCH", f"{MAPS}/x", {"data": {"a": "2"}}, headers=MERGE, dryRun="All")
    await api.ok("DELETE", f"{MAPS}/x", dryRun="All")
    assert await api.ok("GET", f"{MAPS}/x") == stored


async def test_delete_preconditions(api: Api) -> None:
    stored = await api.ok("POST", MAPS, config("x"))
    for wrong in ({"uid": "other"}, {"resourceVersion": "1"}):
        status, tree = await api("DELETE", f"{MAPS}/x", {"preconditions": wrong})
        assert (status, "Precondition failed" in tree["message"]) == (409, True)
    uid = stored["metadata"]["uid"]
    done = await api.ok("DELETE", f"{MAPS}/x", {"kind": "DeleteOptions", "preconditions": {"uid": uid}})
    assert (done["status"], done["details"]["uid"]) == ("Success", uid)


async def test_finalizers_hold_an_object(api: Api) -> None:
    held = {"metadata": {"name": "x", "finalizers": ["test.dev/hold"]}}
    await api.ok("POST", MAPS, held)
    first = await api.ok("DELETE", f"{MAPS}/x")
    assert first["metadata"]["deletionTimestamp"]
    second = await api.ok("DELETE", f"{MAPS}/x")
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    more = {"metadata": {"finalizers": ["test.dev/hold", "test.dev/more"]}}
    status, tree = await api("PATCH", f"{MAPS}/x", more, headers=MERGE)
    assert (status, "no new finalizers" in tree["message"]) == (422, True)
    await api.ok("PATCH", f"{MAPS}/x", {"metadata": {"finalizers": []}}, headers=MERGE)
    assert (await api("GET", f"{MAPS}/x"))[0] == 404


async def test_delete_collection_by_label(api: Api) -> None:
    for name, labels in (("a", {"x": "1"}), ("b", {"x": "2"}), ("c", {"x": "1"})):
        await api.ok("POST", MAPS, {"metadata": {"name": name, "labels": labels}})
    done = await api.ok("DELETE", MAPS, labelSelector="x=1")
    assert [item["metadata"]["name"] for item in done["items"]] == ["a", "c"]
    left = await api.ok("GET", MAPS)
    assert [item["metadata"]["name"] for item in left["items"]] == ["b"]


async def test_racing_allocations_never_share(api: Api, make: Make) -> None:
    """Two replicas; every writer proposes the lowest free number."""
    async with make().running() as second, aiohttp.ClientSession() as session:
        doors = [api, Api(second, session)]
        made = await asyncio.gather(*(doors[n % 2].ok("POST", QUOTAS, quota(f"q{n}")) for n in range(NUMBERS)))
    numbers = sorted(int(item["metadata"]["annotations"]["number"]) for item in made)
    assert numbers == list(range(1, NUMBERS + 1))


async def test_a_taken_value_names_its_owner(api: Api) -> None:
    await api.ok("POST", QUOTAS, quota("first", number="5"))
    status, tree = await api("POST", QUOTAS, quota("second", number="5"))
    assert status == 409
    assert "number/5 is already owned by resourcequotas.core.ironcore.dev a/first" in tree["message"]
    await api.ok("DELETE", f"{QUOTAS}/first")
    await api.ok("POST", QUOTAS, quota("second", number="5"))


async def test_values_follow_their_object(api: Api) -> None:
    held = quota("q", number="3")
    held["metadata"]["finalizers"] = ["test.dev/hold"]
    await api.ok("POST", QUOTAS, held)
    await api.ok("PATCH", f"{QUOTAS}/q", {"metadata": {"annotations": {"number": "4"}}}, headers=MERGE)
    await api.ok("POST", QUOTAS, quota("other", number="3"))
    await api.ok("DELETE", f"{QUOTAS}/q")
    assert (await api("POST", QUOTAS, quota("late", number="4")))[0] == 409, "held as long as the object is"
    await api.ok("PATCH", f"{QUOTAS}/q", {"metadata": {"finalizers": None}}, headers=MERGE)
    await api.ok("POST", QUOTAS, quota("late", number="4"))
