"""The systemd units and their configuration files: each file is one that its service takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ferrite.compose.units import section
from services.common.settings import load
from tests.unit.compose.support import ROOT, settings_of

SYSTEMD = ROOT / "deploy" / "systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_configuration_file_is_accepted(unit: Path) -> None:
    words = section(unit)["ExecStart"].split()
    assert words[0] == "/opt/ferrite/bin/ferrite"
    file = SYSTEMD / "config" / Path(words[-1]).name
    load(settings_of(words[1], words[2]), ["--config", str(file)], unit.stem)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_user_is_made_and_is_not_root(unit: Path) -> None:
    user = section(unit)["User"]
    assert f"u {user} " in (SYSTEMD / "ferrite.sysusers.conf").read_text()


def test_only_the_data_plane_has_capabilities() -> None:
    assert [unit.stem for unit in UNITS if section(unit).get("AmbientCapabilities")] == ["ferrite-dpservice"]


def test_services_on_one_host_have_ports_of_their_own() -> None:
    lines = [line.split()[1] for file in SYSTEMD.glob("config/*.yaml") for line in file.read_text().splitlines()
             if line.startswith("ops_listen:")]  # fmt: skip
    assert len(lines) == len(set(lines)) > 0
