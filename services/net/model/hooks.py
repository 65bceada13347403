"""Rules across the fields of net's kinds."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

from services.apimachinery.errors import Cause
from services.apimachinery.schema.causes import duplicate, forbidden, invalid_value, required
from services.apimachinery.schema.hooks import KindHooks
from services.apimachinery.schema.schema import Tree
from services.net.model.vni import DEFAULT_MAX, PUBLIC


class NetworkHooks(KindHooks):
    """A network's own number and those of its peers are canonical decimal VNIs of 24 bits."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high

    def validate(self, new: Tree, old: Tree | None) -> list[Cause]:
        spec = new.get("spec", {})
        own = spec.get("id", "")
        causes = []
        if own and (not _is_vni(own, self._low, self._high) or int(own) == PUBLIC):
            rule = f"must be a decimal number from {self._low} to {self._high}, but not {PUBLIC}"
            causes.append(invalid_value("spec.id", own, rule))
        peerings: list[dict[str, Any]] = spec.get("peerings", [])
        causes += _duplicates("spec.peerings", peerings, lambda peering: peering["name"], "name")
        causes += _duplicates("spec.peerings", peerings, lambda peering: peering["id"], "id")
        for index, peering in enumerate(peerings):
            path = f"spec.peerings[{index}].id"
            if not _is_vni(peering["id"], 1, DEFAULT_MAX):
                causes.append(invalid_value(path, peering["id"], f"must be a decimal number from 1 to {DEFAULT_MAX}"))
            elif peering["id"] == own:
                causes.append(invalid_value(path, peering["id"], "a network can't be its own peer"))
        return causes


class NetworkInterfaceHooks(KindHooks):
    """On a node, in a network; at most one address a family; a family with a public address needs no NAT gateway."""

    def default(self, tree: Tree) -> None:
        for public in tree.get("spec", {}).get("publicIPs", []):
            # Validation comes later: what is no address has no family, and is refused then.
            if not public.get("ipFamily") and (address := canonical(public.get("ip"))):
                public["ipFamily"] = _family(address)

    def validate(self, new: Tree, old: Tree | None) -> list[Cause]:
        spec = new.get("spec", {})
        public: list[dict[str, Any]] = spec.get("publicIPs", [])
        gateways: list[dict[str, Any]] = spec.get("natGateways", [])
        causes = [required(f"spec.{ref}.name") for ref in ("nodeRef", "networkRef") if not spec[ref].get("name")]
        causes += _duplicates("spec.ips", spec.get("ips", []), _family, "")
        causes += _duplicates("spec.publicIPs", public, lambda item: item["ipFamily"], "ipFamily")
        causes += _duplicates("spec.natGateways", gateways, lambda item: item["ipFamily"], "ipFamily")
        for index, item in enumerate(public):
            if item.get("ip") and _family(item["ip"]) != item["ipFamily"]:
                causes.append(invalid_value(f"spec.publicIPs[{index}].ip", item["ip"], f"is not {item['ipFamily']}"))
        families = {item["ipFamily"] for item in public}
        for index, gateway in enumerate(gateways):
            if gateway["ipFamily"] in families:
                family = gateway["ipFamily"]
                causes.append(forbidden(f"spec.natGateways[{index}]", f"the interface has a public {family} address"))
        return causes


def canonical(text: Any) -> str | None:
    """The one way to write an IP address, None for what is none."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def _family(address: str) -> str:
    return f"IPv{ipaddress.ip_address(address).version}"


def _is_vni(text: str, low: int, high: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10 and str(int(text)) == text and low <= int(text) <= high


def _duplicates(path: str, items: Iterable[Any], value_of: Callable[[Any], str], member: str) -> list[Cause]:
    seen: set[str] = set()
    causes = []
    for index, item in enumerate(items):
        value = value_of(item)
        if value in seen:
            causes.append(duplicate(f"{path}[{index}]" + (f".{member}" if member else ""), value))
        seen.add(value)
    return causes
