"""A small real Ceph: one monitor, one manager, one OSD on a sparse file. For development and tests only.

    ceph = CephCluster(directory, "10.77.0.1")
    ceph.prepare()                       # keys, ceph.conf, the monitor's store; kept if they exist
    # run ceph.daemons() in the foreground, then
    ceph.make_osd()                      # needs the monitor
    # run ceph.osd(), then
    access = ceph.set_up("volumes")      # the pool and the provider's user

Commands run in the foreground and may be killed and started again at any time; data stay in the directory.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import rados

MONITOR_PORT: Final = 6789
STORE_BYTES: Final = 4 << 30
START_SECONDS: Final = 60.0
COMMAND_SECONDS: Final = 10
PROVIDER: Final = "ferrite"

# One OSD: a pool has one copy and few placement groups, and nobody warns about it. The monitor answers commands at once
# instead of batching them for a second.
CONFIGURATION: Final = """\
[global]
fsid = {fsid}
mon host = [v2:{address}:{v2},v1:{address}:{v1}]
public addr = {address}
cluster addr = {address}
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = {directory}/keyring
run dir = {directory}
crash dir = {directory}/crash
admin socket =
log to file = false
log to stderr = true
mon cluster log to file = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
mon max pg per osd = 2000
mon data avail warn = 1
mon data avail crit = 1
paxos propose interval = 0.02
[mon]
mon data = {directory}/mon
keyring = {directory}/mon/keyring
mgr initial modules =
[mgr]
mgr data = {directory}/mgr
keyring = {directory}/mgr/keyring
[osd]
osd data = {directory}/osd
keyring = {directory}/osd/keyring
osd objectstore = bluestore
bluestore block size = {bytes}
osd memory target = 939524096
"""


@dataclass(frozen=True)
class Daemon:
    """A foreground process."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class CephAccess:
    """What the storage provider needs: monitors as host:port list, user without `client.`, file with its key."""

    monitors: str
    user: str
    key_file: Path


class CephCluster:
    """A cluster kept in `directory` (at most 80 characters), listening on `address` and `port`, `port + 1`."""

    def __init__(self, directory: Path, address: str, port: int = MONITOR_PORT) -> None:
        self._directory, self._address, self._port = directory, address, port
        self.configuration = directory / "ceph.conf"

    @property
    def monitors(self) -> str:
        """The monitor's address for clients."""
        return f"{self._address}:{self._port}"

    def prepare(self) -> None:
        """Makes configuration, keys and the monitor's store, unless they exist. RuntimeError when a tool fails."""
        if (self._directory / "prepared").exists():
            return
        shutil.rmtree(self._directory, ignore_errors=True)
        for name in ("mon", "mgr", "osd", "crash"):
            (self._directory / name).mkdir(parents=True, mode=0o700)
        fsid = str(uuid.uuid4())
        self.configuration.write_text(
            CONFIGURATION.format(
                fsid=fsid,
                address=self._address,
                v1=self._port,
                v2=self._port + 1,
                directory=self._directory,
                bytes=STORE_BYTES,
            )
        )
        self._make_monitor(fsid)
        (self._directory / "prepared").touch()

    def daemons(self) -> list[Daemon]:
        """The monitor and the manager."""
        return [self._daemon("ceph-mon", "a"), self._daemon("ceph-mgr", "x")]

    def make_osd(self) -> None:
        """Registers the OSD and formats its store, unless that is done. TimeoutError without a monitor."""
        directory = self._directory / "osd"
        if (directory / "formatted").exists():
            return
        identity = str(uuid.uuid4())
        key = _run("ceph-authtool", "--gen-print-key").strip()
        with self._connected() as ceph:
            _command(ceph, {"prefix": "osd new", "uuid": identity, "id": 0}, json.dumps({"cephx_secret": key}))
        _run("ceph-authtool", "-C", str(directory / "keyring"), "-n", "osd.0", "--add-key", key)
        _run("ceph-osd", "-c", str(self.configuration), "-i", "0", "--mkfs", "--osd-uuid", identity)
        (directory / "formatted").touch()

    def osd(self) -> Daemon:
        """The OSD; after `make_osd`."""
        return self._daemon("ceph-osd", "0")

    def set_up(self, pool: str) -> CephAccess:
        """Makes the pool and the provider's user when the OSD is up. TimeoutError when it does not come up."""
        with self._connected() as ceph:
            _wait("the OSD", lambda: _command(ceph, {"prefix": "osd stat", "format": "json"})["num_up_osds"] > 0)
            _command(ceph, {"prefix": "osd pool create", "pool": pool, "pg_num": 8})
            _command(ceph, {"prefix": "osd pool application enable", "pool": pool, "app": "rbd"})
            key_file = self._directory / "provider.key"
            if not key_file.exists():
                answer = _command(ceph, _provider_user(pool))
                key_file.touch(mode=0o600)
                key_file.write_text(answer[0]["key"])
            _wait("the manager", lambda: _command(ceph, {"prefix": "mgr stat", "format": "json"})["available"])
        return CephAccess(self.monitors, PROVIDER, key_file)

    def _daemon(self, program: str, identity: str) -> Daemon:
        return Daemon(program, (program, "-c", str(self.configuration), "-i", identity, "-f"))

    def _make_monitor(self, fsid: str) -> None:
        directory = self._directory
        everything = ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"]
        manager = ["--cap", "mon", "allow profile mgr", "--cap", "osd", "allow *", "--cap", "mds", "allow *"]
        _run("ceph-authtool", "-C", str(directory / "keyring"), "--gen-key", "-n", "client.admin", *everything)
        _run("ceph-authtool", "-C", str(directory / "mgr/keyring"), "--gen-key", "-n", "mgr.x", *manager)
        initial = str(directory / "keyring.initial")
        _run("ceph-authtool", "-C", initial, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        for keyring in ("keyring", "mgr/keyring"):
            _run("ceph-authtool", initial, "--import-keyring", str(directory / keyring))
        addresses = f"[v2:{self._address}:{self._port + 1},v1:{self._address}:{self._port}]"
        monitors = str(directory / "monmap")
        _run("monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", addresses, monitors)
        make = ["ceph-mon", "-c", str(self.configuration), "--mkfs", "-i", "a"]
        _run(*make, "--monmap", monitors, "--keyring", initial)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        """A connection as client.admin. librados waits for ever by default, hence the limits."""
        limits = {"rados_mon_op_timeout": str(COMMAND_SECONDS), "client_mount_timeout": str(int(START_SECONDS))}
        with rados.Rados(conffile=str(self.configuration), name="client.admin", conf=limits) as ceph:
            yield ceph


def _provider_user(pool: str) -> dict[str, Any]:
    """The provider may make users of volumes and no others; it needs nothing from the manager."""
    own = " with entity prefix client.volume-"
    users = ", ".join(f'allow command "auth {verb}"{own}' for verb in ("get-or-create", "caps", "del", "get-key"))
    caps = ["mon", f'profile rbd, {users}, allow command "df"', "osd", f"profile rbd pool={pool}"]
    return {"prefix": "auth get-or-create", "entity": f"client.{PROVIDER}", "caps": caps, "format": "json"}


def _command(ceph: Any, command: dict[str, Any], data: str = "") -> Any:
    code, output, problem = ceph.mon_command(json.dumps(command), data.encode(), timeout=COMMAND_SECONDS)
    if code != 0:
        raise RuntimeError(f"ceph {command['prefix']}: {problem or code}")
    return json.loads(output) if command.get("format") == "json" else output.decode()


def _wait(what: str, done: Any) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come up within {START_SECONDS:.0f} s")
        time.sleep(0.1)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout
