"""rtnetlink's bytes for routes and next-hop objects. Pure: operations to messages, dumps to what was found.

The numbers are those of linux/{netlink,rtnetlink,nexthop,lwtunnel,seg6,seg6_iptunnel,seg6_local}.h. pyroute2 knows
neither next-hop objects nor the reduced SRv6 encapsulation, and encodes a hundred times slower.

Outer headers: `ip6` leaves encapsulation to a tunnel device in external mode. `seg6` is SRv6's reduced encapsulation
(RFC 8986 section 5.2) with a single segment: without a routing header, hence plain IP-in-IPv6 (RFC 2473).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from socket import AF_INET, AF_INET6
from typing import Final, NamedTuple

from services.metalbond.installer.desired import Prefix
from services.metalbond.installer.plan import (
    AddGroup,
    AddHop,
    DeleteObject,
    DeleteRoute,
    KernelState,
    Operation,
    SetRoute,
)

PROTOCOL: Final = 254
"""Of our routes and objects; the original's packages register it as `metalbond` in rt_protos."""

NLMSG_ERROR, NLMSG_DONE = 2, 3
NEW_ROUTE, DELETE_ROUTE, GET_ROUTE = 24, 25, 26
NEW_NEXTHOP, DELETE_NEXTHOP, GET_NEXTHOP = 104, 105, 106
REQUEST, ACK, DUMP, REPLACE, EXCLUSIVE, CREATE = 0x1, 0x4, 0x300, 0x100, 0x200, 0x400
MAIN_TABLE: Final = 254

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ROUTE: Final = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
_OBJECT: Final = struct.Struct("=BBBBI")  # family, scope, protocol, reserved, flags
_MEMBER: Final = struct.Struct("=IBBH")  # id, weight - 1, weight's upper byte, reserved
_ATTRIBUTE: Final = struct.Struct("=HH")
_SCOPE_UNIVERSE, _SCOPE_NOWHERE = 0, 255
_UNICAST: Final = 1
_DST, _OIF, _PRIORITY, _TABLE, _ENCAP_TYPE, _ENCAP, _NEXTHOP_ID = 1, 4, 6, 15, 21, 22, 30
_NHA_ID, _NHA_GROUP, _NHA_OIF, _NHA_ENCAP_TYPE, _NHA_ENCAP = 1, 2, 5, 7, 8
_TYPE_MASK: Final = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_NESTED: Final = 0x8000
_IP6_DST, _IP6_SRC = 2, 3
_SEG6_SRH: Final = 1
_SEG6_ENCAP_RED: Final = 3
_SRH: Final = struct.Struct(
    "=iBBBBBBH"
)  # mode; next header, length in 8 bytes - 1, type 4, left, last entry, flags, tag
_SEG6_LOCAL: Final = 7
_ACTION, _NH4, _NH6 = 1, 4, 5
_END_DX6, _END_DX4 = 5, 6
_VERSIONS: Final = {_END_DX4: 4, _END_DX6: 6}


class Encapsulation(Enum):
    """Value: the lightweight tunnel type."""

    IP6 = 4
    SEG6 = 5


class Decapsulation(NamedTuple):
    """A route of ours by which packets of an IP version are unpacked that arrive at an address."""

    address: IPv6Address
    version: int
    interface: int
    metric: int


