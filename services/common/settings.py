"""Settings of a process: a typed model filled from flags, environment and a YAML file, in this order of precedence.

A service declares a subclass of `ServiceSettings`; the fields are its flags (`grpc_listen` is `--grpc-listen`), its
configuration keys and its environment variables (`FERRITE_GRPC_LISTEN`). The description of a field is its help text.
Members of a nested model are `--core.address` and `FERRITE_CORE__ADDRESS`; a list's flag is repeated (`--device a
--device b`), a dictionary's too (`--label a=1 --label b=2`); in the environment both are JSON.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_origin

import yaml
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from services.common.addresses import split_address

S = TypeVar("S", bound="ServiceSettings")

WRONG_SETTINGS = 2
"""Exit code of a process that was started with settings it can't use."""


class ServiceSettings(BaseSettings):
    """What all services share."""

    model_config = SettingsConfigDict(
        env_prefix="FERRITE_",
        env_nested_delimiter="__",
        extra="forbid",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe level logged")
    log_format: Literal["json", "text"] = Field("json", description="one object a line, or text for people")
    ops_listen: str = Field("", description="address of /metrics, /healthz and /readyz, host:port; empty = off")
    trace_otlp_endpoint: str = Field(
        "", description="collector that gets traces over OTLP/gRPC, http://host:port or https://host:port; empty = none"
    )
    trace_directory: str = Field("", description="directory for files with traces, for development; empty = none")
    trace_ratio: float = Field(
        1.0, ge=0, le=1, description="share of writes that begin a trace, where their sender has not decided it"
    )

    @field_validator("ops_listen")
    @classmethod
    def _ops_address(cls, value: str) -> str:
        if value:
            split_address(value)
        return value


def load(settings: type[S], arguments: list[str], program: str, defaults: Mapping[str, Any] | None = None) -> S:
    """Reads `--config FILE` (YAML), the environment and the flags; `defaults` holds for what none of them says.

    Raises SystemExit(2) after printing one line per wrong setting that names it and the rule.
    """
    config, flags = _split_config(arguments)
    flags = _quoted(flags, {f"--{name.replace('_', '-')}" for name in _lists(settings)})
    tree = {**(defaults or {}), **(_read(program, config) if config is not None else {})}

    class Loaded(settings):  # type: ignore[valid-type,misc]
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            flag_settings: Any = CliSettingsSource(
                settings_cls, cli_parse_args=flags, root_parser=_parser(settings, program)
            )
            return flag_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=tree)

    try:
        loaded = Loaded()
    except ValidationError as error:
        _refuse([f"{program}: {_flag(problem['loc'])}: {problem['msg']}" for problem in error.errors()])
    except SettingsError as error:
        _refuse([f"{program}: {error}"])
    # Hand out the declared class: the loader's own is an accident of how sources are passed.
    return settings.model_construct(**{name: getattr(loaded, name) for name in settings.model_fields})


def _lists(settings: type[ServiceSettings]) -> list[str]:
    return [name for name, field in settings.model_fields.items() if get_origin(field.annotation) is list]


def _quoted(flags: list[str], lists: set[str]) -> list[str]:
    """Quotes `[v6]:port` where an item of a list is expected: pydantic takes an opening bracket for JSON."""
    quoted = []
    for index, flag in enumerate(flags):
        name, equals, value = flag.partition("=") if flag.startswith("--") else ("", "", flag)
        wanted = name or (flags[index - 1] if index else "")
        if wanted in lists and value.startswith("[") and not value.endswith("]"):
            flag = f'{name}{equals}"{value}"'
        quoted.append(flag)
    return quoted


def _parser(settings: type[ServiceSettings], program: str) -> ArgumentParser:
    return ArgumentParser(
        prog=program,
        description=settings.__doc__,
        epilog="Each setting may also stand in a YAML file (--config FILE) and in the environment (FERRITE_LOG_LEVEL).",
        # An abbreviation would change its meaning when another flag is added.
        allow_abbrev=False,
    )


def _read(program: str, config: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(config.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        _refuse([f"{program}: --config: {config}: {' '.join(str(error).split())}"])
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        _refuse([f"{program}: --config: {config}: is not a mapping of settings"])
    return {str(name): value for name, value in tree.items()}


def _split_config(arguments: list[str]) -> tuple[Path | None, list[str]]:
    config, rest, index = None, [], 0
    while index < len(arguments):
        argument = arguments[index]
        if argument == "--config" and index + 1 < len(arguments):
            config, index = Path(arguments[index + 1]), index + 1
        elif argument.startswith("--config="):
            config = Path(argument.removeprefix("--config="))
        else:
            rest.append(argument)
        index += 1
    return config, rest


def _flag(location: tuple[int | str, ...]) -> str:
    return "--" + ".".join(str(part) for part in location).replace("_", "-")


def _refuse(lines: list[str]) -> NoReturn:
    print("\n".join(lines), file=sys.stderr)
    raise SystemExit(WRONG_SETTINGS)
