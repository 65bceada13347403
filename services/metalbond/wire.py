"""MetalBond's TCP frames: bytes to values and back. Whatever changes here changes what other implementations see.

A frame is a header of four bytes (version, payload length as 16 bits big endian, type) and a protobuf payload. Frames
follow one another without padding.

Tables and queues hold a route as its ADD frame in canonical form (`RouteFrame`): equal routes are equal bytes, so the
reflector forwards what it stored to any number of peers without encoding, and joins frames instead of building them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple, NewType

from google.protobuf.message import DecodeError

from protos.metalbond.wire import metalbond_pb2 as pb
from services.metalbond.routes import (
    MAX_PORT,
    Destination,
    NextHop,
    Route,
    UnderlayAddress,
    Vni,
    check_vni,
)

VERSION: Final = 1
HEADER: Final = struct.Struct(">BHB")
HEADER_SIZE: Final = HEADER.size
MAX_SENT_PAYLOAD: Final = 1188  # so that a frame fits into an IPv6 packet of 1280 bytes
MAX_FRAME: Final = HEADER_SIZE + 0xFFFF
DEFAULT_PORT: Final = 4711

RouteFrame = NewType("RouteFrame", bytes)

REMOVE_FIELD: Final = b"\x08\x01"  # field 1, action = REMOVE; an ADD leaves the field out
_VNI_TAG: Final = 0x10
_REASSEMBLES: Final = 1  # bit of the capabilities
_FAMILY_TAG: Final = 0x08
_HOST4_SIZE: Final = 8  # of a destination with an IPv4 address and a length of one byte
_HOST6_SIZE: Final = 23  # of one with an IPv6 address and a length of two bytes, which is 128
_PLAIN_HOP: Final = b"\x22\x12\x0a\x10"  # how a next hop begins that has nothing but an IPv6 address
_BITS: Final = {pb.IPv4: 32, pb.IPv6: 128}


class ProtocolError(Exception):
    """A peer broke the protocol: its session ends, and only its. `cause` is a short constant for counters."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause


class FrameType(IntEnum):
    """Fourth byte of the header."""

    HELLO = 1
    KEEPALIVE = 2
    SUBSCRIBE = 3
    UNSUBSCRIBE = 4
    UPDATE = 5


class Hello(NamedTuple):
    """Opens a session; the lower of both sides' intervals (seconds, at least 1) holds for both. A side that
    `reassembles` puts split frames together, which those of the original don't."""

    keepalive_interval: int
    is_server: bool = False
    reassembles: bool = False


class Keepalive(NamedTuple):
    """The sender lives."""


class Subscribe(NamedTuple):
    """The sender wants to hear of a VNI's routes, first of those that exist."""

    vni: Vni


class Unsubscribe(NamedTuple):
    """The sender has forgotten the VNI's routes and wants to hear no more of them."""

    vni: Vni


class Update(NamedTuple):
    """A route came or went."""

    removed: bool
    vni: Vni
    route: RouteFrame


Frame = Hello | Keepalive | Subscribe | Unsubscribe | Update


class Framer:
    """Cuts a byte stream into frames wherever reads happen to end; holds at most one incomplete frame."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Type and payload of each frame completed by `data`, frames before a bad one first.

        Raises ProtocolError for a version other than 1.
        """
        stream = self._rest + data if self._rest else data
        start, end = 0, len(stream)
        while end - start >= HEADER_SIZE:
            version, size, kind = HEADER.unpack_from(stream, start)
            if version != VERSION:
                raise ProtocolError("bad version", f"a frame says {version}, only {VERSION} exists")
            body = start + HEADER_SIZE
            if body + size > end:
                break
            start = body + size
            yield kind, stream[body:start]
        self._rest = stream[start:]


def decode(kind: int, payload: bytes) -> Frame:
    """The frame's meaning. Raises ProtocolError for an unknown type or a payload that breaks a rule."""
    if kind == FrameType.UPDATE:
        return decode_update(payload)
    if kind == FrameType.KEEPALIVE:
        if payload:
            raise ProtocolError("bad keepalive", f"a KEEPALIVE is empty, this one has {len(payload)} bytes")
        return Keepalive()
    if kind == FrameType.HELLO:
        return _decode_hello(payload)
    if kind in (FrameType.SUBSCRIBE, FrameType.UNSUBSCRIBE):
        try:
            vni = check_vni(pb.Subscription.FromString(payload).vni)
        except (DecodeError, ValueError) as error:
            raise ProtocolError("bad subscription", str(error)) from error
        return Subscribe(vni) if kind == FrameType.SUBSCRIBE else Unsubscribe(vni)
    raise ProtocolError("unknown frame type", str(kind))


