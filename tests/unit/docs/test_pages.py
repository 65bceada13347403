"""The pages for users: their links lead somewhere, and the commands that they show exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from ferrite.cli.dev import app
from ferrite.cli.main import COMMANDS, PROCESSES
from services.dpservice.client import commands as client
from services.dpservice.client.flags import SHARED, Flag
from services.dpservice.engine.ebpf import OBJECT_FILE
from services.dpservice.inspection import main as inspection
from services.dpservice.tracing import main as tracing
from services.metalbond import people as metalbond
from tools import settings_reference

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
ANCHOR = re.compile(r'<a id="([^"]+)">')
COMMAND = re.compile(r"(?:^|[\s`/|])ferrite ((?:[a-z][a-z-]+)(?: [a-z][a-z-]+)?)([^\n|`#]*)", re.MULTILINE)
DEV_COMMAND = re.compile(r"ferrite dev ([a-z]+)")
FLAG = re.compile(r"(?<![\w-])--([a-z][a-z0-9.-]*)")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


@pages
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in LINK.findall(FENCED.sub("", page.read_text())) if not _exists(page, link)]
    assert broken == []


@pages
def test_commands_and_their_flags_exist(page: Path) -> None:
    known = _flags()
    for words, rest in _commands(page.read_text()):
        for flag in FLAG.findall(rest):
            assert flag in known[words], f"ferrite {words} has no --{flag}"


@pages
def test_commands_for_people_exist(page: Path) -> None:
    known = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    assert set(DEV_COMMAND.findall(page.read_text())) <= known


@pages
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"(?:^|`|sudo )make ([a-z-]+)(?=[`\s]|$)", page.read_text(), re.MULTILINE))
    assert shown <= targets


def test_every_process_has_its_section() -> None:
    text = (ROOT / "docs/processes.md").read_text()
    missing = [name for name in settings_reference.COMMANDS if f"ferrite {name}" not in text]
    assert missing == []


def test_every_drop_reason_is_explained() -> None:
    source = (OBJECT_FILE.parent / "reasons.h").read_text()
    text = (ROOT / "docs/debugging.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", text, re.MULTILINE))
    reasons = {name.lower(): why for name, why in re.findall(r'X\((\w+),\s*"([^"]*)"\)', source)}
    assert {name: rows.get(name) for name in reasons} == reasons


def _exists(page: Path, link: str) -> bool:
    if link.startswith(("https://", "mailto:")):
        return True
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    return target.exists() and (not anchor or anchor in _anchors(target))


def _anchors(page: Path) -> set[str]:
    text = FENCED.sub("", page.read_text())
    return {_slug(heading) for heading in HEADING.findall(text)} | set(ANCHOR.findall(text))


def _slug(heading: str) -> str:
    """As GitHub makes it: lower case, letters, digits, hyphens, spaces to hyphens."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _commands(text: str) -> Iterator[tuple[str, str]]:
    """Services' commands with what follows them on the line."""
    names = {" ".join(words) for words in PROCESSES} | set(settings_reference.COMMANDS) | set(_command_flags())
    for words, rest in COMMAND.findall(text):
        if words in names:
            yield words, rest
        else:
            assert words.split()[0] not in COMMANDS or words in COMMANDS, f"there is no ferrite {words}"


def _flags() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    page = settings_reference.page()
    sections = dict(re.findall(r"^## (.+?)$\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    shared = set(FLAG.findall(sections["Every process"])) | {"help", "config"}
    server = set(FLAG.findall(sections["Connections to API servers"]))
    for title, text in sections.items():
        if not title.startswith("ferrite "):
            continue
        flags = set(FLAG.findall(text)) | shared
        # `--core.…` stands for each flag of a connection.
        prefixes = set(re.findall(r"--([a-z-]+)\.…", text))
        found[title.removeprefix("ferrite ")] = flags | {f"{prefix}.{name}" for prefix in prefixes for name in server}
    for command, flags in _command_flags().items():
        found.setdefault(command, set()).update(flags)
    return found


def _command_flags() -> dict[str, set[str]]:
    """The flags of the commands that ask a reflector or look into a data plane, and of its client."""
    looking: dict[str, tuple[Flag, ...]] = {
        "inspect": inspection.FLAGS,
        "dump": inspection.FLAGS,
        "trace": tracing.OPTIONS,
    }
    found = {f"dpservice {verb}": {flag.name for flag in flags} for verb, flags in looking.items()}
    group = typer.main.get_command(metalbond.app)
    for name, asking in getattr(group, "commands", {}).items():
        found[f"metalbond {name}"] = {flag[2:] for option in asking.params for flag in option.opts if flag[:2] == "--"}
    for command in client.COMMANDS:
        flags = {flag.name for flag in (*command.flags, *SHARED, client.FILES)}
        found.setdefault(f"dpservice {command.verb}", set()).update(flags)
    return found
