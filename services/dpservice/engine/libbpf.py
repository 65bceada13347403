"""A thin binding of libbpf: open and load an object with pinned maps, and touch maps. `hooks` attaches programs to
devices, `runs` runs them without one.

Every call raises OSError with libbpf's or the kernel's reason. Nothing here knows what the maps mean.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_char_p,
    c_int,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
    create_string_buffer,
)
from pathlib import Path
from typing import Any, Final, NamedTuple

ANY: Final = 0
READ_ONLY: Final = 1 << 3  # BPF_F_RDONLY: by this descriptor
READ_BYTES: Final = 1 << 16  # of a map at once


class _OpenOptions(Structure):
    _fields_ = (  # struct bpf_object_open_opts of libbpf 1.x
        ("sz", c_size_t),
        ("object_name", c_char_p),
        ("relaxed_maps", ctypes.c_bool),
        ("pin_root_path", c_char_p),
        ("reserved", c_uint32),
        ("kconfig", c_char_p),
        ("btf_custom_path", c_char_p),
        ("kernel_log_buf", c_void_p),
        ("kernel_log_size", c_size_t),
        ("kernel_log_level", c_uint32),
    )


class _BatchOptions(Structure):
    _fields_ = (("sz", c_size_t), ("elem_flags", c_uint64), ("flags", c_uint64))  # struct bpf_map_batch_opts


class _MapInfo(Structure):
    _fields_ = (  # struct bpf_map_info, the part that all kernels have
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", ctypes.c_char * 16),
    )


class _IdOptions(Structure):
    _fields_ = (("sz", c_size_t), ("open_flags", c_uint32))  # struct bpf_get_fd_by_id_opts


class Kind(NamedTuple):
    """What maps of the same use have in common. Sizes in bytes."""

    type: int
    key_size: int
    value_size: int
    flags: int
    name: bytes


_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
_messages: list[str] = []
_libc = ctypes.CDLL(None)


@_PRINT  # type: ignore[untyped-decorator]
def _collect(level: int, form: bytes, arguments: int) -> int:
    """libbpf explains failures only by printing: keep its last words for the exception."""
    if level <= 1:  # warnings and information, not debug
        text = create_string_buffer(1 << 20)  # a verifier log says the reason at its end
        _libc.vsnprintf(text, len(text), form, c_void_p(arguments))
        _messages.append(text.value.decode(errors="replace").strip()[-1500:])
        del _messages[:-40]
    return 0


def _library() -> ctypes.CDLL:
    found = ctypes.CDLL("libbpf.so.1", use_errno=True)
    found.bpf_object__open_file.restype = c_void_p
    found.bpf_object__open_file.argtypes = [c_char_p, POINTER(_OpenOptions)]
    for name, arguments, result in (
        ("bpf_object__load", [c_void_p], c_int),
        ("bpf_object__close", [c_void_p], None),
        ("bpf_object__btf", [c_void_p], c_void_p),
        ("btf__raw_data", [c_void_p, POINTER(c_uint32)], c_void_p),
        ("bpf_object__find_map_by_name", [c_void_p, c_char_p], c_void_p),
        ("bpf_object__find_program_by_name", [c_void_p, c_char_p], c_void_p),
        ("bpf_object__next_map", [c_void_p, c_void_p], c_void_p),
        ("bpf_map__name", [c_void_p], c_char_p),
        ("bpf_map__pin_path", [c_void_p], c_char_p),
        ("bpf_map__set_max_entries", [c_void_p, c_uint32], c_int),
        ("bpf_map__key_size", [c_void_p], c_uint32),
        ("bpf_map__value_size", [c_void_p], c_uint32),
        ("bpf_obj_get", [c_char_p], c_int),
        ("bpf_map__fd", [c_void_p], c_int),
        ("bpf_program__fd", [c_void_p], c_int),
        ("bpf_map_lookup_elem", [c_int, c_void_p, c_void_p], c_int),
        ("bpf_map_update_elem", [c_int, c_void_p, c_void_p, c_uint64], c_int),
        ("bpf_map_delete_elem", [c_int, c_void_p], c_int),
        ("bpf_map_get_next_key", [c_int, c_void_p, c_void_p], c_int),
        ("bpf_map_update_batch", [c_int, c_void_p, c_void_p, POINTER(c_uint32), POINTER(_BatchOptions)], c_int),
        ("bpf_map_delete_batch", [c_int, c_void_p, POINTER(c_uint32), POINTER(_BatchOptions)], c_int),
        (
            "bpf_map_lookup_batch",
            [c_int, c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_uint32), POINTER(_BatchOptions)],
            c_int,
        ),
        ("bpf_map_get_fd_by_id_opts", [c_uint32, POINTER(_IdOptions)], c_int),
        ("bpf_obj_get_info_by_fd", [c_int, c_void_p, POINTER(c_uint32)], c_int),
        ("bpf_map__max_entries", [c_void_p], c_uint32),
        ("libbpf_set_print", [_PRINT], c_void_p),
        ("libbpf_num_possible_cpus", [], c_int),
    ):
        function = getattr(found, name)
        function.argtypes, function.restype = arguments, result
    found.libbpf_set_print(_collect)
    return found


library: Final = _library()
# Of single entries, a microsecond each: to let go of the interpreter's lock costs more, as other threads take it.
_single: Final = ctypes.PyDLL("libbpf.so.1", use_errno=True)
_lookup, _update, _delete = _single.bpf_map_lookup_elem, _single.bpf_map_update_elem, _single.bpf_map_delete_elem
for _function in (_lookup, _update, _delete):
    _function.argtypes = getattr(library, _function.__name__).argtypes


def checked(result: int, what: str) -> int:
    """The result of a call, if it is none of failure. Raises OSError that says what failed and why."""
    if result < 0:
        number = -result if result != -1 else ctypes.get_errno()
        reason = "; ".join(_messages[-6:])
        _messages.clear()
        raise OSError(number, f"{what}: {os.strerror(number)}" + (f" ({reason})" if reason else ""))
    return result


class Map:
    """A loaded map; keys and values are bytes of exactly its sizes."""

    _most = 1 << 20  # entries read at once

    def __init__(self, fd: int, name: str, key_size: int, value_size: int) -> None:
        self.name, self._fd, self._key_size, self._value_size = name, fd, key_size, value_size

    def at(self, fd: int) -> Map:
        """The same kind of map behind another descriptor."""
        return Map(fd, self.name, self._key_size, self._value_size)

    def close(self) -> None:
        """Of one that open_pinned() or open_numbered() gave: the descriptor is its own."""
        os.close(self._fd)

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        value = create_string_buffer(self._value_size)
        return value.raw if self._lookup(key, value) else None

    def get_per_cpu(self, key: bytes) -> list[int]:
        """The 64-bit counters of a per-CPU map, one for each possible CPU."""
        value = (c_uint64 * checked(library.libbpf_num_possible_cpus(), "count CPUs"))()
        return list(value) if self._lookup(key, value) else []

    def put_per_cpu(self, key: bytes, counter: int) -> None:
        """Sets the 64-bit counter of every CPU. Raises OSError."""
        cpus = checked(library.libbpf_num_possible_cpus(), "count CPUs")
        values = (c_uint64 * cpus)(*[counter] * cpus)
        checked(library.bpf_map_update_elem(self._fd, self._key(key), values, ANY), f"map {self.name}")

    def number(self) -> int:
        """The kernel's number of the map. Raises OSError."""
        return int(self._info().id)

    def kind(self) -> Kind:
        """Raises OSError."""
        info = self._info()
        return Kind(info.type, info.key_size, info.value_size, info.map_flags, info.name)

    def put_map(self, key: bytes, inner: Map) -> None:
        """Of a map of maps: sets or replaces one. Raises OSError: EINVAL when it is of another kind."""
        self.put(key, inner._fd.to_bytes(4, "little"))

    def _info(self) -> _MapInfo:
        info = _MapInfo()
        size = c_uint32(ctypes.sizeof(info))
        checked(library.bpf_obj_get_info_by_fd(self._fd, byref(info), byref(size)), f"map {self.name}")
        return info

    def put(self, key: bytes, value: bytes) -> None:
        """Sets or replaces. Raises OSError: ENOSPC or E2BIG when the map is full."""
        if len(value) != self._value_size:
            raise ValueError(f"a value of map {self.name} has {self._value_size} bytes, not {len(value)}")
        result = _update(self._fd, self._key(key), value, ANY)
        if result < 0:
            checked(result, f"map {self.name}")

    def remove(self, key: bytes) -> None:
        """Removes; a key that is not there is no error."""
        result = _delete(self._fd, self._key(key))
        if result < 0 and ctypes.get_errno() != errno.ENOENT:
            checked(result, f"map {self.name}")

    def put_many(self, keys: bytes, values: bytes) -> None:
        """Sets or replaces as many as there are keys, one behind the other. Raises OSError; some are set then."""
        count = c_uint32(len(keys) // self._key_size)
        if count.value * self._key_size != len(keys) or count.value * self._value_size != len(values):
            raise ValueError(f"map {self.name}: {len(keys)} bytes of keys, {len(values)} of values")
        options = _BatchOptions(sz=ctypes.sizeof(_BatchOptions))
        if count.value:
            checked(
                library.bpf_map_update_batch(self._fd, keys, values, byref(count), byref(options)), f"map {self.name}"
            )

    def remove_many(self, keys: bytes) -> None:
        """Removes; keys that are not there are no error."""
        size, options = self._key_size, _BatchOptions(sz=ctypes.sizeof(_BatchOptions))
        while keys:
            count = c_uint32(len(keys) // size)
            result = library.bpf_map_delete_batch(self._fd, keys, byref(count), byref(options))
            if result >= 0:
                return
            if ctypes.get_errno() != errno.ENOENT:
                checked(result, f"map {self.name}")
            keys = keys[(count.value + 1) * size :]  # behind the one that is not there

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries. Others may write meanwhile, then some may come twice or not at all."""
        size, room = self._key_size, max(32, READ_BYTES // self._value_size)
        keys, values = create_string_buffer(size * room), create_string_buffer(self._value_size * room)
        token, place = create_string_buffer(max(size, 8)), None
        options = _BatchOptions(sz=ctypes.sizeof(_BatchOptions))
        while True:
            count = c_uint32(room)
            result = library.bpf_map_lookup_batch(self._fd, place, token, keys, values, byref(count), byref(options))
            failed = ctypes.get_errno() if result < 0 else 0
            if failed == errno.ENOSPC and room < self._most:  # a bucket with more entries than there is room for
                room *= 4
                keys, values = create_string_buffer(size * room), create_string_buffer(self._value_size * room)
                continue
            if failed not in (0, errno.ENOENT):
                yield from self._items_one_by_one()
                return
            read_keys, read_values = keys.raw, values.raw
            for index in range(count.value):
                value = read_values[index * self._value_size : (index + 1) * self._value_size]
                yield read_keys[index * size : (index + 1) * size], value
            if failed:
                return
            place = token

    def _items_one_by_one(self) -> Iterator[tuple[bytes, bytes]]:
        """For the kinds of maps that are not read in batches."""
        key, following = None, create_string_buffer(self._key_size)
        while library.bpf_map_get_next_key(self._fd, key, following) == 0:
            key = following.raw
            value = self.get(key)
            if value is not None:
                yield key, value

    def values(self) -> list[bytes]:
        """The values of an array."""
        return [value for _, value in self.items()]

    def zero(self) -> None:
        """Sets every entry of an array that is not zero to zero."""
        zero = bytes(self._value_size)
        for key, value in self.items():
            if value != zero:
                self.put(key, zero)

    def clear(self) -> None:
        """Removes every entry of a hash or trie."""
        self.remove_many(b"".join([key for key, _ in self.items()]))

    def _key(self, key: bytes) -> bytes:
        if len(key) != self._key_size:
            raise ValueError(f"a key of map {self.name} has {self._key_size} bytes, not {len(key)}")
        return key

    def _lookup(self, key: bytes, value: Any) -> bool:
        result = _lookup(self._fd, self._key(key), value)
        if result < 0 and ctypes.get_errno() != errno.ENOENT:
            checked(result, f"map {self.name}")
        return bool(result == 0)


class Object:
    """A BPF object file; maps pinned by name are found again below `pin_root`."""

    def __init__(self, path: Path, pin_root: Path) -> None:
        """Opens without loading. Raises OSError."""
        options = _OpenOptions(sz=ctypes.sizeof(_OpenOptions), pin_root_path=os.fsencode(pin_root))
        _messages.clear()
        self._object = library.bpf_object__open_file(os.fsencode(path), byref(options))
        if not self._object:
            checked(-1, f"open {path}")

    def set_max_entries(self, name: str, entries: int) -> None:
        """The size of a map; before load()."""
        checked(library.bpf_map__set_max_entries(self._map(name), entries), f"size of map {name}")

    def pinned_maps(self) -> list[str]:
        """The maps that are, or will be, pinned."""
        found, names = library.bpf_object__next_map(self._object, None), []
        while found:
            if library.bpf_map__pin_path(found):
                names.append(library.bpf_map__name(found).decode())
            found = library.bpf_object__next_map(self._object, found)
        return names

    def max_entries(self, name: str) -> int:
        """The size of a map."""
        return int(library.bpf_map__max_entries(self._map(name)))

    def load(self) -> None:
        """Makes or re-uses the maps and loads the programs. Raises OSError with the verifier's or libbpf's words."""
        _messages.clear()
        checked(library.bpf_object__load(self._object), "load BPF programs")

    def btf(self) -> bytes:
        """The raw type information."""
        size = c_uint32()
        data = library.btf__raw_data(library.bpf_object__btf(self._object), byref(size))
        return ctypes.string_at(data, size.value)

    def map(self, name: str) -> Map:
        """A map; after load()."""
        found = self._map(name)
        return Map(
            library.bpf_map__fd(found), name, library.bpf_map__key_size(found), library.bpf_map__value_size(found)
        )

    def program(self, name: str) -> int:
        """The file descriptor of a loaded program."""
        found = library.bpf_object__find_program_by_name(self._object, name.encode())
        if not found:
            raise OSError(errno.ENOENT, f"no program {name}")
        return checked(library.bpf_program__fd(found), f"program {name}")

    def close(self) -> None:
        """Gives up our references; pinned maps and attached programs stay."""
        library.bpf_object__close(self._object)

    def _map(self, name: str) -> int:
        found: int | None = library.bpf_object__find_map_by_name(self._object, name.encode())
        if not found:
            raise OSError(errno.ENOENT, f"no map {name}")
        return found


def open_pinned(path: Path, like: Map) -> Map:
    """A pinned map that has the sizes of `like`. Raises OSError. It has a descriptor of its own, to be closed."""
    return like.at(checked(library.bpf_obj_get(os.fsencode(path)), f"open {path}"))


def open_numbered(number: int, like: Map) -> Map:
    """The map with the kernel's `number`, to be read only. It has a descriptor of its own, to be closed.

    Raises OSError: there is none, it is of another kind than `like`, or this process may not (CAP_SYS_ADMIN).
    """
    options = _IdOptions(sz=ctypes.sizeof(_IdOptions), open_flags=READ_ONLY)
    found = like.at(checked(library.bpf_map_get_fd_by_id_opts(number, byref(options)), f"map {like.name} ({number})"))
    if found.kind() != like.kind():
        found.close()
        raise OSError(errno.EPROTO, f"map {number} is no {like.name}")
    return found


def pinned_capacity(path: Path) -> int:
    """How many entries a pinned map has room for. Raises OSError."""
    opened = checked(library.bpf_obj_get(os.fsencode(path)), f"open {path}")
    try:
        lines = Path(f"/proc/self/fdinfo/{opened}").read_text().splitlines()
    finally:
        os.close(opened)
    return next(int(line.split()[1]) for line in lines if line.startswith("max_entries:"))
