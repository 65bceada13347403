"""Rules of LoadBalancer beyond its schema."""

from __future__ import annotations

from collections.abc import Iterator

from services.apimachinery.errors import Cause
from services.apimachinery.schema import causes as say
from services.apimachinery.schema.hooks import KindHooks
from services.apimachinery.schema.schema import Tree
from services.core.model import names
from services.core.model.address_sources import check_addresses, check_derived_names, default_addresses


class LoadBalancerHooks(KindHooks):
    """Public ones get their addresses from the network plugin; port ranges of a protocol stay apart."""

    def default(self, tree: Tree) -> None:
        """Drops the addresses of a public one, then fills in families and lengths."""
        spec = tree.get("spec", {})
        if spec.get("type") == "Public":
            spec.pop("ips", None)
        default_addresses(spec)

    def validate(self, new: Tree, old: Tree | None) -> list[Cause]:
        """Addresses, derived names, ports."""
        spec, name = new.get("spec", {}), new.get("metadata", {}).get("name", "")
        found = check_addresses(spec, "spec")
        found += check_derived_names(spec, "ips", [names.ip_prefix(name, at) for at in range(len(spec.get("ips", [])))])
        found += _check_ports(spec.get("ports", []))
        return found


def _check_ports(ports: list[Tree]) -> Iterator[Cause]:
    seen: list[tuple[str, int, int]] = []
    for at, item in enumerate(ports):
        path, first, protocol = f"spec.ports[{at}]", int(item.get("port", 0)), item.get("protocol") or "TCP"
        last = int(item.get("endPort", first))
        if last < first:
            yield say.invalid_value(f"{path}.endPort", last, "must not be less than port")
            continue
        for other, low, high in seen:
            if other == protocol and first <= high and low <= last:
                yield say.forbidden(path, f"overlaps {protocol} ports {low} to {high}")
                break
        seen.append((protocol, first, last))
