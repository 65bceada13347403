"""Reading pinned counters from outside the daemon, which may be dead."""

from __future__ import annotations

from pathlib import Path

from services.dpservice.engine.ebpf import OBJECT_FILE
from services.dpservice.engine.pins import Pins


def read_drops(bpf_root: Path, object_file: Path = OBJECT_FILE) -> dict[str, int]:
    """Lost packets by reason since the maps below `bpf_root` were made. Raises OSError."""
    pins = Pins(bpf_root, object_file)
    try:
        return pins.drops()
    finally:
        pins.close()
