"""All kinds that the protos define."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from protos.api.v1 import options_pb2
from services.apimachinery.kinds import Kind, kind_of

ROOT = Path(__file__).parents[4]


@cache
def every_kind() -> list[Kind[Any]]:
    """Sorted by resource name."""
    found = []
    for source in sorted((ROOT / "protos").rglob("*.proto")):
        module = import_module(".".join(source.relative_to(ROOT).with_name(f"{source.stem}_pb2").parts))
        for name, descriptor in module.DESCRIPTOR.message_types_by_name.items():
            if descriptor.GetOptions().HasExtension(options_pb2.kind):
                found.append(kind_of(getattr(module, name)))
    return sorted(found, key=str)
