"""What the agent reports of an interface: its state, its device, and a condition for each aspect."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from protos.metalnet.v1alpha1.network_interface_pb2 import NetworkInterface, NetworkInterfaceStatus
from services.apimachinery.runtime.conditions import FALSE, TRUE, remove_condition, set_condition
from services.metalnet.model.devices import Device
from services.metalnet.model.overlay import Port, Prefix

READY: Final = "Ready"
DEVICE: Final = "DeviceClaimed"
PROGRAMMED: Final = "Programmed"
PREFIXES: Final = "PrefixesProgrammed"
RATES: Final = "RatesLimited"
PEERINGS: Final = "PeeringsProgrammed"
FEATURES: Final = "FeaturesProgrammed"
ANNOUNCED: Final = "Announced"
# Only there while the spec asks for it.
_OPTIONAL: Final = (PREFIXES, RATES, PEERINGS, FEATURES)


@dataclass(frozen=True)
class Aspect:
    """One condition. `required` says whether the interface is Ready without it."""

    type: str
    holds: bool
    reason: str
    message: str
    required: bool = True


def finished(
    nic: NetworkInterface, device: Device, aspects: Iterable[Aspect], prefixes: Iterable[Prefix]
) -> NetworkInterfaceStatus:
    """The status after a complete reconcile: Ready, or Error naming the first aspect that is missing."""
    aspects = list(aspects)
    status = _with(nic, aspects)
    for type in _OPTIONAL:
        if all(aspect.type != type for aspect in aspects):
            remove_condition(status.conditions, type)
    missing = [aspect for aspect in aspects if aspect.required and not aspect.holds]
    status.state = "Error" if missing else "Ready"
    if missing:
        _set(status, nic, Aspect(READY, False, missing[0].reason, missing[0].message))
    else:
        _set(status, nic, Aspect(READY, True, "Programmed", f"{device.name} carries the interface"))
    status.tap_device.name = device.name
    del status.prefixes[:]
    status.prefixes.extend(str(prefix) for prefix in prefixes)
    return status


def unfinished(nic: NetworkInterface, state: str, aspect: Aspect) -> NetworkInterfaceStatus:
    """The status of an interface that waits for something ("Pending") or can't be had ("Error")."""
    status = _with(nic, [aspect])
    status.state = state
    _set(status, nic, Aspect(READY, False, aspect.reason, aspect.message))
    return status


def programmed(port: Port) -> Aspect:
    """The data plane has the interface."""
    return Aspect(PROGRAMMED, True, "InterfaceCreated", f"underlay address {port.underlay} in VNI {port.vni}")


def _with(nic: NetworkInterface, aspects: Iterable[Aspect]) -> NetworkInterfaceStatus:
    status = NetworkInterfaceStatus()
    status.CopyFrom(nic.status)
    status.observed_generation = nic.metadata.generation
    for aspect in aspects:
        _set(status, nic, aspect)
    return status


def _set(status: NetworkInterfaceStatus, nic: NetworkInterface, aspect: Aspect) -> None:
    set_condition(
        status.conditions,
        aspect.type,
        TRUE if aspect.holds else FALSE,
        aspect.reason,
        aspect.message,
        observed_generation=nic.metadata.generation,
    )
