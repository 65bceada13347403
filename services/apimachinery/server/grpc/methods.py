"""Which RPC means which action on which kind, read from the services' descriptors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message_factory import GetMessageClass

from protos.api.v1 import resources_pb2
from services.apimachinery.server.registry import Resources
from services.apimachinery.server.resource import Resource

GENERIC: Final = resources_pb2.DESCRIPTOR.services_by_name["Resources"].full_name
METHODS: Final = (
    "Get",
    "List",
    "Watch",
    "Create",
    "Update",
    "UpdateStatus",
    "Patch",
    "Delete",
    "DeleteCollection",
)


@dataclass(frozen=True)
class Method:
    """One RPC; `resource` is None in the generic service, whose requests name it."""

    name: str
    request: Any
    answer: Any
    resource: Resource | None

    @property
    def streams(self) -> bool:
        """Whether the answer is a stream."""
        return self.name == "Watch"


def methods(resources: Resources) -> dict[str, Method]:
    """All RPCs by path (`/package.Service/Method`)."""
    found = {path: method for resource in resources for path, method in _typed(resource)}
    service = resources_pb2.DESCRIPTOR.services_by_name["Resources"]
    found.update((f"/{service.full_name}/{method.name}", _method(method, None)) for method in service.methods)
    return found


def service_names(resources: Resources) -> list[str]:
    """Full names of the services, for reflection and health."""
    return sorted({path.split("/")[1] for path in methods(resources)})


def _typed(resource: Resource) -> Iterator[tuple[str, Method]]:
    """The service in the kind's file whose methods answer with the kind."""
    message: Any = resource.kind.message.DESCRIPTOR
    for service in message.file.services_by_name.values():
        if any(method.output_type is message for method in service.methods):
            for method in service.methods:
                if method.name in METHODS:
                    yield f"/{service.full_name}/{method.name}", _method(method, resource)


def _method(descriptor: Any, resource: Resource | None) -> Method:
    return Method(descriptor.name, GetMessageClass(descriptor.input_type), descriptor.output_type, resource)
