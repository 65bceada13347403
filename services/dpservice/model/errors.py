"""Refusals of well-formed requests: each has the code and the symbolic name that DPDKironcore clients expect.

    Refusal
    ├─ NotFound 201               ├─ AlreadyExists 202          ├─ WrongType 203
    ├─ WrongIpVersion 204         ├─ InterfaceUnknown 205       ├─ VniUnknown 206
    ├─ OutOfMemory 208            ├─ CaptureActive 210          ├─ CaptureInactive 211
    ├─ CaptureFailed 213          ├─ CaptureStopFailed 214      ├─ RouteExists 301
    ├─ RouteUnknown 302           ├─ RouteInsert 303            ├─ RouteOfPort 304
    ├─ RouteReset 305             ├─ PublicAddressDelete 321    ├─ PublicAddressLimit 322     ├─ PublicAddressExists 323
    ├─ NoPublicAddress 341        ├─ PublicAddressInsert 342    ├─ HasPublicAddress 343
    ├─ VniLimit 361               ├─ VniFree 363                ├─ PortStart 381
    ├─ PortStop 382               ├─ RateRefused 383            ├─ UnderlayTaken 401
    ├─ InterfaceExists 402        ├─ UnderlayDelete 403         ├─ BalancerUnknown 422
    └─ TargetLimit 423            └─ TargetDelete 424           └─ DropUnsupported 441

A request that can't be read at all is `Unreadable`, which becomes gRPC's INVALID_ARGUMENT.
"""

from __future__ import annotations

from typing import ClassVar


class Unreadable(Exception):
    """The request's syntax is wrong; the text names the field."""


class NotInitialized(Exception):
    """A call before the first Initialize."""


class Refusal(Exception):
    """A rule says no; `code` and `name` go to the client, the text to the log."""

    code: ClassVar[int]
    name: ClassVar[str]


class NotFound(Refusal):
    """The named object does not exist."""

    code, name = 201, "NOT_FOUND"


class AlreadyExists(Refusal):
    """A duplicate object, or a guest device that is already in use."""

    code, name = 202, "ALREADY_EXISTS"


class WrongType(Refusal):
    """The VniType is not allowed for this call."""

    code, name = 203, "WRONG_TYPE"


class WrongIpVersion(Refusal):
    """IPv4 where only IPv6 works, or the opposite."""

    code, name = 204, "BAD_IPVER"


class InterfaceUnknown(Refusal):
    """The interface of a sub-object does not exist."""

    code, name = 205, "NO_VM"


class VniUnknown(Refusal):
    """No interface or load balancer of this host is in that VNI."""

    code, name = 206, "NO_VNI"


class OutOfMemory(Refusal):
    """A table is full, or the packet processor did not take an entry."""

    code, name = 208, "OUT_OF_MEMORY"


class CaptureActive(Refusal):
    """A capture is running."""

    code, name = 210, "ALREADY_ACTIVE"


class CaptureInactive(Refusal):
    """No capture is running."""

    code, name = 211, "NOT_ACTIVE"


class CaptureFailed(Refusal):
    """The packet processor did not take the capture."""

    code, name = 213, "RTE_RULE_ADD"


class CaptureStopFailed(Refusal):
    """The packet processor did not end the capture."""

    code, name = 214, "RTE_RULE_DEL"


class RouteExists(Refusal):
    """The VNI has that prefix already."""

    code, name = 301, "ROUTE_EXISTS"


class RouteUnknown(Refusal):
    """The VNI has no such prefix."""

    code, name = 302, "ROUTE_NOT_FOUND"


class RouteInsert(Refusal):
    """The route table is full, or the packet processor did not take the route."""

    code, name = 303, "ROUTE_INSERT"


class RouteOfPort(Refusal):
    """The route belongs to another port, or to a port at all."""

    code, name = 304, "ROUTE_BAD_PORT"


class RouteReset(Refusal):
    """The routes of a VNI could not be reset."""

    code, name = 305, "ROUTE_RESET"


class PublicAddressDelete(Refusal):
    """A public address could not be removed."""

    code, name = 321, "DNAT_NO_DATA"


class PublicAddressLimit(Refusal):
    """The table of public addresses is full, or the packet processor did not take one."""

    code, name = 322, "DNAT_CREATE"


class PublicAddressExists(Refusal):
    """Another interface of the VNI has that public address."""

    code, name = 323, "DNAT_EXISTS"


class NoPublicAddress(Refusal):
    """The interface has no VIP, or no NAT."""

    code, name = 341, "SNAT_NO_DATA"


class PublicAddressInsert(Refusal):
    """The packet processor did not take the interface's public address."""

    code, name = 342, "SNAT_CREATE"


class HasPublicAddress(Refusal):
    """The interface has a VIP, or a NAT, already."""

    code, name = 343, "SNAT_EXISTS"


class VniLimit(Refusal):
    """No room for another VNI."""

    code, name = 361, "VNI_INIT4"


class VniFree(Refusal):
    """A VNI could not be given up."""

    code, name = 363, "VNI_FREE4"


class PortStart(Refusal):
    """The guest port could not be put into service."""

    code, name = 381, "PORT_START"


class PortStop(Refusal):
    """The guest port could not be taken out of service."""

    code, name = 382, "PORT_STOP"


class RateRefused(Refusal):
    """The rates contradict each other or are out of range."""

    code, name = 383, "PORT_METER"


class UnderlayTaken(Refusal):
    """The underlay address is taken, or none is left."""

    code, name = 401, "VNF_INSERT"


class InterfaceExists(Refusal):
    """The interface id is used already."""

    code, name = 402, "VM_HANDLE"


class UnderlayDelete(Refusal):
    """The underlay address could not be removed."""

    code, name = 403, "VNF_DELETE"


class BalancerUnknown(Refusal):
    """The load balancer of a target does not exist."""

    code, name = 422, "NO_LB"


class TargetLimit(Refusal):
    """The load balancer has all targets that it can have."""

    code, name = 423, "BACKIP_ADD"


class TargetDelete(Refusal):
    """The target could not be removed."""

    code, name = 424, "BACKIP_DEL"


class DropUnsupported(Refusal):
    """A firewall rule that drops, where rules are not enforced."""

    code, name = 441, "NO_DROP_SUPPORT"
