"""The objects that the kill check applies: two guests that ping, machines without a guest system, small ones. Pure."""

from __future__ import annotations

import os
from typing import Final

from google.protobuf.message import Message

from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from protos.k8s.core.v1.secret_pb2 import Secret
from protos.networking.v1alpha1.network_pb2 import Network

NAMESPACE: Final = "default"
PARENT: Final = "blue"
GUESTS: Final = {"vm-1": "10.0.0.1", "vm-2": "10.0.0.2"}
BALLAST: Final = "ballast"
BALLAST_BYTES: Final = 600_000  # a Secret holds at most 1 MiB
PING_SECONDS: Final = 0.2
# The demo's document pings once a second; this adds a finer measure, which starts again whenever it ends.
PINGS: Final = "run (while true; do ping -q -i {interval} {peer}; sleep 1; done) >/dev/null 2>&1 &"


def with_pings(manifests: str) -> str:
    """The demo's manifests, in which each guest also pings its peer every `PING_SECONDS`."""
    for peer in GUESTS.values():
        line = f"    ping {peer}\n"
        manifests = manifests.replace(line, f"{line}    {PINGS.format(interval=PING_SECONDS, peer=peer)}\n")
    return manifests


def network(name: str) -> Network:
    """A network, which gets a VNI."""
    made = Network()
    _name(made, name)
    return made


def prefix(name: str) -> Prefix:
    """One address out of the demo's range."""
    made = Prefix()
    _name(made, name)
    made.spec.ip_family, made.spec.prefix_length, made.spec.parent_ref.name = "IPv4", 32, PARENT
    return made


def machine(name: str, node: str = "", *, power: str = "On") -> Machine:
    """A machine with an interface and a small Ceph volume but no system: its firmware finds nothing and idles."""
    made = Machine()
    _name(made, name)
    spec = made.spec
    spec.machine_class_ref.name, spec.power = "tiny", power
    if node:
        spec.machine_pool_ref.name = node
    volume = spec.volumes.add(name="data").ephemeral.volume_template.spec
    volume.volume_class_ref.name = "fast"
    volume.resources["storage"] = "16Mi"
    interface = spec.network_interfaces.add(name=PARENT).ephemeral.network_interface_template.spec
    interface.network_ref.name = PARENT
    interface.ip_families.append("IPv4")
    address = interface.ips.add().ephemeral.prefix_template.spec
    address.ip_family, address.prefix_length, address.parent_ref.name = "IPv4", 32, PARENT
    return made


def big_secret() -> Secret:
    """Always the same object with another content that can't be compressed: a write of 600 kB."""
    made = Secret()
    _name(made, BALLAST)
    made.data["noise"] = os.urandom(BALLAST_BYTES)
    return made


def _name(obj: Message, name: str) -> None:
    obj.metadata.name, obj.metadata.namespace = name, NAMESPACE  # type: ignore[attr-defined]
