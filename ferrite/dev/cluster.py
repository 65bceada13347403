"""Brings a cluster up and down: network, certificates, classes, then a supervisor in the background."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml
from rich.console import Console
from rich.table import Table

from ferrite.dev import ceph, guest_image, network
from ferrite.dev.certificates import Authority
from ferrite.dev.identities import identities
from ferrite.dev.plan import ClusterPlan
from ferrite.dev.services import CEPH_POOL, METALBOND_GRPC_PORT, Services, apis, tls_flags
from ferrite.dev.supervisor import MARK, Process, Supervisor
from ferrite.dev.sweep import sweep
from services.apimachinery.client import kubeconfig
from services.common.tls import TlsFiles

UP_SECONDS: Final = 60.0

MACHINE_CLASSES: Final = [{"metadata": {"name": "tiny"}, "capabilities": {"cpu": "1", "memory": "112Mi"}}]
VOLUME_CLASSES: Final = [{"name": "fast", "capabilities": {"tps": 104857600, "iops": 1000}}]


def up(
    plan: ClusterPlan,
    tell: Callable[[str], None] = print,
    prepare: Callable[[ClusterPlan], None] = lambda plan: None,
) -> None:
    """Starts everything; returns while the services still come up (`wait` tells when they are ready).

    What an earlier run left is removed first; then `prepare` may put disks of its own below the state directory.
    Raises RuntimeError when something can't be made.
    """
    if os.geteuid() != 0:
        raise SystemExit("ferrite dev: namespaces and eBPF need root; try: sudo make demo")
    down(plan)
    tell("making certificates, classes and the guest image")
    plan.state.mkdir(parents=True, exist_ok=True)
    prepare(plan)
    _write_identities(plan)
    _write_configuration(plan)
    guest_image.build(plan.state / "image")
    plan.run.mkdir(parents=True)
    (plan.run / "image").symlink_to(plan.state / "image")
    tell("making namespaces and links")
    network.create(plan)
    for node in plan.hypervisors:
        root = plan.bpf_root(node)
        root.mkdir(parents=True)
        subprocess.run(["mount", "-t", "bpf", "bpf", str(root)], check=True, timeout=10)
    tell("starting processes")
    _start_supervisor(plan)


def down(plan: ClusterPlan) -> None:
    """Stops everything and removes it from the machine; logs and the guest image stay."""
    sweep(plan)
    for name in ("etcd", "ceph", "pki"):
        shutil.rmtree(plan.state / name, ignore_errors=True)
    for node in plan.hypervisors:
        _forget(plan.state / node.name)


def _forget(directory: Path) -> None:
    """Removes a node's state but what the provider found out about KVM, which holds until the host boots again."""
    probe = directory / "provider" / "kvm-probe.json"
    known = probe.read_bytes() if probe.exists() else None
    shutil.rmtree(directory, ignore_errors=True)
    if known is not None:
        probe.parent.mkdir(parents=True)
        probe.write_bytes(known)


def supervise(plan: ClusterPlan) -> None:
    """Runs the processes until SIGTERM."""
    asyncio.run(_supervise(plan))


def print_status(plan: ClusterPlan) -> None:
    """A table of the processes."""
    table = Table("process", "pid", "restarts", "log")
    for name, process in status(plan).items():
        log = os.path.relpath(plan.logs / f"{name}.log")
        table.add_row(name, str(process["pid"]), str(process["restarts"]), log)
    Console().print(table)


def status(plan: ClusterPlan) -> dict[str, dict[str, Any]]:
    """Process name → {pid, restarts}; empty when the cluster is down."""
    try:
        loaded: dict[str, dict[str, Any]] = json.loads(plan.status_file.read_text())
    except FileNotFoundError:
        return {}
    return loaded


def admin_tls(plan: ClusterPlan) -> TlsFiles:
    """The administrator's certificate."""
    pki = plan.state / "pki"
    return TlsFiles(pki / "ca.crt", pki / "admin.crt", pki / "admin.key")


