"""A Docker engine of one's own, for a machine that has none: dockerd in a network namespace, data below build/.

dockerd changes the packet filter of the namespace it runs in, hence one of its own, behind NAT. Where no registry can
be reached, a Debian made by debootstrap stands in for the base image. Needs root and a Debian 12; `start` installs what
is missing. Everything made on the machine but packages goes with `stop`; images and build cache stay below build/.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
NAMESPACE: Final = "ferrite-engine"
LINK: Final = "ferrite-eng"
NAT_TABLE: Final = "ferrite_engine"
OUTSIDE, INSIDE, BETWEEN = "10.79.255.1", "10.79.255.2", "10.79.255.0/30"
BASE_IMAGE: Final = "debian:bookworm-slim"
MIRROR: Final = "http://deb.debian.org/debian"
KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Debian 12 has an engine that knows no CAP_BPF and a Compose that knows no file of today. Its successor's programs run
# on it, but for runc.
PACKAGES: Final = ("containerd", "docker-buildx", "docker-cli", "docker-compose", "docker.io", "tini-static")
PLUGINS: Final = ("docker-compose", "docker-buildx")
SUITES: Final = {
    MIRROR: ("bookworm", "bookworm-updates"),
    "http://deb.debian.org/debian-security": ("bookworm-security",),
}
AUTHORITIES: Final = Path("/usr/local/share/ca-certificates")
CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
UNWANTED: Final = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists")
IP_FORWARD: Final = Path("/proc/sys/net/ipv4/ip_forward")
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 30.0
COMMAND_SECONDS: Final = 590.0


class EngineError(Exception):
    """The engine can't be had; the text says what failed."""


