"""The checks that a field's options stand for: each looks at one value that is present."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

from services.apimachinery.errors import Cause
from services.apimachinery.schema import causes as say
from services.apimachinery.schema import formats
from services.apimachinery.schema.quantity import Quantity
from services.apimachinery.schema.schema import Field, ListType, Schema, Tree, Type

Check = Callable[[Any, str, list[Cause]], None]


@cache
def checks_of(member: Field) -> list[Check]:
    """The checks of a field; TypeError for options that its type can't have."""
    return [*_value_checks(member), *_list_checks(member), *_object_checks(member)]


def _value_checks(member: Field) -> Iterator[Check]:
    """Checks of a scalar, of each item of a list and of each value of a map."""
    rules = member.rules
    one: list[Check] = []
    if rules.values:
        one.append(_allowed(frozenset(rules.values)))
    if rules.HasField("minimum") or rules.HasField("maximum"):
        low = rules.minimum if rules.HasField("minimum") else None
        one.append(_within(low, rules.maximum if rules.HasField("maximum") else None))
    if rules.positive or rules.non_negative:
        one.append(_amount(_scalar(member.schema), positive=rules.positive))
    if rules.power_of_two:
        one.append(_power_of_two)
    if rules.format:
        yield from _format_checks(member, one)
    for check in one:
        yield _each(member.schema, check)


def _format_checks(member: Field, one: list[Check]) -> Iterator[Check]:
    name, schema = member.rules.format, member.schema
    if name == "labels":
        yield check_labels
    elif name == "label-selector":
        yield _label_selector
    elif name not in formats.FORMATS:
        raise TypeError(f"{member.path[-1].full_name}: unknown format {name!r}")
    elif schema.type is Type.OBJECT:
        yield _reference(formats.FORMATS[name])
    elif _scalar(schema).type is Type.OBJECT:
        one.append(_reference(formats.FORMATS[name]))
    else:
        one.append(_formatted(formats.FORMATS[name], secret=member.rules.secret))


def _list_checks(member: Field) -> Iterator[Check]:
    rules = member.rules
    if rules.HasField("min_items"):
        yield _at_least(rules.min_items)
    if rules.HasField("max_items"):
        yield _at_most(rules.max_items)
    if member.schema.type is not Type.LIST:
        return
    if member.list_type is ListType.MAP:
        yield _unique_keys(member)
    elif rules.unique_items or member.list_type is ListType.SET:
        yield _unique


def _object_checks(member: Field) -> Iterator[Check]:
    rules = member.rules
    if rules.allowed_members:
        yield _only_members(frozenset(rules.allowed_members))
    if rules.required_keys:
        yield _keys_required(tuple(rules.required_keys))
    if rules.allowed_keys:
        yield _keys_allowed(frozenset(rules.allowed_keys))


def _scalar(schema: Schema) -> Schema:
    return schema.of if schema.type in (Type.LIST, Type.MAP) else schema


def _each(schema: Schema, check: Check) -> Check:
    def check_items(items: list[Any], path: str, found: list[Cause]) -> None:
        for at, item in enumerate(items):
            check(item, f"{path}[{at}]", found)

    def check_entries(entries: Tree, path: str, found: list[Cause]) -> None:
        for name, entry in entries.items():
            check(entry, f"{path}.{name}", found)

    if schema.type is Type.LIST:
        return check_items
    return check_entries if schema.type is Type.MAP else check


def _allowed(values: frozenset[str]) -> Check:
    def check(value: str, path: str, found: list[Cause]) -> None:
        if value not in values:
            found.append(say.not_supported(path, value, values))

    return check


def _within(low: int | None, high: int | None) -> Check:
    def check(value: int, path: str, found: list[Cause]) -> None:
        if low is not None and value < low:
            found.append(say.invalid_value(path, value, f"must be greater than or equal to {low}"))
        if high is not None and value > high:
            found.append(say.invalid_value(path, value, f"must be less than or equal to {high}"))

    return check


def _amount(schema: Schema, *, positive: bool) -> Check:
    quantity = schema.type is Type.QUANTITY

    def check(value: Any, path: str, found: list[Cause]) -> None:
        amount = Quantity.parse(value).nano if quantity else value
        if amount < 0 or (positive and amount == 0):
            rule = "must be greater than zero" if positive else "must be greater than or equal to 0"
            found.append(say.invalid_value(path, value, rule))

    return check


