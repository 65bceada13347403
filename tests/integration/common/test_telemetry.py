"""One apply is one trace through the processes that act on it; every process tells its metrics."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from services.apimachinery.tracing import ANNOTATION
from services.common import telemetry
from services.common.settings import ServiceSettings
from services.common.telemetry_tree import Node, read_spans, trees
from tests.support.etcd import running_etcd
from tests.support.eventually import eventually
from tests.support.processes import directory, free_port, start, stop

WITHIN = 30.0
START_SECONDS = 90.0
MACHINES = "/apis/compute.ironcore.dev/v1alpha1/namespaces/default/machines"
VOLUME = {"volumeClassRef": {"name": "fast"}, "resources": {"storage": "1Gi"}}
SPEC = {
    "machineClassRef": {"name": "tiny"},
    "volumes": [{"name": "data", "ephemeral": {"volumeTemplate": {"spec": VOLUME}}}],
}


class Pair:
    """A core API server and its controllers, traced into one directory."""

    def __init__(self, etcd: str, place: Path) -> None:
        self.traces = place / "traces"
        self.rest, grpc = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.ops = {name: f"127.0.0.1:{free_port()}" for name in ("apiserver", "controllers")}
        server = ["--insecure", "--https-listen", self.rest, "--grpc-listen", grpc, "--etcd-endpoints", etcd]
        server += ["--etcd-prefix", f"/ft-{secrets.token_hex(6)}"]
        self._place = place
        self._processes = {
            "apiserver": self._start("apiserver", server),
            "controllers": self._start(
                "controllers", ["--core.address", grpc, "--core.insecure", "--no-leader-elect", "--log-format=json"]
            ),
        }

    def stop(self) -> dict[str, int]:
        """Exit codes of both."""
        return {name: stop(process) for name, process in reversed(self._processes.items())}

    def log(self, name: str) -> list[dict[str, Any]]:
        lines = (self._place / f"{name}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def is_ready(self) -> bool:
        return all(ask(f"http://{address}/readyz")[0] == 200 for address in self.ops.values())

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
        media = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        data = None if body is None else json.dumps(body).encode()
        status, answer = ask(f"http://{self.rest}{path}", method, data, {"Content-Type": media, **headers})
        assert status < 300, answer
        tree: dict[str, Any] = json.loads(answer)
        return tree

    def apply(self, name: str, **headers: str) -> dict[str, Any]:
        """Server-side apply of a machine, as kubectl does it."""
        meta = {"name": name, "namespace": "default"}
        machine = {"apiVersion": "compute.ironcore.dev/v1alpha1", "kind": "Machine", "metadata": meta, "spec": SPEC}
        return self.call("PATCH", f"{MACHINES}/{name}?fieldManager=kubectl&force=true", machine, **headers)

    def tree(self, trace: str) -> list[Node]:
        return trees(span for span in read_spans(self.traces) if span.trace == trace)

    def _start(self, name: str, flags: list[str]) -> subprocess.Popen[bytes]:
        watched = ["--ops-listen", self.ops[name], "--trace-directory", str(self.traces)]
        command = [sys.executable, "-m", "ferrite.cli.main", "core", name, *flags, *watched]
        return start(command, self._place / f"{name}.log")


def ask(
    url: str, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    request = urllib.request.Request(url, body, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with running_etcd() as etcd, directory("telemetry") as place:
        pair = Pair(etcd, place)
        try:
            yield pair
        finally:
            codes = pair.stop()
        assert codes == {"apiserver": 0, "controllers": 0}


def chain(nodes: list[Node], *path: tuple[str, str]) -> list[Node]:
    """The nodes of a path down the tree, given by service and beginning of the name."""
    found = []
    for service, name in path:
        node = next(node for node in nodes if node.record.service == service and node.record.name.startswith(name))
        found.append(node)
        nodes = node.children
    return found


async def test_one_apply_is_one_trace(pair: Pair) -> None:
    await eventually(pair.is_ready, START_SECONDS)
    trace = secrets.token_hex(16)
    pair.apply("vm-a", traceparent=f"00-{trace}-{secrets.token_hex(8)}-01")

    path = (
        ("core-apiserver", "patch machines"),
        ("core-controllers", "reconcile machine-ephemeral-volume"),
        ("core-apiserver", "create volumes"),
    )
    applied, reconciled, created = await eventually(lambda: chain(pair.tree(trace), *path), WITHIN)
    assert reconciled.record.attributes["object"] == "default/vm-a"
    assert created.record.attributes["object"] == "default/vm-a-data"
    assert applied.record.start <= reconciled.record.start <= created.record.start
    volume = pair.call("GET", "/apis/storage.ironcore.dev/v1alpha1/namespaces/default/volumes/vm-a-data")
    assert volume["metadata"]["annotations"][ANNOTATION] == f"00-{trace}-{created.record.span}-01"


async def test_the_annotation_is_out_of_appliers_way(pair: Pair) -> None:
    await eventually(pair.is_ready, START_SECONDS)
    first = pair.apply("vm-b")
    annotation = first["metadata"]["annotations"][ANNOTATION]
    assert ANNOTATION not in json.dumps(first["metadata"]["managedFields"])

    async def settled() -> dict[str, Any]:
        pair.call("GET", "/apis/storage.ironcore.dev/v1alpha1/namespaces/default/volumes/vm-b-data")
        return pair.call("GET", f"{MACHINES}/vm-b")

    before = await eventually(settled, WITHIN)
    again = pair.apply("vm-b", traceparent=f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01")
    assert again["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    replaced = json.loads(json.dumps(before))
    del replaced["metadata"]["annotations"]
    assert pair.call("PUT", f"{MACHINES}/vm-b", replaced)["metadata"] == before["metadata"]
    assert before["metadata"]["annotations"] == {ANNOTATION: annotation}

    replaced["spec"]["power"] = "Off"
    changed = pair.call("PUT", f"{MACHINES}/vm-b", replaced)
    assert changed["metadata"]["annotations"][ANNOTATION] != annotation, "another order, another trace"


async def test_log_lines_of_a_reconcile_name_the_trace(pair: Pair) -> None:
    await eventually(pair.is_ready, START_SECONDS)
    pool = {"apiVersion": "compute.ironcore.dev/v1alpha1", "kind": "MachinePool", "metadata": {"name": "p1"}}
    pair.call("POST", "/apis/compute.ironcore.dev/v1alpha1/machinepools", pool | {"spec": {"providerID": "x://p1"}})
    tiny = {"kind": "MachineClass", "metadata": {"name": "tiny"}, "capabilities": {"cpu": "1", "memory": "1Gi"}}
    pair.call("POST", "/apis/compute.ironcore.dev/v1alpha1/machineclasses", tiny | {"apiVersion": pool["apiVersion"]})
    status = {
        "state": "Ready",
        "availableMachineClasses": [{"name": "tiny"}],
        "allocatable": {"iri-machine-class/tiny": "5", "count/machineclass.compute.ironcore.dev/tiny": "5"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "r", "message": "m"}],
    }
    stored = pair.call("GET", "/apis/compute.ironcore.dev/v1alpha1/machinepools/p1")
    stored["status"] = status
    pair.call("PUT", "/apis/compute.ironcore.dev/v1alpha1/machinepools/p1/status", stored)
    trace = secrets.token_hex(16)
    pair.apply("vm-c", traceparent=f"00-{trace}-{secrets.token_hex(8)}-01")

    def bound() -> list[dict[str, Any]]:
        return [line for line in pair.log("controllers") if line.get("trace_id") == trace]

    [line, *_] = await eventually(bound, WITHIN)
    assert line["object"] == "default/vm-c"


@pytest.mark.parametrize(
    ("name", "samples"),
    [
        pytest.param(
            "apiserver",
            [
                'ferrite_apiserver_requests_total{code="200",door="rest",resource="machines.compute.ironcore.dev",verb="get"}',
                'ferrite_apiserver_request_seconds_bucket{door="rest",le="0.1",verb="patch"}',
                'ferrite_apiserver_watchers{resource="machines.compute.ironcore.dev"}',
                'ferrite_apiserver_watch_cache_objects{resource="machines.compute.ironcore.dev"}',
                'ferrite_apiserver_etcd_request_seconds_count{method="Txn"}',
                "process_resident_memory_bytes",
            ],
            id="API server",
        ),
        pytest.param(
            "controllers",
            [
                'ferrite_reconciles_total{reconciler="machine-scheduler"',
                'ferrite_workqueue_depth{queue="machine-scheduler"}',
                'ferrite_informer_objects{resource="machines.compute.ironcore.dev"',
                'ferrite_scheduler_pending{resource="machines.compute.ironcore.dev"}',
            ],
            id="controllers",
        ),
    ],
)
async def test_metrics(pair: Pair, name: str, samples: list[str]) -> None:
    await eventually(pair.is_ready, START_SECONDS)
    pair.apply("vm-d")
    pair.call("GET", f"{MACHINES}/vm-d")

    async def missing() -> bool:
        _, text = ask(f"http://{pair.ops[name]}/metrics")
        absent = [sample for sample in samples if not any(line.startswith(sample) for line in text.splitlines())]
        assert absent == []
        return True

    await eventually(missing, WITHIN)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OpenTelemetry collector."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def Export(self, request: Any, context: Any) -> Any:
        resources = request.resource_spans
        self.names += [span.name for each in resources for scope in each.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, int]]:
    collector, server = Collector(), grpc.server(ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, port
    server.stop(0).wait()


def test_spans_reach_a_collector(collector: tuple[Collector, int]) -> None:
    receiver, port = collector
    _trace_one_write(f"http://127.0.0.1:{port}")
    assert receiver.names == ["write"]


def test_a_dead_collector_holds_nobody_up() -> None:
    started = time.monotonic()
    _trace_one_write(f"http://127.0.0.1:{free_port()}")
    assert time.monotonic() - started < telemetry.FLUSH_SECONDS + 2


def _trace_one_write(endpoint: str) -> None:
    settings = ServiceSettings.model_construct(trace_directory="", trace_otlp_endpoint=endpoint, trace_ratio=1.0)
    telemetry.configure(settings, "test")
    with telemetry.request("write", None, begin=True):
        pass
    telemetry.shutdown()
