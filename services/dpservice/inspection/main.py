"""`dpservice inspect [TABLE]` counts, `dpservice dump TABLE` shows: once, or again and again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from services.dpservice.client.flags import Flag, parsed, split
from services.dpservice.client.values import BadValue, number, text
from services.dpservice.engine.pins import Pins
from services.dpservice.inspection.show import FORMATS, lines
from services.dpservice.inspection.tables import ALIASES, TABLES, Row, counted, listing
from services.dpservice.settings import USUAL_ROOT

PREFIX_VARIABLE: Final = "DP_FILE_PREFIX"
ROOT_VARIABLE: Final = "FERRITE_BPF_ROOT"
OF_PREFIX: Final = Path("/sys/fs/bpf/dpservice")
CLEAR: Final = "\033[H\033[2J"


def _format(value: Any) -> str:
    if value not in FORMATS:
        raise BadValue(f"{value!r} is not one of {', '.join(FORMATS)}")
    return str(value)


def seconds(value: Any) -> float:
    """A time between two looks."""
    try:
        found = float(value)
    except ValueError as error:
        raise BadValue(f"{value!r} is not a number of seconds") from error
    if found <= 0:
        raise BadValue(f"{value!r} is not above 0")
    return found


PLACE: Final = (
    Flag("bpf-root", text, f"the --bpf-root of the data plane ({ROOT_VARIABLE}; usually {USUAL_ROOT})"),
    Flag(
        "file-prefix", text, f"the original's way to name an instance: maps in {OF_PREFIX}/PREFIX ({PREFIX_VARIABLE})"
    ),
)
FLAGS: Final = (
    *PLACE,
    Flag("table", text, f"one of {', '.join(TABLES)}, or list", short="t"),
    Flag("dump", None, "show the entries instead of counting them"),
    Flag("output-format", _format, ", ".join(FORMATS), default="human", short="o"),
    Flag("socket", number, "of the original, no effect", short="s"),
    Flag("watch", seconds, "look again every so many seconds"),
    Flag("help", None, "what there is", short="h"),
)


def main(arguments: list[str], *, dump: bool = False) -> None:
    """Raises SystemExit: 2 for a wrong command line, 1 where no data plane is or was."""
    program = f"dpservice {'dump' if dump else 'inspect'}"
    try:
        line = split(arguments, FLAGS)
        given = parsed(line, FLAGS)
        if given["help"]:
            print(help_of(f"{program} [TABLE]", FLAGS))
            return
        name = _table(given["table"] or (line.words[0] if line.words else "list"))
        if len(line.words) > 1:
            raise BadValue(f"{' '.join(line.words)}: one table at a time")
    except BadValue as error:
        print(f"{program}: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    try:
        pins = Pins(root(given))
        look = _look(pins, name, dump=dump or bool(given["dump"]))
        for rows in _again(look, given["watch"]):
            for shown in lines(rows, given["output-format"]):
                print(shown)
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has seen enough of it.
        sys.stderr.close()
    except OSError as error:
        print(f"{program}: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        return


def root(given: dict[str, Any]) -> Path:
    """Where the maps are."""
    prefix = given["file-prefix"] or os.environ.get(PREFIX_VARIABLE)
    if given["bpf-root"]:
        return Path(given["bpf-root"])
    if prefix:
        return OF_PREFIX / prefix
    return Path(os.environ.get(ROOT_VARIABLE) or USUAL_ROOT)


def help_of(usage: str, flags: tuple[Flag, ...]) -> str:
    """The usage line, and a line for each flag."""
    names = [f"--{flag.name}" + (f", -{flag.short}" if flag.short else "") for flag in flags]
    width = max(map(len, names))
    lines = [f"  {name.ljust(width)}  {flag.help}" for name, flag in zip(names, flags, strict=True)]
    return "\n".join([usage, "", *lines])


def _table(name: str) -> str:
    found = ALIASES.get(name, name)
    if found != "list" and found not in TABLES:
        raise BadValue(f"{name!r} is not one of list, {', '.join(TABLES)}")
    return found


def _look(pins: Pins, name: str, *, dump: bool) -> Callable[[], Iterator[Row]]:
    if name == "list":
        return lambda: listing(pins)
    # Drops are counters already.
    if dump or name == "drops":
        return lambda: TABLES[name].rows(pins)
    return lambda: iter([counted(pins, name)])


def _again(look: Callable[[], Iterator[Row]], pause: float | None) -> Iterator[Iterator[Row]]:
    while True:
        rows = look()
        if pause and sys.stdout.isatty():
            print(CLEAR, end="")
        yield rows
        if not pause:
            return
        time.sleep(pause)
