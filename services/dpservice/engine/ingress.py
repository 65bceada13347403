"""Programs at the ingress of devices: by tcx (Linux 6.6), which costs a packet less than a tc filter, else by that.

An instance that stands by puts a program that does nothing (bpf/standby.bpf.c) at devices where none of ours is. It
changes nothing besides another one either, if the active instance comes to a device at the same time.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, Structure, byref, c_int, c_size_t, c_uint32, c_void_p
from functools import lru_cache
from typing import Final

from services.dpservice.engine import hooks

OURS: Final = frozenset({"from_guest", "from_uplink"})
RESERVED: Final = frozenset({"standing_by"})
_TCX_INGRESS: Final = 46  # enum bpf_attach_type of linux/bpf.h
_REPLACE: Final = 1 << 2  # BPF_F_REPLACE
_MOST: Final = 64  # programs at one device: BPF_MPROG_MAX
_INFO_NAME: Final = slice(64, 80)  # where struct bpf_prog_info has the name
_NO_TCX: Final = (errno.EINVAL, errno.EOPNOTSUPP)


class _AttachOptions(Structure):
    _fields_ = (("sz", c_size_t), ("flags", c_uint32), ("replace_prog_fd", c_int))


class _QueryOptions(Structure):
    _fields_ = (
        ("sz", c_size_t),
        ("query_flags", c_uint32),
        ("attach_flags", c_uint32),
        ("prog_ids", c_void_p),
        ("prog_cnt", c_uint32),
        ("prog_attach_flags", c_void_p),
    )


def _library(kind: type[ctypes.CDLL]) -> ctypes.CDLL:
    found = kind("libbpf.so.1", use_errno=True)
    found.bpf_prog_attach_opts.argtypes = [c_int, c_int, c_int, POINTER(_AttachOptions)]
    found.bpf_prog_query_opts.argtypes = [c_int, c_int, POINTER(_QueryOptions)]
    found.bpf_prog_get_fd_by_id.argtypes = [c_uint32]
    found.bpf_prog_detach2.argtypes = [c_int, c_int, c_int]
    found.bpf_obj_get_info_by_fd.argtypes = [c_int, c_void_p, POINTER(c_uint32)]
    return found


_bpf: Final = _library(ctypes.CDLL)
# What takes microseconds: to let go of the interpreter's lock costs more, as other threads take it.
_short: Final = _library(ctypes.PyDLL)
_libc: Final = ctypes.PyDLL(None)


def attach_ingress(ifindex: int, program: int) -> None:
    """Puts a program at a device's ingress, in one step in place of what an earlier process left there.

    Raises OSError.
    """
    try:
        found = _attached(ifindex, OURS | RESERVED)
    except OSError as error:
        if error.errno not in _NO_TCX:
            raise
        hooks.attach_ingress(ifindex, program)
        return
    if not found:
        _attach(ifindex, program, _AttachOptions(sz=ctypes.sizeof(_AttachOptions)))
        hooks.detach_ingress(ifindex)  # that of an earlier version; what comes by tcx does not reach it any more
        return
    old, *others = sorted(found, key=lambda number: found[number] in RESERVED)
    with _opened(old) as replaced:
        _replace(ifindex, program, replaced)
    for other in others:
        with _opened(other) as left:
            _checked(_bpf.bpf_prog_detach2(left, ifindex, _TCX_INGRESS), f"program on device {ifindex}")


def reserve_ingress(ifindex: int, program: int) -> None:
    """Puts one of RESERVED at a device's ingress, unless there is a program of ours, for it to be replaced soon.

    Never replaces any. Without tcx it does nothing. Raises OSError.
    """
    try:
        found = _attached(ifindex, OURS | RESERVED)
    except OSError as error:
        if error.errno not in _NO_TCX:
            raise
        return
    if not found:
        _attach(ifindex, program, _AttachOptions(sz=ctypes.sizeof(_AttachOptions)))


def ingress_program(ifindex: int) -> int | None:
    """The id of the program of ours at a device's ingress, if it is there by tcx. Raises OSError."""
    return next(iter(_attached(ifindex, OURS)), None)


def _attach(ifindex: int, program: int, options: _AttachOptions) -> None:
    _checked(_bpf.bpf_prog_attach_opts(program, ifindex, _TCX_INGRESS, byref(options)), f"program on device {ifindex}")


def _replace(ifindex: int, program: int, old: int) -> None:
    options = _AttachOptions(sz=ctypes.sizeof(_AttachOptions), flags=_REPLACE, replace_prog_fd=old)
    _checked(
        _short.bpf_prog_attach_opts(program, ifindex, _TCX_INGRESS, byref(options)), f"program on device {ifindex}"
    )


def _attached(ifindex: int, wanted: frozenset[str]) -> dict[int, str]:
    """The ids of programs with these names, and which it is."""
    ids = (c_uint32 * _MOST)()
    options = _QueryOptions(sz=ctypes.sizeof(_QueryOptions), prog_ids=ctypes.addressof(ids), prog_cnt=_MOST)
    result = _short.bpf_prog_query_opts(ifindex, _TCX_INGRESS, byref(options))
    if -result == errno.ENOENT:  # nobody ever attached one
        return {}
    _checked(result, f"programs on device {ifindex}")
    named = {number: _name(number) for number in ids[: options.prog_cnt]}
    return {number: name for number, name in named.items() if name in wanted}


@contextmanager
def _opened(number: int) -> Iterator[int]:
    program = _checked(_short.bpf_prog_get_fd_by_id(number), f"program {number}")
    try:
        yield program
    finally:
        _libc.close(program)


@lru_cache(maxsize=64)  # numbers begin anew after two thousand million of them
def _name(number: int) -> str:
    """The name of a program; empty if it is gone."""
    try:
        with _opened(number) as program:
            info = ctypes.create_string_buffer(_INFO_NAME.stop)
            _checked(_short.bpf_obj_get_info_by_fd(program, info, byref(c_uint32(len(info)))), f"program {number}")
            return info.raw[_INFO_NAME].rstrip(b"\0").decode()
    except FileNotFoundError:
        return ""


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = -result
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