def _power_of_two(value: int, path: str, found: list[Cause]) -> None:
    if value <= 0 or value & (value - 1):
        found.append(say.invalid_value(path, value, "must be a power of two"))


def _formatted(fits: formats.Check, *, secret: bool) -> Check:
    def check(value: str, path: str, found: list[Cause]) -> None:
        if why := fits(value):
            found.append(say.invalid_value(path, "<hidden>" if secret else value, why))

    return check


def _reference(fits: formats.Check) -> Check:
    def check(value: Tree, path: str, found: list[Cause]) -> None:
        name = value.get("name")
        if name and (why := fits(name)):
            found.append(say.invalid_value(f"{path}.name", name, why))

    return check


def check_labels(labels: Tree, path: str, found: list[Cause]) -> None:
    """Keys and values of a map of labels."""
    for key, value in labels.items():
        if why := formats.qualified_name(key):
            found.append(say.invalid_value(path, key, why))
        if why := formats.label_value(value):
            found.append(say.invalid_value(f"{path}.{key}", value, why))


def _label_selector(selector: Tree, path: str, found: list[Cause]) -> None:
    check_labels(selector.get("matchLabels", {}), f"{path}.matchLabels", found)
    for at, expression in enumerate(selector.get("matchExpressions", [])):
        _label_requirement(expression, f"{path}.matchExpressions[{at}]", found)


_WITH_VALUES: Final = frozenset({"In", "NotIn"})
_WITHOUT_VALUES: Final = frozenset({"Exists", "DoesNotExist"})


def _label_requirement(expression: Tree, path: str, found: list[Cause]) -> None:
    operator, values, key = expression.get("operator"), expression.get("values", []), expression.get("key", "")
    if operator in _WITH_VALUES and not values:
        found.append(say.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in _WITHOUT_VALUES and values:
        rule = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        found.append(say.forbidden(f"{path}.values", rule))
    if key and (why := formats.qualified_name(key)):
        found.append(say.invalid_value(f"{path}.key", key, why))
    for at, value in enumerate(values):
        if why := formats.label_value(value):
            found.append(say.invalid_value(f"{path}.values[{at}]", value, why))


def _at_least(least: int) -> Check:
    def check(items: Any, path: str, found: list[Cause]) -> None:
        if len(items) < least:
            found.append(say.invalid_value(path, len(items), f"must have at least {least} items"))

    return check


def _at_most(most: int) -> Check:
    def check(items: Any, path: str, found: list[Cause]) -> None:
        if len(items) > most:
            found.append(say.too_many(path, len(items), most))

    return check


def _unique(items: list[Any], path: str, found: list[Cause]) -> None:
    seen: list[Any] = []
    for at, item in enumerate(items):
        if item in seen:
            found.append(say.duplicate(f"{path}[{at}]", item))
        seen.append(item)


def _unique_keys(member: Field) -> Check:
    names = member.map_keys

    def check(items: list[Tree], path: str, found: list[Cause]) -> None:
        seen = set()
        for at, item in enumerate(items):
            key = tuple([item.get(name, "") for name in names])
            if key in seen:
                several = len(key) > 1
                place = f"{path}[{at}]" if several else f"{path}[{at}].{names[0]}"
                found.append(say.duplicate(place, dict(zip(names, key, strict=True)) if several else key[0]))
            seen.add(key)

    return check


def _only_members(allowed: frozenset[str]) -> Check:
    def check(tree: Tree, path: str, found: list[Cause]) -> None:
        for name, value in tree.items():
            if value and name not in allowed:
                found.append(say.forbidden(f"{path}.{name}", f"only {', '.join(sorted(allowed))} may be set here"))

    return check


def _keys_required(keys: tuple[str, ...]) -> Check:
    def check(entries: Tree, path: str, found: list[Cause]) -> None:
        found.extend(say.required(f"{path}.{key}") for key in keys if key not in entries)

    return check


def _keys_allowed(keys: frozenset[str]) -> Check:
    def check(entries: Tree, path: str, found: list[Cause]) -> None:
        found.extend(say.not_supported(f"{path}.{key}", key, keys) for key in entries if key not in keys)

    return check
