"""Rules of Prefix and PrefixAllocation beyond their schemas."""

from __future__ import annotations

from collections.abc import Iterator

from services.apimachinery.errors import Cause
from services.apimachinery.schema import causes as say
from services.apimachinery.schema.hooks import KindHooks
from services.apimachinery.schema.schema import Tree
from services.core.model import renderers
from services.core.model.addresses import FULL_LENGTH, IPNetwork, family_of, family_of_text, is_inside, network_of


class PrefixHooks(KindHooks):
    """A root stands for itself, a child asks for a part of its parent."""

    def default(self, tree: Tree) -> None:
        """Takes the family from the prefix."""
        default_spec(tree.get("spec", {}))

    def validate(self, new: Tree, old: Tree | None) -> list[Cause]:
        """The rules of `check_spec`, of change, and of the status."""
        spec = new.get("spec", {})
        found = check_spec(spec, "spec")
        if old is not None and "parentRef" in spec and is_root(old.get("spec", {})):
            found.append(say.forbidden("spec.parentRef", say.IMMUTABLE))
        found += _check_status(spec, new.get("status", {}))
        if old is not None and _phase(old) == "Allocated" and _phase(new) != "Allocated":
            found.append(say.forbidden("status.phase", "an allocated prefix stays allocated"))
        return found


class PrefixAllocationHooks(KindHooks):
    """The answer fits the request, and is final."""

    renderers = {"prefix-request": renderers.prefix_request}  # noqa: RUF012

    def default(self, tree: Tree) -> None:
        """Takes the family from the prefix."""
        default_spec(tree.get("spec", {}))

    def validate(self, new: Tree, old: Tree | None) -> list[Cause]:
        """Family and length of the request, and the status against it."""
        spec = new.get("spec", {})
        found = [*_check_family(spec, "spec"), *_check_answer(spec, new.get("status", {}))]
        if old is not None and _phase(old) in ("Allocated", "Failed") and _phase(new) != _phase(old):
            found.append(say.forbidden("status.phase", f"{_phase(old)} is final"))
        return found


def default_spec(spec: Tree) -> None:
    """Takes the family from the prefix when that alone says it."""
    if not spec.get("ipFamily") and not spec.get("prefixLength"):
        family = family_of_text(spec.get("prefix", ""))
        if family is not None:
            spec["ipFamily"] = family


def is_root(spec: Tree) -> bool:
    """Whether the prefix has no parent and looks for none."""
    return "parentRef" not in spec and "parentSelector" not in spec


def check_spec(spec: Tree, path: str) -> list[Cause]:
    """The rules of a prefix's spec, also within a template."""
    found = [*_check_family(spec, path)]
    prefix, length = spec.get("prefix", ""), spec.get("prefixLength", 0)
    if is_root(spec):
        if not prefix:
            found.append(say.required(f"{path}.prefix", "a prefix without parent needs its range"))
        if length:
            found.append(say.forbidden(f"{path}.prefixLength", "only a prefix with a parent can ask for a length"))
        return found
    network = network_of(prefix)
    if not prefix and not length:
        found.append(say.invalid_value(path, {}, "prefix or prefixLength must be set"))
    elif network is not None and length and length != network.prefixlen:
        found.append(say.invalid_value(f"{path}.prefixLength", length, f"must be the length of prefix {prefix}"))
    return found


def _check_family(spec: Tree, path: str) -> Iterator[Cause]:
    prefix, length, family = spec.get("prefix", ""), spec.get("prefixLength", 0), spec.get("ipFamily", "")
    actual = family_of_text(prefix)
    if actual is not None and family and actual != family:
        yield say.invalid_value(f"{path}.prefix", prefix, f"must be of family {family}")
    if length > FULL_LENGTH.get(family, 128):
        yield say.invalid_value(f"{path}.prefixLength", length, f"must be at most {FULL_LENGTH[family]} for {family}")


def _phase(tree: Tree) -> str:
    return str(tree.get("status", {}).get("phase", "Pending"))


def _check_status(spec: Tree, status: Tree) -> Iterator[Cause]:
    used = status.get("used", [])
    if status.get("phase", "Pending") != "Allocated":
        if used:
            yield say.forbidden("status.used", "only an allocated prefix can be used")
        return
    own = network_of(spec.get("prefix", ""))
    if own is None:
        yield say.forbidden("status.phase", "spec.prefix needs to be set first")
    elif "parentSelector" in spec and "parentRef" not in spec:
        yield say.forbidden("status.phase", "spec.parentRef needs to be set first")
    seen: list[IPNetwork] = []
    for at, text in enumerate(used):
        network = network_of(text)
        if network is None:
            continue
        if own is not None and not is_inside(network, own):
            yield say.invalid_value(f"status.used[{at}]", text, f"must be inside {own}")
        if any(is_inside(network, other) or is_inside(other, network) for other in seen):
            yield say.invalid_value(f"status.used[{at}]", text, "must not overlap another used range")
        seen.append(network)


def _check_answer(spec: Tree, status: Tree) -> Iterator[Cause]:
    text, phase = status.get("prefix", ""), status.get("phase", "Pending")
    if not text:
        if phase == "Allocated":
            yield say.required("status.prefix", "an allocation is a range")
        return
    if phase != "Allocated":
        yield say.forbidden("status.prefix", f"must not be set while the phase is {phase}")
    if "prefixRef" not in spec:
        yield say.forbidden("status.prefix", "spec.prefixRef needs to be set first")
    network = network_of(text)
    if network is None:
        return
    if family_of(network) != spec.get("ipFamily"):
        yield say.invalid_value("status.prefix", text, f"must be of family {spec.get('ipFamily')}")
    asked, length = network_of(spec.get("prefix", "")), spec.get("prefixLength", 0)
    if asked is not None and network != asked:
        yield say.forbidden("status.prefix", f"{asked} was asked for")
    if length and network.prefixlen != length:
        yield say.forbidden("status.prefix", f"a length of {length} was asked for")
