"""The kernel's routing tables through rtnetlink. Blocking calls, short; run them in a thread."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import IPv6Address
from typing import Final

from pyroute2 import IPRoute

from services.metalbond.installer import messages
from services.metalbond.installer.desired import Prefix
from services.metalbond.installer.messages import Codec, Decapsulation, Encapsulation
from services.metalbond.installer.plan import DeleteObject, DeleteRoute, KernelState, Operation, SetRoute

AT_ONCE: Final = 256  # operations of one message batch, about 32 KiB
RECEIVE_BYTES: Final = 256 * 1024
BUFFER_BYTES: Final = 8 * 1024 * 1024
ANSWER_SECONDS: Final = 10.0
MEMORY_SECONDS: Final = 2.0
MEMORY_PAUSE_SECONDS: Final = 0.01

_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_GET_STRICT_CHK = 270, 10, 12
_SO_RCVBUFFORCE: Final = 33
_GONE: Final = frozenset({errno.ENOENT, errno.ESRCH})


class NetlinkError(Exception):
    """The kernel refused something, or did not answer."""


def find_device(name: str) -> tuple[int, Encapsulation]:
    """Index of a device, and how packets that it sends are encapsulated: an ip6tnl does it itself, for others SRv6
    does. Raises NetlinkError for a device that is not there or not up."""
    with IPRoute() as kernel:
        found = kernel.link_lookup(ifname=name)
        if not found:
            raise NetlinkError(f"device {name!r} does not exist")
        [link] = kernel.get_links(found[0])
    if link.get("state") != "up":
        raise NetlinkError(f"device {name!r} is not up")
    kind = (link.get(("linkinfo", "kind")) or "") if link.get("linkinfo") is not None else ""
    return found[0], Encapsulation.IP6 if kind == "ip6tnl" else Encapsulation.SEG6


class Kernel:
    """A netlink socket. `tables` are ours, `ids` those of our next-hop objects."""

    def __init__(self, codec: Codec, tables: frozenset[int], ids: range) -> None:
        self._codec, self._tables, self._ids = codec, tables, ids
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._socket.settimeout(ANSWER_SECONDS)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        with suppress(PermissionError):
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)

    def close(self) -> None:
        """Ends the connection to the kernel."""
        self._socket.close()

    def look(self) -> KernelState:
        """What there is of ours. Raises NetlinkError."""
        routes: list[bytes] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            routes += self._dump(partial(messages.dump_routes, family))
        objects = self._dump(messages.dump_objects)
        return messages.found(self._codec, iter(routes), objects, self._tables, self._ids)

    def do(self, operations: Sequence[Operation]) -> list[Prefix]:
        """All of them, in order, as far as the kernel accepts them; prefixes to which somebody else has a route.
        Raises NetlinkError with the first refusal; what is gone already can't be refused."""
        failed: list[tuple[Operation, int]] = []
        for start in range(0, len(operations), AT_ONCE):
            failed += self._persist(operations[start : start + AT_ONCE])
        occupied: list[Prefix] = []
        refused: list[str] = []
        for operation, error in failed:
            if isinstance(operation, SetRoute) and error == errno.EEXIST:
                occupied.append(operation.prefix)
            else:
                refused.append(f"{operation}: {os.strerror(error)}")
        if refused:
            raise NetlinkError(f"{refused[0]} ({len(refused)} of {len(operations)} operations failed)")
        return occupied

    def decapsulate(self, wanted: Mapping[IPv6Address, int]) -> list[IPv6Address]:
        """Sees to it that packets to these addresses are unpacked as ones of that IP version. Returns addresses to
        which somebody else has a route: those are left alone. Raises NetlinkError."""
        present = {found.address: found for found in self._decapsulations()}
        occupied: list[IPv6Address] = []
        for address, version in wanted.items():
            found = present.get(address)
            if found is not None:
                if (found.version, found.interface) == (version, self._codec.interface):
                    continue
                self._end_decapsulation(found)
            error = self._ask(partial(messages.decapsulation, address, version, self._codec.interface))
            if error == errno.EEXIST:
                occupied.append(address)
            elif error:
                raise NetlinkError(f"packets to {address} can't be unpacked: {os.strerror(error)}")
        return occupied

    def end_decapsulation(self, addresses: Container[IPv6Address]) -> None:
        """No longer unpacks packets to these. Raises NetlinkError."""
        for found in self._decapsulations():
            if found.address in addresses:
                self._end_decapsulation(found)

    def _decapsulations(self) -> list[Decapsulation]:
        routes = self._dump(partial(messages.dump_routes, socket.AF_INET6))
        return [found for found in map(messages.decode_decapsulation, routes) if found is not None]

    def _end_decapsulation(self, found: Decapsulation) -> None:
        error = self._ask(partial(messages.end_of_decapsulation, found))
        if error and error not in _GONE:
            raise NetlinkError(f"packets to {found.address} are still unpacked: {os.strerror(error)}")

    def _ask(self, request: Callable[[int], bytes]) -> int:
        """Does one thing; 0 or the error number of its refusal."""
        sequence = self._next()
        self._socket.send(request(sequence))
        for kind, number, body in self._answers():
            if number == sequence and kind == messages.NLMSG_ERROR:
                return messages.error_of(body)
        raise AssertionError("answers end with an exception")

    def _persist(self, operations: Sequence[Operation]) -> list[tuple[Operation, int]]:
        """What was refused for good. The kernel takes memory per CPU for an encapsulation without waiting for it, and
        gets more ready when it ran out: a moment later there is some."""
        until = time.monotonic() + MEMORY_SECONDS
        others: list[tuple[Operation, int]] = []
        while True:
            failed = self._send(operations)
            starved = [operation for operation, error in failed if error == errno.ENOMEM]
            if not starved or time.monotonic() > until:
                return [*others, *failed]
            if len(starved) < len(operations):
                until = time.monotonic() + MEMORY_SECONDS
            others += [each for each in failed if each[1] == errno.EEXIST]  # no matter of time
            operations = [operation for operation, error in failed if error != errno.EEXIST]
            time.sleep(MEMORY_PAUSE_SECONDS)

    def _send(self, operations: Sequence[Operation]) -> list[tuple[Operation, int]]:
        """What was refused, with the error number."""
        batch = {self._next(): operation for operation in operations}
        end = self._next()
        encoded = [self._codec.encode(operation, sequence) for sequence, operation in batch.items()]
        self._socket.send(b"".join([*encoded, messages.barrier(end)]))
        refused = []
        for kind, sequence, body in self._answers():
            if sequence == end:
                break
            if kind != messages.NLMSG_ERROR or sequence not in batch:
                continue
            error, operation = messages.error_of(body), batch[sequence]
            if error and not (error in _GONE and isinstance(operation, DeleteRoute | DeleteObject)):
                refused.append((operation, error))
        return refused

    def _dump(self, request: Callable[[int], bytes]) -> Iterator[bytes]:
        sequence = self._next()
        self._socket.send(request(sequence))
        for kind, number, body in self._answers():
            if number != sequence:
                continue
            if kind == messages.NLMSG_DONE:
                return
            if kind == messages.NLMSG_ERROR:
                raise NetlinkError(f"tables can't be read: {os.strerror(messages.error_of(body))}")
            yield body

    def _answers(self) -> Iterator[tuple[int, int, bytes]]:
        until = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < until:
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except OSError as error:
                raise NetlinkError(f"no answer from the kernel: {error}") from error
            yield from messages.messages(data)
        raise NetlinkError(f"no answer from the kernel within {ANSWER_SECONDS:.0f} s")

    def _next(self) -> int:
        self._sequence = (self._sequence + 1) & 0x7FFFFFFF
        return self._sequence
