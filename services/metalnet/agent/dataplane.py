"""The data plane of this host over DPDKironcore: typed calls, each with a deadline, refusals as exceptions.

DataplaneError
├── DataplaneUnavailable     no answer: the process is away, or too slow
├── NotInitialized           it lives, but nobody has called Initialize since it lost its state
├── NotSupported             it does not have this call
├── Malformed                it can't read the request
└── Refused                  its tables say no; `code` and `name` say why
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from ipaddress import IPv4Address, IPv6Address, ip_network
from types import TracebackType
from typing import Any, Final, Self

import grpc

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc
from protos.dpservice.v1 import routes_pb2 as bulk
from protos.dpservice.v1 import routes_pb2_grpc as bulk_grpc
from services.common.grpc_client import grpc_channel
from services.common.logs import get_logger
from services.metalnet.model.overlay import InterfaceId, Port, Prefix, Rates, UnderlayAddress, Vni, Wanted

log = get_logger(__name__)

CALL_SECONDS: Final = 5.0
IN_FLIGHT: Final = 32  # the data plane works off one call after the other; more would only queue there
WEIGHT: Final = 100  # what the original sends; there is one next hop per prefix, so it has no meaning

# Codes of DPDKironcore's Status.
NOT_FOUND: Final = 201
DEVICE_IN_USE: Final = 202
NO_INTERFACE: Final = 205
NO_VNI: Final = 206
ROUTE_EXISTS: Final = 301
ROUTE_NOT_FOUND: Final = 302
ROUTE_BAD_PORT: Final = 304


class DataplaneError(Exception):
    """A call failed."""


class DataplaneUnavailable(DataplaneError):
    """No answer."""


class NotInitialized(DataplaneError):
    """The state is lost; Initialize opens it anew."""


class NotSupported(DataplaneError):
    """The data plane does not have this call."""


class Malformed(DataplaneError):
    """The data plane can't read the request."""


class Refused(DataplaneError):
    """The data plane's tables say no."""

    def __init__(self, call: str, code: int, name: str) -> None:
        super().__init__(f"{call} was refused: {name} ({code})")
        self.code, self.name = code, name


