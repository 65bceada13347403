"""Hashes whose every bit other hosts and DPDKironcore's peers rely on: flow keys, NAT mappings, uplink choice.

All use Bob Jenkins' lookup3 as DPDK's `rte_jhash` computes it, with the salt of DPDK's hash tables. Keys are packed
and little-endian. An address takes 17 bytes: IPv4 as an integer in the first four, IPv6 as it is, then 0 or 1 for the
family.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Final

from services.dpservice.model.rows import FunctionKind, IPAddress, Vni

GOLDEN_RATIO: Final = 0xDEADBEEF  # lookup3's arbitrary start
TABLE_SALT: Final = 0xFEE1900D  # initial value of DPDK's rte_hash tables
WORD: Final = 0xFFFFFFFF
BLOCK: Final = 12

UPLINK_SLOTS: Final = 10
LOCAL_NAT_BUCKETS: Final = 1024

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
ECHO_REPLIES: Final = {(ICMP, 8): 0, (ICMP, 0): 8, (ICMPV6, 128): 129, (ICMPV6, 129): 128}


def jhash(data: bytes, salt: int = TABLE_SALT) -> int:
    """lookup3 over any bytes: 32 bits."""
    a = b = c = (GOLDEN_RATIO + len(data) + salt) & WORD
    offset = 0
    while len(data) - offset > BLOCK:
        x, y, z = struct.unpack_from("<3I", data, offset)
        a, b, c = _mix((a + x) & WORD, (b + y) & WORD, (c + z) & WORD)
        offset += BLOCK
    if not data:
        return c
    x, y, z = struct.unpack("<3I", data[offset:].ljust(BLOCK, b"\0"))
    return _final((a + x) & WORD, (b + y) & WORD, (c + z) & WORD)


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (32 - bits)) & WORD


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for bits in (4, 6, 8, 16, 19, 4):
        a = (a - c) & WORD ^ _rotated(c, bits)
        c = (c + b) & WORD
        a, b, c = b, c, a
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _rotated(b, bits)) & WORD
        a, b, c = b, c, a
    return b


def packed_address(address: IPAddress) -> bytes:
    """The 17 bytes of an address in a key."""
    if isinstance(address, IPv4Address):
        return struct.pack("<I13x", int(address))
    return address.packed + b"\1"


@dataclass(frozen=True)
class FlowKey:
    """One direction of a conversation in a VNI.

    ICMP and ICMPv6 have the echo identifier as destination port and the message type as source port.
    `discriminator` keeps flows of a NAT address and of a balanced prefix apart from plain ones.
    """

    vni: Vni
    protocol: int
    source: IPAddress
    source_port: int
    destination: IPAddress
    destination_port: int
    discriminator: FunctionKind = FunctionKind.UNDEFINED

    def packed(self) -> bytes:
        """The 44 bytes that are hashed, and the key of the table of flows."""
        return (
            packed_address(self.destination)
            + struct.pack("<BH", self.protocol, self.destination_port)
            + packed_address(self.source)
            + struct.pack("<BHI", self.discriminator, self.source_port, self.vni)
        )

    def hash(self) -> int:
        """What uplinks and balancers' targets are chosen by."""
        return jhash(self.packed())

    def reply(self) -> FlowKey:
        """The other direction. An echo's answer has the same identifier and the opposite type."""
        turned = replace(self, source=self.destination, destination=self.source)
        if self.protocol in (ICMP, ICMPV6):
            other = ECHO_REPLIES.get((self.protocol, self.source_port), self.source_port)
            return replace(turned, source_port=other)
        return replace(turned, source_port=self.destination_port, destination_port=self.source_port)


def uplink_slot(flow_hash: int) -> int:
    """Which of the ten slots of the weighted choice between two uplinks."""
    return flow_hash % UPLINK_SLOTS


def first_uplink_slots(percent: int) -> int:
    """How many of the ten slots belong to the first uplink. `percent`: its share of the flows, 0-100."""
    return (percent + 5) // 10


def nat_mapping_key(vni: Vni, source: IPAddress, port: int) -> bytes:
    """The 23 bytes that name a guest's private endpoint, whatever the protocol. ICMP: `port` is the identifier."""
    return struct.pack("<I", vni) + packed_address(source) + struct.pack("<H", port)


def nat_ports(key: bytes, min_port: int, max_port: int) -> Iterator[int]:
    """Every port of the half open slice, in the order in which a new mapping tries them."""
    size = max_port - min_port
    first = jhash(key) % size
    return (min_port + (first + step) % size for step in range(size))


def local_nat_bucket(source: IPv4Address, vni: Vni, buckets: int = LOCAL_NAT_BUCKETS) -> int:
    """Sorts the list of local NATs as DPDKironcore clients are used to. `buckets` is a power of two."""
    return jhash(struct.pack("<II", int(source), vni)) & (buckets - 1)


def service_hash(port: int, source: IPv4Address, source_port: int) -> int:
    """What chooses the uplink of a connection to a virtual service. Only the port's number is little-endian."""
    return jhash(struct.pack("<H", port) + struct.pack(">H", source_port) + source.packed)
