"""Words and flags of a command line, as the original's clients write them: `--id=vm1`, `--id vm1`, `-o json`, `-w`.

Flags may stand anywhere, before the words too; names of commands and flags are exact, words' case does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.dpservice.client import values
from services.dpservice.client.values import BadValue


@dataclass(frozen=True)
class Flag:
    """A flag; `parse` is None for a switch."""

    name: str
    parse: Callable[[Any], Any] | None
    help: str
    required: bool = False
    default: Any = None
    short: str = ""


def _seconds(value: Any) -> float:
    """A duration as Go writes it: 4s, 1m30s, 250ms; or plain seconds."""
    total, rest = 0.0, str(value)
    for unit, factor in (("h", 3600.0), ("ms", 0.001), ("m", 60.0), ("s", 1.0)):
        head, found, tail = rest.partition(unit)
        if found and not (unit == "m" and tail.startswith("s")) and head.replace(".", "", 1).isdigit():
            total, rest = total + float(head) * factor, tail
    if rest.replace(".", "", 1).isdigit():
        return total + float(rest)
    if rest or not total:
        raise BadValue(f"{value!r} is not a duration, as 4s")
    return total


def _format(value: Any) -> str:
    known = ("json", "yaml", "table", "name")
    if value not in known:
        raise BadValue(f"{value!r} is not one of {', '.join(known)}")
    return str(value)


SHARED: Final = (
    Flag("address", values.text, "host:port or unix:/path of the server; DP_GRPC_PORT changes the port alone"),
    Flag("connect-timeout", _seconds, "how long to wait for the server", default=4.0),
    Flag("output", _format, "json, yaml, table or name", short="o"),
    Flag("pretty", None, "JSON with indentation"),
    Flag("wide", None, "more columns", short="w"),
    Flag("help", None, "what there is", short="h"),
)


@dataclass(frozen=True)
class Line:
    """Words, and the texts of flags by their long names; what is given several times is kept so."""

    words: list[str]
    flags: list[tuple[str, str]]


def split(arguments: Sequence[str], known: Sequence[Flag]) -> Line:
    """Tells words from flags. `known` are at least the switches and the flags that have a short form.

    Raises BadValue for a flag without its value.
    """
    words: list[str] = []
    flags: list[tuple[str, str]] = []
    shorts = {flag.short: flag.name for flag in known if flag.short}
    switches = {flag.name for flag in known if flag.parse is None}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            words.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("--"):
            # A short flag's value may follow without anything between them.
            if len(name) > 1:
                value, equals, name = name[1:] + (equals + value), "=", name[0]
            name = shorts.get(name, name)
        if name in switches:
            value = value or "true"
        elif not equals:
            if not rest:
                raise BadValue(f"--{name}: needs a value")
            value = rest.pop(0)
        flags.append((name, value))
    return Line(words, flags)


def parsed(line: Line, known: Sequence[Flag]) -> dict[str, Any]:
    """Values by flag. Raises BadValue that names each flag which is wrong, unknown or missing."""
    by_name: Mapping[str, Flag] = {flag.name: flag for flag in known}
    found = {flag.name: flag.default for flag in known}
    for name, text in line.flags:
        flag = by_name.get(name)
        if flag is None:
            raise BadValue(f"--{name}: is not known here")
        if flag.parse is None:
            found[name] = text.lower() in ("true", "1", "t")
        else:
            try:
                value = flag.parse(text)
            except BadValue as error:
                raise BadValue(f"--{name}: {error}") from error
            # A list grows with each time its flag is given.
            found[name] = found[name] + value if isinstance(value, list) and found[name] else value
    missing = [f"--{flag.name}" for flag in known if flag.required and found[flag.name] is None]
    if missing and not found.get("help"):
        raise BadValue(f"{', '.join(missing)}: must be given")
    return found
