"""The pinned maps of a data plane, opened from outside: the daemon may be alive, dead or of another process."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from services.dpservice.engine import libbpf
from services.dpservice.engine.btf import Btf, Layout
from services.dpservice.engine.codec import Codec, u32
from services.dpservice.engine.ebpf import OBJECT_FILE
from services.dpservice.engine.settings import FIRST, LAYOUT_VERSION

REASONS: Final = OBJECT_FILE.parent / "reasons.h"
_REASON: Final = re.compile(r'X\((\w+),\s*"([^"]*)"\)')


class Pins:
    """Reads maps below a directory of a bpffs and changes none."""

    def __init__(self, bpf_root: Path, object_file: Path = OBJECT_FILE) -> None:
        """Raises OSError: nothing is pinned there, or by another version of the data plane."""
        self.root = bpf_root
        self._described = libbpf.Object(object_file, bpf_root)
        self._btf = Btf(self._described.btf())
        self.codec = Codec(self._btf)
        self._maps: dict[str, libbpf.Map] = {}
        try:
            raw = self.map("settings").get(FIRST) or b""
            version = self.codec.layouts["settings"].number(raw, "layout")
            if version != LAYOUT_VERSION:
                reads = f"this program reads {LAYOUT_VERSION}"
                raise OSError(errno.EPROTO, f"{bpf_root}: maps have layout {version}, {reads}")
        except OSError as error:
            self.close()
            if error.errno == errno.ENOENT:
                raise FileNotFoundError(f"--bpf-root: no data plane has its maps in {bpf_root}") from error
            raise

    def map(self, name: str) -> libbpf.Map:
        """A pinned map. Raises OSError."""
        if name not in self._maps:
            self._maps[name] = libbpf.open_pinned(self.root / name, self._described.map(name))
        return self._maps[name]

    def items(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        """Its entries; those that change meanwhile may come twice or not at all."""
        return self.map(name).items()

    def capacity(self, name: str) -> int:
        """How many it has room for."""
        return libbpf.pinned_capacity(self.root / name)

    def layout(self, name: str) -> Layout:
        """A struct of the programs."""
        return self.codec.layouts.get(name) or self._btf.layout(name)

    def enum(self, name: str, prefix: str) -> dict[int, str]:
        """The names of an enum by value, without `prefix` and in lower case."""
        return {value: member for member, value in self._btf.enum(name, prefix).items()}

    def drops(self) -> dict[str, int]:
        """Lost packets by reason since the maps were made."""
        reasons = self.enum("drop_reason", "DROP_")
        return {
            reason: sum(self.map("drops").get_per_cpu(u32(number)))
            for number, reason in sorted(reasons.items())
            if reason != "reason_count"
        }

    def close(self) -> None:
        """Gives maps and their description up."""
        for opened in self._maps.values():
            opened.close()
        self._maps.clear()
        self._described.close()


def reason_texts() -> dict[str, str]:
    """What each drop reason means. Empty where the sources of the programs are not installed."""
    try:
        return {name.lower(): text for name, text in _REASON.findall(REASONS.read_text())}
    except OSError:
        return {}
