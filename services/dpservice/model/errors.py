"""Refusals of well-formed requests: each has the code and the symbolic name that DPDKironcore clients expect.

    Refusal
    ├─ NotFound 201          ├─ VniUnknown 206      ├─ RouteExists 301    ├─ VniLimit 361
    ├─ AlreadyExists 202     ├─ WrongIpVersion 204  ├─ RouteUnknown 302   ├─ PortStart 381, PortStop 382
    ├─ WrongType 203         ├─ InterfaceUnknown 205├─ RouteInsert 303    ├─ UnderlayTaken 401, InterfaceExists 402
    └─ LoadBalancerUnknown 422                      └─ RouteOfPort 304    └─ NoPublicAddress 341

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
    """No interface of this host is in that VNI."""

    code, name = 206, "NO_VNI"


class NoPublicAddress(Refusal):
    """The interface has no VIP, or no NAT."""

    code, name = 341, "SNAT_NO_DATA"


class LoadBalancerUnknown(Refusal):
    """The load balancer of a target does not exist."""

    code, name = 422, "NO_LB"


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


class VniLimit(Refusal):
    """No room for another VNI."""

    code, name = 361, "VNI_INIT4"


class PortStart(Refusal):
    """The guest port could not be put into service."""

    code, name = 381, "PORT_START"


class PortStop(Refusal):
    """The guest port could not be taken out of service."""

    code, name = 382, "PORT_STOP"


class UnderlayTaken(Refusal):
    """The underlay address is taken, or none is left."""

    code, name = 401, "VNF_INSERT"


class UnderlayDelete(Refusal):
    """The underlay address could not be removed."""

    code, name = 403, "VNF_DELETE"


class InterfaceExists(Refusal):
    """The interface id is used already."""

    code, name = 402, "VM_HANDLE"


class RouteReset(Refusal):
    """The routes of a VNI could not be reset."""

    code, name = 305, "ROUTE_RESET"