@dataclass(frozen=True)
class Codec:
    """Messages for hops behind a device (`interface` is its index), and the other way round."""

    interface: int
    encapsulation: Encapsulation

    def encode(self, operation: Operation, sequence: int) -> bytes:
        """The message; it is acknowledged only if it fails."""
        match operation:
            case AddHop(number, address):
                body = (
                    _OBJECT.pack(AF_INET6, 0, PROTOCOL, 0, 0) + _u32(_NHA_ID, number) + _u32(_NHA_OIF, self.interface)
                )
                body += _attribute(_NHA_ENCAP_TYPE, struct.pack("=H", self.encapsulation.value))
                body += _attribute(_NHA_ENCAP | _NESTED, self._outer(address))
                return _message(NEW_NEXTHOP, REQUEST | CREATE | REPLACE, sequence, body)
            case AddGroup(number, members):
                body = _OBJECT.pack(0, 0, PROTOCOL, 0, 0) + _u32(_NHA_ID, number)
                body += _attribute(_NHA_GROUP, b"".join(_MEMBER.pack(member, 0, 0, 0) for member in members))
                return _message(NEW_NEXTHOP, REQUEST | CREATE | REPLACE, sequence, body)
            case SetRoute(prefix, via, replace):
                body = _route_head(prefix, _SCOPE_UNIVERSE) + _u32(_NEXTHOP_ID, via)
                return _message(NEW_ROUTE, REQUEST | CREATE | (REPLACE if replace else EXCLUSIVE), sequence, body)
            case DeleteRoute(prefix):
                return _message(DELETE_ROUTE, REQUEST, sequence, _route_head(prefix, _SCOPE_NOWHERE))
            case DeleteObject(number):
                body = _OBJECT.pack(0, 0, 0, 0, 0) + _u32(_NHA_ID, number)
                return _message(DELETE_NEXTHOP, REQUEST, sequence, body)

    def _outer(self, address: IPv6Address) -> bytes:
        if self.encapsulation is Encapsulation.IP6:
            return _attribute(_IP6_DST, address.packed) + _attribute(_IP6_SRC, bytes(16))
        return _attribute(_SEG6_SRH, _SRH.pack(_SEG6_ENCAP_RED, 0, 2, 4, 0, 0, 0, 0) + address.packed)

    def decode_route(self, body: bytes) -> tuple[Prefix, int | None] | None:
        """A dumped route and the object that it leads to, None for another shape; None for one that is not ours."""
        family, length, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(body)
        if protocol != PROTOCOL or kind != _UNICAST or family not in (AF_INET, AF_INET6):
            return None
        attributes = dict(_attributes(body[_ROUTE.size :]))
        if attributes.get(_ENCAP_TYPE) == struct.pack("=H", _SEG6_LOCAL):
            return None  # unpacks what arrives; not a learned route
        size, network = (4, IPv4Network) if family == AF_INET else (16, IPv6Network)
        destination = network((attributes.get(_DST, bytes(size)), length))
        if _TABLE in attributes:
            table = struct.unpack("=I", attributes[_TABLE])[0]
        via = attributes.get(_NEXTHOP_ID)
        return Prefix(table, destination), None if via is None else int(struct.unpack("=I", via)[0])

    def decode_object(self, body: bytes) -> tuple[int, IPv6Address | tuple[int, ...] | None]:
        """A dumped next-hop object: its id with the address, or the members of a group; no members if it is ours and
        not as we would have written it, None for another's."""
        protocol = _OBJECT.unpack_from(body)[2]
        attributes = dict(_attributes(body[_OBJECT.size :]))
        number = int(struct.unpack("=I", attributes[_NHA_ID])[0])
        if protocol != PROTOCOL:
            return number, None
        if _NHA_GROUP in attributes:
            return number, tuple(member for member, *_ in _MEMBER.iter_unpack(attributes[_NHA_GROUP]))
        return number, self._hop(attributes) or ()

    def _hop(self, attributes: dict[int, bytes]) -> IPv6Address | None:
        """The address, if the attributes say exactly what we would say of it."""
        outer = dict(_attributes(attributes.get(_NHA_ENCAP, b"")))
        if self.encapsulation is Encapsulation.IP6:
            packed = outer.get(_IP6_DST, b"")
        else:
            packed = outer.get(_SEG6_SRH, b"")[_SRH.size :]
        ours = (
            attributes.get(_NHA_OIF) == struct.pack("=I", self.interface)
            and attributes.get(_NHA_ENCAP_TYPE) == struct.pack("=H", self.encapsulation.value)
            and len(packed) == 16
        )
        return IPv6Address(packed) if ours else None


def dump_routes(family: int, sequence: int) -> bytes:
    """Asks for all routes of a family with our protocol."""
    body = _ROUTE.pack(family, 0, 0, 0, 0, PROTOCOL, 0, 0, 0)
    return _message(GET_ROUTE, REQUEST | DUMP, sequence, body)


def dump_objects(sequence: int) -> bytes:
    """Asks for all next-hop objects, whoever made them."""
    return _message(GET_NEXTHOP, REQUEST | DUMP, sequence, _OBJECT.pack(0, 0, 0, 0, 0))


