"""Quantities: canonical forms, exactness, and the laws of their arithmetic."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.apimachinery.schema.quantity import NANO, Format, Quantity, canonical


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("0Ki", "0"),
        ("1", "1"),
        ("+1", "1"),
        ("1.", "1"),
        (".5", "500m"),
        ("0.5", "500m"),
        ("1.5", "1500m"),
        ("1000", "1k"),
        ("1500", "1500"),
        ("15000", "15k"),
        ("1000m", "1"),
        ("100m", "100m"),
        ("-5k", "-5k"),
        ("1024", "1024"),
        ("1024Ki", "1Mi"),
        ("1.5Gi", "1536Mi"),
        ("1536Mi", "1536Mi"),
        ("512Ki", "512Ki"),
        ("0.5Ki", "512"),
        ("0.1Ki", "102400m"),
        ("0.0001Ki", "102400u"),
        ("1e3", "1e3"),
        ("1E3", "1e3"),
        ("12e3", "12e3"),
        ("1e4", "10e3"),
        ("1e-3", "1e-3"),
        ("1e0", "1"),
        ("1E", "1E"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("1.1n", "2n"),
        ("1e-300", "1e-9"),
        ("8Ei", "9223372036854775807"),
        ("100E", "9223372036854775807"),
        ("1e1000", "9223372036854775807"),
        ("0e99999999", "0"),
    ],
)
def test_canonical(text: str, form: str) -> None:
    assert canonical(text) == form


@pytest.mark.parametrize(
    "text", ["", "-", ".", "1 Gi", "1gi", "1K", "Gi", "1e", "1e1.5", "0x1", "1_0", "٣", "1Zi", "1" * 200]
)
def test_refusals(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        Quantity.parse(text)


NANOS = st.integers(-(2**63 - 1) * NANO, (2**63 - 1) * NANO)
QUANTITIES = st.builds(Quantity, NANOS, st.sampled_from(Format))
UNITS = {"": 1, "k": 10**3, "M": 10**6, "m": Fraction(1, 10**3), "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@given(QUANTITIES)
def test_writing_and_reading_keeps_the_amount(quantity: Quantity) -> None:
    text = str(quantity)
    assert Quantity.parse(text) == quantity
    assert canonical(text) == text


@given(st.decimals(-(10**6), 10**6, places=4), st.sampled_from(sorted(UNITS)))
def test_the_amount_is_exact_up_to_a_nano(number: object, suffix: str) -> None:
    exact = Fraction(str(number)) * UNITS[suffix] * NANO
    nano = Quantity.parse(f"{number}{suffix}").nano
    assert 0 <= abs(nano) - abs(exact) < 1
    assert nano * exact >= 0


@given(QUANTITIES, QUANTITIES)
def test_arithmetic_and_order(one: Quantity, other: Quantity) -> None:
    assert (one + other) - other == one
    assert (one < other) == (one - other < Quantity(0))
    assert Quantity(0) - one == -one


@pytest.mark.parametrize(("text", "units"), [("1500m", 2), ("-1500m", -2), ("1Ki", 1024), ("1n", 1), ("0", 0)])
def test_value_rounds_away_from_zero(text: str, units: int) -> None:
    assert Quantity.parse(text).value == units
