"""A libvirtd of one's own: per hypervisor, in its network namespace, with its directories below one folder.

libvirtd has its paths compiled in, so each gets a mount namespace in which /etc/libvirt and the libvirt folders of
/run, /var/lib, /var/log and /var/cache are bind mounts of `DIRECTORY`. QEMU inherits the network namespace, hence finds
the TAPs there, and outlives libvirtd: a libvirtd started again on the same folder takes its guests over.

`libvirtd_command` is for a supervisor, `start_libvirtd` for tests, `sweep_libvirtd` ends what a killed run left.
Needs root. Standard library only.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

START_SECONDS: Final = 15.0
STOP_SECONDS: Final = 5.0
MAX_SOCKET_PATH: Final = 107  # sizeof(sun_path) - 1, unix(7)

# What libvirtd sees -> the folder below DIRECTORY.
MOUNTS: Final = {
    "/etc/libvirt": "etc",
    "/run/libvirt": "run",
    "/var/lib/libvirt": "lib",
    "/var/log/libvirt": "log",
    "/var/cache/libvirt": "cache",
}

# No security driver and no cgroups: a development machine may have neither. stdio_handler "file" lets QEMU write its
# logs itself (no virtlogd). namespaces=[] keeps QEMU in the mount namespace made here.
QEMU_CONFIG: Final = """\
security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"""


@dataclass(frozen=True)
class Libvirtd:
    """A running libvirtd."""

    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def socket(self) -> Path:
        """Its unix socket, as seen from everywhere."""
        return libvirtd_socket(self.directory)

    @property
    def uri(self) -> str:
        """What a libvirt client connects to."""
        return libvirtd_uri(self.directory)

    def stop(self) -> None:
        """Ends libvirtd; its guests go on."""
        _end([self.process.pid])
        self.process.wait(STOP_SECONDS)


def libvirtd_socket(directory: Path) -> Path:
    """The unix socket of the libvirtd that lives in `directory`."""
    return directory / "run" / "libvirt-sock"


def libvirtd_uri(directory: Path) -> str:
    """The URI of the libvirtd that lives in `directory`."""
    return f"qemu+unix:///system?socket={libvirtd_socket(directory)}"


def libvirtd_command(directory: Path, *, netns: str = "", hostname: str = "") -> list[str]:
    """Prepares `directory` and returns the command that runs libvirtd there in the foreground.

    `netns` is the name of a network namespace (`ip netns`), empty for the present one; `hostname` becomes the host's
    name for libvirt. Safe to call again, also while guests run. Raises ValueError when the socket's path would be too
    long.
    """
    directory = directory.absolute()
    if len(os.fsencode(libvirtd_socket(directory))) > MAX_SOCKET_PATH:
        raise ValueError(f"{libvirtd_socket(directory)}: a unix socket's path has at most {MAX_SOCKET_PATH} bytes")
    for folder in MOUNTS.values():
        (directory / folder).mkdir(parents=True, exist_ok=True)
    _write_config(directory)
    steps = [
        f"mkdir -p {seen} && mount --bind {shlex.quote(str(directory / own))} {seen}" for seen, own in MOUNTS.items()
    ]
    if hostname:
        steps.append(f"hostname {shlex.quote(hostname)}")
    steps.append("exec libvirtd --pid-file /run/libvirt/libvirtd.pid")
    # Not `ip netns exec`: that also remounts /sys and so hides bpffs and the cgroup mounts.
    enter = ["nsenter", f"--net=/run/netns/{netns}"] if netns else []
    return [*enter, "unshare", "--mount", "--uts", "sh", "-c", " && ".join(steps)]


def start_libvirtd(directory: Path, *, netns: str = "", hostname: str = "") -> Libvirtd:
    """Starts libvirtd in `directory` (log: `libvirtd.log` there) and waits until it answers on its socket.

    Raises RuntimeError with the end of the log when it does not come up.
    """
    command = libvirtd_command(directory, netns=netns, hostname=hostname)
    with (directory / "libvirtd.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    started = Libvirtd(directory.absolute(), process)
    deadline = time.monotonic() + START_SECONDS
    while not _answers(started.socket):
        if process.poll() is not None or time.monotonic() > deadline:
            _end([process.pid])
            tail = (directory / "libvirtd.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"libvirtd in {directory} did not start: {tail}")
        time.sleep(0.05)
    return started


def sweep_libvirtd(directory: Path) -> list[int]:
    """Ends the libvirtd of `directory` and the guests it started; returns the processes that were ended.

    Only processes whose pid file stands in `directory` and whose command line fits are touched.
    """
    found = [
        pid
        for path in [directory / "run" / "libvirtd.pid", *(directory / "run" / "qemu").glob("*.pid")]
        if (pid := _pid(path)) and _is_ours(pid, path)
    ]
    _end(found)
    return found


def _write_config(directory: Path) -> None:
    identity = directory / "etc" / "host-uuid"
    if not identity.exists():
        identity.write_text(str(uuid.uuid4()))
    config = f'host_uuid = "{identity.read_text()}"\nauth_unix_rw = "none"\nlog_outputs = "3:stderr"\n'
    (directory / "etc" / "libvirtd.conf").write_text(config)
    (directory / "etc" / "qemu.conf").write_text(QEMU_CONFIG)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _pid(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _is_ours(pid: int, path: Path) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    if path.name == "libvirtd.pid":
        return b"libvirtd" in command[0]
    return any(argument.startswith(b"guest=" + os.fsencode(path.stem)) for argument in command)


def _end(pids: list[int]) -> None:
    """SIGTERM, and SIGKILL for whoever is still there after STOP_SECONDS."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + STOP_SECONDS
        while any(_alive(pid) for pid in pids):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        else:
            return


def _alive(pid: int) -> bool:
    """False for a zombie too: its parent has only to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
