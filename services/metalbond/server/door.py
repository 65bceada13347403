"""The gRPC door: sessions, who is connected and which routes there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import unquote

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from protos.metalbond.v1 import metalbond_pb2 as pb
from protos.metalbond.v1 import metalbond_pb2_grpc as pb_grpc
from services.common.addresses import split_address
from services.common.logs import get_logger
from services.metalbond.routes import NextHop, NextHopType, Route, Vni, check_vni
from services.metalbond.server.hub import Hub, Link
from services.metalbond.server.listing import Listings, SortedRoutes, position, token, vnis_from
from services.metalbond.server.policy import ANONYMOUS, LOCAL, Rule
from services.metalbond.server.reflector import Peer
from services.metalbond.server.stream import StreamPeer, address_of, first_hello, status_of
from services.metalbond.session import SessionExpired, State
from services.metalbond.table import Sources
from services.metalbond.wire import HEADER, VERSION, FrameType, ProtocolError, RouteFrame, decode_route

log = get_logger(__name__)

SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["RouteReflector"].full_name
DEFAULT_PAGE: Final = 1000
MAX_PAGE: Final = 10_000
MOST_GREETING: Final = 2048
"""Streams that have yet to say hello."""
_ROWS_AT_ONCE: Final = 100

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
    """Serves sessions, and answers from the server's memory."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._listings = Listings()
        self._sorting = asyncio.Lock()
        self._greeting = 0

    async def ListPeers(self, request: pb.ListPeersRequest, context: Any) -> pb.ListPeersResponse:
        """Open sessions, and lost ones whose routes are kept. PERMISSION_DENIED as the policy says."""
        await self._check_reader(context)
        peers = [_open(link) for link in self._hub.links.values()]
        peers += [_lost(peer) for peer in self._hub.reflector.stale]
        return pb.ListPeersResponse(peers=sorted(peers, key=lambda peer: peer.name))

    async def ListRoutes(self, request: pb.ListRoutesRequest, context: Any) -> pb.ListRoutesResponse:
        """Answers INVALID_ARGUMENT for a VNI, page size or token outside of what it may be, and PERMISSION_DENIED as
        the policy says."""
        await self._check_reader(context)
        try:
            only = check_vni(request.vni) if request.HasField("vni") else None
            size = _page_size(request.page_size)
            after = position(request.page_token)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        page = [route async for route in self._page(only, after, size + 1)]
        response = pb.ListRoutesResponse()
        for number, (vni, route) in enumerate(page[:size]):
            if sources := self._hub.reflector.table.routes(vni).get(route):
                response.routes.append(_status(route, sources))
            if number % _ROWS_AT_ONCE == 0:
                await asyncio.sleep(0)
        if len(page) > size:
            response.next_page_token = token(page[size - 1][1])
        return response

    async def Session(  # type: ignore[override]  # gRPC takes a coroutine that writes by itself as well
        self, request_iterator: AsyncIterator[pb.SessionRequest], context: Any
    ) -> None:
        """A peer's session. Ends with INVALID_ARGUMENT for a peer that breaks the protocol, PERMISSION_DENIED for a
        name that isn't the certificate's, RESOURCE_EXHAUSTED for one too many or too slow, DEADLINE_EXCEEDED for a
        silent one."""
        name, origin = _caller(context.peer())
        identity, rule = await self._who(context)
        hello = await self._greeted(request_iterator, context, name)
        if reason := self._hub.refuses(origin, address_of(hello)):
            log.warning("connection refused", peer=name, reason=reason)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, reason)
        if identity is not None and hello.node != identity and not hello.node.startswith(f"{identity}/"):
            log.warning("session ended by us", peer=name, reason=f"{identity} calls itself {hello.node}")
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"node: the certificate is {identity}'s")
        link = StreamPeer(self._hub, f"{hello.node} {name}", origin, hello, rule)
        self._hub.began(link)
        self._hub.reflector.join(link.peer)
        cause: str = "connection lost"
        failure: Exception | None = None
        try:
            cause = await link.serve(request_iterator, context)
        except (ProtocolError, SessionExpired) as error:
            cause, failure = error.cause, error
            log.warning("session ended by us", peer=link.peer.name, reason=str(error))
        except OSError as error:
            log.info("connection lost", peer=link.peer.name, reason=str(error))
        except Exception as error:  # one peer's trouble never reaches another
            cause, failure = "internal error", error
            log.error("session failed", peer=link.peer.name, error=str(error), exc_info=error)
        finally:
            self._hub.ended(link, cause)
        if failure is not None:
            await context.abort(status_of(failure), "internal error" if cause == "internal error" else str(failure))

    async def _greeted(self, requests: AsyncIterator[pb.SessionRequest], context: Any, name: str) -> pb.SessionHello:
        if self._greeting >= MOST_GREETING:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many sessions begin at once")
        self._greeting += 1
        try:
            return await first_hello(requests)
        except (ProtocolError, SessionExpired) as error:
            log.warning("session ended by us", peer=name, reason=str(error))
            await context.abort(status_of(error), str(error))
            raise
        finally:
            self._greeting -= 1

    async def _who(self, context: Any) -> tuple[str | None, Rule]:
        """The caller's identity, None without a certificate, and what it may do."""
        certificate = context.auth_context()
        if certificate.get("transport_security_type") == [b"ssl"]:
            identity = b"".join(certificate.get("x509_common_name", [])[:1]).decode()
            if identity in ("", ANONYMOUS, LOCAL):  # else it would be taken for somebody without a certificate
                await context.abort(
                    grpc.StatusCode.PERMISSION_DENIED, f"the certificate's common name must not be {identity!r}"
                )
            return identity, self._hub.policy.rule_for(identity)
        return None, self._hub.policy.rule_for(LOCAL if context.peer().startswith("unix:") else ANONYMOUS)

    async def _check_reader(self, context: Any) -> None:
        identity, rule = await self._who(context)
        if not rule.read:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"the policy lets {identity or 'you'} not read")

    async def _page(
        self, only: Vni | None, after: RouteFrame | None, count: int
    ) -> AsyncIterator[tuple[Vni, RouteFrame]]:
        for vni in vnis_from(iter(list(self._hub.reflector.table.vnis)), only, after):
            found = (await self._sorted(vni, going_on=after is not None)).after(after, count)
            for payload in found:
                yield vni, RouteFrame(HEADER.pack(VERSION, len(payload), FrameType.UPDATE) + payload)
            count -= len(found)
            if count <= 0:
                return
            after = None

    async def _sorted(self, vni: Vni, *, going_on: bool) -> SortedRoutes:
        clock = asyncio.get_running_loop().time
        asked_at = clock()
        if going_on and (known := self._listings.find(vni, asked_at)):
            return known
        async with self._sorting:  # many who ask at once get one copy of the table
            known = self._listings.find(vni, clock())
            if known is not None and known.made_at >= asked_at:
                return known
            found = SortedRoutes(vni, self._hub.reflector.table.routes(vni), clock())
            for _ in found.sort():
                await asyncio.sleep(0)
            self._listings.keep(found)
            return found


