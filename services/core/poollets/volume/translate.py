"""Volumes in the runtime's terms and back. Pure."""

from __future__ import annotations

import hashlib
from typing import Final

from protos.iri.volume.v1alpha1 import volume_pb2 as iri
from protos.k8s.core.v1.secret_pb2 import Secret
from protos.storage.v1alpha1.volume_pb2 import Volume, VolumeStatus
from services.apimachinery.runtime.conditions import FALSE, TRUE, set_condition
from services.apimachinery.runtime.owners import set_controller_reference
from services.apimachinery.schema.quantity import Format, Quantity
from services.core.poollets.keys import VOLUME

STATES: Final = {iri.VOLUME_PENDING: "Pending", iri.VOLUME_AVAILABLE: "Available", iri.VOLUME_ERROR: "Error"}
READY: Final = "Ready"
AUTH_SECRET: Final = "storage.ironcore.dev/volume-auth"
SECRET_NAME_LENGTH: Final = 63


def requested_bytes(volume: Volume) -> int:
    """The size that the spec asks for, in bytes."""
    return Quantity.parse(volume.spec.resources.get("storage") or "0").value


def runtime_volume(volume: Volume, runtime_class: str, encryption: Secret | None) -> iri.Volume:
    """The message that creates the volume."""
    wanted = iri.Volume()
    wanted.metadata.labels.update(VOLUME.labels(volume.metadata))
    setattr(wanted.spec, "class", runtime_class)
    wanted.spec.resources.storage_bytes = requested_bytes(volume)
    if encryption is not None:
        wanted.spec.encryption.secret_data.update(encryption.data)
    if volume.spec.data_source.HasField("os_image"):
        source = volume.spec.data_source.os_image
        wanted.spec.volume_data_source.image_data_source.image = source.image
        wanted.spec.volume_data_source.image_data_source.architecture = source.architecture
    return wanted


def access_secret(volume: Volume, runtime: iri.Volume) -> Secret | None:
    """The Secret with the credentials of an available volume; None when it needs none."""
    access = runtime.status.access
    if runtime.status.state != iri.VOLUME_AVAILABLE or not access.secret_data:
        return None
    digest = hashlib.sha256(f"{volume.metadata.name}/{access.handle}".encode()).hexdigest()
    secret = Secret(type=AUTH_SECRET, data=dict(access.secret_data))
    secret.metadata.name, secret.metadata.namespace = digest[:SECRET_NAME_LENGTH], volume.metadata.namespace
    secret.metadata.labels[VOLUME.uid] = volume.metadata.uid
    set_controller_reference(volume, secret)
    return secret


def status_of(volume: Volume, runtime: iri.Volume, runtime_name: str, secret: str, now: int) -> VolumeStatus:
    """The status to write; `secret` names the access Secret ("" = none), `now` is Unix seconds."""
    status = VolumeStatus()
    status.CopyFrom(volume.status)
    status.volume_id = f"{runtime_name}://{runtime.metadata.id}"
    status.state = STATES.get(runtime.status.state, "Pending")
    if status.state != volume.status.state or not status.HasField("last_state_transition_time"):
        status.last_state_transition_time.seconds = now
    ready = TRUE if status.state == "Available" else FALSE
    message = f"the runtime reports the volume as {status.state}"
    set_condition(status.conditions, READY, ready, status.state, message, now=now)
    status.ClearField("access")
    if status.state == "Available":
        access = runtime.status.access
        status.access.driver, status.access.handle = access.driver, access.handle
        status.access.volume_attributes.update(access.attributes)
        if secret:
            status.access.secret_ref.name = secret
    if runtime.status.resources.storage_bytes:
        size = Quantity(runtime.status.resources.storage_bytes * 10**9, Format.BINARY)
        status.resources["storage"] = str(size)
    return status