def barrier(sequence: int) -> bytes:
    """A harmless message that is always answered: all before it have been handled then."""
    body = _OBJECT.pack(0, 0, 0, 0, 0) + _u32(_NHA_ID, 0xFFFFFFFF)
    return _message(GET_NEXTHOP, REQUEST | ACK, sequence, body)


def decapsulation(address: IPv6Address, version: int, interface: int, sequence: int) -> bytes:
    """Unpacks IP packets of a version that arrive at an address, and routes them by their own destination
    (End.DX4 and End.DX6 of RFC 8986, with the next hop left open). Refused where there is a route already."""
    body = _host_route(address)
    action = _u32(_ACTION, _END_DX4) + _attribute(_NH4, bytes(4))
    if version == 6:
        action = _u32(_ACTION, _END_DX6) + _attribute(_NH6, bytes(16))
    body += _u32(_OIF, interface) + _attribute(_ENCAP_TYPE, struct.pack("=H", _SEG6_LOCAL))
    body += _attribute(_ENCAP | _NESTED, action)
    return _message(NEW_ROUTE, REQUEST | ACK | CREATE | EXCLUSIVE, sequence, body)


def end_of_decapsulation(found: Decapsulation, sequence: int) -> bytes:
    """Removes exactly this one: with its metric there can't be another."""
    body = _host_route(found.address) + _u32(_OIF, found.interface) + _u32(_PRIORITY, found.metric)
    return _message(DELETE_ROUTE, REQUEST | ACK, sequence, body)


def decode_decapsulation(body: bytes) -> Decapsulation | None:
    """A dumped route, if it is one by which we unpack."""
    family, length, _, _, table, protocol, *_ = _ROUTE.unpack_from(body)
    attributes = dict(_attributes(body[_ROUTE.size :]))
    seg6_local = attributes.get(_ENCAP_TYPE) == struct.pack("=H", _SEG6_LOCAL)
    if (family, length, table, protocol) != (AF_INET6, 128, MAIN_TABLE, PROTOCOL) or not seg6_local:
        return None
    action = dict(_attributes(attributes[_ENCAP])).get(_ACTION, bytes(4))
    version = _VERSIONS.get(_number(action))
    if version is None or not {_DST, _OIF, _PRIORITY} <= attributes.keys():
        return None
    address, interface, metric = (attributes[kind] for kind in (_DST, _OIF, _PRIORITY))
    return Decapsulation(IPv6Address(address), version, _number(interface), _number(metric))


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, sequence number and body of each message received."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return
        yield kind, sequence, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def error_of(body: bytes) -> int:
    """The error number of an NLMSG_ERROR; 0 is an acknowledgement."""
    return -int(struct.unpack_from("=i", body)[0])


def found(
    codec: Codec, routes: Iterator[bytes], objects: Iterator[bytes], tables: frozenset[int], ids: range
) -> KernelState:
    """What dumps say of our tables and ids."""
    known = (route for route in map(codec.decode_route, routes) if route is not None)
    hops: dict[int, IPv6Address] = {}
    groups: dict[int, tuple[int, ...]] = {}
    taken = set()
    for number, what in map(codec.decode_object, objects):
        if number not in ids or what is None:
            taken.add(number)
        elif isinstance(what, tuple):
            groups[number] = what
        else:
            hops[number] = what
    return KernelState({prefix: via for prefix, via in known if prefix.table in tables}, hops, groups, frozenset(taken))


def _route_head(prefix: Prefix, scope: int) -> bytes:
    destination = prefix.destination
    family = AF_INET if destination.version == 4 else AF_INET6
    table = prefix.table if prefix.table < 256 else 0  # RTA_TABLE holds for larger ones
    head = _ROUTE.pack(family, destination.prefixlen, 0, 0, table, PROTOCOL, scope, _UNICAST, 0)
    return head + _attribute(_DST, destination.network_address.packed) + _u32(_TABLE, prefix.table)


def _host_route(address: IPv6Address) -> bytes:
    head = _ROUTE.pack(AF_INET6, 128, 0, 0, MAIN_TABLE, PROTOCOL, _SCOPE_UNIVERSE, _UNICAST, 0)
    return head + _attribute(_DST, address.packed)


def _message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _u32(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _number(value: bytes) -> int:
    return int(struct.unpack("=I", value)[0])


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