def register(hub: Hub) -> Any:
    """Adds the servicer to a gRPC server."""
    return lambda grpc_server: pb_grpc.add_RouteReflectorServicer_to_server(RouteReflectorServicer(hub), grpc_server)


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


def _caller(peer: str) -> tuple[str, str]:
    """What to call it, and its IP address, empty for a unix socket, of a peer as gRPC names it: ipv6:%5B::1%5D:80."""
    family, _, rest = peer.partition(":")
    if family not in ("ipv4", "ipv6"):
        return peer, ""
    name = unquote(rest)
    return name, split_address(name)[0].removeprefix("::ffff:")


def _status(frame: RouteFrame, sources: Sources) -> pb.RouteStatus:
    return pb.RouteStatus(
        route=route_message(decode_route(frame)),
        sources=sorted(source.name for source in sources),
        stale=sources[0].stale,
    )


def _open(link: Link) -> pb.Peer:
    return pb.Peer(
        name=link.peer.name,
        state=_STATES.get(link.state, pb.PEER_STATE_UNSPECIFIED),
        keepalive_seconds=link.keepalive,
        connected_at=Timestamp(seconds=int(link.connected_at)),
        routes=link.peer.route_count,
        subscriptions=sorted(link.peer.followers),
        pending=link.peer.depth,
        updates_received=link.traffic.updates_in,
        updates_sent=link.traffic.updates_out,
        bytes_received=link.traffic.bytes_in,
        bytes_sent=link.traffic.bytes_out,
    )


def _lost(peer: Peer) -> pb.Peer:
    return pb.Peer(name=peer.name, state=pb.PEER_STATE_STALE, routes=peer.route_count)


def _page_size(asked: int) -> int:
    if asked > MAX_PAGE:
        raise ValueError(f"page_size: {asked} is above {MAX_PAGE}")
    return asked or DEFAULT_PAGE
