"""Writes docs/reference/flags.md: every flag of every process, from the settings models themselves.

python tools/settings_reference.py          rewrites the page
python tools/settings_reference.py --check  exit code 1 when the committed page is not current
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from services.apimachinery.client.connect import ServerSettings
from services.common.settings import ServiceSettings

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "reference" / "flags.md"

# Command line -> module and class of its settings.
COMMANDS: Final = {
    "core apiserver": ("services.core.apiserver.__main__", "Settings"),
    "core controllers": ("services.core.controllers.__main__", "Settings"),
    "core machinepoollet": ("services.core.poollets.machine.__main__", "Settings"),
    "core volumepoollet": ("services.core.poollets.volume.__main__", "Settings"),
    "net apiserver": ("services.net.apiserver.__main__", "Settings"),
    "net apinetlet": ("services.net.apinetlet.__main__", "Settings"),
    "net metalnetlet": ("services.net.metalnetlet.__main__", "Settings"),
    "metalnet apiserver": ("services.metalnet.apiserver.__main__", "Settings"),
    "metalnet agent": ("services.metalnet.agent.settings", "AgentSettings"),
    "metalbond server": ("services.metalbond.settings", "ServerSettings"),
    "metalbond client": ("services.metalbond.client_settings", "ClientSettings"),
    "dpservice serve": ("services.dpservice.settings", "ServeSettings"),
    "dpservice drops": ("services.dpservice.settings", "DropsSettings"),
    "dpservice capture": ("services.dpservice.recording.main", "CaptureSettings"),
    "libvirt-provider serve": ("services.libvirt_provider.settings", "Settings"),
    "ceph-provider serve": ("services.ceph_provider.settings", "Settings"),
}

HEAD: Final = """\
# Flags of every process

<!-- Made by tools/settings_reference.py (make docs). Do not edit. -->

Each setting is a flag, a key of the YAML file named by `--config FILE`, and an environment variable; a flag wins over
the environment, the environment over the file.

| as a flag | in the file | in the environment |
|---|---|---|
| `--grpc-listen ADDRESS` | `grpc_listen: ADDRESS` | `FERRITE_GRPC_LISTEN=ADDRESS` |
| `--core.address ADDRESS` | `core: {address: ADDRESS}` | `FERRITE_CORE__ADDRESS=ADDRESS` |
| `--device A --device B` (a list) | `device: [A, B]` | `FERRITE_DEVICE='["A", "B"]'` |
| `--leader-elect`, `--no-leader-elect` (yes or no) | `leader_elect: false` | `FERRITE_LEADER_ELECT=false` |

A wrong setting ends the process with exit code 2 and one line that names the setting and the rule.
"""


@dataclass(frozen=True)
class Row:
    """One flag."""

    flag: str
    default: str
    meaning: str

    def __str__(self) -> str:
        return f"| {self.flag} | {self.default} | {self.meaning} |"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    parts.append(_section("Every process", "", _rows(ServiceSettings, {})))
    parts.append(
        _section(
            "Connections to API servers",
            "Where a process lists `--core.…`, `--net.…`, `--metalnet.…` or `--api-net.…`, these follow the dot.",
            _rows(ServerSettings, {}),
        )
    )
    shared = ServiceSettings.model_fields
    for command, (module, name) in COMMANDS.items():
        if find_spec(module.rsplit(".", 1)[0]) is None or find_spec(module) is None:
            continue
        settings: type[ServiceSettings] = getattr(import_module(module), name)
        parts.append(_section(f"ferrite {command}", "", _rows(settings, shared)))
    return "\n".join(parts)


def _section(title: str, text: str, rows: Iterator[Row]) -> str:
    lines = [f"## {title}", ""] + ([text, ""] if text else [])
    return "\n".join([*lines, "| flag | default | meaning |", "|---|---|---|", *map(str, rows), ""])


def _rows(model: type[BaseModel], left_out: dict[str, FieldInfo]) -> Iterator[Row]:
    for name, field in model.model_fields.items():
        if name not in left_out:
            yield _row(name.replace("_", "-"), field)


def _row(flag: str, field: FieldInfo) -> Row:
    meaning = " ".join(filter(None, [field.description or "", _limits(field)])).replace("|", "\\|")
    kind = _plain(field.annotation)
    if kind is ServerSettings:
        need = "required" if field.is_required() else "none"
        return Row(f"[`--{flag}.…`](#connections-to-api-servers)", need, meaning)
    shown = f"`--{flag}`, `--no-{flag}`" if kind is bool else f"`--{flag}`"
    return Row(shown, _default(field), meaning)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        made = field.default_factory
        return "none" if made in (dict, list) else f"`{made.__name__}()`"
    match field.default:
        case bool(value):
            return "yes" if value else "no"
        case None | "" | []:
            return "none"
        case value:
            return f"`{value}`"


def _limits(field: FieldInfo) -> str:
    """What the annotation and its constraints allow, as far as the description may leave it open."""
    allowed = _plain(field.annotation)
    if get_origin(allowed) is Literal:
        return f"({', '.join(map(str, get_args(allowed)))})"
    words = []
    for constraint in field.metadata:
        for attribute, word in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than")):
            if (bound := getattr(constraint, attribute, None)) is not None:
                words.append(f"{word} {bound}")
    return f"({', '.join(words)})" if words else ""


def _plain(annotation: Any) -> Any:
    """The annotation without None."""
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not NoneType]
        return members[0] if len(members) == 1 else annotation
    return annotation


def main(arguments: list[str]) -> int:
    """Writes or checks the page; the exit code."""
    wanted = page()
    if "--check" in arguments:
        current = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        if current != wanted:
            print(f"{PAGE.name} is not current: run make docs", file=sys.stderr)
            return 1
        return 0
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
