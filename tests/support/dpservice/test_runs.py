"""One packet through one loaded program, without a device taking part (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

import ctypes
import os
import struct
from ctypes import POINTER, Structure, byref, c_int, c_size_t, c_uint32, c_void_p, create_string_buffer
from typing import Final

SK_BUFF: Final = 192  # sizeof(struct __sk_buff), linux/bpf.h
SK_BUFF_IFINDEX: Final = 40  # offset of its `ifindex`
XDP_MD: Final = 24  # sizeof(struct xdp_md)
ROOM: Final = 4096


class _Options(Structure):
    _fields_ = (  # struct bpf_test_run_opts of libbpf 1.x
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


_bpf: Final = ctypes.CDLL("libbpf.so.1", use_errno=True)
_bpf.bpf_prog_test_run_opts.argtypes = [c_int, POINTER(_Options)]


def run_at_tc(program: int, ifindex: int, frame: bytes) -> tuple[int, bytes]:
    """The verdict and the frame as the program left it. The device must be in the thread's network namespace."""
    context = bytearray(SK_BUFF)
    struct.pack_into("=I", context, SK_BUFF_IFINDEX, ifindex)
    return _run(program, frame, bytes(context))


def run_at_xdp(program: int, frame: bytes) -> tuple[int, bytes]:
    """The same for an XDP program; what it puts in front of the packet comes out too."""
    return _run(program, frame, b"")


def _run(program: int, frame: bytes, context: bytes) -> tuple[int, bytes]:
    out = create_string_buffer(ROOM + len(frame))
    given = create_string_buffer(frame, len(frame))
    options = _Options(
        sz=ctypes.sizeof(_Options),
        data_in=ctypes.addressof(given),
        data_size_in=len(frame),
        data_out=ctypes.addressof(out),
        data_size_out=len(out),
        repeat=1,
    )
    if context:
        held = create_string_buffer(context, len(context))
        options.ctx_in, options.ctx_size_in = ctypes.addressof(held), len(context)
    if _bpf.bpf_prog_test_run_opts(program, byref(options)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"test run: {os.strerror(number)}")
    return options.retval, out.raw[: options.data_size_out]
