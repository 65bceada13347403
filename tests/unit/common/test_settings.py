from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from services.common.settings import WRONG_SETTINGS, ServiceSettings, load


class Server(BaseModel):
    model_config = ConfigDict(extra="forbid")

    address: str = ""
    tls_ca: str = ""


class Settings(ServiceSettings):
    """Settings of a test."""

    core: Server = Field(default_factory=Server)
    net: Server | None = None
    device: list[str] = Field(default_factory=list)
    label: dict[str, str] = Field(default_factory=dict)
    count: int = Field(1, ge=1)
    verbose: bool = False


@pytest.mark.parametrize(
    ("arguments", "environment", "yaml", "expected"),
    [
        pytest.param([], {}, "", {"count": 1, "device": [], "net": None}, id="defaults"),
        pytest.param(["--count", "3"], {}, "", {"count": 3}, id="a flag"),
        pytest.param(["--count=3", "--verbose"], {}, "", {"count": 3, "verbose": True}, id="other forms of flags"),
        pytest.param(
            ["--device", "a=b", "--device", "c=d"], {}, "", {"device": ["a=b", "c=d"]}, id="a repeated flag is a list"
        ),
        pytest.param(
            ["--device=[::1]:1", "--device", "[::2]:2"],
            {},
            "",
            {"device": ["[::1]:1", "[::2]:2"]},
            id="whose items may begin with a bracket",
        ),
        pytest.param(
            ["--label", "a=1", "--label", "b=2"], {}, "", {"label": {"a": "1", "b": "2"}}, id="or a dictionary"
        ),
        pytest.param(["--core.tls-ca", "x"], {}, "", {"core": Server(tls_ca="x")}, id="a member of a nested model"),
        pytest.param(["--net.address", "h:1"], {}, "", {"net": Server(address="h:1")}, id="or of one that may be None"),
        pytest.param([], {}, "net: {address: h:1}", {"net": Server(address="h:1")}, id="such a one in a file"),
        pytest.param([], {"FERRITE_COUNT": "4"}, "", {"count": 4}, id="the environment"),
        pytest.param([], {"FERRITE_CORE__ADDRESS": "h:1"}, "", {"core": Server(address="h:1")}, id="nested there too"),
        pytest.param([], {"FERRITE_DEVICE": '["a"]'}, "", {"device": ["a"]}, id="a list there is JSON"),
        pytest.param([], {}, "count: 5\ndevice: [a, b]", {"count": 5, "device": ["a", "b"]}, id="a file"),
        pytest.param(
            ["--count", "3"], {"FERRITE_COUNT": "4"}, "count: 5", {"count": 3}, id="flags win over all others"
        ),
        pytest.param([], {"FERRITE_COUNT": "4"}, "count: 5", {"count": 4}, id="the environment wins over the file"),
        pytest.param(
            ["--core.address", "h:1"],
            {},
            "core: {tls_ca: x}",
            {"core": Server(address="h:1", tls_ca="x")},
            id="members of a nested model may come from different places",
        ),
        pytest.param([], {}, "# nothing", {"count": 1}, id="an empty file"),
    ],
)
def test_load(
    arguments: list[str],
    environment: dict[str, str],
    yaml: str,
    expected: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if yaml:
        (tmp_path / "config.yaml").write_text(yaml)
        arguments = [*arguments, "--config", str(tmp_path / "config.yaml")]
    loaded = load(Settings, arguments, "test")
    assert type(loaded) is Settings
    assert {name: getattr(loaded, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("arguments", "yaml", "message"),
    [
        pytest.param(["--count", "0"], "", "--count: Input should be greater", id="a rule is broken"),
        pytest.param(["--cuont", "1"], "", "unrecognized arguments: --cuont", id="an unknown flag"),
        pytest.param(["--verb"], "", "unrecognized arguments: --verb", id="no abbreviations"),
        pytest.param(["--log-level", "loud"], "", "--log-level", id="a wrong word"),
        pytest.param(["--ops-listen", "here"], "", "--ops-listen: Value error, address 'here'", id="a wrong address"),
        pytest.param([], "cuont: 1", "--cuont: Extra inputs", id="an unknown key in the file"),
        pytest.param([], "core: {adress: x}", "--core.adress: Extra inputs", id="an unknown nested key"),
        pytest.param([], "count: many\nverbose: 7", "--verbose", id="every wrong key is named"),
        pytest.param([], "a: [", "while parsing", id="broken YAML"),
        pytest.param([], "[1]", "is not a mapping", id="another YAML value"),
        pytest.param(["--config", "/nowhere/x.yaml"], "", "No such file", id="no such file"),
    ],
)
def test_wrong_settings(
    arguments: list[str], yaml: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if yaml:
        (tmp_path / "config.yaml").write_text(yaml)
        arguments = [*arguments, f"--config={tmp_path / 'config.yaml'}"]
    with pytest.raises(SystemExit) as raised:
        load(Settings, arguments, "test")
    assert raised.value.code == WRONG_SETTINGS
    assert message in capsys.readouterr().err


def test_a_wrong_value_in_the_environment_names_the_field(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FERRITE_DEVICE", "not json")
    with pytest.raises(SystemExit):
        load(Settings, [], "test")
    assert '"device"' in capsys.readouterr().err
