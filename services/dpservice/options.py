"""The original's way of starting: `[EAL OPTIONS] -- [OPTIONS]` and a file of `key value` lines, made into settings.

Options after `--` have the names that `ServeSettings` has. Those before it are for DPDK's environment abstraction
layer, which is not there: only those that name things (devices, the telemetry socket) mean something.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_origin

from services.dpservice.settings import ServeSettings

SEPARATOR: Final = "--"
CONF: Final = Path("/run/dpservice/dpservice.conf")
CONF_VARIABLE: Final = "DP_CONF"
FILE_PREFIX: Final = "rte"
"""DPDK's own default."""
GRPC_PORT: Final = 1337

_ADDED_TO_EAL: Final = ("a-pf0", "a-pf1")
"""Keys of the file that the original hands to DPDK as `-a`."""
_WITH_COMMAS: Final = ("--vdev", "--udp-virtsvc", "--tcp-virtsvc")
"""Their values are one thing, where elsewhere a comma separates several."""
_WITHOUT_EFFECT: Final = {
    "nic_type": "devices are told apart by their drivers",
    "stats": "there are no periodic statistics; see --ops-listen",
    "offload": "packets stay in the kernel",
    "multiport_eswitch": "uplinks are netdevs, whatever is behind them",
    "color": "logs have no colours",
    "graphtrace_loglevel": "see `dpservice trace`",
}


class OptionError(Exception):
    """The text names the option or the line, and what is wrong with it."""


@dataclass(frozen=True)
class Invocation:
    """What a command line of the original comes to: flags, what holds where nothing else is said, and warnings."""

    flags: list[str]
    defaults: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def understand(arguments: Sequence[str], environment: Mapping[str, str], default_conf: Path = CONF) -> Invocation:
    """Takes both forms: flags alone are handed on as they are, unless the environment names a file.

    Raises OptionError.
    """
    original = SEPARATOR in arguments
    at = arguments.index(SEPARATOR) if original else -1
    eal, flags = list(arguments[: max(at, 0)]), list(arguments[at + 1 :])
    conf = environment.get(CONF_VARIABLE, str(default_conf) if original else "")
    defaults: dict[str, Any] = {}
    warnings: list[str] = []
    if conf and (CONF_VARIABLE in environment or Path(conf).exists()):
        defaults, warnings = _of_file(Path(conf))
    for option, value in _pairs(eal):
        if option == "--vdev":
            defaults.setdefault("vdev", []).append(value)
        elif option == "--file-prefix":
            defaults["file_prefix"] = value
        else:
            warnings.append(f"{f'{option} {value}'.strip()}: is for DPDK and has no effect")
    if original:
        prefix = defaults.setdefault("file_prefix", FILE_PREFIX)
        # Two that serve one host side by side, told apart by the prefix, each have their own packets and journal.
        defaults = {
            "grpc_port": GRPC_PORT,
            "bpf_root": f"/sys/fs/bpf/dpservice/{prefix}",
            "state_dir": f"/run/dpservice/{prefix}",
        } | defaults
    return Invocation(list(_whole(flags)), defaults, warnings)


def without_effect(settings: ServeSettings) -> list[str]:
    """A line for each of the original's options that is given and changes nothing."""
    fields = ServeSettings.model_fields
    return [
        f"--{_flag(name, getattr(settings, name))}: has no effect: {why}"
        for name, why in _WITHOUT_EFFECT.items()
        if getattr(settings, name) != fields[name].default
    ]


def _whole(flags: Iterable[str]) -> Iterator[str]:
    before = ""
    for word in flags:
        name, equals, value = word.partition("=")
        if equals and name in _WITH_COMMAS:
            yield f'{name}="{_unquoted(value)}"'
        else:
            yield f'"{_unquoted(word)}"' if before in _WITH_COMMAS else word
        before = word


def _unquoted(value: str) -> str:
    """Without the quotes that protect the commas, and those within, which DPDK ignores."""
    return value.replace('"', "")


def _pairs(eal: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Options with their values, the empty one for those without."""
    option = ""
    for word in eal:
        if word.startswith("-"):
            if option:
                yield option, ""
            option, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
            if equals:
                yield option, value
                option = ""
        elif option:
            yield option, word
            option = ""
        else:
            raise OptionError(f"{word}: follows no option")
    if option:
        yield option, ""


def _of_file(path: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: {error}") from error
    found: dict[str, Any] = {}
    warnings = []
    for number, line in enumerate(lines, 1):
        key, *values = line.split()[:2] or [""]
        if not key or key.startswith("#"):
            continue
        where = f"{path}:{number}: {key}"
        if key in _ADDED_TO_EAL:
            warnings.append(f"{where}: is for DPDK and has no effect")
            continue
        name = key.removeprefix("no-").replace("-", "_")
        kind = ServeSettings.model_fields[name].annotation if name in ServeSettings.model_fields else None
        if kind is None or (name != key.replace("-", "_") and kind is not bool):
            raise OptionError(f"{where}: is not known")
        if kind is bool:
            found[name] = not key.startswith("no-")
        elif not values:
            raise OptionError(f"{where}: needs a value")
        elif get_origin(kind) is list:
            found.setdefault(name, []).append(values[0])
        else:
            found[name] = values[0]
    return found, warnings


def _flag(name: str, value: object) -> str:
    return ("no-" if value is False else "") + name.replace("_", "-")
