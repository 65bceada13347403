"""Compiles protos/ beside their sources and writes build/descriptors.pb with all imports.

Run by `make protos` and by the wheel's build hook. Files are named from the repository root, so their names in the
descriptor pool start with protos/ and never collide with those of a library. Comments are not part of the descriptors
that Python loads at run time: they go into protos/comments.json, from which `kubectl explain` gets its texts.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from google.protobuf import descriptor_pb2
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
    write_comments(root / "build" / "descriptors.pb", root / "protos" / "comments.json")


def write_comments(descriptors: Path, target: Path) -> None:
    """Writes the leading comments of messages and fields by full name; readers never see half a file."""
    comments: dict[str, str] = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes()).file:
        if not file.name.startswith("protos/"):
            continue
        by_path = {tuple(location.path): location.leading_comments for location in file.source_code_info.location}
        for name, path in _named(file):
            text = " ".join(by_path.get(path, "").split())
            if text:
                comments[name] = text
    fresh = target.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_text(json.dumps(comments, ensure_ascii=False, indent=0, sort_keys=True), encoding="utf-8")
    fresh.rename(target)


def _named(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Full names of all messages and fields of a file with their paths in its source information."""
    todo: list[tuple[str, tuple[int, ...], descriptor_pb2.DescriptorProto]] = [
        (f"{file.package}.{message.name}", (4, at), message) for at, message in enumerate(file.message_type)
    ]
    while todo:
        name, path, message = todo.pop()
        yield name, path
        yield from ((f"{name}.{member.name}", (*path, 2, at)) for at, member in enumerate(message.field))
        nested = enumerate(message.nested_type)
        todo.extend((f"{name}.{inner.name}", (*path, 3, at), inner) for at, inner in nested)


if __name__ == "__main__":
    compile_protos()
