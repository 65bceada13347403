from __future__ import annotations

import csv
import json
from typing import Any

import pytest

from services.dpservice.inspection.show import lines

ROWS: list[dict[str, Any]] = [{"vni": 1, "to": "a,b", "nat": None}, {"vni": 22, "to": "c", "nat": 7}]


@pytest.mark.parametrize(
    "rows", [pytest.param(ROWS, id="rows"), pytest.param(ROWS[:1], id="one"), pytest.param([], id="none")]
)
def test_json_is_a_list(rows: list[dict[str, Any]]) -> None:
    assert json.loads("\n".join(lines(rows, "json"))) == rows


def test_csv_has_a_header_and_quotes() -> None:
    assert list(csv.reader(lines(ROWS, "csv"))) == [["vni", "to", "nat"], ["1", "a,b", ""], ["22", "c", "7"]]


def test_a_table() -> None:
    assert "\n".join(lines(ROWS, "table")).splitlines() == ["vni  to   nat", "  1  a,b", " 22  c    7"]


def test_for_people_without_what_is_not_there() -> None:
    assert list(lines(ROWS, "human")) == ["vni: 1  to: a,b", "vni: 22  to: c  nat: 7"]


@pytest.mark.parametrize("form", ["human", "table", "csv"])
def test_nothing(form: str) -> None:
    assert list(lines([], form)) == []
