"""RFC 6902 by its own examples, and undo by the inverse operation."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.apimachinery.errors import ApiError, BadRequest
from services.apimachinery.patch.json_patch import apply_json_patch

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "json_patch.json").read_text())["cases"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in VECTORS])
def test_vectors(case: dict[str, Any]) -> None:
    before = copy.deepcopy(case["doc"])
    if "error" in case:
        with pytest.raises(ApiError) as refusal:
            apply_json_patch(case["doc"], case["patch"])
        assert refusal.value.code == case["error"]
    else:
        assert apply_json_patch(case["doc"], case["patch"]) == case["expected"]
    assert case["doc"] == before


@given(st.dictionaries(st.text(max_size=4), VALUES), st.text(max_size=4), VALUES)
def test_remove_undoes_add(document: dict[str, Any], name: str, value: Any) -> None:
    path = "/" + name.replace("~", "~0").replace("/", "~1")
    added = apply_json_patch(
        document, [{"op": "add", "path": path, "value": value}, {"op": "test", "path": path, "value": value}]
    )
    without = {key: each for key, each in document.items() if key != name}
    assert apply_json_patch(added, [{"op": "remove", "path": path}]) == without


def test_copies_are_limited() -> None:
    double = [{"op": "copy", "from": "", "path": "/a"}, {"op": "copy", "from": "", "path": "/b"}]
    with pytest.raises(BadRequest, match="copies more than"):
        apply_json_patch({"x": 1}, double * 20)


def test_absurd_nesting_is_refused() -> None:
    value: Any = []
    for _ in range(900):
        value = [value]
    with pytest.raises(BadRequest, match="nested too deeply"):
        apply_json_patch({}, [{"op": "add", "path": "/a", "value": value}])
