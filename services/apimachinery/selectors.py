"""Label and field selectors, from the texts of requests or the messages in objects, to matchers.

Grammar and meaning are those of Kubernetes' API concepts, "Labels and Selectors" and "Field Selectors".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from services.apimachinery.errors import BadRequest
from services.apimachinery.kinds import Kind
from services.apimachinery.schema.formats import label_value, qualified_name


class Operator(Enum):
    """How a label must relate to the values."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GREATER = "Gt"
    LESS = "Lt"


@dataclass(frozen=True)
class LabelRequirement:
    """One condition on one label."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """An absent label fits NotIn and DoesNotExist only."""
        value = labels.get(self.key)
        if self.operator is Operator.IN:
            return value in self.values
        if self.operator is Operator.NOT_IN:
            return value not in self.values
        if self.operator is Operator.EXISTS:
            return value is not None
        if self.operator is Operator.DOES_NOT_EXIST:
            return value is None
        if value is None or not _INTEGER.fullmatch(value):
            return False
        limit = int(self.values[0])
        return int(value) > limit if self.operator is Operator.GREATER else int(value) < limit


@dataclass(frozen=True)
class LabelSelector:
    """All requirements must hold."""

    requirements: tuple[LabelRequirement, ...] = ()

    @property
    def everything(self) -> bool:
        """True when it selects every object."""
        return not self.requirements

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(requirement.matches(labels) for requirement in self.requirements)


_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")
_TOKEN: Final = re.compile(r"\s*(==|!=|[=!(),<>]|[^\s=!(),<>]+)\s*")
_SYMBOLS: Final = frozenset({"==", "!=", "=", "!", "(", ")", ",", "<", ">"})


@lru_cache(maxsize=1024)
def parse_labels(text: str) -> LabelSelector:
    """The selector of `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`; BadRequest for anything else."""
    return LabelSelector(_LabelParser(text).requirements())


def labels_of(selector: Any) -> LabelSelector:
    """The selector of a LabelSelector, as message or JSON tree; one without requirements selects everything.

    BadRequest for an unknown operator or operators and values that don't fit. A null selector, which by Kubernetes'
    rule selects nothing, is the caller's to notice.
    """
    if isinstance(selector, Mapping):
        equal, expressions = selector.get("matchLabels", {}), selector.get("matchExpressions", [])
        rows = [(each.get("key", ""), each.get("operator", ""), each.get("values", [])) for each in expressions]
    else:
        equal = selector.match_labels
        rows = [(each.key, each.operator, each.values) for each in selector.match_expressions]
    requirements = [_requirement(key, Operator.IN, (equal[key],)) for key in equal]
    for key, operator, values in rows:
        if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            raise BadRequest(f'"{operator}" is not a valid label selector operator')
        requirements.append(_requirement(key, Operator(operator), tuple(values)))
    return LabelSelector(tuple(requirements))


def _requirement(key: str, operator: Operator, values: tuple[str, ...]) -> LabelRequirement:
    if why := qualified_name(key):
        raise BadRequest(f'label selector: key "{key}": {why}')
    if operator in (Operator.IN, Operator.NOT_IN):
        if not values:
            raise BadRequest(f'label selector: key "{key}": {operator.value} needs at least one value')
        for value in values:
            if why := label_value(value):
                raise BadRequest(f'label selector: key "{key}": value "{value}": {why}')
    elif operator in (Operator.GREATER, Operator.LESS):
        if not _INTEGER.fullmatch(values[0]):
            raise BadRequest(f'label selector: key "{key}": "{values[0]}" must be an integer for {operator.value}')
    elif values:
        raise BadRequest(f'label selector: key "{key}": {operator.value} takes no values')
    return LabelRequirement(key, operator, values)


class _LabelParser:
    """Recursive descent over the tokens of a selector text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _TOKEN.findall(text)
        self.at = 0

    def requirements(self) -> tuple[LabelRequirement, ...]:
        if not self.tokens:
            return ()
        found = [self._one()]
        while self.at < len(self.tokens):
            self._expect(",")
            found.append(self._one())
        return tuple(found)

    def _one(self) -> LabelRequirement:
        if self._peek() == "!":
            self.at += 1
            return _requirement(self._word(), Operator.DOES_NOT_EXIST, ())
        key = self._word()
        operator = self._peek()
        if operator in ("", ","):
            return _requirement(key, Operator.EXISTS, ())
        self.at += 1
        if operator in ("=", "=="):
            return _requirement(key, Operator.IN, (self._value(),))
        if operator == "!=":
            return _requirement(key, Operator.NOT_IN, (self._value(),))
        if operator in ("<", ">"):
            return _requirement(key, Operator.LESS if operator == "<" else Operator.GREATER, (self._word(),))
        if operator in ("in", "notin"):
            return _requirement(key, Operator.IN if operator == "in" else Operator.NOT_IN, self._values())
        raise self._error(f'found "{operator}", expected one of: , = == != in notin < >')

    def _values(self) -> tuple[str, ...]:
        self._expect("(")
        values = [self._value()]
        while self._peek() == ",":
            self.at += 1
            values.append(self._value())
        self._expect(")")
        return tuple(sorted(set(values)))

    def _value(self) -> str:
        """A word, or nothing: labels may be empty."""
        return "" if self._peek() in ("", ",", ")") else self._word()

    def _word(self) -> str:
        token = self._peek()
        if not token or token in _SYMBOLS:
            raise self._error(f'found "{token}", expected an identifier')
        self.at += 1
        return token

    def _expect(self, symbol: str) -> None:
        if self._peek() != symbol:
            raise self._error(f'found "{self._peek()}", expected "{symbol}"')
        self.at += 1

    def _peek(self) -> str:
        return str(self.tokens[self.at]) if self.at < len(self.tokens) else ""

    def _error(self, why: str) -> BadRequest:
        return BadRequest(f'unable to parse the label selector "{self.text}": {why}')


