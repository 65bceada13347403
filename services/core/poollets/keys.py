"""Names by which a poollet knows its objects in the runtime, and marks objects of the API."""

from __future__ import annotations

from typing import Final

MANAGED_BY: Final = "common.ironcore.dev/managed-by"
"""Annotation of objects that somebody else looks after: poollets leave them alone."""

MACHINE_PREFIX: Final = "machinepoollet.ironcore.dev/"
MACHINE_FINALIZER: Final = MACHINE_PREFIX + "machine"
MACHINE_UID: Final = MACHINE_PREFIX + "machine-uid"
MACHINE_NAMESPACE: Final = MACHINE_PREFIX + "machine-namespace"
MACHINE_NAME: Final = MACHINE_PREFIX + "machine-name"
MACHINE_GENERATION: Final = MACHINE_PREFIX + "machine-generation"
RUNTIME_GENERATION: Final = MACHINE_PREFIX + "irimachine-generation"
INTERFACE_MAPPING: Final = MACHINE_PREFIX + "networkinterfacemapping"
RAW_INTERFACE_LABELS: Final = "rawNICLabels"
RAW_NETWORK_LABELS: Final = "rawNetworkLabels"
RAW_VOLUME_LABELS: Final = "rawVolumeLabels"

VOLUME_PREFIX: Final = "volumepoollet.ironcore.dev/"
VOLUME_FINALIZER: Final = VOLUME_PREFIX + "volume"
VOLUME_UID: Final = VOLUME_PREFIX + "volume-uid"
VOLUME_NAMESPACE: Final = VOLUME_PREFIX + "volume-namespace"
VOLUME_NAME: Final = VOLUME_PREFIX + "volume-name"

DEFAULT_IGNITION_KEY: Final = "ignition.yaml"