def reachable(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `docker compose` would work as things are."""
    for command in (["docker", "version"], ["docker", "compose", "version"]):
        if shutil.which("docker") is None or _try(command, environment).returncode != 0:
            return False
    return True


class Engine:
    """One engine, kept in `directory`."""

    def __init__(self, directory: Path = ROOT / "build" / "compose" / "engine") -> None:
        self._directory = directory
        self._run = Path("/run") / NAMESPACE
        self._before = self._run / "ip_forward"

    @property
    def environment(self) -> dict[str, str]:
        """What makes the docker command talk to this engine."""
        tools = self._directory / "tools" / "usr"
        return {
            "DOCKER_HOST": f"unix://{self._run}/sock",
            "DOCKER_CONFIG": str(self._directory / "config"),
            "PATH": f"{tools}/sbin:{tools}/bin:{os.environ['PATH']}",
        }

    def enter(self, command: list[str]) -> list[str]:
        """The command line in the engine's network namespace, where published ports are found."""
        return ["nsenter", f"--net=/run/netns/{NAMESPACE}", "--", *command]

    def start(self) -> None:
        """Brings it up with the base image in it; removes first what a killed run left. Raises EngineError."""
        if os.geteuid() != 0:
            raise EngineError("no Docker engine is reachable, and starting one needs root")
        self.stop()
        self._directory.mkdir(parents=True, exist_ok=True)
        _install_packages()
        self._unpack_engine()
        self._run.mkdir(mode=0o700)
        self._make_network()
        self._start_daemon()
        self._make_base_image()

    def stop(self) -> None:
        """Ends the engine with its containers and removes its network; fine if there is none."""
        self._stop_daemon()
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            path = line.split()[1]
            if path.startswith((f"{self._run}/", f"{self._directory}/")):
                _try(["umount", "--lazy", path])
        _try(["nft", "delete", "table", "ip", NAT_TABLE])
        _try(["ip", "link", "del", LINK])
        _try(["ip", "netns", "del", NAMESPACE])
        if self._before.exists():
            IP_FORWARD.write_text(self._before.read_text())
        shutil.rmtree(self._run, ignore_errors=True)
        _remove_folders()

    def leftovers(self) -> list[str]:
        """What is still there after `stop`, one phrase each."""
        found = [f"directory {self._run}"] if self._run.exists() else []
        if Path("/run/netns", NAMESPACE).exists():
            found.append(f"namespace {NAMESPACE}")
        if Path("/sys/class/net", LINK).exists():
            found.append(f"link {LINK}")
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        return found + [f"mount {path}" for path in mounts if path.startswith(f"{self._directory}/")]

    def _unpack_engine(self) -> None:
        plugins = self._directory / "config" / "cli-plugins"
        if all((plugins / name).exists() for name in PLUGINS):
            return
        print(f"engine: fetching {', '.join(PACKAGES)}", flush=True)
        apt, tools = self._directory / "apt", self._directory / "tools"
        for folder in ("lists/partial", "cache/archives/partial"):
            (apt / folder).mkdir(parents=True, exist_ok=True)
        (apt / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} testing main\n")
        settings = {
            "Dir::Etc::sourcelist": str(apt / "sources.list"),
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": str(apt / "lists"),
            "Dir::Cache": str(apt / "cache"),
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        _do(["apt-get", *options, "-qq", "update"])
        _do(["apt-get", *options, "-qq", "download", *PACKAGES], cwd=apt)
        plugins.mkdir(parents=True, exist_ok=True)
        for name in PACKAGES:
            _do(["dpkg-deb", "-x", str(next(apt.glob(f"{name}_*.deb"))), str(tools)])
        for name in PLUGINS:
            (plugins / name).unlink(missing_ok=True)  # leads nowhere when the checkout was moved
            (plugins / name).symlink_to(tools / "usr/libexec/docker/cli-plugins" / name)
        shutil.rmtree(apt)

    def _make_network(self) -> None:
        self._before.write_text(IP_FORWARD.read_text())
        inside = self.enter(["ip"])
        for command in (
            ["ip", "netns", "add", NAMESPACE],
            ["ip", "link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE],
            ["ip", "addr", "add", f"{OUTSIDE}/30", "dev", LINK],
            ["ip", "link", "set", LINK, "up"],
            [*inside, "addr", "add", f"{INSIDE}/30", "dev", "eth0"],
            [*inside, "link", "set", "eth0", "up"],
            [*inside, "link", "set", "lo", "up"],
            [*inside, "route", "add", "default", "via", OUTSIDE],
            ["nft", f"table ip {NAT_TABLE} {{ chain out {{ type nat hook postrouting priority srcnat; }}; }}"],
            ["nft", "add", "rule", "ip", NAT_TABLE, "out", "ip", "saddr", BETWEEN, "masquerade"],
        ):
            _do(command)
        IP_FORWARD.write_text("1")

    def _start_daemon(self) -> None:
        command = ["dockerd", "--data-root", str(self._directory / "data"), "--exec-root", f"{self._run}/exec"]
        command += ["--pidfile", f"{self._run}/pid", "-H", f"unix://{self._run}/sock", "--storage-driver", "overlay2"]
        command += ["--init-path", str(self._directory / "tools/usr/bin/tini-static")]
        with (self._directory / "dockerd.log").open("wb") as log:
            process = subprocess.Popen(
                self.enter(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | self.environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not reachable(os.environ | self.environment):
            if process.poll() is not None or time.monotonic() > deadline:
                tail = (self._directory / "dockerd.log").read_text(errors="replace")[-1500:]
                raise EngineError(f"dockerd did not start: {tail}")
            time.sleep(0.1)

    def _stop_daemon(self) -> None:
        """SIGTERM, then SIGKILL; containers left by a killed dockerd go with its shims."""
        environment = os.environ | self.environment
        if (self._run / "sock").exists():
            running = _try(["docker", "ps", "-q"], environment).stdout.split()
            if running:
                _try(["docker", "rm", "-f", *running], environment)
        pid = _pid(self._run / "pid")
        for number in (signal.SIGTERM, signal.SIGKILL):
            if pid is not None and _alive(pid):
                os.kill(pid, number)
                _wait_for_end([pid])
        rest = _processes_of(self._run)
        for rest_pid in rest:
            os.kill(rest_pid, signal.SIGKILL)
        _wait_for_end(rest)

    def _make_base_image(self) -> None:
        environment = os.environ | self.environment
        if _try(["docker", "image", "inspect", BASE_IMAGE], environment).returncode == 0:
            return
        if _try(["docker", "pull", "-q", BASE_IMAGE], environment, seconds=120).returncode == 0:
            return
        print(f"engine: no registry is reachable, making a stand-in for {BASE_IMAGE}", flush=True)
        root = self._directory / "rootfs"
        shutil.rmtree(root, ignore_errors=True)
        _do(["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", str(root), MIRROR])
        _make_slim(root)
        change = f"ENV PIP_CERT={CERTIFICATES} SSL_CERT_FILE={CERTIFICATES}"
        archive = self._directory / "rootfs.tar"
        _do(["tar", "-C", str(root), "-cf", str(archive), "."])
        changes = ["--change", change, "--change", 'CMD ["bash"]']
        _do(["docker", "import", *changes, str(archive), BASE_IMAGE], environment)
        archive.unlink()
        shutil.rmtree(root)


def engine(arguments: list[str]) -> int:
    """`engine start` and `engine stop`, for working on the images by hand; `engine env` prints what to export."""
    own = Engine()
    if arguments == ["start"]:
        own.start()
    elif arguments == ["stop"]:
        own.stop()
    elif arguments != ["env"]:
        print("usage: python -m ferrite.compose engine start | stop | env")
        return 2
    if arguments != ["stop"]:
        print("\n".join(f"export {name}={value}" for name, value in own.environment.items()))
    return 0


def _install_packages() -> None:
    wanted = {"runc": "runc", "iptables": "iptables", "debootstrap": "debootstrap", "nft": "nftables"}
    missing = [package for program, package in wanted.items() if shutil.which(program) is None]
    if not missing:
        return
    print(f"engine: installing {' '.join(missing)}", flush=True)
    _do(["apt-get", "update", "-qq"])
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    _do(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], environment)


def _make_slim(root: Path) -> None:
    """Leaves out what Debian's slim image leaves out, and trusts whom this machine trusts: a proxy may be there."""
    for folder in UNWANTED:
        for path in (root / folder).iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    excluded = "".join(f"path-exclude /{folder}/*\n" for folder in UNWANTED if folder.startswith("usr/share/"))
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(f"force-unsafe-io\n{excluded}")
    for certificate in AUTHORITIES.glob("*.crt"):
        shutil.copy2(certificate, root / AUTHORITIES.relative_to("/"))
    _do(["chroot", str(root), "update-ca-certificates"])
    sources = "".join(f"deb {mirror} {suite} main\n" for mirror, suites in SUITES.items() for suite in suites)
    (root / "etc/apt/sources.list").write_text(sources)


def _remove_folders() -> None:
    for name in ("docker/plugins", "docker", "containerd/s", "containerd"):  # made by dockerd wherever its own are
        with contextlib.suppress(OSError):
            Path("/run", name).rmdir()
    for folder in [*Path("/sys/fs/cgroup").glob("*/docker"), Path("/sys/fs/cgroup/docker")]:
        for path in sorted(folder.glob("**/"), reverse=True):
            try:
                path.rmdir()
            except OSError:
                continue  # in use by another engine


def _processes_of(run: Path) -> list[int]:
    """containerd and its shims: started by this engine's dockerd, which names its folder on their command lines."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"containerd" in words[0] and any(os.fsencode(run) in word for word in words):
                found.append(int(entry.name))
    return found


def _pid(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_for_end(pids: list[int]) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while any(_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)


def _try(
    command: list[str], environment: Mapping[str, str] = os.environ, seconds: float = 60.0
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=seconds, check=False)


def _do(command: list[str], environment: Mapping[str, str] = os.environ, cwd: Path | None = None) -> None:
    done = subprocess.run(
        command,
        env=dict(environment),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise EngineError(f"{' '.join(command[:6])}: {(done.stderr or done.stdout).strip()[-800:]}")


def images(environment: Mapping[str, str], prefix: str) -> dict[str, int]:
    """Name → bytes of the images whose name starts so."""
    listed = _try(["docker", "images", "--format", "{{.Repository}}"], environment).stdout.split()
    names = sorted({name for name in listed if name.startswith(prefix)})
    if not names:
        return {}
    found = json.loads(_try(["docker", "image", "inspect", *names], environment).stdout)
    return {name: int(image["Size"]) for name, image in zip(names, found, strict=True)}