@dataclass(frozen=True)
class FieldRequirement:
    """One condition on one field; `operator` is "==" or "!="."""

    path: str
    operator: str
    value: str


@dataclass(frozen=True)
class FieldSelector:
    """All requirements must hold; an absent field counts as the empty string."""

    requirements: tuple[FieldRequirement, ...] = ()

    @property
    def everything(self) -> bool:
        """True when it selects every object."""
        return not self.requirements

    def matches(self, tree: Mapping[str, Any]) -> bool:
        """Whether an object, as JSON tree, is selected."""
        return all(
            (field_value(tree, each.path) == each.value) is (each.operator == "==") for each in self.requirements
        )

    def exact(self, path: str) -> str | None:
        """The only value that a field may have, None when the selector leaves it open."""
        return next((each.value for each in self.requirements if each.path == path and each.operator == "=="), None)


_ALWAYS_SELECTABLE: Final = ("metadata.name", "metadata.namespace")
_FIELD_TERM: Final = re.compile(r"([^=!]+)(==|!=|=)((?:[^\\,=]|\\[\\,=])*)")
_TERMS: Final = re.compile(r"(?:[^\\,]|\\.)+")
_ESCAPED: Final = re.compile(r"\\([\\,=])")


def parse_fields(text: str, kind: Kind[Any]) -> FieldSelector:
    """The selector of `path=value,path!=value`; BadRequest for bad syntax and for fields the kind can't select by."""
    found = []
    for term in _TERMS.findall(text):
        match = _FIELD_TERM.fullmatch(term.strip())
        if match is None:
            raise BadRequest(f'invalid field selector "{text}": can\'t understand "{term}"')
        path, operator, value = match.groups()
        if path not in _ALWAYS_SELECTABLE and path not in kind.rules.selectable_fields:
            raise BadRequest(f'"{path}" is not a known field selector of {kind}')
        found.append(FieldRequirement(path, "!=" if operator == "!=" else "==", _ESCAPED.sub(r"\1", value)))
    return FieldSelector(tuple(found))


def field_value(tree: Mapping[str, Any], path: str) -> str:
    """What a selector compares: the text of a scalar field, empty when it is absent."""
    value: Any = tree
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
