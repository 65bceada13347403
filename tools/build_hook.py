"""Wheel build hook: compiles the protos, the BPF programs and the accelerator, so that a wheel contains them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class FerriteBuildHook(BuildHookInterface):  # type: ignore[misc]
    """Runs before every wheel or editable build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        subprocess.run([sys.executable, str(root / "tools" / "compile_protos.py")], check=True)
        bpf = root / "services" / "dpservice" / "bpf"
        if (bpf / "Makefile").exists():
            subprocess.run(["make", "-C", str(bpf)], check=True)
        native = root / "services" / "metalbond" / "native"
        subprocess.run(["make", "-C", str(native), f"PYTHON={sys.executable}"], check=True)
