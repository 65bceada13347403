"""Rules across the fields of metalnet's kinds."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any, Final

from services.apimachinery.errors import Cause
from services.apimachinery.schema.causes import duplicate, forbidden, invalid_value, not_supported
from services.apimachinery.schema.hooks import KindHooks
from services.apimachinery.schema.schema import Tree

DIRECTIONS: Final = ("ingress", "egress", "0", "1")
ACTIONS: Final = ("accept", "allow", "drop", "deny", "0", "1")


class NetworkHooks(KindHooks):
    """A network is not its own peer."""

    def validate(self, new: Tree, old: Tree | None) -> list[Cause]:
        spec = new["spec"]
        return [
            invalid_value(f"spec.peeredIDs[{index}]", peer, "a network can't be its own peer")
            for index, peer in enumerate(spec.get("peeredIDs", []))
            if peer == spec["id"]
        ]


class LoadBalancerHooks(KindHooks):
    """The address is of the family given for it."""

    def validate(self, new: Tree, old: Tree | None) -> list[Cause]:
        spec = new["spec"]
        if f"IPv{ip_address(spec['ip']).version}" == spec["ipFamily"]:
            return []
        return [invalid_value("spec.ip", spec["ip"], f"is not {spec['ipFamily']}")]


class NetworkInterfaceHooks(KindHooks):
    """Addresses are of the families given for them; ranges are not empty; firewall rules make sense."""

    def validate(self, new: Tree, old: Tree | None) -> list[Cause]:
        spec = new["spec"]
        causes = _addresses(spec)
        nat = spec.get("nat")
        if nat and nat["endPort"] < nat["port"]:
            causes.append(invalid_value("spec.nat.endPort", nat["endPort"], "must not be below port"))
        rates = spec.get("meteringRate", {})
        if 0 < rates.get("totalRate", 0) < rates.get("publicRate", 0):
            causes.append(invalid_value("spec.meteringRate.totalRate", rates["totalRate"], "is below publicRate"))
        for index, target in enumerate(spec.get("loadBalancerTargets", [])):
            network = ip_network(target, strict=False)
            if network.prefixlen != network.max_prefixlen:
                detail = f"must be one address: /{network.max_prefixlen}"
                causes.append(invalid_value(f"spec.loadBalancerTargets[{index}]", target, detail))
        seen: set[str] = set()
        for index, rule in enumerate(spec.get("firewallRules", [])):
            path = f"spec.firewallRules[{index}]"
            if rule["firewallRuleID"] in seen:
                causes.append(duplicate(f"{path}.firewallRuleID", rule["firewallRuleID"]))
            seen.add(rule["firewallRuleID"])
            causes += _firewall_rule(rule, path)
        return causes


def _addresses(spec: Tree) -> list[Cause]:
    addresses, families = spec["ips"], spec["ipFamilies"]
    if len(addresses) != len(families):
        return [invalid_value("spec.ipFamilies", families, "must have one entry for each of spec.ips")]
    return [
        invalid_value(f"spec.ips[{index}]", address, f"is not {family}")
        for index, (address, family) in enumerate(zip(addresses, families, strict=True))
        if f"IPv{ip_address(address).version}" != family
    ]


def _firewall_rule(rule: dict[str, Any], path: str) -> list[Cause]:
    causes = _choice(rule["direction"], f"{path}.direction", DIRECTIONS)
    causes += _choice(rule["action"], f"{path}.action", ACTIONS)
    for name in ("sourcePrefix", "destinationPrefix"):
        prefix = rule.get(name)
        if prefix and f"IPv{ip_network(prefix, strict=False).version}" != rule["ipFamily"]:
            causes.append(invalid_value(f"{path}.{name}", prefix, f"is not {rule['ipFamily']}"))
    match = rule.get("protocolMatch")
    return causes + (_protocol_match(match, f"{path}.protocolMatch") if match else [])


def _protocol_match(match: dict[str, Any], path: str) -> list[Cause]:
    protocol = match["protocolType"].upper()
    causes = []
    if match.get("icmp") and protocol != "ICMP":
        causes.append(forbidden(f"{path}.icmp", f"{protocol} has no ICMP messages"))
    ports = match.get("portRange")
    if ports and protocol == "ICMP":
        causes.append(forbidden(f"{path}.portRange", "ICMP has no ports"))
    for first, last in (("srcPort", "endSrcPort"), ("dstPort", "endDstPort")):
        start, end = (ports or {}).get(first, -1), (ports or {}).get(last, 0)
        if end > 0 and (start == -1 or end < start):
            causes.append(
                invalid_value(f"{path}.portRange.{last}", end, f"must not be below {first}, which is {start}")
            )
    return causes


def _choice(value: str, path: str, choices: Sequence[str]) -> list[Cause]:
    return [] if value.lower() in choices else [not_supported(path, value, choices)]