def encode(frame: Frame) -> bytes:
    """The frame's bytes. Raises ValueError for a payload beyond 1188 bytes."""
    if isinstance(frame, Keepalive):
        return _frame(FrameType.KEEPALIVE, b"")
    if isinstance(frame, Hello):
        hello = pb.Hello(
            keepaliveInterval=frame.keepalive_interval,
            isServer=frame.is_server,
            capabilities=_REASSEMBLES if frame.reassembles else 0,
        )
        return _frame(FrameType.HELLO, hello.SerializeToString())
    if isinstance(frame, Update):
        return removal(frame.route) if frame.removed else frame.route
    kind = FrameType.SUBSCRIBE if isinstance(frame, Subscribe) else FrameType.UNSUBSCRIBE
    return _frame(kind, pb.Subscription(vni=frame.vni).SerializeToString())


def decode_update(payload: bytes) -> Update:
    """An UPDATE, its route brought into canonical form: unknown fields dropped, ports kept for NAT only.

    Host bits of the prefix stay as announced: 10.0.0.1/24 and 10.0.0.0/24 are two routes of the peer that sent them.
    Raises ProtocolError naming the field and the rule.
    """
    try:
        update = pb.Update.FromString(payload)
    except DecodeError as error:
        raise ProtocolError("bad update", f"not an Update message: {error}") from error
    _check_update(update)
    removed = update.action == pb.REMOVE
    update.ClearField("action")
    hop = update.nextHop
    if hop.type != pb.NAT:
        hop.ClearField("natPortRangeFrom")
        hop.ClearField("natPortRangeTo")
    update.DiscardUnknownFields()
    canonical = update.SerializeToString()
    return Update(removed, Vni(update.vni), RouteFrame(HEADER.pack(VERSION, len(canonical), 5) + canonical))


def encode_route(route: Route) -> RouteFrame:
    """The canonical ADD frame."""
    destination, hop = route.destination, route.next_hop
    ports = hop.nat_ports or (0, 0)
    update = pb.Update(
        vni=route.vni,
        destination=pb.Destination(
            ipVersion=pb.IPv4 if destination.version == 4 else pb.IPv6,
            prefix=destination.network_address.packed,
            prefixLength=destination.prefixlen,
        ),
        nextHop=pb.NextHop(
            targetAddress=hop.address.packed,
            targetVNI=hop.target_vni,
            type=pb.NextHopType.ValueType(hop.type),
            natPortRangeFrom=ports[0],
            natPortRangeTo=ports[1],
        ),
    )
    return RouteFrame(_frame(FrameType.UPDATE, update.SerializeToString()))


def decode_route(frame: RouteFrame) -> Route:
    """The route of a canonical frame, host bits masked."""
    vni, at = _vni(frame)
    hop_at = at + 2 + frame[at + 1]
    return Route(vni, _destination(frame[at + 2 : hop_at]), _next_hop(frame[hop_at + 2 :]))


def _destination(message: bytes) -> Destination:
    at = 2 if message[0] == _FAMILY_TAG else 0
    size = message[at + 1]
    address, rest = message[at + 2 : at + 2 + size], message[at + 2 + size :]
    length = (rest[1] if rest[1] < 0x80 else size * 8) if rest else 0  # the one length of two bytes is 128
    return (IPv6Network if at else IPv4Network)((address, length), strict=False)


@lru_cache(maxsize=65_536)  # few next hops stand behind many routes
def _next_hop(message: bytes) -> NextHop:
    hop = pb.NextHop.FromString(message)
    return NextHop(
        address=_address(hop.targetAddress),
        type=int(hop.type),
        nat_ports=(hop.natPortRangeFrom, hop.natPortRangeTo) if hop.type == pb.NAT else None,
        target_vni=Vni(hop.targetVNI),
    )


def masked(route: RouteFrame) -> RouteFrame:
    """The frame with the destination's host bits zero, so that equal destinations are equal bytes."""
    at = _vni(route)[1]
    size = route[at + 1]
    if size == _HOST6_SIZE or (size == _HOST4_SIZE and route[at + 1 + size] == _BITS[pb.IPv4]):
        return route
    update = pb.Update.FromString(route[HEADER_SIZE:])
    destination = update.destination
    host_bits = _BITS[destination.ipVersion] - destination.prefixLength
    address = int.from_bytes(destination.prefix, "big")
    if not address & ((1 << host_bits) - 1):
        return route
    destination.prefix = (address >> host_bits << host_bits).to_bytes(len(destination.prefix), "big")
    return RouteFrame(_frame(FrameType.UPDATE, update.SerializeToString()))


