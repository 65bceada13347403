"""Programs at the ingress of devices: by tcx (Linux 6.6), which costs a packet less than a tc filter, else by that."""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import POINTER, Structure, byref, c_int, c_size_t, c_uint32, c_void_p
from typing import Final

from services.dpservice.engine import hooks

OURS: Final = frozenset({"from_guest", "from_uplink"})
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


def _library() -> ctypes.CDLL:
    found = ctypes.CDLL("libbpf.so.1", use_errno=True)
    found.bpf_prog_attach_opts.argtypes = [c_int, c_int, c_int, POINTER(_AttachOptions)]
    found.bpf_prog_query_opts.argtypes = [c_int, c_int, POINTER(_QueryOptions)]
    found.bpf_prog_get_fd_by_id.argtypes = [c_uint32]
    found.bpf_obj_get_info_by_fd.argtypes = [c_int, c_void_p, POINTER(c_uint32)]
    return found


_bpf: Final = _library()


def attach_ingress(ifindex: int, program: int) -> None:
    """Puts a program at a device's ingress, in one step in place of what an earlier process left there.

    Raises OSError.
    """
    try:
        old = _attached(ifindex)
    except OSError as error:
        if error.errno not in _NO_TCX:
            raise
        hooks.attach_ingress(ifindex, program)
        return
    if old:
        replaced = _open(old[0])
        try:
            options = _AttachOptions(sz=ctypes.sizeof(_AttachOptions), flags=_REPLACE, replace_prog_fd=replaced)
            _attach(ifindex, program, options)
        finally:
            os.close(replaced)
    else:
        _attach(ifindex, program, _AttachOptions(sz=ctypes.sizeof(_AttachOptions)))
        hooks.detach_ingress(ifindex)  # that of an earlier version; what comes by tcx does not reach it any more


def ingress_program(ifindex: int) -> int | None:
    """The id of the program of ours at a device's ingress, if it is there by tcx. Raises OSError."""
    return next(iter(_attached(ifindex)), None)


def _attach(ifindex: int, program: int, options: _AttachOptions) -> None:
    _checked(_bpf.bpf_prog_attach_opts(program, ifindex, _TCX_INGRESS, byref(options)), f"program on device {ifindex}")


def _attached(ifindex: int) -> list[int]:
    """The ids of our programs."""
    ids = (c_uint32 * _MOST)()
    options = _QueryOptions(sz=ctypes.sizeof(_QueryOptions), prog_ids=ctypes.addressof(ids), prog_cnt=_MOST)
    result = _bpf.bpf_prog_query_opts(ifindex, _TCX_INGRESS, byref(options))
    if -result == errno.ENOENT:  # nobody ever attached one
        return []
    _checked(result, f"programs on device {ifindex}")
    return [number for number in ids[: options.prog_cnt] if _name(number) in OURS]


def _open(number: int) -> int:
    return _checked(_bpf.bpf_prog_get_fd_by_id(number), f"program {number}")


def _name(number: int) -> str:
    """The name of a program; empty if it is gone."""
    try:
        program = _open(number)
    except FileNotFoundError:
        return ""
    try:
        info = ctypes.create_string_buffer(_INFO_NAME.stop)
        _checked(_bpf.bpf_obj_get_info_by_fd(program, info, byref(c_uint32(len(info)))), f"program {number}")
        return info.raw[_INFO_NAME].rstrip(b"\0").decode()
    finally:
        os.close(program)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = -result
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
