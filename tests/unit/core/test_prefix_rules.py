from __future__ import annotations

from typing import Any

import pytest

from protos.ipam.v1alpha1.prefix_allocation_pb2 import PrefixAllocation
from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from tests.unit.core.writes import causes, completed

ROOT = {"prefix": "10.0.0.0/24"}
PARENT = {"parentRef": {"name": "p"}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(ROOT, [], id="a root; the family follows"),
        pytest.param({"ipFamily": "IPv6", **ROOT}, [("spec.prefix", "Invalid")], id="another family"),
        pytest.param({"ipFamily": "IPv4"}, [("spec.prefix", "Required")], id="a root without range"),
        pytest.param(
            {"ipFamily": "IPv4", **ROOT, "prefixLength": 24}, [("spec.prefixLength", "Forbidden")], id="a root's length"
        ),
        pytest.param({"ipFamily": "IPv4", "prefixLength": 28, **PARENT}, [], id="a child by length"),
        pytest.param({"prefix": "10.0.0.0/28", **PARENT}, [], id="a child by range"),
        pytest.param({"ipFamily": "IPv4", **PARENT}, [("spec", "Invalid")], id="a child that asks for nothing"),
        pytest.param(
            {"ipFamily": "IPv4", "prefixLength": 33, **PARENT}, [("spec.prefixLength", "Invalid")], id="beyond IPv4"
        ),
        pytest.param(
            {"ipFamily": "IPv4", "prefix": "10.0.0.0/28", "prefixLength": 29, **PARENT},
            [("spec.prefixLength", "Invalid")],
            id="length against range",
        ),
        pytest.param({"ipFamily": "IPv4", "prefixLength": 28, "parentSelector": {}}, [], id="any parent"),
    ],
)
def test_prefix(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert causes(Prefix, completed(Prefix, spec)) == expected


def test_a_root_stays_a_root() -> None:
    old, new = completed(Prefix, ROOT), completed(Prefix, {"ipFamily": "IPv4", **ROOT, **PARENT})
    assert causes(Prefix, new, old) == [("spec.parentRef", "Forbidden")]


@pytest.mark.parametrize(
    ("spec", "status", "before", "expected"),
    [
        pytest.param(ROOT, {"phase": "Allocated", "used": ["10.0.0.0/32"]}, {}, [], id="used inside"),
        pytest.param(
            ROOT,
            {"phase": "Allocated", "used": ["10.0.1.0/32"]},
            {},
            [("status.used[0]", "Invalid")],
            id="used outside",
        ),
        pytest.param(
            ROOT,
            {"phase": "Allocated", "used": ["10.0.0.0/28", "10.0.0.1/32"]},
            {},
            [("status.used[1]", "Invalid")],
            id="used twice",
        ),
        pytest.param(ROOT, {"used": ["10.0.0.0/32"]}, {}, [("status.used", "Forbidden")], id="used while pending"),
        pytest.param(ROOT, {"phase": "Pending"}, {"phase": "Allocated"}, [("status.phase", "Forbidden")], id="back"),
        pytest.param(
            {"ipFamily": "IPv4", "prefixLength": 28, **PARENT},
            {"phase": "Allocated"},
            {},
            [("status.phase", "Forbidden")],
            id="allocated without range",
        ),
        pytest.param(
            {"prefix": "10.0.0.0/28", "parentSelector": {}},
            {"phase": "Allocated"},
            {},
            [("status.phase", "Forbidden")],
            id="allocated without parent",
        ),
    ],
)
def test_prefix_status(
    spec: dict[str, Any], status: dict[str, Any], before: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    new, old = completed(Prefix, spec, status=status), completed(Prefix, spec, status=before)
    assert causes(Prefix, new, old, status=True) == expected


ASKED = {"ipFamily": "IPv4", "prefixLength": 32, "prefixRef": {"name": "p"}}
GIVEN = {"phase": "Allocated", "prefix": "10.0.0.1/32"}


@pytest.mark.parametrize(
    ("spec", "status", "before", "expected"),
    [
        pytest.param(ASKED, GIVEN, {}, [], id="an answer"),
        pytest.param(ASKED, {"phase": "Allocated"}, {}, [("status.prefix", "Required")], id="an answer without range"),
        pytest.param(ASKED, {"prefix": "10.0.0.1/32"}, {}, [("status.prefix", "Forbidden")], id="given while pending"),
        pytest.param(
            ASKED, {**GIVEN, "prefix": "10.0.0.0/31"}, {}, [("status.prefix", "Forbidden")], id="another length"
        ),
        pytest.param(
            {"ipFamily": "IPv4", "prefix": "10.0.0.2/32", "prefixRef": {"name": "p"}},
            GIVEN,
            {},
            [("status.prefix", "Forbidden")],
            id="another range",
        ),
        pytest.param(
            {"ipFamily": "IPv6", "prefixLength": 32, "prefixRef": {"name": "p"}},
            GIVEN,
            {},
            [("status.prefix", "Invalid")],
            id="another family",
        ),
        pytest.param(
            {"ipFamily": "IPv4", "prefixLength": 32, "prefixSelector": {}},
            GIVEN,
            {},
            [("status.prefix", "Forbidden")],
            id="given by nobody",
        ),
        pytest.param(ASKED, {"phase": "Pending"}, {"phase": "Failed"}, [("status.phase", "Forbidden")], id="final"),
    ],
)
def test_allocation_status(
    spec: dict[str, Any], status: dict[str, Any], before: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    new, old = completed(PrefixAllocation, spec, status=status), completed(PrefixAllocation, spec, status=before)
    assert causes(PrefixAllocation, new, old, status=True) == expected
