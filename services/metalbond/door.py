"""The gRPC door: who is connected and which routes there are."""

from __future__ import annotations

import base64
import binascii
import heapq
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from protos.metalbond.v1 import metalbond_pb2 as pb
from protos.metalbond.v1 import metalbond_pb2_grpc as pb_grpc
from services.metalbond.reflector import Peer
from services.metalbond.routes import NextHop, NextHopType, Route, Vni, check_vni
from services.metalbond.server import PeerLink, Server
from services.metalbond.session import State
from services.metalbond.table import Sources
from services.metalbond.wire import RouteFrame, decode_route, vni_of

SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["RouteReflector"].full_name
DEFAULT_PAGE: Final = 1000
MAX_PAGE: Final = 10_000

_STATES: Final = {
    State.CONNECTING: pb.PEER_STATE_CONNECTING,
    State.HELLO_SENT: pb.PEER_STATE_HANDSHAKE,
    State.HELLO_RECEIVED: pb.PEER_STATE_HANDSHAKE,
    State.ESTABLISHED: pb.PEER_STATE_ESTABLISHED,
}
_TYPES: Final = {
    NextHopType.STANDARD: pb.NEXT_HOP_TYPE_STANDARD,
    NextHopType.NAT: pb.NEXT_HOP_TYPE_NAT,
    NextHopType.LOADBALANCER_TARGET: pb.NEXT_HOP_TYPE_LOADBALANCER_TARGET,
}


class RouteReflectorServicer(pb_grpc.RouteReflectorServicer):
    """Answers from the server's memory; nothing here changes it."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def ListPeers(self, request: pb.ListPeersRequest, context: Any) -> pb.ListPeersResponse:
        """Open sessions, and lost ones whose routes are kept."""
        peers = [_open(link) for link in self._server.links.values()]
        peers += [_lost(peer) for peer in self._server.reflector.stale]
        return pb.ListPeersResponse(peers=sorted(peers, key=lambda peer: peer.name))

    async def ListRoutes(self, request: pb.ListRoutesRequest, context: Any) -> pb.ListRoutesResponse:
        """Answers INVALID_ARGUMENT for a VNI, page size or token outside of what it may be."""
        try:
            only = check_vni(request.vni) if request.HasField("vni") else None
            size = _page_size(request.page_size)
            after = _position(request.page_token)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        page = self._page(only, after, size + 1)
        response = pb.ListRoutesResponse(routes=[_status(route, sources) for route, sources in page[:size]])
        if len(page) > size:
            response.next_page_token = base64.urlsafe_b64encode(page[size - 1][0]).decode()
        return response

    async def Session(
        self, request_iterator: AsyncIterator[pb.SessionRequest], context: Any
    ) -> AsyncIterator[pb.SessionResponse]:
        """Answers UNIMPLEMENTED: peers use the TCP protocol."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Session is not offered; use the TCP protocol")
        yield pb.SessionResponse()  # never reached; a stream is an async generator

    def _page(self, only: Vni | None, after: RouteFrame | None, count: int) -> list[tuple[RouteFrame, Sources]]:
        table = self._server.reflector.table
        first = None if after is None else vni_of(after)
        page: list[tuple[RouteFrame, Sources]] = []
        for vni in sorted(table.vnis) if only is None else [only]:
            if (first is not None and vni < first) or len(page) >= count:
                continue
            routes = table.routes(vni)
            position = after if vni == first else None
            chosen = heapq.nsmallest(count - len(page), _beyond(routes, position), key=_order)
            page += [(route, routes[route]) for route in chosen]
        return page


def register(server: Server) -> Any:
    """Adds the servicer to a gRPC server."""
    return lambda grpc_server: pb_grpc.add_RouteReflectorServicer_to_server(RouteReflectorServicer(server), grpc_server)


def route_message(route: Route) -> pb.Route:
    """The route as the API shows it."""
    return pb.Route(vni=route.vni, destination=str(route.destination), next_hop=_hop_message(route.next_hop))


def _hop_message(hop: NextHop) -> pb.NextHop:
    first, last = hop.nat_ports or (0, 0)
    known = NextHopType(hop.type) if hop.type in tuple(NextHopType) else None
    return pb.NextHop(
        address=str(hop.address),
        type=_TYPES[known] if known is not None else pb.NEXT_HOP_TYPE_UNSPECIFIED,
        target_vni=hop.target_vni,
        nat_port_from=first,
        nat_port_to=last,
    )


def _status(frame: RouteFrame, sources: Sources) -> pb.RouteStatus:
    return pb.RouteStatus(
        route=route_message(decode_route(frame)),
        sources=sorted(source.name for source in sources),
        stale=sources[0].stale,
    )


def _open(link: PeerLink) -> pb.Peer:
    traffic = link.connection.traffic
    return pb.Peer(
        name=link.peer.name,
        state=_STATES.get(link.session.state, pb.PEER_STATE_UNSPECIFIED),
        keepalive_seconds=link.session.interval,
        connected_at=Timestamp(seconds=int(link.connected_at)),
        routes=link.peer.route_count,
        subscriptions=sorted(link.peer.subscriptions),
        pending=len(link.peer.pending),
        updates_received=traffic.updates_in,
        updates_sent=traffic.updates_out,
        bytes_received=traffic.bytes_in,
        bytes_sent=traffic.bytes_out,
    )


def _lost(peer: Peer) -> pb.Peer:
    return pb.Peer(name=peer.name, state=pb.PEER_STATE_STALE, routes=peer.route_count)


def _order(route: RouteFrame) -> bytes:
    # Canonical frames of one VNI, minus the header whose length byte depends on the next hop, sort by destination.
    return route[4:]


def _beyond(routes: Iterable[RouteFrame], position: RouteFrame | None) -> Iterator[RouteFrame]:
    if position is None:
        return iter(routes)
    return (route for route in routes if _order(route) > _order(position))


def _page_size(asked: int) -> int:
    if asked > MAX_PAGE:
        raise ValueError(f"page_size: {asked} is above {MAX_PAGE}")
    return asked or DEFAULT_PAGE


def _position(token: str) -> RouteFrame | None:
    if not token:
        return None
    try:
        frame = RouteFrame(base64.urlsafe_b64decode(token))
        decode_route(frame)
    except (binascii.Error, ValueError, IndexError, DecodeError) as error:
        raise ValueError("page_token: not one that this service gave out") from error
    return frame
