"""Names by which a poollet knows its objects in the runtime, and marks objects of the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.apimachinery.client.objects import Key

MANAGED_BY: Final = "common.ironcore.dev/managed-by"
"""Annotation of objects that somebody else looks after: poollets leave them alone."""


@dataclass(frozen=True)
class Marks:
    """How one kind is marked: identity labels of its twins in the runtime, finalizer of its objects in the API."""

    uid: str
    namespace: str
    name: str
    finalizer: str

    def labels(self, metadata: Any) -> dict[str, str]:
        """The identity of an object of the API, by its metadata."""
        return {self.uid: metadata.uid, self.namespace: metadata.namespace, self.name: metadata.name}

    def key(self, labels: Mapping[str, str]) -> Key | None:
        """The object of the API that a twin belongs to; None for one that a poollet did not make."""
        if self.namespace not in labels or self.name not in labels:
            return None
        return Key(labels[self.namespace], labels[self.name])


MACHINE_PREFIX: Final = "machinepoollet.ironcore.dev/"
MACHINE: Final = Marks(
    uid=MACHINE_PREFIX + "machine-uid",
    namespace=MACHINE_PREFIX + "machine-namespace",
    name=MACHINE_PREFIX + "machine-name",
    finalizer=MACHINE_PREFIX + "machine",
)
MACHINE_GENERATION: Final = MACHINE_PREFIX + "machine-generation"
RUNTIME_GENERATION: Final = MACHINE_PREFIX + "irimachine-generation"
INTERFACE_MAPPING: Final = MACHINE_PREFIX + "networkinterfacemapping"
RAW_INTERFACE_LABELS: Final = "rawNICLabels"
RAW_NETWORK_LABELS: Final = "rawNetworkLabels"
RAW_VOLUME_LABELS: Final = "rawVolumeLabels"

VOLUME_PREFIX: Final = "volumepoollet.ironcore.dev/"
VOLUME: Final = Marks(
    uid=VOLUME_PREFIX + "volume-uid",
    namespace=VOLUME_PREFIX + "volume-namespace",
    name=VOLUME_PREFIX + "volume-name",
    finalizer=VOLUME_PREFIX + "volume",
)

DEFAULT_IGNITION_KEY: Final = "ignition.yaml"
