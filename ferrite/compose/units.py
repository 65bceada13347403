"""`make compose-units`: runs a control plane and a hypervisor from deploy/systemd as it stands, without systemd.

In namespaces of its own (mounts, network, processes) the machine looks as docs/deploy.md tells to prepare one: users by
systemd-sysusers, configuration files as they are, the names in them in /etc/hosts, certificates, a bpffs, two uplinks.
Each unit's ExecStart runs as the unit's user with the unit's capabilities and no others; a unit passes when its /readyz
says so. What only systemd does is not tried: its sandbox, and the order of starting. Storage is not run: no Ceph.
"""

from __future__ import annotations

import configparser
import grp
import os
import pwd
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Final

import yaml
from pyroute2 import IPRoute
from rich.console import Console

from ferrite.compose.engine import ROOT
from ferrite.dev.certificates import Authority, Identity
from ferrite.dev.identities import identities
from ferrite.dev.libvirtd import Libvirtd, start_libvirtd
from ferrite.dev.plan import UPLINKS, ClusterPlan
from ferrite.dev.verify import Checks

SYSTEMD: Final = ROOT / "deploy" / "systemd"
STORAGE: Final = {"ferrite-ceph-provider", "ferrite-volumepoollet"}
HOSTS: Final = ("control.example.com", "etcd-1.example.com", "etcd-2.example.com", "etcd-3.example.com")
REFLECTORS: Final = ("fd00:1::1", "fd00:1::2")
ETC: Final = Path("/etc/ferrite")
WORK: Final = Path("/tmp/ferrite-units")
INSIDE: Final = "--inside"
READY_SECONDS: Final = 90.0
TRY_SECONDS: Final = 2.0


def units(arguments: list[str]) -> int:
    """The command: goes into namespaces, then does the work there. 0 when every unit got ready."""
    if arguments != [INSIDE]:
        command = [sys.executable, "-m", "ferrite.compose", "units", INSIDE]
        own = ["unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        code = subprocess.run([*own, *command], check=False).returncode
        WORK.rmdir()
        return code
    started = time.monotonic()
    checks = Checks(Console(width=118))
    try:
        _prepare()
        _verify(checks)
        libvirtd = _prepare_daemons()
        try:
            _run(checks)
        finally:
            libvirtd.stop()
    except Exception as failure:
        checks.failed("the check reaches its end", f"{type(failure).__name__}: {failure}")
    seconds = time.monotonic() - started
    print(f"units: {checks.passed_count} checks passed, {checks.failed_count} failed in {seconds:.0f} s")
    return 1 if checks.failed_count else 0


def section(unit: Path) -> configparser.SectionProxy:
    """The service section of a unit file; of a key given twice, the last."""
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return parser["Service"]


def _prepare() -> None:
    """Mounts, users, files, names, links: what an administrator does."""
    WORK.mkdir(exist_ok=True)
    _do("mount", "-t", "tmpfs", "tmpfs", str(WORK))
    for name in ("upper", "work", "log"):
        (WORK / name).mkdir()
    _do("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/etc,upperdir={WORK}/upper,workdir={WORK}/work", "/etc")
    _do("mount", "-t", "bpf", "bpf", "/sys/fs/bpf")
    for place in ("/opt", "/run", "/var/lib"):
        _do("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", place)
    Path("/opt/ferrite").mkdir()
    _do("mount", "--bind", str(Path(sys.prefix)), "/opt/ferrite")
    _do("systemd-sysusers", str(SYSTEMD / "ferrite.sysusers.conf"))
    _do("groupadd", "-f", "-r", "libvirt")
    shutil.copytree(SYSTEMD / "config", ETC, dirs_exist_ok=True)
    with Path("/etc/hosts").open("a") as hosts:
        hosts.write(f"\n127.0.0.1 {' '.join(HOSTS)}\n")
    _issue()
    with IPRoute() as links:
        links.link("set", index=links.link_lookup(ifname="lo")[0], state="up")
        for address in REFLECTORS:
            links.addr("add", index=links.link_lookup(ifname="lo")[0], address=address, prefixlen=128)
        for uplink in UPLINKS:
            links.link("add", ifname=uplink, kind="veth", peer={"ifname": f"far-{uplink}"})
            for name in (uplink, f"far-{uplink}"):
                links.link("set", index=links.link_lookup(ifname=name)[0], state="up")


def _issue() -> None:
    """A certificate for each process, whose key belongs to the user of the unit that names it."""
    authority = Authority(ETC / "pki")
    found = identities(ClusterPlan("units", Path("/")))
    found["etcd"] = Identity("etcd", (), HOSTS)
    for name, identity in found.items():
        _, key = authority.issue(name, replace(identity, hosts=HOSTS) if identity.hosts else identity)
        key.chmod(0o400)
    secret = ETC / "encryption.key"
    secret.write_text("first:" + "A" * 43 + "=\n")
    for unit in SYSTEMD.glob("*.service"):
        user = pwd.getpwnam(section(unit)["User"])
        text = (ETC / Path(section(unit)["ExecStart"].split()[-1]).name).read_text()
        for path in [*(ETC / "pki").glob("*.key"), secret]:
            if str(path) in text:
                os.chown(path, user.pw_uid, user.pw_gid)


def _verify(checks: Checks) -> None:
    files = [str(path) for path in [*SYSTEMD.glob("*.service"), *SYSTEMD.glob("*.target")]]
    done = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True, timeout=60)
    ours = [line for line in done.stderr.splitlines() if "ferrite" in line]
    checks.that(not ours, "systemd-analyze verify has no complaint", "; ".join(ours[:3]) or f"{len(files)} files")


