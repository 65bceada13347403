"""Kubernetes quantities: exact amounts such as "500m", "2Gi" or "1e3".

An amount is a whole number of nano units (finer ones round away from zero) and at most 2^63-1 units in magnitude
(greater ones are capped), as Kubernetes' API conventions define it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Final

NANO: Final = 10**9
_MAX: Final = ((1 << 63) - 1) * NANO
# Longer texts have no use and would cost arithmetic without limit.
_MAX_LENGTH: Final = 128

_GRAMMAR: Final = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>[0-9]*)(?:\.(?P<part>[0-9]*))?"
    r"(?:(?P<binary>[KMGTPE]i)|[eE](?P<exponent>[+-]?[0-9]+)|(?P<decimal>[numkMGTPE]))?"
)
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX: Final = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


class Format(Enum):
    """The family of suffixes an amount is written with."""

    BINARY = "BinarySI"
    DECIMAL = "DecimalSI"
    EXPONENT = "DecimalExponent"


@dataclass(frozen=True, order=True)
class Quantity:
    """An exact amount; comparisons look at the amount only, `str` gives Kubernetes' canonical form."""

    nano: int
    format: Format = field(default=Format.DECIMAL, compare=False)

    @classmethod
    def parse(cls, text: str) -> Quantity:
        """Reads any spelling that Kubernetes accepts; ValueError otherwise."""
        match = _GRAMMAR.fullmatch(text) if len(text) <= _MAX_LENGTH else None
        if match is None or not (match["whole"] or match["part"]):
            raise ValueError(
                f"{text[:_MAX_LENGTH]!r} is not a quantity: write a number and a suffix, as in 500m, 2Gi or 1e3"
            )
        digits, scale = match["whole"] + (match["part"] or ""), -len(match["part"] or "")
        if match["binary"]:
            step = _BINARY.index(match["binary"])
            nano = _scaled(int(digits) << (10 * step), scale)
            form = Format.DECIMAL if 0 < nano < NANO else Format.BINARY
        elif match["exponent"]:
            nano, form = _scaled(int(digits), scale + _bounded(match["exponent"])), Format.EXPONENT
        else:
            nano, form = _scaled(int(digits), scale + _DECIMAL[match["decimal"] or ""]), Format.DECIMAL
        return cls(-nano if match["sign"] == "-" else nano, form)

    def __str__(self) -> str:
        units, fraction = divmod(abs(self.nano), NANO)
        sign = "-" if self.nano < 0 else ""
        if self.format is Format.BINARY and units >= 1024 and not fraction:
            step = 0
            while step + 1 < len(_BINARY) and units % 1024 == 0:
                units, step = units // 1024, step + 1
            return f"{sign}{units}{_BINARY[step]}"
        mantissa, exponent = abs(self.nano), -9
        while mantissa and mantissa % 1000 == 0:
            mantissa, exponent = mantissa // 1000, exponent + 3
        if not mantissa:
            return "0"
        if self.format is Format.EXPONENT:
            return f"{sign}{mantissa}e{exponent}" if exponent else f"{sign}{mantissa}"
        return f"{sign}{mantissa}{_DECIMAL_SUFFIX[exponent]}"

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.nano + other.nano, self.format if self.nano else other.format)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.nano - other.nano, self.format if self.nano else other.format)

    def __neg__(self) -> Quantity:
        return Quantity(-self.nano, self.format)

    @property
    def value(self) -> int:
        """The amount in whole units, rounded away from zero."""
        units = -(-abs(self.nano) // NANO)
        return units if self.nano >= 0 else -units


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """The canonical spelling of a quantity; ValueError for what is none."""
    return str(Quantity.parse(text))


def _scaled(number: int, exponent: int) -> int:
    """number * 10^exponent in nano units, rounded up and capped."""
    exponent += 9
    if exponent >= 0:
        return min(number * int(10**exponent), _MAX)
    return min(-(-number // int(10**-exponent)), _MAX)


def _bounded(exponent: str) -> int:
    """An exponent beyond which nothing changes: the amount is capped, or one nano unit."""
    limit = 2 * _MAX_LENGTH
    return max(-limit, min(limit, int(exponent)))
