"""`ferrite ceph-provider serve`: wires the parts together and runs them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import grpc
import yaml

from protos.iri.volume.v1alpha1 import volume_pb2_grpc
from protos.runtime.v1alpha1 import changes_pb2_grpc
from services.ceph_provider.cluster import CephAddress, Cluster
from services.ceph_provider.model.classes import VolumeClass, parse_classes
from services.ceph_provider.reconcile import VolumeReconciler
from services.ceph_provider.recorder import Recorder
from services.ceph_provider.server.runtime import VolumeRuntime
from services.ceph_provider.settings import Settings, check_kek, read_key, read_keyring
from services.ceph_provider.store import VolumeStore
from services.common import runtime_changes
from services.common.grpc_server import grpc_server
from services.common.health import Health
from services.common.service import run_service
from services.common.settings import WRONG_SETTINGS, load
from services.common.tasks import forever

PROGRAM = "ferrite ceph-provider serve"
T = TypeVar("T")

SERVICE = "volume.v1alpha1.VolumeRuntime"
SERVING_THREADS = 8
"""Threads beyond the workers', so that clients are answered while all workers remove images."""


async def serve(
    settings: Settings, health: Health, *, classes: Mapping[str, VolumeClass], address: CephAddress
) -> None:
    """Runs until cancelled; volumes stay usable without us."""
    cluster = Cluster(address, threads=settings.worker_size + SERVING_THREADS)
    store = VolumeStore(cluster)
    recorder = Recorder()
    reconciler = VolumeReconciler(store, cluster, recorder, workers=settings.worker_size)
    store.on_change = reconciler.wake
    changes = runtime_changes.RuntimeChanges()
    store.on_write = changes.note

    async def resync() -> None:
        await cluster.connected()
        await reconciler.resync()

    # The generated base class counts the calls that we leave to it as abstract.
    runtime = VolumeRuntime(store, cluster, classes, reconciler, recorder)  # type: ignore[abstract]

    def register(server: grpc.aio.Server) -> None:
        volume_pb2_grpc.add_VolumeRuntimeServicer_to_server(runtime, server)
        changes_pb2_grpc.add_RuntimeChangesServicer_to_server(changes, server)

    async with (
        grpc_server(settings.listen, [SERVICE, runtime_changes.SERVICE], register),
        asyncio.TaskGroup() as group,
    ):
        group.create_task(cluster.run(), name="ceph")
        group.create_task(reconciler.run(), name="volumes")
        group.create_task(forever("resync", resync), name="resync")
        health.add("ceph", cluster.problem)
        health.ready()


def read_classes(path: Path) -> dict[str, VolumeClass]:
    """The volume classes. Raises OSError, or ValueError for a wrong file."""
    try:
        return parse_classes(yaml.safe_load(path.read_text()))
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def from_file(flag: str, path: Path | None, read: Callable[[Path], T]) -> T | None:
    """What a file holds, if one was given; SystemExit with the reason for an unreadable or wrong one."""
    if path is None:
        return None
    try:
        return read(path)
    except (OSError, ValueError) as error:
        print(f"{PROGRAM}: {flag}: {path}: {error}", file=sys.stderr)
        raise SystemExit(WRONG_SETTINGS) from None


def main(arguments: list[str]) -> None:
    """`serve` is the only process of this service."""
    if arguments[:1] != ["serve"]:
        raise SystemExit(f"usage: {PROGRAM} [--config FILE] [flags]; --help lists the flags")
    settings = load(Settings, arguments[1:], PROGRAM)
    classes = from_file("--supported-volume-classes", settings.supported_volume_classes, read_classes)
    key = from_file("--ceph-key-file", settings.ceph_key_file, read_key) or from_file(
        "--ceph-keyring-file", settings.ceph_keyring_file, read_keyring
    )
    from_file("--ceph-kek-path", settings.ceph_kek_path, check_kek)
    assert classes is not None  # settings have files for both
    assert key is not None
    address = CephAddress(
        monitors=settings.ceph_monitors,
        user=settings.ceph_user,
        key=key,
        pool=settings.ceph_pool,
        connect_seconds=settings.ceph_connect_timeout,
    )
    run_service(partial(serve, classes=classes, address=address), settings, "ceph-provider")


if __name__ == "__main__":
    main(sys.argv[1:])
