"""Builds the packet programs by every clang of this machine and has the kernel's verifier look at each. Needs root.

What a verifier accepts depends on how a compiler arranges the code: run it before another clang is made the usual one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from os import environ
from pathlib import Path
from typing import Final

from services.dpservice.engine import libbpf

SOURCES: Final = Path(__file__).parent.parent / "services/dpservice/bpf"
OBJECTS: Final = ("dataplane.bpf.o", "trace.bpf.o")
COMPILER: Final = re.compile(r"clang(-\d+)?")


def compilers() -> list[Path]:
    """Every clang on the path, each once."""
    found: dict[Path, Path] = {}
    for folder in environ.get("PATH", "").split(":"):
        for file in sorted(Path(folder).glob("clang*")):
            if COMPILER.fullmatch(file.name):
                found.setdefault(file.resolve(), file)
    return list(found.values())


def build(compiler: Path, folder: Path) -> None:
    """Makes the objects in `folder`. Raises subprocess.CalledProcessError."""
    shutil.copytree(SOURCES, folder, ignore=shutil.ignore_patterns("build", "*.o"))
    subprocess.run(["make", "-s", "-C", folder, f"CLANG={compiler}"], check=True)


@contextmanager
def _bpffs() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ferrite-clang-") as folder:
        subprocess.run(["mount", "-t", "bpf", "bpf", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def load(file: Path) -> float:
    """Loads an object over maps of its own; the seconds that it took. Raises OSError: the verifier refuses it."""
    with _bpffs() as root:
        started = time.monotonic()
        loaded = libbpf.Object(file, root)
        try:
            loaded.load()
        finally:
            loaded.close()
        return time.monotonic() - started


def main() -> int:
    """One line for each compiler and object; 1 if one of them is refused."""
    failed = 0
    for compiler in compilers():
        version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
        with tempfile.TemporaryDirectory() as folder:
            try:
                build(compiler, Path(folder) / "bpf")
                for name in OBJECTS:
                    seconds = load(Path(folder) / "bpf" / name)
                    print(f"{compiler}: {name} loads in {seconds:.1f} s ({version.splitlines()[0]})")
            except (OSError, subprocess.CalledProcessError) as error:
                failed = 1
                print(f"{compiler}: {error}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
