"""Reading pinned counters from outside the daemon, which may be dead."""

from __future__ import annotations

from pathlib import Path

from services.dpservice.engine import libbpf
from services.dpservice.engine.btf import Btf
from services.dpservice.engine.ebpf import OBJECT_FILE, named_drops


def read_drops(bpf_root: Path, object_file: Path = OBJECT_FILE) -> dict[str, int]:
    """Lost packets by reason since the maps below `bpf_root` were made. Raises OSError."""
    described = libbpf.Object(object_file, bpf_root)
    try:
        reasons = Btf(described.btf()).enum("drop_reason", "DROP_")
        return named_drops(libbpf.open_pinned(bpf_root / "drops", described.map("drops")), reasons)
    finally:
        described.close()
