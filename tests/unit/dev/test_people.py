"""The commands for people on a machine that lacks what a whole cluster needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT_CEPH = "import sys; sys.modules['rados'] = None; from ferrite.cli.main import main; main()"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(["--help"], 0, "trace", id="help"),
        pytest.param(["trace", "machine/vm-1", "--state", "/nonexistent"], 2, "/nonexistent", id="traces"),
        pytest.param(["dev", "up"], 1, "module rados is not installed", id="a cluster"),
    ],
)
def test_without_cephs_libraries(words: list[str], code: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CEPH, *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code
    assert said in done.stdout + done.stderr
