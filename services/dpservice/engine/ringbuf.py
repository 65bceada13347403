"""A pinned BPF ring buffer, read by libbpf."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from ctypes import c_int, c_size_t, c_void_p
from pathlib import Path
from typing import Final

_SAMPLE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)


def _library() -> ctypes.CDLL:
    found = ctypes.CDLL("libbpf.so.1", use_errno=True)
    found.bpf_obj_get.argtypes, found.bpf_obj_get.restype = [ctypes.c_char_p], c_int
    found.ring_buffer__new.argtypes, found.ring_buffer__new.restype = [c_int, _SAMPLE, c_void_p, c_void_p], c_void_p
    found.ring_buffer__poll.argtypes, found.ring_buffer__poll.restype = [c_void_p, c_int], c_int
    found.ring_buffer__consume.argtypes, found.ring_buffer__consume.restype = [c_void_p], c_int
    found.ring_buffer__free.argtypes, found.ring_buffer__free.restype = [c_void_p], None
    return found


_bpf: Final = _library()


class RingBuffer:
    """Its only consumer. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._fd = _bpf.bpf_obj_get(os.fsencode(path))
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), f"open {path}: {os.strerror(ctypes.get_errno())}")
        self._samples: list[bytes] = []
        self._callback = _SAMPLE(self._take)
        self._ring = _bpf.ring_buffer__new(self._fd, self._callback, None, None)
        if not self._ring:
            number = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(number, f"map {path}: {os.strerror(number)}")

    def poll(self, seconds: float) -> Iterator[bytes]:
        """What is there, after waiting so long at most."""
        result = _bpf.ring_buffer__poll(self._ring, int(seconds * 1000))
        if result < 0 and result != -errno.EINTR:
            raise OSError(-result, os.strerror(-result))
        taken, self._samples = self._samples, []
        yield from taken

    def drain(self) -> None:
        """Throws away what is there."""
        _bpf.ring_buffer__consume(self._ring)
        self._samples.clear()

    def close(self) -> None:
        """Gives the buffer up; it stays pinned."""
        _bpf.ring_buffer__free(self._ring)
        os.close(self._fd)

    def _take(self, _: int, data: int, size: int) -> int:
        self._samples.append(ctypes.string_at(data, size))
        return 0
