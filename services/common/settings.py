"""Settings of a process: a typed model filled from flags, environment and a YAML file, in this order of precedence.

A service declares a subclass of `ServiceSettings`; the fields are its flags (`grpc_listen` is `--grpc-listen`), its
configuration keys and its environment variables (`FERRITE_GRPC_LISTEN`). The description of a field is its help text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

S = TypeVar("S", bound="ServiceSettings")


class ServiceSettings(BaseSettings):
    """What all services share."""

    model_config = SettingsConfigDict(
        env_prefix="FERRITE_", extra="forbid", cli_kebab_case=True, cli_implicit_flags=True, cli_hide_none_type=True
    )

    log_level: str = Field("info", description="least severe level that is logged: debug, info, warning or error")
    log_format: str = Field("json", description="json (one object a line) or text (for people)")
    ops_listen: str = Field("", description="address of /metrics, /healthz and /readyz, host:port; empty = off")


def load(settings: type[S], arguments: list[str], program: str) -> S:
    """Reads `--config FILE` (YAML), the environment and the flags.

    Raises SystemExit(2) with one line per wrong setting, naming it and the rule.
    """
    config, flags = _split_config(arguments)
    if config is not None and not config.is_file():
        raise SystemExit(f"{program}: --config: {config} is not a file")

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
            command_line: Any = CliSettingsSource(settings_cls, cli_parse_args=flags, cli_prog_name=program)
            sources: list[PydanticBaseSettingsSource] = [command_line, env_settings]
            if config is not None:
                sources.append(YamlConfigSettingsSource(settings_cls, yaml_file=config))
            return tuple(sources)

    try:
        loaded = Loaded()
    except ValidationError as error:
        lines = [f"{program}: {_flag(problem['loc'])}: {problem['msg']}" for problem in error.errors()]
        raise SystemExit("\n".join(lines)) from None
    # Hand out the declared class: the loader's own is an accident of how sources are passed.
    return settings.model_construct(**{name: getattr(loaded, name) for name in settings.model_fields})


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
