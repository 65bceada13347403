"""From a NetworkInterface to what it wants of the data plane; the agent checks by itself what its API server should."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from protos.metalnet.v1alpha1.network_interface_pb2 import NetworkInterface, NetworkInterfaceSpec
from protos.metalnet.v1alpha1.network_pb2 import NetworkSpec
from services.metalnet.model.overlay import InterfaceId, IPAddress, Prefix, Rates, Vni, Wanted


class Unusable(Exception):
    """The spec can't be realised; the text names the field and the rule."""


def wanted_interface(nic: NetworkInterface, network: NetworkSpec, *, ipv6: bool) -> Wanted:
    """What the interface wants in its network; `ipv6` says whether this host carries IPv6. Raises Unusable."""
    addresses = _addresses(nic.spec)
    if 6 in addresses and not ipv6:
        raise Unusable(f"spec.ips: {addresses[6]} is IPv6, which this node's agent was not started with")
    ipv4, ipv6_address = addresses.get(4), addresses.get(6)
    assert ipv4 is None or isinstance(ipv4, IPv4Address)
    assert ipv6_address is None or isinstance(ipv6_address, IPv6Address)
    return Wanted(
        id=InterfaceId(nic.metadata.uid),
        vni=Vni(network.id),
        ipv4=ipv4,
        ipv6=ipv6_address,
        hostname=nic.spec.hostname,
        rates=_rates(nic.spec),
        prefixes=_prefixes(nic.spec),
        peers=tuple(Vni(peer) for peer in network.peered_ids),
    )


def not_carried_out(spec: NetworkInterfaceSpec) -> list[str]:
    """The parts of a spec that this agent does not program."""
    parts = {
        "virtualIP": bool(spec.virtual_ip),
        "nat": spec.HasField("nat"),
        "loadBalancerTargets": bool(spec.load_balancer_targets),
        "firewallRules": bool(spec.firewall_rules),
    }
    return [name for name, asked in parts.items() if asked]


def _addresses(spec: NetworkInterfaceSpec) -> dict[int, IPAddress]:
    if len(spec.ips) != len(spec.ip_families):
        raise Unusable("spec.ipFamilies: must have one entry for each of spec.ips")
    found: dict[int, IPAddress] = {}
    for index, (text, family) in enumerate(zip(spec.ips, spec.ip_families, strict=True)):
        try:
            address = ip_address(text)
        except ValueError:
            raise Unusable(f"spec.ips[{index}]: {text!r} is not an IP address") from None
        if family != f"IPv{address.version}":
            raise Unusable(f"spec.ips[{index}]: {address} is not {family}")
        if address.version in found:
            raise Unusable(f"spec.ips[{index}]: only one {family} address is possible")
        if address.is_unspecified:
            raise Unusable(f"spec.ips[{index}]: {address} is not the address of a machine")
        found[address.version] = address
    if not found:
        raise Unusable("spec.ips: at least one address is required")
    return found


def _prefixes(spec: NetworkInterfaceSpec) -> tuple[Prefix, ...]:
    found: dict[Prefix, None] = {}
    for index, text in enumerate(spec.prefixes):
        try:
            found[ip_network(text, strict=False)] = None
        except ValueError:
            raise Unusable(f"spec.prefixes[{index}]: {text!r} is not a prefix") from None
    return tuple(found)


def _rates(spec: NetworkInterfaceSpec) -> Rates:
    rates = Rates(spec.metering_rate.total_rate, spec.metering_rate.public_rate)
    if 0 < rates.total < rates.public:
        raise Unusable("spec.meteringRate.totalRate: must not be below publicRate")
    return rates
