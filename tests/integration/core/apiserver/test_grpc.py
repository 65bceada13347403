"""The gRPC door as a stranger finds it: by reflection alone."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from tests.integration.core.apiserver.conftest import CoreServer

MACHINES = "ferrite.compute.v1alpha1.Machines"


class Stranger:
    """Knows no proto: asks the server for its services and speaks JSON, as grpcurl does."""

    def __init__(self, core: CoreServer) -> None:
        self.channel = grpc.secure_channel(core.grpc, core.admin_tls.channel_credentials())
        self._database = ProtoReflectionDescriptorDatabase(self.channel)
        self._pool = DescriptorPool(self._database)

    def services(self) -> list[str]:
        return list(self._database.get_services())

    def call(self, service: str, method: str, request: dict[str, Any]) -> dict[str, Any]:
        described = self._pool.FindServiceByName(service).FindMethodByName(method)
        call = self.channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(described.output_type).FromString,
        )
        message = ParseDict(request, GetMessageClass(described.input_type)(), descriptor_pool=self._pool)
        tree: dict[str, Any] = MessageToDict(call(message, timeout=10), descriptor_pool=self._pool)
        return tree


@pytest.fixture
def stranger(core: CoreServer) -> Stranger:
    return Stranger(core)


def machine(name: str) -> dict[str, Any]:
    spec = {"machineClassRef": {"name": "small"}, "power": "On"}
    return {"object": {"metadata": {"name": name, "namespace": "default"}, "spec": spec}}


def test_every_kind_has_its_service(stranger: Stranger) -> None:
    services = stranger.services()
    wanted = {MACHINES, "ferrite.api.v1.Resources", "k8s.io.api.core.v1.Secrets", "grpc.health.v1.Health"}
    assert wanted <= set(services)
    assert len([name for name in services if name.startswith("ferrite.")]) >= 20


def test_a_machine_by_reflection(stranger: Stranger) -> None:
    made = stranger.call(MACHINES, "Create", machine("by-reflection"))
    assert made["metadata"]["uid"]
    named = {"namespace": "default", "name": "by-reflection"}
    assert stranger.call(MACHINES, "Get", named) == made
    listed = stranger.call(MACHINES, "List", {"namespace": "default", "limit": "10"})
    assert "by-reflection" in [item["metadata"]["name"] for item in listed["items"]]
    resource = {"group": "compute.ironcore.dev", "version": "v1alpha1", "plural": "machines"}
    generic = stranger.call("ferrite.api.v1.Resources", "Get", {"resource": resource, **named, "asJson": True})
    assert generic["json"]
    stranger.call(MACHINES, "Delete", named)
    with pytest.raises(grpc.RpcError) as refused:
        stranger.call(MACHINES, "Get", named)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("method", "request_", "code", "says"),
    [
        pytest.param("Get", {"name": "x"}, "INVALID_ARGUMENT", "namespace is required", id="no namespace"),
        pytest.param("Get", {"namespace": "default"}, "INVALID_ARGUMENT", "name is required", id="no name"),
        pytest.param("Create", {}, "INVALID_ARGUMENT", "object", id="no object"),
        pytest.param("Create", {"object": {"metadata": {"name": "x"}}}, "INVALID_ARGUMENT", "namespace", id="nowhere"),
        pytest.param("Patch", {"namespace": "default", "name": "x"}, "INVALID_ARGUMENT", "type", id="no patch type"),
        pytest.param("List", {"labelSelector": "a in ("}, "INVALID_ARGUMENT", "selector", id="bad selector"),
    ],
)
def test_bad_requests_say_why(stranger: Stranger, method: str, request_: dict[str, Any], code: str, says: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stranger.call(MACHINES, method, request_)
    assert refused.value.code().name == code  # type: ignore[attr-defined]
    assert says in refused.value.details()  # type: ignore[attr-defined]


def test_broken_rules_are_field_violations(stranger: Stranger) -> None:
    bad = machine("bad")
    bad["object"]["spec"]["power"] = "Sideways"
    with pytest.raises(grpc.RpcError) as refused:
        stranger.call(MACHINES, "Create", bad)
    status = rpc_status.from_call(refused.value)
    violations = error_details_pb2.BadRequest()
    assert status is not None
    assert any(detail.Unpack(violations) for detail in status.details)
    assert violations.field_violations[0].field == "spec.power"


def test_health(stranger: Stranger) -> None:
    answer = health_pb2_grpc.HealthStub(stranger.channel).Check(
        health_pb2.HealthCheckRequest(service=MACHINES), timeout=5
    )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
