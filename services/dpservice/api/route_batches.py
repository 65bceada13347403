"""Many routes in one message: packed prefixes into numbers and back."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address
from typing import Final

from protos.dpservice.v1 import routes_pb2 as pb
from services.dpservice.model.changes import route_number
from services.dpservice.model.errors import Unreadable
from services.dpservice.model.rows import Hop, IPNetwork, RemoteHop, Vni
from services.dpservice.model.underlay import UnderlayAddress

ADDRESS_BYTES: Final = {4: 4, 6: 16}
_IPV4: Final = struct.Struct("!IB")
_IPV6: Final = struct.Struct("!QQB")


def unpacked(raw: bytes, version: int, field: str) -> list[int]:
    """The numbers of packed prefixes. Raises Unreadable: cut short, host bits set, too long."""
    record, bits = (_IPV4, 32) if version == 4 else (_IPV6, 128)
    if len(raw) % record.size:
        raise Unreadable(f"Invalid {field}")
    host_bits = [(1 << (bits - length)) - 1 for length in range(bits + 1)]
    numbers = []
    try:
        if version == 4:
            for address, length in _IPV4.iter_unpack(raw):
                if address & host_bits[length]:
                    raise Unreadable(f"Invalid {field}")
                numbers.append(address << 8 | length)
        else:
            for upper, lower, length in _IPV6.iter_unpack(raw):
                address = upper << 64 | lower
                if address & host_bits[length]:
                    raise Unreadable(f"Invalid {field}")
                numbers.append(address << 8 | length)
    except IndexError:
        raise Unreadable(f"Invalid {field}") from None
    return numbers


def packed(numbers: Iterable[int], version: int) -> bytes:
    """The opposite of `unpacked`."""
    size = ADDRESS_BYTES[version] + 1
    return b"".join([number.to_bytes(size, "big") for number in numbers])


def decoded(batch: pb.RouteBatch) -> tuple[Vni, int, list[int], dict[int, Hop]]:
    """The arguments of the model's `apply_routes`. Raises Unreadable."""
    if batch.ip_version not in ADDRESS_BYTES:
        raise Unreadable("Invalid ip_version")
    removed = unpacked(batch.removed, batch.ip_version, "removed")
    numbers = unpacked(batch.added, batch.ip_version, "added")
    if len(set(removed)) != len(removed):
        raise Unreadable("Duplicate removed prefix")
    if len(numbers) != len(batch.next_hop_indexes):
        raise Unreadable("Invalid next_hop_indexes")
    hops = [_hop(each) for each in batch.next_hops]
    try:
        added: dict[int, Hop] = {
            number: hops[index] for number, index in zip(numbers, batch.next_hop_indexes, strict=True)
        }
    except IndexError:
        raise Unreadable("Invalid next_hop_indexes") from None
    if len(added) != len(numbers):
        raise Unreadable("Duplicate added prefix")
    return Vni(batch.vni), batch.ip_version, removed, added


def encoded(
    vni: int, version: int, removed: Iterable[IPNetwork], added: Mapping[IPNetwork, RemoteHop]
) -> pb.RouteBatch:
    """A batch as a client sends it."""
    hops: dict[RemoteHop, int] = {}
    indexes = [hops.setdefault(hop, len(hops)) for hop in added.values()]
    return pb.RouteBatch(
        vni=vni,
        ip_version=version,
        removed=packed(map(route_number, removed), version),
        added=packed(map(route_number, added), version),
        next_hops=[pb.NextHop(underlay=hop.underlay.packed, vni=hop.vni) for hop in hops],
        next_hop_indexes=indexes,
    )


def _hop(message: pb.NextHop) -> RemoteHop:
    if len(message.underlay) != ADDRESS_BYTES[6]:
        raise Unreadable("Invalid next_hops.underlay")
    return RemoteHop(UnderlayAddress(IPv6Address(message.underlay)), Vni(message.vni))
