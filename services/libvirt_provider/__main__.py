"""`ferrite libvirt-provider serve`: wires the parts together and runs them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import grpc
import yaml

from protos.iri.machine.v1alpha1 import machine_pb2_grpc
from protos.runtime.v1alpha1 import changes_pb2_grpc
from services.apimachinery.client.connect import connect
from services.common import runtime_changes
from services.common.grpc_server import grpc_server
from services.common.health import Health
from services.common.service import run_service
from services.common.settings import load
from services.common.telemetry_metrics import exported
from services.libvirt_provider.console import ConsoleLogs
from services.libvirt_provider.host import host_resources
from services.libvirt_provider.hypervisor import Hypervisor, HypervisorLost
from services.libvirt_provider.images.cache import ImageCache
from services.libvirt_provider.kvm_probe import choose_virt_type
from services.libvirt_provider.layout import StateDirectory
from services.libvirt_provider.machine_images import MachineImages
from services.libvirt_provider.metrics import MachineCollector
from services.libvirt_provider.model.classes import MachineClass, parse_classes
from services.libvirt_provider.nics import NicPlugin
from services.libvirt_provider.nics.apinet import FIELD_MANAGER, ApinetNics
from services.libvirt_provider.nics.simple import IsolatedNics, ProviderNetNics
from services.libvirt_provider.reconcile import MachineReconciler, Parts
from services.libvirt_provider.recorder import Recorder
from services.libvirt_provider.server.runtime import MachineRuntime
from services.libvirt_provider.settings import Settings
from services.libvirt_provider.store import MachineStore
from services.libvirt_provider.volumes import Volumes
from services.libvirt_provider.volumes.ceph import CephDisks
from services.libvirt_provider.volumes.local_disk import LocalDisks

PROGRAM = "ferrite libvirt-provider serve"
SERVICE = "machine.v1alpha1.MachineRuntime"


async def serve(settings: Settings, health: Health) -> None:
    """Runs until cancelled; guests go on without us."""
    classes = read_classes(settings.machine_classes)
    host = host_resources(settings.cpu_overcommit, settings.reserved_memory)
    state = StateDirectory(settings.state_dir.absolute())
    state.prepare()
    store = MachineStore(state.store)
    store.load()
    images = ImageCache(state.images, frozenset(settings.plain_http_registries))
    images.prepare()

    recorder = Recorder()
    hypervisor = Hypervisor(settings.libvirt_uri)
    nics = nic_plugin(settings)
    volumes = Volumes([LocalDisks(state), CephDisks(hypervisor, settings.volume_cache)])
    parts = Parts(hypervisor, MachineImages(images, store, recorder), volumes, nics, state, settings.root_ports)
    reconciler = MachineReconciler(
        store, parts, recorder, shutdown_seconds=settings.shutdown_timeout, workers=settings.workers
    )
    store.on_change(reconciler.wake)
    changes = runtime_changes.RuntimeChanges()
    store.on_write = changes.note
    images.on_pulled = reconciler.wake_image
    hypervisor.on_event = reconciler.wake
    hypervisor.on_connected = reconciler.wake_all

    async def work() -> None:
        chosen = None
        while chosen is None:
            await hypervisor.connected()
            with contextlib.suppress(HypervisorLost):  # meanwhile; once more when it is back
                chosen = await choose_virt_type(hypervisor, settings.virt_type, state.kvm_probe)
        reconciler.virt_type = chosen
        await reconciler.run()

    def known(machine_id: str) -> bool:
        # A machine whose record can't be read still has its directory, and perhaps a running guest.
        return store.get(machine_id) is not None or state.machine(machine_id).root.exists()

    runtime = MachineRuntime(store, classes, host, nics, recorder, hypervisor.problem)

    def register(server: grpc.aio.Server) -> None:
        machine_pb2_grpc.add_MachineRuntimeServicer_to_server(runtime, server)
        changes_pb2_grpc.add_RuntimeChangesServicer_to_server(changes, server)

    with exported(MachineCollector(store, hypervisor)):
        async with (
            grpc_server(settings.listen, [SERVICE, runtime_changes.SERVICE], register),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(hypervisor.run(), name="libvirt")
            group.create_task(work(), name="machines")
            group.create_task(nics.run(reconciler.wake, known), name="nics")
            group.create_task(ConsoleLogs(state.root / "machines", settings.console_log_limit).run(), name="consoles")
            health.add("libvirt", hypervisor.problem)
            health.ready()


def nic_plugin(settings: Settings) -> NicPlugin:
    """The one plugin of this process."""
    if settings.nic_plugin == "isolated":
        return IsolatedNics()
    if settings.nic_plugin == "providernet":
        return ProviderNetNics()
    assert settings.net is not None  # settings with apinet have it
    return ApinetNics(connect(settings.net, manager=FIELD_MANAGER), settings.node_name)


def read_classes(path: Path) -> dict[str, MachineClass]:
    """The machine classes; SystemExit with the reason for an unreadable or wrong file."""
    try:
        return parse_classes(yaml.safe_load(path.read_text()))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SystemExit(f"{PROGRAM}: --machine-classes: {path}: {error}") from None


def main(arguments: list[str]) -> None:
    """`serve` is the only process of this service."""
    if arguments[:1] != ["serve"]:
        raise SystemExit(f"usage: {PROGRAM} [--config FILE] [flags]; --help lists the flags")
    settings = load(Settings, arguments[1:], PROGRAM)
    run_service(serve, settings, "libvirt-provider", node=settings.node_name)


if __name__ == "__main__":
    main(sys.argv[1:])
