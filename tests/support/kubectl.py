"""kubectl as a user runs it: Debian 12's and the machine's own, each call a process with a deadline."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.processes import start

ROOT: Final = Path(__file__).parents[2]
OLD: Final = ROOT / "build" / "kubectl-1.20" / "usr" / "bin" / "kubectl"
VERSIONS: Final = ("1.20", "current")
CALL_SECONDS: Final = 60.0
PARALLEL: Final = 4  # kubectl mostly waits for the server


def binary(version: str) -> Path:
    """The kubectl of one of VERSIONS; Debian 12's is unpacked below build/ at first use."""
    if version == "1.20":
        return _old()
    found = shutil.which("kubectl")
    assert found is not None, "a current kubectl is needed on PATH"
    return Path(found)


@dataclass(frozen=True)
class Said:
    """What a call ended with."""

    code: int
    out: str
    err: str
    call: str

    def __str__(self) -> str:
        return f"{self.call}: exit code {self.code}\n{self.out}\n{self.err}"


@dataclass(frozen=True)
class Cli:
    """One kubectl with a kubeconfig; `home` keeps its discovery cache between the calls."""

    version: str
    config: Path
    home: Path

    @property
    def old(self) -> bool:
        """Whether it is Debian 12's."""
        return self.version == "1.20"

    def run(self, *arguments: str | Path, stdin: str = "", **environment: str) -> Said:
        """One call, whatever it ends with."""
        words = [str(word) for word in arguments]
        ended = subprocess.run(
            self._command(words),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=CALL_SECONDS,
            env=self._environment() | environment,
        )
        return Said(ended.returncode, ended.stdout, ended.stderr, f"kubectl-{self.version} {' '.join(words)}")

    def __call__(self, *arguments: str | Path, stdin: str = "", **environment: str) -> str:
        """Standard output of a call that must succeed."""
        said = self.run(*arguments, stdin=stdin, **environment)
        assert said.code == 0, str(said)
        return said.out

    def refused(self, *arguments: str | Path, stdin: str = "") -> str:
        """Standard error of a call that must fail."""
        said = self.run(*arguments, stdin=stdin)
        assert said.code != 0, str(said)
        return said.err

    def each(self, calls: dict[str, list[str]]) -> dict[str, Said]:
        """Several calls at a time."""
        with ThreadPoolExecutor(PARALLEL) as pool:
            return dict(zip(calls, pool.map(lambda call: self.run(*call), calls.values()), strict=True))

    def begin(self, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        """A call that goes on, such as `get -w`; its output goes to `log`."""
        return start(self._command(list(arguments)), log, **self._environment())

    def _command(self, words: list[str]) -> list[str]:
        return [str(binary(self.version)), f"--kubeconfig={self.config}", *words]

    def _environment(self) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": "/usr/bin:/bin"}


def _old() -> Path:
    """It appears whole and once: other test processes look for it, and run it, meanwhile."""
    place = OLD.parents[2]
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / "kubectl.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not OLD.exists():
            _unpack(place)
    return OLD


def _unpack(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as name:
        new = Path(name)
        subprocess.run(["apt-get", "download", "-qq", "kubernetes-client"], cwd=new, check=True, timeout=120)
        package = next(new.glob("kubernetes-client_*.deb"))
        subprocess.run(["dpkg", "-x", package.name, "unpacked"], cwd=new, check=True, timeout=60)
        (new / "unpacked").rename(place)