def _prepare_daemons() -> Libvirtd:
    """What is not ours: etcd with TLS, libvirtd."""
    pki = ETC / "pki"
    client = ["--listen-client-urls", "https://127.0.0.1:2379", "--advertise-client-urls", "https://127.0.0.1:2379"]
    trust = ["--client-cert-auth", "--trusted-ca-file", str(pki / "ca.crt")]
    own = ["--cert-file", str(pki / "etcd.crt"), "--key-file", str(pki / "etcd.key")]
    _start("etcd", ["etcd", "--data-dir", str(WORK / "etcd"), *client, *trust, *own])
    libvirtd = start_libvirtd(WORK / "libvirt", hostname="hv1")
    Path("/run/libvirt").mkdir(exist_ok=True)
    Path("/run/libvirt/libvirt-sock").symlink_to(libvirtd.socket)
    return libvirtd


def _run(checks: Checks) -> None:
    chosen = [unit for unit in sorted(SYSTEMD.glob("*.service")) if unit.stem not in STORAGE]
    for unit in chosen:
        _start(unit.stem, _command(section(unit)))
    deadline = time.monotonic() + READY_SECONDS
    waiting = {unit.stem: _address(section(unit)) for unit in chosen}
    while waiting and time.monotonic() < deadline:
        for name, address in list(waiting.items()):
            if _is_ready(address):
                del waiting[name]
                checks.passed(f"{name} is ready", section(SYSTEMD / f"{name}.service")["User"])
        time.sleep(0.2)
    for name in waiting:
        log = (WORK / "log" / name).read_text(errors="replace").strip()
        checks.failed(f"{name} is ready", f"not within {READY_SECONDS:.0f} s: {log[-600:]}")


def _command(service: configparser.SectionProxy) -> list[str]:
    """ExecStart under the unit's user and capabilities, with its folders made, as systemd would."""
    user = pwd.getpwnam(service["User"])
    groups = [grp.getgrnam(name).gr_gid for name in service.get("SupplementaryGroups", "").split()]
    for base, key in (("/run", "RuntimeDirectory"), ("/var/lib", "StateDirectory")):
        if name := service.get(key):
            folder = Path(base, name)
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(int(service[f"{key}Mode"], 8))
            os.chown(folder, user.pw_uid, user.pw_gid)
    if prepare := service.get("ExecStartPre"):
        _do(*prepare.removeprefix("+").split())
    kept = [word.removeprefix("CAP_").lower() for word in service.get("AmbientCapabilities", "").split()]
    capabilities = ",".join(["-all", *(f"+{name}" for name in kept)])
    listed = ["--groups", ",".join(str(group) for group in groups)] if groups else ["--clear-groups"]
    drop = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", *listed, "--no-new-privs"]
    rights = [f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}", f"--bounding-set={capabilities}"]
    return ["setpriv", *drop, *rights, "--", *service["ExecStart"].split()]


def _address(service: configparser.SectionProxy) -> str:
    tree = yaml.safe_load((ETC / Path(service["ExecStart"].split()[-1]).name).read_text())
    return str(tree["ops_listen"])


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=TRY_SECONDS) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _start(name: str, command: list[str]) -> None:
    with (WORK / "log" / name).open("wb") as log:
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-400:]}")
