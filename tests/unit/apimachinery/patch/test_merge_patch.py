"""RFC 7386 by its own examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.apimachinery.patch.merge_patch import apply_merge_patch

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "merge_patch.json").read_text())["cases"]


@pytest.mark.parametrize(
    ("document", "patch", "result"), [pytest.param(*case, id=json.dumps(case[1])) for case in VECTORS]
)
def test_vectors(document: Any, patch: Any, result: Any) -> None:
    assert apply_merge_patch(document, patch) == result
