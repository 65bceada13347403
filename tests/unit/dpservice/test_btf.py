"""Layouts as the compiler made them, read from the object that is shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.dpservice.engine import libbpf
from services.dpservice.engine.btf import BadBtf, Btf, Member
from services.dpservice.engine.codec import STRUCTS
from services.dpservice.engine.ebpf import OBJECT_FILE


@pytest.fixture(scope="module")
def btf() -> Btf:
    return Btf(libbpf.Object(OBJECT_FILE, Path("/")).btf())


def test_every_struct_is_there(btf: Btf) -> None:
    assert {name: btf.layout(name).size for name in STRUCTS}["route_key4"] == 12


@pytest.mark.parametrize("name", ["route_key4", "route_key6", "trusted_key"])
def test_keys_of_tries_have_no_padding(btf: Btf, name: str) -> None:
    layout = btf.layout(name)
    assert sum(member.size for member in layout.members.values()) == layout.size
    assert layout.members["prefixlen"] == Member(0, 4)


def test_pack_and_read(btf: Btf) -> None:
    layout = btf.layout("hop")
    raw = layout.pack(kind=2, port=7, underlay=bytes(range(16)))
    assert (layout.number(raw, "kind"), layout.number(raw, "port"), layout.number(raw, "vni")) == (2, 7, 0)
    assert layout.bytes(raw, "underlay") == bytes(range(16))


@pytest.mark.parametrize(
    ("values", "error"),
    [
        pytest.param({"nothing": 1}, KeyError, id="unknown field"),
        pytest.param({"underlay": bytes(17)}, ValueError, id="too many bytes"),
        pytest.param({"port": 1 << 32}, OverflowError, id="number too large"),
    ],
)
def test_pack_refuses(btf: Btf, values: dict[str, int | bytes], error: type[Exception]) -> None:
    with pytest.raises(error):
        btf.layout("hop").pack(**values)


def test_reasons_have_names(btf: Btf) -> None:
    reasons = btf.enum("drop_reason", "DROP_")
    assert reasons["no_interface"] == 0
    assert sorted(reasons.values()) == list(range(reasons["reason_count"] + 1))
    assert reasons["reason_count"] <= 64, "entries of the map `drops`"


@pytest.mark.parametrize("raw", [b"", b"\x9f\xeb", bytes(24)])
def test_not_btf(raw: bytes) -> None:
    with pytest.raises(BadBtf):
        Btf(raw)


def test_unknown_names(btf: Btf) -> None:
    with pytest.raises(BadBtf, match="no struct nothing"):
        btf.layout("nothing")
