"""Rules of Network and NetworkPolicy beyond their schemas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from services.apimachinery.errors import Cause
from services.apimachinery.schema import causes as say
from services.apimachinery.schema.hooks import KindHooks
from services.apimachinery.schema.schema import Tree
from services.core.model import renderers
from services.core.model.addresses import is_inside, network_of

SELECTABLE: Final = ("LoadBalancer", "NetworkInterface", "VirtualIP")
"""Kinds that the object selector of a policy's peer may name."""


class NetworkHooks(KindHooks):
    """Peers are other networks, each at most once."""

    def validate(self, new: Tree, old: Tree | None) -> list[Cause]:
        """Peerings, their prefixes, and incoming peerings."""
        own = _target(new["metadata"], "")
        spec = new.get("spec", {})
        found = [*_check_peers(spec.get("peerings", []), "spec.peerings", own, "networkRef")]
        found += _check_exposed(spec.get("peerings", []))
        found += _check_peers(spec.get("incomingPeerings", []), "spec.incomingPeerings", own, "")
        return found


class NetworkPolicyHooks(KindHooks):
    """The policy types follow from the rules; ports and peers make sense."""

    renderers = {"interface-selector": renderers.interface_selector}  # noqa: RUF012

    def default(self, tree: Tree) -> None:
        """Adds the types of the rules that there are; sorts the types."""
        spec = tree.get("spec", {})
        types = list(spec.get("policyTypes", []))
        for member, name in (("ingress", "Ingress"), ("egress", "Egress")):
            if spec.get(member) and name not in types:
                types.append(name)
        if types:
            spec["policyTypes"] = sorted(types)

    def validate(self, new: Tree, old: Tree | None) -> list[Cause]:
        """Each rule's ports and peers."""
        spec = new.get("spec", {})
        found: list[Cause] = []
        if not spec.get("policyTypes"):
            found.append(say.required("spec.policyTypes", "a policy without rules must say what it is about"))
        for member, peers in (("ingress", "from"), ("egress", "to")):
            for at, rule in enumerate(spec.get(member, [])):
                path = f"spec.{member}[{at}]"
                for index, port in enumerate(rule.get("ports", [])):
                    found += _check_port(port, f"{path}.ports[{index}]")
                for index, peer in enumerate(rule.get(peers, [])):
                    found += _check_peer(peer, f"{path}.{peers}[{index}]")
        return found


def _target(reference: Tree, namespace: str) -> tuple[str, str]:
    return reference.get("namespace") or namespace, reference.get("name", "")


def _check_peers(items: list[Tree], path: str, own: tuple[str, str], member: str) -> Iterator[Cause]:
    seen: set[tuple[str, str]] = set()
    for at, item in enumerate(items):
        below = f"{path}[{at}].{member}" if member else f"{path}[{at}]"
        target = _target(item.get(member, {}) if member else item, own[0])
        if target == own:
            yield say.forbidden(below, "a network can't peer with itself")
        elif target in seen:
            yield say.duplicate(below, "/".join(target))
        seen.add(target)


def _check_exposed(peerings: list[Tree]) -> Iterator[Cause]:
    used_names: set[str] = set()
    used_references: set[str] = set()
    for at, peering in enumerate(peerings):
        for index, prefix in enumerate(peering.get("prefixes", [])):
            path = f"spec.peerings[{at}].prefixes[{index}]"
            name, reference = prefix.get("name", ""), prefix.get("prefixRef", {}).get("name", "")
            if name in used_names:
                yield say.duplicate(f"{path}.name", name)
            if reference and reference in used_references:
                yield say.duplicate(f"{path}.prefixRef.name", reference)
            used_names.add(name)
            used_references.add(reference)


def _check_port(port: Tree, path: str) -> Iterator[Cause]:
    last, first = port.get("endPort"), port.get("port", 0)
    if last is None:
        return
    if not first:
        yield say.forbidden(f"{path}.endPort", "needs port")
    elif last < first:
        yield say.invalid_value(f"{path}.endPort", last, "must not be less than port")


def _check_peer(peer: Tree, path: str) -> Iterator[Cause]:
    kind = peer.get("objectSelector", {}).get("kind", "")
    if kind and kind not in SELECTABLE:
        yield say.not_supported(f"{path}.objectSelector.kind", kind, SELECTABLE)
    block = peer.get("ipBlock", {})
    whole = network_of(block.get("cidr", ""))
    for at, text in enumerate(block.get("except", [])):
        part = network_of(text)
        if whole is not None and part is not None and not is_inside(part, whole):
            yield say.invalid_value(f"{path}.ipBlock.except[{at}]", text, f"must be inside {whole}")
