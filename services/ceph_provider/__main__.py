"""`ferrite ceph-provider serve`: wires the parts together and runs them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import yaml

from protos.iri.volume.v1alpha1 import volume_pb2_grpc
from services.ceph_provider.cluster import CephAddress, Cluster
from services.ceph_provider.model.classes import VolumeClass, parse_classes
from services.ceph_provider.reconcile import VolumeReconciler
from services.ceph_provider.recorder import Recorder
from services.ceph_provider.server.runtime import VolumeRuntime
from services.ceph_provider.settings import Settings, check_kek, read_key
from services.ceph_provider.store import VolumeStore
from services.common.grpc_server import grpc_server
from services.common.health import Health
from services.common.service import run_service
from services.common.settings import load
from services.common.tasks import forever

PROGRAM = "ferrite ceph-provider serve"
SERVICE = "volume.v1alpha1.VolumeRuntime"
SERVING_THREADS = 8
"""Threads beyond the workers', so that clients are answered while all workers remove images."""


async def serve(settings: Settings, health: Health) -> None:
    """Runs until cancelled; volumes stay usable without us."""
    classes = read_classes(settings.supported_volume_classes)
    cluster = Cluster(address(settings), threads=settings.worker_size + SERVING_THREADS)
    store = VolumeStore(cluster)
    recorder = Recorder()
    reconciler = VolumeReconciler(store, cluster, recorder, workers=settings.worker_size)
    store.on_change = reconciler.wake

    async def resync() -> None:
        await cluster.connected()
        await reconciler.resync()

    # The generated base class counts the calls that we leave to it as abstract.
    runtime = VolumeRuntime(store, cluster, classes, reconciler, recorder)  # type: ignore[abstract]
    async with (
        grpc_server(
            settings.listen, [SERVICE], lambda s: volume_pb2_grpc.add_VolumeRuntimeServicer_to_server(runtime, s)
        ),
        asyncio.TaskGroup() as group,
    ):
        group.create_task(cluster.run(), name="ceph")
        group.create_task(reconciler.run(), name="volumes")
        group.create_task(forever("resync", resync), name="resync")
        health.add("ceph", cluster.problem)
        health.ready()


def address(settings: Settings) -> CephAddress:
    """How Ceph is reached; SystemExit with the reason for an unreadable or wrong file."""
    try:
        key = read_key(settings)
    except (OSError, ValueError) as error:
        flag = "--ceph-key-file" if settings.ceph_key_file else "--ceph-keyring-file"
        raise SystemExit(
            f"{PROGRAM}: {flag}: {settings.ceph_key_file or settings.ceph_keyring_file}: {error}"
        ) from None
    if settings.ceph_kek_path is not None:
        try:
            check_kek(settings.ceph_kek_path)
        except (OSError, ValueError) as error:
            raise SystemExit(f"{PROGRAM}: --ceph-kek-path: {settings.ceph_kek_path}: {error}") from None
    return CephAddress(
        monitors=settings.ceph_monitors,
        user=settings.ceph_user,
        key=key,
        pool=settings.ceph_pool,
        connect_seconds=settings.ceph_connect_timeout,
    )


def read_classes(path: Path) -> dict[str, VolumeClass]:
    """The volume classes; SystemExit with the reason for an unreadable or wrong file."""
    try:
        return parse_classes(yaml.safe_load(path.read_text()))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SystemExit(f"{PROGRAM}: --supported-volume-classes: {path}: {error}") from None


def main(arguments: list[str]) -> None:
    """`serve` is the only process of this service."""
    if arguments[:1] != ["serve"]:
        raise SystemExit(f"usage: {PROGRAM} [--config FILE] [flags]; --help lists the flags")
    run_service(serve, load(Settings, arguments[1:], PROGRAM), "ceph-provider")


if __name__ == "__main__":
    main(sys.argv[1:])