class Dataplane:
    """A client of `host:port` or `unix:/path`; use it as a context."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = grpc_channel(address, deadline=CALL_SECONDS)
        self._stub = pb_grpc.DPDKironcoreStub(self._channel)
        self._batches = bulk_grpc.RoutesStub(self._channel)
        self._replaces = True  # until the one who answers says otherwise
        self._slots = asyncio.Semaphore(IN_FLIGHT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def uuid(self) -> str:
        """Names the present life of the tables. Raises NotInitialized."""
        answer = await self._call(self._stub.CheckInitialized, pb.CheckInitializedRequest())
        return str(answer.uuid)

    async def initialize(self) -> str:
        """Opens tables without state; drops all routes to other hosts. Returns the uuid."""
        answer = await self._call(self._stub.Initialize, pb.InitializeRequest())
        return str(answer.uuid)

    async def version(self, client: str, client_version: str) -> str:
        """The version of the data plane, which is told ours."""
        request = pb.GetVersionRequest(
            client_protocol="dpdkironcore.v1", client_name=client[:63], client_version=client_version
        )
        answer = await self._call(self._stub.GetVersion, request)
        return str(answer.service_version)

    async def interfaces(self) -> list[Port]:
        """All interfaces."""
        answer = await self._call(self._stub.ListInterfaces, pb.ListInterfacesRequest())
        return [_port(interface) for interface in answer.interfaces]

    async def interface(self, id: InterfaceId) -> Port | None:
        """One interface, or None."""
        request = pb.GetInterfaceRequest(interface_id=id.encode())
        answer = await self._call(self._stub.GetInterface, request, {NOT_FOUND})
        return None if answer.status.code else _port(answer.interface)

    async def create_interface(self, wanted: Wanted, device: str) -> UnderlayAddress:
        """Makes an interface; returns the underlay address that the data plane chose for it."""
        request = pb.CreateInterfaceRequest(
            interface_type=pb.VIRTUAL,
            interface_id=wanted.id.encode(),
            vni=wanted.vni,
            ipv4_config=pb.IpConfig(primary_address=str(wanted.ipv4 or "0.0.0.0").encode()),
            ipv6_config=pb.IpConfig(primary_address=str(wanted.ipv6 or "::").encode()),
            device_name=device,
            metering_parameters=pb.MeteringParams(total_rate=wanted.rates.total, public_rate=wanted.rates.public),
            hostname=wanted.hostname,
        )
        answer = await self._call(self._stub.CreateInterface, request)
        return _underlay(answer.underlay_route)

    async def delete_interface(self, id: InterfaceId) -> None:
        """Removes an interface; one that is gone is fine."""
        await self._call(self._stub.DeleteInterface, pb.DeleteInterfaceRequest(interface_id=id.encode()), {NOT_FOUND})

    async def prefixes(self, id: InterfaceId) -> dict[Prefix, UnderlayAddress]:
        """The further prefixes of an interface with their underlay addresses; none when it is gone."""
        answer = await self._call(
            self._stub.ListPrefixes, pb.ListPrefixesRequest(interface_id=id.encode()), {NO_INTERFACE}
        )
        return {_prefix(prefix): _underlay(prefix.underlay_route) for prefix in answer.prefixes}

    async def create_prefix(self, id: InterfaceId, prefix: Prefix) -> UnderlayAddress:
        """Routes a further prefix to the interface."""
        request = pb.CreatePrefixRequest(interface_id=id.encode(), prefix=_prefix_message(prefix))
        return _underlay((await self._call(self._stub.CreatePrefix, request)).underlay_route)

    async def delete_prefix(self, id: InterfaceId, prefix: Prefix) -> None:
        """Ends that; it need not be there."""
        request = pb.DeletePrefixRequest(interface_id=id.encode(), prefix=_prefix_message(prefix))
        await self._call(self._stub.DeletePrefix, request, {NO_INTERFACE, NOT_FOUND, ROUTE_NOT_FOUND})

    async def routes(self, vni: Vni) -> dict[Prefix, UnderlayAddress]:
        """The routes to other hosts; none for a network that the data plane does not have."""
        answer = await self._call(self._stub.ListRoutes, pb.ListRoutesRequest(vni=vni), {NO_VNI})
        return {_prefix(route.prefix): _underlay(route.nexthop_address.address) for route in answer.routes}

    async def create_route(self, vni: Vni, prefix: Prefix, hop: UnderlayAddress) -> None:
        """Adds a route."""
        route = pb.Route(
            prefix=_prefix_message(prefix),
            nexthop_vni=vni,
            nexthop_address=pb.IpAddress(ipver=pb.IPV6, address=str(hop).encode()),
            weight=WEIGHT,
        )
        await self._call(self._stub.CreateRoute, pb.CreateRouteRequest(vni=vni, route=route))

    async def replace_route(self, vni: Vni, prefix: Prefix, hop: UnderlayAddress) -> None:
        """Gives a route another next hop, without a moment without one. Raises NotSupported: DPDKironcore has no such
        call, so whoever speaks nothing else is asked once as long as it is connected."""
        if not self._replaces:
            raise NotSupported("the data plane has no ApplyRoutes")
        packed = prefix.network_address.packed + bytes([prefix.prefixlen])
        batch = bulk.RouteBatch(
            vni=vni,
            ip_version=prefix.version,
            removed=packed,
            added=packed,
            next_hops=[bulk.NextHop(underlay=hop.packed, vni=vni)],
            next_hop_indexes=[0],
        )
        try:
            result = await self._answer("ApplyRoutes", self._apply, batch)
        except NotSupported:
            if self._replaces:
                log.info("data plane changes next hops in two steps", address=self.address)
            self._replaces = False
            raise
        if result.code:
            raise Refused("ApplyRoutes", result.code, result.message)

    async def delete_route(self, vni: Vni, prefix: Prefix) -> bool:
        """Removes a route, which need not be there; False when the prefix belongs to an interface of this host."""
        request = pb.DeleteRouteRequest(vni=vni, route=pb.Route(prefix=_prefix_message(prefix)))
        answer = await self._call(self._stub.DeleteRoute, request, {NO_VNI, ROUTE_NOT_FOUND, ROUTE_BAD_PORT})
        return bool(answer.status.code != ROUTE_BAD_PORT)

    async def _call(self, call: Callable[..., Awaitable[Any]], request: Any, fine: Collection[int] = ()) -> Any:
        name = type(request).__name__.removesuffix("Request")
        answer = await self._answer(name, call, request)
        if answer.status.code and answer.status.code not in fine:
            raise Refused(name, answer.status.code, answer.status.message)
        return answer

    async def _answer(self, name: str, call: Callable[..., Awaitable[Any]], request: Any) -> Any:
        async with self._slots:
            try:
                return await call(request, timeout=CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                failure = _translated(name, error)
                if isinstance(failure, DataplaneUnavailable):
                    self._replaces = True  # another one may answer after this
                raise failure from error

    async def _apply(self, batch: bulk.RouteBatch, timeout: float) -> bulk.RouteBatchResult:
        results: list[bulk.RouteBatchResult] = [
            result async for result in self._batches.ApplyRoutes([batch], timeout=timeout)
        ]
        if len(results) != 1:
            raise DataplaneUnavailable(f"ApplyRoutes: {len(results)} answers to one batch")
        return results[0]


def _translated(call: str, error: grpc.aio.AioRpcError) -> DataplaneError:
    text = f"{call}: {error.code().name.lower()}: {error.details()}"
    match error.code():
        case grpc.StatusCode.ABORTED:
            return NotInitialized(text)
        case grpc.StatusCode.UNIMPLEMENTED:
            return NotSupported(f"the data plane has no {call}")
        case grpc.StatusCode.INVALID_ARGUMENT:
            return Malformed(text)
        case _:
            return DataplaneUnavailable(text)


def _port(interface: pb.Interface) -> Port:
    ipv4, ipv6 = (text.decode("ascii") for text in (interface.primary_ipv4, interface.primary_ipv6))
    return Port(
        id=InterfaceId(interface.id.decode("ascii")),
        vni=Vni(interface.vni),
        device=interface.pci_name,
        underlay=_underlay(interface.underlay_route),
        ipv4=None if ipv4 in ("", "0.0.0.0") else IPv4Address(ipv4),
        ipv6=None if ipv6 in ("", "::") else IPv6Address(ipv6),
        hostname=interface.hostname,
        rates=Rates(interface.meteringParams.total_rate, interface.meteringParams.public_rate),
    )


def _underlay(text: bytes) -> UnderlayAddress:
    return UnderlayAddress(IPv6Address(text.decode("ascii")))


def _prefix(prefix: pb.Prefix) -> Prefix:
    return ip_network(f"{prefix.ip.address.decode('ascii')}/{prefix.length}", strict=False)


def _prefix_message(prefix: Prefix) -> pb.Prefix:
    version = pb.IPV4 if prefix.version == 4 else pb.IPV6
    address = pb.IpAddress(ipver=version, address=str(prefix.network_address).encode())
    return pb.Prefix(ip=address, length=prefix.prefixlen)
