"""Programs that are run without a device taking part (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

import ctypes
import struct
from ctypes import POINTER, Structure, byref, c_int, c_size_t, c_uint32, c_void_p, create_string_buffer
from typing import Final

from services.dpservice.engine.libbpf import checked, library

_SK_BUFF: Final = 192  # sizeof(struct __sk_buff) of linux/bpf.h
_SK_BUFF_DEVICES: Final = 36  # where it has those that the packet came in by and is at
_SK_BUFF_GSO_SIZE: Final = 176
_GROWTH: Final = 2048  # what an answer or an outer header adds at most


class _RunOptions(Structure):
    _fields_ = (  # struct bpf_test_run_opts
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


library.bpf_prog_test_run_opts.argtypes = [c_int, POINTER(_RunOptions)]


def run_at_tc(program: int, ifindex: int, frame: bytes, gso_size: int = 0) -> tuple[int, bytes]:
    """Gives a frame to a program as if it had come in by a device; its verdict, and the frame as it left it.

    The device is one of the thread's network namespace. With a `gso_size` (bytes of payload in each segment) the packet
    is still to be cut, as a guest with offloads sends it. Raises OSError.
    """
    context = bytearray(_SK_BUFF)
    struct.pack_into("=II", context, _SK_BUFF_DEVICES, ifindex, ifindex)
    struct.pack_into("=I", context, _SK_BUFF_GSO_SIZE, gso_size)
    return _run(program, frame, bytes(context))


def run_at_xdp(program: int, frame: bytes) -> tuple[int, bytes]:
    """The same for an XDP program; what it puts in front of the packet comes out too. Raises OSError."""
    return _run(program, frame, b"")


def run_syscall(program: int, context: bytes) -> bytes:
    """Runs a program of type syscall; what it made of its context. Raises OSError."""
    held = create_string_buffer(context, len(context))
    options = _RunOptions(sz=ctypes.sizeof(_RunOptions), ctx_in=ctypes.addressof(held), ctx_size_in=len(context))
    checked(library.bpf_prog_test_run_opts(program, byref(options)), "run program")
    return held.raw


def _run(program: int, frame: bytes, context: bytes) -> tuple[int, bytes]:
    given, out = create_string_buffer(frame, len(frame)), create_string_buffer(len(frame) + _GROWTH)
    held = create_string_buffer(context, len(context))
    options = _RunOptions(
        sz=ctypes.sizeof(_RunOptions),
        data_in=ctypes.addressof(given),
        data_size_in=len(frame),
        data_out=ctypes.addressof(out),
        data_size_out=len(out),
        ctx_in=ctypes.addressof(held) if context else None,
        ctx_size_in=len(context),
        repeat=1,
    )
    checked(library.bpf_prog_test_run_opts(program, byref(options)), "try a frame")
    return int(options.retval), out.raw[: options.data_size_out]
