"""metadata.managedFields as a table: who (manager, operation, version, subresource) owns which fields since when."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from services.apimachinery.errors import BadRequest
from services.apimachinery.patch.fields import FieldSet, format_fields_v1, parse_fields_v1
from services.apimachinery.schema.schema import Tree

# Beyond so many writers by update the oldest are joined into one, as Kubernetes does.
_MOST_UPDATERS: Final = 10
_ANCIENT: Final = "ancient-changes"


class Operation(Enum):
    """How a manager writes."""

    APPLY = "Apply"
    UPDATE = "Update"


@dataclass(frozen=True)
class Manager:
    """A writer: the same name is another manager with another operation or subresource."""

    name: str
    operation: Operation
    api_version: str
    subresource: str = ""


@dataclass(frozen=True)
class Ownership:
    """The fields of one manager, and when that set last changed."""

    fields: FieldSet
    time: str


Managers = dict[Manager, Ownership]


def managers_of(tree: Tree | None) -> Managers:
    """The table of an object; BadRequest for entries that make no sense."""
    entries = (tree or {}).get("metadata", {}).get("managedFields", [])
    managers: Managers = {}
    for at, entry in enumerate(entries):
        if not entry:
            continue
        if entry.get("fieldsType", "FieldsV1") != "FieldsV1":
            raise BadRequest(f"metadata.managedFields[{at}].fieldsType: only FieldsV1 is known")
        try:
            operation = Operation(entry.get("operation"))
        except ValueError as error:
            raise BadRequest(f"metadata.managedFields[{at}].operation: must be Apply or Update") from error
        manager = Manager(
            entry.get("manager", ""), operation, entry.get("apiVersion", ""), entry.get("subresource", "")
        )
        managers[manager] = Ownership(parse_fields_v1(entry.get("fieldsV1", {})), entry.get("time", ""))
    return managers


def entries_of(managers: Managers) -> list[Tree]:
    """The table as managedFields: appliers first, then by age and name; managers that own nothing are left out."""
    kept = [(manager, owned) for manager, owned in managers.items() if owned.fields]
    kept.sort(key=lambda each: (each[0].operation.value, each[1].time, each[0].name, each[0].subresource))
    return [_entry(manager, owned) for manager, owned in kept]


def joined(managers: Managers, api_version: str) -> Managers:
    """The table with at most ten managers by update."""
    updaters = [manager for manager in managers if manager.operation is Operation.UPDATE]
    if len(updaters) <= _MOST_UPDATERS:
        return managers
    ancient = Manager(_ANCIENT, Operation.UPDATE, api_version)
    oldest_first = sorted(updaters, key=lambda manager: (manager != ancient, managers[manager].time))
    merged = oldest_first[: len(updaters) - _MOST_UPDATERS + 1]
    fields: FieldSet = frozenset().union(*(managers[manager].fields for manager in merged))
    time = max(managers[manager].time for manager in merged)
    return {manager: owned for manager, owned in managers.items() if manager not in merged} | {
        ancient: Ownership(fields, time)
    }


def _entry(manager: Manager, owned: Ownership) -> Tree:
    entry: dict[str, Any] = {
        "manager": manager.name,
        "operation": manager.operation.value,
        "apiVersion": manager.api_version,
        "time": owned.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": format_fields_v1(owned.fields),
        "subresource": manager.subresource,
    }
    return {name: value for name, value in entry.items() if value != ""}