def removal(route: RouteFrame) -> bytes:
    """The frame that takes back what `route` said, in the same five fields of the next hop."""
    return _frame(FrameType.UPDATE, REMOVE_FIELD + route[HEADER_SIZE:])


def vni_of(route: RouteFrame) -> Vni:
    """The VNI of a canonical frame without decoding the rest."""
    return _vni(route)[0]


def type_of(route: RouteFrame) -> int:
    """The next hop's type in a canonical frame."""
    at = _vni(route)[1]
    if route.startswith(_PLAIN_HOP, at + 2 + route[at + 1]):
        return pb.STANDARD
    return int(pb.Update.FromString(route[HEADER_SIZE:]).nextHop.type)


def destination_key(route: RouteFrame) -> bytes:
    """VNI and destination of a canonical frame as the bytes with which its payload begins: all routes of the VNI to
    the destination, and no others, begin so."""
    at = _vni(route)[1]
    return route[HEADER_SIZE : at + 2 + route[at + 1]]  # tag and length take a byte each


def _vni(route: RouteFrame) -> tuple[Vni, int]:
    if route[HEADER_SIZE] != _VNI_TAG:
        return Vni(0), HEADER_SIZE  # a zero field is not on the wire
    value, shift, at = 0, 0, HEADER_SIZE + 1
    while True:
        value |= (route[at] & 0x7F) << shift
        at += 1
        if route[at - 1] < 0x80:
            return Vni(value), at
        shift += 7


def _frame(kind: FrameType, payload: bytes) -> bytes:
    if len(payload) > MAX_SENT_PAYLOAD:
        raise ValueError(f"payload: {len(payload)} bytes exceed {MAX_SENT_PAYLOAD}")
    return HEADER.pack(VERSION, len(payload), kind) + payload


def _decode_hello(payload: bytes) -> Hello:
    try:
        hello = pb.Hello.FromString(payload)
    except DecodeError as error:
        raise ProtocolError("bad hello", f"not a Hello message: {error}") from error
    if hello.keepaliveInterval < 1:
        raise ProtocolError("bad hello", "keepaliveInterval: must be at least 1 second")
    return Hello(hello.keepaliveInterval, hello.isServer, bool(hello.capabilities & _REASSEMBLES))


def _check_update(update: pb.Update) -> None:
    if update.action not in (pb.ADD, pb.REMOVE):
        raise ProtocolError("bad update", f"action: {update.action} is neither ADD nor REMOVE")
    if not update.HasField("destination"):
        raise ProtocolError("bad update", "destination: missing")
    if not update.HasField("nextHop"):
        raise ProtocolError("bad update", "nextHop: missing")
    destination, hop = update.destination, update.nextHop
    bits = _BITS.get(destination.ipVersion)
    if bits is None:
        raise ProtocolError("bad update", f"destination.ipVersion: {destination.ipVersion} is neither IPv4 nor IPv6")
    if len(destination.prefix) * 8 != bits:
        raise ProtocolError("bad update", f"destination.prefix: {len(destination.prefix)} bytes, not {bits // 8}")
    if destination.prefixLength > bits:
        raise ProtocolError("bad update", f"destination.prefixLength: {destination.prefixLength} is above {bits}")
    if len(hop.targetAddress) not in (4, 16):
        raise ProtocolError("bad update", f"nextHop.targetAddress: {len(hop.targetAddress)} bytes, not 4 or 16")
    try:
        check_vni(update.vni)
        check_vni(hop.targetVNI)
    except ValueError as error:
        raise ProtocolError("bad update", str(error)) from error
    if hop.type < 0:
        raise ProtocolError("bad update", f"nextHop.type: {hop.type} is negative")
    if hop.type == pb.NAT and max(hop.natPortRangeFrom, hop.natPortRangeTo) > MAX_PORT:
        raise ProtocolError("bad update", f"nextHop.natPortRange: a port is above {MAX_PORT}")


def _address(packed: bytes) -> UnderlayAddress:
    return IPv6Address(packed) if len(packed) == 16 else ip_address(packed)
