"""Guest a, the only one of its host, with default routes."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Final

from services.dpservice.model.rows import InterfaceId, PortNumber, Vni
from tests.support.dpservice import calls
from tests.support.dpservice.trial import Trial

A: Final = InterfaceId("a")
VNI: Final = Vni(100)
PORT_A: Final = PortNumber(0)
OWN: Final = IPv4Address("10.0.0.1")
MAC: Final = bytes([2, 0xAA, 0, 0, 0, 0])
STRANGER, SHARED = IPv4Address("198.51.100.9"), IPv4Address("203.0.113.3")


def settle_in(trial: Trial) -> None:
    """Makes the guest and the routes of both families."""
    trial.call(calls.create_interface(A, "net_tap2", VNI, 1))
    for prefix in calls.ROUTES[:2]:
        trial.call(calls.create_route(VNI, prefix, calls.HOPS[1]))
