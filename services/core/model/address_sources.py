"""Rules that NetworkInterface and LoadBalancer share: families, addresses and the prefixes made for them."""

from __future__ import annotations

from collections.abc import Iterator

from services.apimachinery.errors import Cause
from services.apimachinery.schema import causes as say
from services.apimachinery.schema.formats import dns_subdomain
from services.apimachinery.schema.hooks import KindHooks
from services.apimachinery.schema.schema import Tree
from services.core.model import names, prefix_rules
from services.core.model.addresses import FULL_LENGTH, family_of_text, network_of


class NetworkInterfaceHooks(KindHooks):
    """One address per family; prefixes made for the interface have names made from its own."""

    def default(self, tree: Tree) -> None:
        """See `default_interface`."""
        default_interface(tree.get("spec", {}))

    def validate(self, new: Tree, old: Tree | None) -> list[Cause]:
        """See `check_interface`; here the derived names are known too."""
        spec, name = new.get("spec", {}), new.get("metadata", {}).get("name", "")
        found = check_interface(spec, "spec")
        found += check_derived_names(spec, "ips", [names.ip_prefix(name, at) for at in range(len(_ips(spec)))])
        prefixes = range(len(spec.get("prefixes", [])))
        found += check_derived_names(spec, "prefixes", [names.routed_prefix(name, at) for at in prefixes])
        return found


def default_interface(spec: Tree) -> None:
    """Fills in families and the prefix templates of a NetworkInterface's spec."""
    default_addresses(spec)
    for source in spec.get("prefixes", []):
        template = template_of(source)
        if template is not None:
            prefix_rules.default_spec(template)


def default_addresses(spec: Tree) -> None:
    """Fills in ipFamilies from ips, or the families of ips from ipFamilies, and lengths of single addresses."""
    families, ips = spec.get("ipFamilies", []), _ips(spec)
    if families and len(families) == len(ips):
        for family, source in zip(families, ips, strict=True):
            template = template_of(source)
            if template is not None and not template.get("ipFamily"):
                template["ipFamily"] = family
    elif not families and ips:
        spec["ipFamilies"] = [family for source in ips if (family := _family_of_source(source))]
    for source in ips:
        template = template_of(source)
        if template is None:
            continue
        if not template.get("prefix") and not template.get("prefixLength"):
            length = FULL_LENGTH.get(template.get("ipFamily", ""))
            if length is not None:
                template["prefixLength"] = length
        prefix_rules.default_spec(template)


def check_interface(spec: Tree, path: str) -> list[Cause]:
    """The rules of a NetworkInterface's spec, also within a template."""
    found = check_addresses(spec, path)
    if len(_ips(spec)) != len(spec.get("ipFamilies", [])):
        found.append(say.invalid_value(f"{path}.ips", len(_ips(spec)), "must have one address per family"))
    for at, source in enumerate(spec.get("prefixes", [])):
        template = template_of(source)
        if template is not None:
            found += prefix_rules.check_spec(template, f"{path}.prefixes[{at}].ephemeral.prefixTemplate.spec")
    return found


def check_addresses(spec: Tree, path: str) -> list[Cause]:
    """The rules of each address that has a family at its index."""
    found: list[Cause] = []
    for at, (family, source) in enumerate(zip(spec.get("ipFamilies", []), _ips(spec), strict=False)):
        below = f"{path}.ips[{at}]"
        value = source.get("value", "")
        if value and family_of_text(value) not in (None, family):
            found.append(say.invalid_value(f"{below}.value", value, f"must be of family {family}"))
        template = template_of(source)
        if template is not None:
            below = f"{below}.ephemeral.prefixTemplate.spec"
            found += _single_address(template, family, below)
            found += prefix_rules.check_spec(template, below)
    return found


def check_derived_names(spec: Tree, member: str, derived: list[str]) -> Iterator[Cause]:
    """The names of the prefixes made for spec.<member> must be possible."""
    for at, (source, name) in enumerate(zip(spec.get(member, []), derived, strict=True)):
        if "ephemeral" in source and (why := dns_subdomain(name)):
            yield say.invalid_value(f"spec.{member}[{at}].ephemeral", name, f"the name of the made Prefix {why}")


def template_of(source: Tree) -> Tree | None:
    """The spec of the prefix that is made for an address, or None for an address that is given."""
    template: Tree | None = source.get("ephemeral", {}).get("prefixTemplate", {}).get("spec")
    return template


def _ips(spec: Tree) -> list[Tree]:
    ips: list[Tree] = spec.get("ips", [])
    return ips


def _family_of_source(source: Tree) -> str | None:
    template = template_of(source)
    return family_of_text(source.get("value", "")) if template is None else template.get("ipFamily")


def _single_address(template: Tree, family: str, path: str) -> Iterator[Cause]:
    if template.get("ipFamily", family) != family:
        yield say.forbidden(f"{path}.ipFamily", f"must be {family}, the family at this index")
    network, full = network_of(template.get("prefix", "")), FULL_LENGTH.get(template.get("ipFamily", family), 128)
    if network is not None:
        if network.prefixlen != network.max_prefixlen:
            yield say.forbidden(f"{path}.prefix", "must be a single address")
    elif template.get("prefixLength") != full:
        yield say.forbidden(f"{path}.prefixLength", f"must be {full}: a single address")
