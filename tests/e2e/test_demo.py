"""The main job, whole: a cluster, manifests, guests that ping each other, and nothing left of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Not the networks of a cluster that somebody may have running at the same time.
CLUSTER = [
    "--name",
    "e2e",
    "--state",
    str(ROOT / "build/e2e"),
    "--management",
    "10.78.0.0/24",
    "--underlay",
    "fd78::/48",
]
SECONDS = 420


@pytest.mark.timeout(SECONDS + 60)
def test_two_guests_on_two_hypervisors_ping_each_other() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ferrite.cli.main", "dev", *CLUSTER, "check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert re.fullmatch(r"demo: \d+ checks passed, 0 failed in \d+ s", done.stdout.splitlines()[-1]), said
