"""Programs at tc filters and in drivers (XDP) of devices; `ingress` knows when a filter is used and when tcx."""

from __future__ import annotations

import ctypes
import errno
from ctypes import POINTER, Structure, byref, c_int, c_size_t, c_uint32, c_void_p
from typing import Final

from services.dpservice.engine.libbpf import checked, library

TC_INGRESS: Final = 1
TC_EGRESS: Final = 2
XDP_FLAGS_DRV_MODE: Final = 1 << 2
TC_REPLACE: Final = 1 << 0


class _TcHook(Structure):
    _fields_ = (("sz", c_size_t), ("ifindex", c_int), ("attach_point", c_int), ("parent", c_uint32))


class _TcOptions(Structure):
    _fields_ = (
        ("sz", c_size_t),
        ("prog_fd", c_int),
        ("flags", c_uint32),
        ("prog_id", c_uint32),
        ("handle", c_uint32),
        ("priority", c_uint32),
    )


library.bpf_xdp_attach.argtypes = [c_int, c_int, c_uint32, c_void_p]
library.bpf_xdp_detach.argtypes = [c_int, c_uint32, c_void_p]
library.bpf_tc_hook_create.argtypes = [POINTER(_TcHook)]
library.bpf_tc_attach.argtypes = library.bpf_tc_detach.argtypes = [POINTER(_TcHook), POINTER(_TcOptions)]


def attach_ingress(ifindex: int, program: int) -> None:
    """Puts a program at tc ingress, in one step in place of the one that an earlier process left there."""
    _attach_tc(ifindex, TC_INGRESS, program)


def attach_egress(ifindex: int, program: int) -> None:
    """The same at tc egress."""
    _attach_tc(ifindex, TC_EGRESS, program)


def detach_ingress(ifindex: int) -> None:
    """Takes our program off tc ingress, if it is there."""
    _detach_tc(ifindex, TC_INGRESS)


def detach_egress(ifindex: int) -> None:
    """The same at tc egress."""
    _detach_tc(ifindex, TC_EGRESS)


def _detach_tc(ifindex: int, point: int) -> None:
    hook = _TcHook(sz=ctypes.sizeof(_TcHook), ifindex=ifindex, attach_point=point)
    options = _TcOptions(sz=ctypes.sizeof(_TcOptions), handle=1, priority=1)
    result = library.bpf_tc_detach(byref(hook), byref(options))
    if result < 0 and result not in (-errno.ENOENT, -errno.EINVAL, -errno.ENODEV):
        checked(result, f"tc program on device {ifindex}")


def _attach_tc(ifindex: int, point: int, program: int) -> None:
    hook = _TcHook(sz=ctypes.sizeof(_TcHook), ifindex=ifindex, attach_point=point)
    result = library.bpf_tc_hook_create(byref(hook))
    if result < 0 and result != -errno.EEXIST:
        checked(result, f"clsact on device {ifindex}")
    options = _TcOptions(sz=ctypes.sizeof(_TcOptions), prog_fd=program, flags=TC_REPLACE, handle=1, priority=1)
    checked(library.bpf_tc_attach(byref(hook), byref(options)), f"tc program on device {ifindex}")


def attach_xdp(ifindex: int, program: int) -> None:
    """Puts a program into the driver of a device (native XDP). Raises OSError where the driver can't."""
    checked(library.bpf_xdp_attach(ifindex, program, XDP_FLAGS_DRV_MODE, None), f"XDP program on device {ifindex}")


def detach_xdp(ifindex: int) -> None:
    """Takes the native XDP program off, if there is one."""
    checked(library.bpf_xdp_detach(ifindex, XDP_FLAGS_DRV_MODE, None), f"XDP program on device {ifindex}")
