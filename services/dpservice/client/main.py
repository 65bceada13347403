"""Runs a command line of the client: words, flags, call, output, exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

from services.dpservice.client import completion, files
from services.dpservice.client.commands import (
    COMMANDS,
    FILES,
    KINDS,
    VERB_ALIASES,
    Command,
    Outcome,
    create,
    delete,
    find,
)
from services.dpservice.client.flags import SHARED, Flag, Line, parsed, split
from services.dpservice.client.kinds import Object
from services.dpservice.client.reading import made
from services.dpservice.client.render import Style, render
from services.dpservice.client.session import Failure, client_failure, connected
from services.dpservice.client.values import BadValue

PROGRAM: Final = "dpservice"
PORT_VARIABLE: Final = "DP_GRPC_PORT"
PORT: Final = "1337"
_BY_FILE: Final = {"create": create, "delete": delete}


def main(arguments: list[str]) -> None:
    """Raises SystemExit: 1 for what the client or gRPC found wrong, 2 for what the server refused."""
    style = _style(arguments)
    try:
        failed = _run(arguments)
    except BrokenPipeError:
        # Whoever read the output has seen enough of it.
        sys.stderr.close()
        failed = None
    except (BadValue, Failure) as error:
        failed = error if isinstance(error, Failure) else client_failure(str(error))
        print(_error(failed, style))
    if failed is not None:
        raise SystemExit(failed.exit_code)


def _run(arguments: Sequence[str]) -> Failure | None:
    if list(arguments) in (["-v"], ["--version"]):
        print(f"{PROGRAM} version {version('ferrite')}")
        return None
    line = split(arguments, (FILES, *SHARED))
    words = line.words
    if words[:1] == ["completion"]:
        print(completion.script(words[1] if len(words) > 1 else ""))
        return None
    if words[:1] == ["complete"]:
        # Everything after the word belongs to the line that is being completed.
        print("\n".join(completion.candidates(list(arguments[arguments.index("complete") + 1 :]))))
        return None
    found = find(words)
    wants_help = any(name == "help" for name, _ in line.flags)
    exact = found[0] if len(found) == 1 and (len(words) == 2 or not found[0].noun) else None
    if exact is not None and wants_help:
        print(_help_of(exact))
        return None
    if exact is not None:
        _run_one(exact, line)
        return None
    verb = VERB_ALIASES.get(words[0].lower(), words[0].lower()) if words else ""
    if found and verb in _BY_FILE and any(name == "filename" for name, _ in line.flags):
        return _run_files(verb, line)
    if wants_help or not words:
        print(_help_of_many(found or list(COMMANDS)))
        if wants_help:
            return None
    known = sorted({command.noun for command in COMMANDS if command.verb == verb} - {""})
    if known:
        raise client_failure(f"{' '.join(words)}: say one of {', '.join(known)} after {verb}")
    verbs = ", ".join(dict.fromkeys(command.verb for command in COMMANDS))
    raise client_failure(f"{' '.join(words) or 'no command'}: the first word is one of {verbs}")


def _run_one(command: Command, line: Line) -> None:
    given = parsed(line, (*command.flags, *SHARED))
    with connected(_address(given), given["connect-timeout"]) as session:
        outcome = command.run(session, given)
    _show(outcome, Style(given["output"] or command.output, given["pretty"] or False, given["wide"] or False))


def _run_files(verb: str, line: Line) -> Failure | None:
    """Each object on its own: one that fails does not keep the others from it."""
    given = parsed(line, (FILES, *SHARED))
    wanted = files.objects(given["filename"], KINDS)
    style = Style(given["output"] or "name", given["pretty"] or False)
    last = None
    with connected(_address(given), given["connect-timeout"]) as session:
        for kind, each in wanted if verb == "create" else reversed(wanted):
            try:
                _show(_BY_FILE[verb](session, kind, each), style)
            except Failure as failure:
                last = failure
                titled = Failure(failure.source, failure.code, f"{kind.noun}/{kind.title(each)}: {failure.message}")
                print(_error(failure if style.format in ("json", "yaml") else titled, style))
    return last


def _address(given: Mapping[str, Any]) -> str:
    return given["address"] or f"localhost:{os.environ.get(PORT_VARIABLE) or PORT}"


def _show(outcome: Outcome, style: Style) -> None:
    print(render(outcome.shown, style, _title, outcome.operation), flush=True)


def _title(shown: Object) -> str:
    for kind in KINDS:
        if kind.name == shown["kind"]:
            return kind.title(shown)
    return str(shown["metadata"].get("vni") or shown["spec"].get("uuid") or "")


def _style(arguments: Sequence[str]) -> Style:
    """How errors are shown, whatever is wrong with the rest of the line."""
    wanted = ""
    for at, word in enumerate(arguments):
        name, _, value = word.partition("=")
        if name in ("-o", "--output"):
            wanted = value or (arguments[at + 1] if at + 1 < len(arguments) else "")
    return Style(wanted if wanted in ("json", "yaml") else "name")


def _error(failure: Failure, style: Style) -> str:
    if style.format not in ("json", "yaml"):
        return f"{failure.source} error: {failure}"
    shown = made("Error", {}, {"source": failure.source})
    shown["status"] = {"code": failure.code, "message": failure.message}
    del shown["metadata"]
    return render(shown, style, _title)


def _help_of(command: Command) -> str:
    usage = f"{PROGRAM} {command.verb} {command.noun}".rstrip()
    also = f"\nalso: {', '.join(command.aliases)}" if command.aliases else ""
    return "\n".join([f"{usage}: {command.help}{also}", "", *_flag_lines((*command.flags, *SHARED))])


def _help_of_many(commands: Sequence[Command]) -> str:
    width = max(len(f"{command.verb} {command.noun}") for command in commands)
    lines = [f"  {f'{command.verb} {command.noun}'.ljust(width)}  {command.help}" for command in commands]
    by_file = [FILES] if {command.verb for command in commands} & set(_BY_FILE) else []
    return "\n".join([f"{PROGRAM} COMMAND [flags]", "", *lines, "", *_flag_lines((*by_file, *SHARED))])


def _flag_lines(flags: Sequence[Flag]) -> list[str]:
    names = [f"--{flag.name}" + (f", -{flag.short}" if flag.short else "") for flag in flags]
    width = max(map(len, names))
    notes = ["needed" if flag.required else f"default {flag.default}" if flag.default else "" for flag in flags]
    return [
        f"  {name.ljust(width)}  {flag.help}" + (f" ({note})" if note else "")
        for name, flag, note in zip(names, flags, notes, strict=True)
    ]
