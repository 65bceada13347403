"""Tests of one component are never run by two workers: their sweeps would take away each other's things."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).parents[2] / "conftest.py"
FOLDERS = (
    "unit/net",
    "integration/dpservice",
    "integration/metalnet",
    "integration/core/kubectl",
    "integration/core/poollets",
)
TEST = """
import os, pathlib, time, pytest

@pytest.mark.parametrize("number", range(10))
def test_record(number):
    time.sleep(0.01)
    with open({record!r}, "a") as record:
        record.write(os.environ["PYTEST_XDIST_WORKER"] + " " + {folder!r} + "\\n")
"""


def test_a_component_has_one_worker(tmp_path: Path) -> None:
    """A run of two workers over folders as ours, each with two files of ten tests."""
    record = tmp_path / "record"
    for folder in FOLDERS:
        for name in ("test_a.py", "test_b.py"):
            made = tmp_path / "tests" / folder / name
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text(TEST.format(record=str(record), folder=folder))
    shutil.copy(CONFTEST, tmp_path / "tests")
    command = [sys.executable, "-m", "pytest", "-q", "-n2", "--import-mode=importlib", "--rootdir", tmp_path]
    done = subprocess.run([*command, "tests"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    workers: dict[str, set[str]] = {}
    runs = record.read_text().splitlines()
    for run in runs:
        worker, folder = run.split()
        workers.setdefault(folder, set()).add(worker)
    assert len(runs) == 20 * len(FOLDERS)
    assert {folder for folder, by in workers.items() if len(by) > 1} <= {"unit/net"}, workers
    assert workers["integration/dpservice"] == workers["integration/metalnet"], "they share namespaces"
    assert len(set.union(*workers.values())) == 2, "both workers work"
