"""Sockets and TAPs that live in another network namespace than the test."""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from services.dpservice.engine.ingress import ingress_program

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
TAP_FLAGS = 0x0002 | 0x1000 | 0x4000  # IFF_TAP, IFF_NO_PI, IFF_VNET_HDR: as QEMU opens one queue
OFFLOADS = 0x01 | 0x02 | 0x04  # checksum, TSO4, TSO6
VNET_HEADER = 10
SIOCETHTOOL, ETHTOOL_STSO = 0x8946, 0x1F


def inside(namespace: str, make: Callable[[], T]) -> T:
    """The result of `make`, called by a thread that is in the namespace."""
    result: list[Any] = []

    def enter() -> None:
        descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns {namespace}")
            result.append(make())
        except BaseException as error:
            result.append(error)
        finally:
            os.close(descriptor)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


def raw_socket(namespace: str, device: str) -> socket.socket:
    """Sends and receives whole frames of a device."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        made.bind((device, 0))
        made.settimeout(2)
        return made

    return inside(namespace, make)


def stream_socket(namespace: str, family: int = socket.AF_INET) -> socket.socket:
    """A TCP socket."""
    made = inside(namespace, lambda: socket.socket(family, socket.SOCK_STREAM))
    made.settimeout(10)
    return made


def open_tap(namespace: str, device: str) -> int:
    """Opens (or makes) a TAP as QEMU does, with offloads."""

    def make() -> int:
        descriptor = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", device.encode(), TAP_FLAGS))
        fcntl.ioctl(descriptor, TUNSETOFFLOAD, OFFLOADS)
        return descriptor

    return inside(namespace, make)


def switch_off(device: str, operation: int) -> None:
    """An offload, by the ethtool operation that sets it; in this thread's network namespace."""
    command = array.array("B", struct.pack("=II", operation, 0))
    request = struct.pack("16sP16x", device.encode(), command.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCETHTOOL, request)


def attached(namespace: str, device: str) -> int | None:
    """The id of dpservice's program at a device's ingress."""
    return inside(namespace, lambda: ingress_program(socket.if_nametoindex(device)))