def _start_supervisor(plan: ClusterPlan) -> None:
    plan.logs.mkdir(parents=True, exist_ok=True)
    for log in plan.logs.glob("*.log"):
        log.unlink()
    options = ["--name", plan.name, "--state", str(plan.state)]
    options += ["--management", str(plan.management), "--underlay", str(plan.underlay)]
    with (plan.logs / "supervisor.log").open("ab") as log_file:
        subprocess.Popen(
            [sys.executable, "-m", "ferrite.cli.main", "dev", *options, "supervise"],
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            env=os.environ | {MARK: plan.name},
            start_new_session=True,
        )
    deadline = time.monotonic() + UP_SECONDS
    while not plan.status_file.exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"the supervisor did not start: see {plan.logs / 'supervisor.log'}")
        time.sleep(0.05)


async def _supervise(plan: ClusterPlan) -> None:
    storage = ceph.CephCluster(plan.state / "ceph", str(plan.control.ip))
    await asyncio.to_thread(storage.prepare)
    supervisor = Supervisor(plan.name, plan.logs, plan.status_file)
    supervisor.add([_etcd(plan), *map(_ceph_daemon, storage.daemons())])
    services = Services(plan)
    supervisor.add(services.independent_of_ceph())

    async def add_storage() -> None:
        await asyncio.to_thread(storage.make_osd)
        supervisor.add([_ceph_daemon(storage.osd())])
        access = await asyncio.to_thread(storage.set_up, CEPH_POOL)
        supervisor.add(services.storage(access))

    storing = asyncio.create_task(add_storage(), name="storage")
    await supervisor.run()
    storing.cancel()


def _ceph_daemon(daemon: ceph.Daemon) -> Process:
    return Process(daemon.name, daemon.command)


def _etcd(plan: ClusterPlan) -> Process:
    address = f"http://{plan.control.ip}"
    return Process(
        "etcd",
        [
            *["etcd", "--name", plan.name, "--data-dir", str(plan.state / "etcd"), "--logger", "zap"],
            *["--listen-client-urls", f"{address}:2379", "--advertise-client-urls", f"{address}:2379"],
            *["--listen-peer-urls", f"{address}:2380", "--initial-advertise-peer-urls", f"{address}:2380"],
            *["--initial-cluster", f"{plan.name}={address}:2380", "--log-level", "warn"],
        ],
    )


def _write_identities(plan: ClusterPlan) -> None:
    authority = Authority(plan.state / "pki")
    for name, identity in identities(plan).items():
        authority.issue(name, identity)
    tls = admin_tls(plan)
    ca, cert, key = (file.read_bytes() for file in (tls.ca, tls.cert, tls.key))
    contexts = {
        name: kubeconfig.Access(f"https://{api.rest}", ca=ca, cert=cert, key=key, namespace="default")
        for name, api in apis(plan).items()
    }
    kubeconfig.write(plan.kubeconfig, contexts, current="core")


def _write_configuration(plan: ClusterPlan) -> None:
    (plan.state / "machine-classes.yaml").write_text(yaml.safe_dump(MACHINE_CLASSES))
    (plan.state / "volume-classes.yaml").write_text(yaml.safe_dump(VOLUME_CLASSES))
    _write_secret(plan.state / "encryption.key", f"dev:{base64.b64encode(secrets.token_bytes(32)).decode()}\n".encode())
    _write_secret(plan.state / "ceph.kek", secrets.token_bytes(32))


def _write_secret(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def grpcurl(plan: ClusterPlan) -> dict[str, str]:
    """Target → the `grpcurl` command, as administrator, that its address and certificates belong to."""
    ca, cert, key = (os.path.relpath(file) for file in tls_flags(plan.state / "pki", "admin", "-")[1::2])
    tls = f"grpcurl -cacert {ca} -cert {cert} -key {key}"
    commands = {name: f"{tls} {api.grpc}" for name, api in apis(plan).items()}
    commands["metalbond"] = f"{tls} {plan.fabric.management}:{METALBOND_GRPC_PORT}"
    sockets = {"ceph-provider": plan.run / "ceph-provider.sock"}
    for node in plan.hypervisors:
        sockets[f"{node.name}-dpservice"] = plan.run / node.name / "dpservice.sock"
        sockets[f"{node.name}-provider"] = plan.run / node.name / "provider.sock"
    return commands | {name: f"grpcurl -plaintext -unix {path}" for name, path in sockets.items()}
