"""Compiles protos/ beside their sources and writes build/descriptors.pb with all imports.

Run by `make protos` and by the wheel's build hook. Files are named from the repository root, so their names in the
descriptor pool start with protos/ and never collide with those of a library.
"""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent


def compile_protos(root: Path = ROOT) -> None:
    """Generates modules and type stubs for every .proto below root/protos; raises SystemExit where protoc refuses."""
    sources = sorted(str(path.relative_to(root)) for path in (root / "protos").rglob("*.proto"))
    (root / "build").mkdir(exist_ok=True)
    well_known = Path(protoc.__file__).parent / "_proto"
    arguments = [
        "protoc",
        f"-I{root}",
        f"-I{well_known}",
        f"--python_out={root}",
        f"--grpc_python_out={root}",
        f"--mypy_out=quiet:{root}",
        f"--mypy_grpc_out=quiet:{root}",
        "--include_imports",
        "--include_source_info",
        f"--descriptor_set_out={root / 'build' / 'descriptors.pb'}",
        *sources,
    ]
    code = protoc.main(arguments)
    if code != 0:
        sys.exit(code)


if __name__ == "__main__":
    compile_protos()
