"""Rows as entries of BPF maps and back. Pure; layouts come from the BTF of the programs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from services.dpservice.engine.btf import Btf
from services.dpservice.engine.interface import Delivery, GuestLink
from services.dpservice.guest.templates import Templates
from services.dpservice.model.keys import NeighborKey, PublicKey, SourceKey
from services.dpservice.model.maglev import SLOTS, table
from services.dpservice.model.packet_rows import PacketBalancer, PacketRule, Port, Public
from services.dpservice.model.rows import (
    BalancerNumber,
    Function,
    FunctionKind,
    Hop,
    IPAddress,
    IPNetwork,
    LocalHop,
    NatSlice,
    PortNumber,
    Protocol,
    RemoteHop,
    Vni,
)
from services.dpservice.model.underlay import UnderlayAddress

VNI_BITS: Final = 32  # in front of the prefix in a route's key
NEIGHBOR_BITS: Final = 64  # VNI and address in front of the port
SOURCE_BITS: Final = 96  # port, family and zero in front of the prefix
NO_PORT: Final = 0xFFFFFFFF
ROUTE_BUCKETS: Final = 4096  # as in layout_flows.h
WORD: Final = 0xFFFFFFFF
ROUTE_KEY_HEADS: Final = tuple((VNI_BITS + length).to_bytes(4, "little") for length in range(129))
"""What route keys begin with, by the prefix's length."""
BALANCER_PORT: Final = struct.Struct("<HBx")
STRUCTS: Final = (
    *("port", "guest_mac", "usage", "route_key4", "route_key6", "hop", "function", "public_key", "public_address"),
    *("neighbor_key", "neighbor", "source_key", "balancer", "rule_key", "rule_list", "rule", "flow_key", "flow"),
    *("trusted_key", "uplink", "detour", "settings", "drop_count", "sweep", "settlement", "claim_key", "nat_mapping"),
    *("adoption", "counterpart"),
    *("template_key", "template", "mirror", "recorder", "record"),
    *("service", "service_key", "remote_key", "session_key", "source_port_key", "session"),
)


def u32(number: int) -> bytes:
    """A number as maps have it."""
    return number.to_bytes(4, "little")


def route_bucket(vni: int, version: int, number: int) -> int:
    """The entry of `revisions` that flows by a route depend on; 0, everybody's, for a prefix that is short.

    `number` is the prefix's (see `route_number`).
    """
    address, length = number >> 8, number & 0xFF
    if length < (24 if version == 4 else 64):
        return 0
    upper = address >> 8 if version == 4 else (address >> 96) ^ ((address >> 64 & WORD) * 31 & WORD)
    mixed = (vni * 0x9E3779B1 & WORD) ^ (upper * 0x85EBCA6B & WORD)
    return 1 + ((mixed ^ mixed >> 15) & (ROUTE_BUCKETS - 1))


def route_key(vni: int, version: int, number: int) -> bytes:
    """The key of a route in the table of its family."""
    head = ROUTE_KEY_HEADS[number & 0xFF] + vni.to_bytes(4, "big")
    return head + (number >> 8).to_bytes(4 if version == 4 else 16, "big")


def port_blocks(low: int, high: int) -> Iterator[tuple[int, int]]:
    """The ports from `low` up to but not including `high` as blocks of 2^n: first port, and its bits that count."""
    while low < high:
        size = min(low & -low or 1 << 16, 1 << ((high - low).bit_length() - 1))
        yield low, 16 - (size.bit_length() - 1)
        low += size


class Codec:
    """Packs and unpacks by the layouts of one object."""

    def __init__(self, btf: Btf) -> None:
        self.layouts = {name: btf.layout(name) for name in STRUCTS}
        self._delivery = btf.enum("delivery", "DELIVER_")
        self._hop_kinds = btf.enum("hop_kind", "HOP_")

    # Ports

    def port(self, port: Port, link: GuestLink | None, epoch: int) -> bytes:
        """A port whose device is where `link` says."""
        nat = port.nat
        return self.layouts["port"].pack(
            used=1,
            vni=port.vni,
            epoch=epoch,
            ipv4=port.ipv4.packed if port.ipv4 else bytes(4),
            ipv6=port.ipv6.packed if port.ipv6 else bytes(16),
            underlay=port.underlay.packed,
            vip=port.vip.packed if port.vip else bytes(4),
            nat=nat.address.packed if nat else bytes(4),
            nat_min=nat.min_port if nat else 0,
            nat_max=nat.max_port if nat else 0,
            nat_underlay=nat.underlay.packed if nat else bytes(16),
            total_rate=port.total_rate,
            public_rate=port.public_rate,
            device=port.device.encode(),
            **self._place(link),
        )

    def _place(self, link: GuestLink | None) -> dict[str, int | bytes]:
        if link is None:
            return {"delivery": self._delivery["nowhere"]}
        delivery = self._delivery["peer" if link.delivery is Delivery.PEER else "redirect"]
        return {"delivery": delivery, "ifindex": link.ifindex, "mac": link.mac}

    def unused_port(self, epoch: int) -> bytes:
        """No interface; the epoch stays, so that no old flow becomes a new interface's."""
        return self.layouts["port"].pack(epoch=epoch)

    def read_port(self, raw: bytes, templates: Templates) -> Port | None:
        """The port, None if there is no interface."""
        layout = self.layouts["port"]
        if not layout.number(raw, "used"):
            return None
        ipv4, ipv6 = IPv4Address(layout.bytes(raw, "ipv4")), IPv6Address(layout.bytes(raw, "ipv6"))
        vip, nat = IPv4Address(layout.bytes(raw, "vip")), IPv4Address(layout.bytes(raw, "nat"))
        share = None
        if layout.number(raw, "nat_max"):
            underlay = UnderlayAddress(IPv6Address(layout.bytes(raw, "nat_underlay")))
            share = NatSlice(nat, layout.number(raw, "nat_min"), layout.number(raw, "nat_max"), underlay)
        return Port(
            device=layout.bytes(raw, "device").rstrip(b"\0").decode(),
            vni=Vni(layout.number(raw, "vni")),
            ipv4=ipv4 if int(ipv4) else None,
            ipv6=ipv6 if int(ipv6) else None,
            underlay=UnderlayAddress(IPv6Address(layout.bytes(raw, "underlay"))),
            templates=templates,
            vip=vip if int(vip) else None,
            nat=share,
            total_rate=layout.number(raw, "total_rate"),
            public_rate=layout.number(raw, "public_rate"),
        )

    # Routes and functions

    def read_route_key(self, raw: bytes) -> tuple[Vni, IPNetwork]:
        """VNI and prefix; the length of the key tells the family."""
        length, vni, address = raw[0] - VNI_BITS, Vni(int.from_bytes(raw[4:8], "big")), raw[8:]
        return vni, IPv4Network((address, length)) if len(address) == 4 else IPv6Network((address, length))

    def read_route_number(self, raw: bytes) -> tuple[Vni, int]:
        """The same with the prefix as a number; made for a million of them."""
        return Vni(int.from_bytes(raw[4:8], "big")), int.from_bytes(raw[8:], "big") << 8 | raw[0] - VNI_BITS

    def hop(self, hop: Hop, *, is_default: bool) -> bytes:
        """Where a route leads."""
        layout = self.layouts["hop"]
        if isinstance(hop, LocalHop):
            return layout.pack(kind=self._hop_kinds["port"], port=hop.port, is_default=is_default)
        kind = self._hop_kinds["remote"]
        return layout.pack(kind=kind, underlay=hop.underlay.packed, vni=hop.vni, is_default=is_default)

    def read_hop(self, raw: bytes) -> Hop:
        """The same back."""
        layout = self.layouts["hop"]
        if layout.number(raw, "kind") == self._hop_kinds["port"]:
            return LocalHop(PortNumber(layout.number(raw, "port")))
        underlay = UnderlayAddress(IPv6Address(layout.bytes(raw, "underlay")))
        return RemoteHop(underlay, Vni(layout.number(raw, "vni")))

    def function(self, function: Function) -> bytes:
        """What an underlay address stands for."""
        number = WORD if function.balancer is None else function.balancer
        return self.layouts["function"].pack(kind=function.kind, vni=function.vni, port=function.port, balancer=number)

    def read_function(self, raw: bytes) -> Function:
        """The same back."""
        layout = self.layouts["function"]
        number = layout.number(raw, "balancer")
        return Function(
            FunctionKind(layout.number(raw, "kind")),
            Vni(layout.number(raw, "vni")),
            PortNumber(layout.number(raw, "port")),
            balancer=None if number == WORD else BalancerNumber(number),
        )

    # Public addresses

    def public_key(self, key: PublicKey) -> bytes:
        """A public address in a VNI."""
        return self.layouts["public_key"].pack(vni=key.vni, address=key.address.packed)

    def read_public_key(self, raw: bytes) -> PublicKey:
        """The same back."""
        layout = self.layouts["public_key"]
        return PublicKey(Vni(layout.number(raw, "vni")), IPv4Address(layout.bytes(raw, "address")))

    def public(self, public: Public) -> bytes:
        """Whose it is."""
        return u32(NO_PORT if public.port is None else public.port)

    def read_public(self, raw: bytes) -> Public:
        """The same back."""
        number = int.from_bytes(raw, "little")
        return Public(None if number == NO_PORT else PortNumber(number))

    def neighbor_keys(self, key: NeighborKey) -> list[bytes]:
        """The entries that make up a slice."""
        return [
            self.layouts["neighbor_key"].pack(
                prefixlen=NEIGHBOR_BITS + bits,
                vni=key.vni.to_bytes(4, "big"),
                address=key.address.packed,
                port=low.to_bytes(2, "big"),
            )
            for low, bits in port_blocks(key.min_port, key.max_port)
        ]

    def neighbor(self, key: NeighborKey, underlay: UnderlayAddress) -> bytes:
        """The owner of a slice, with the slice."""
        return self.layouts["neighbor"].pack(underlay=underlay.packed, min=key.min_port, max=key.max_port)

    def read_neighbor(self, key: bytes, raw: bytes) -> tuple[NeighborKey, UnderlayAddress]:
        """The slice that an entry is a part of, and its owner."""
        names, layout = self.layouts["neighbor_key"], self.layouts["neighbor"]
        vni, address = int.from_bytes(names.bytes(key, "vni"), "big"), IPv4Address(names.bytes(key, "address"))
        whole = NeighborKey(Vni(vni), address, layout.number(raw, "min"), layout.number(raw, "max"))
        return whole, UnderlayAddress(IPv6Address(layout.bytes(raw, "underlay")))

    # Balancers

    def balancer(self, balancer: PacketBalancer) -> bytes:
        """A balancer with its table of slots."""
        ports = b"".join(BALANCER_PORT.pack(port, protocol) for port, protocol in balancer.ports)
        return self.layouts["balancer"].pack(
            vni=balancer.vni,
            is_ipv6=balancer.address.version == 6,
            address=balancer.address.packed,
            underlay=balancer.underlay.packed,
            port_count=len(balancer.ports),
            target_count=len(balancer.targets),
            ports=ports,
            targets=b"".join(target.packed for target in balancer.targets),
            slots=table(balancer.targets) or bytes(SLOTS),
        )

    def read_balancer(self, raw: bytes) -> PacketBalancer:
        """The same back."""
        layout = self.layouts["balancer"]
        address: IPAddress = IPv6Address(layout.bytes(raw, "address"))
        if not layout.number(raw, "is_ipv6"):
            address = IPv4Address(layout.bytes(raw, "address")[:4])
        targets, ports = layout.bytes(raw, "targets"), layout.bytes(raw, "ports")
        listed = list(BALANCER_PORT.iter_unpack(ports))[: layout.number(raw, "port_count")]
        return PacketBalancer(
            vni=Vni(layout.number(raw, "vni")),
            address=address,
            ports=tuple((port, Protocol(protocol)) for port, protocol in listed),
            targets=tuple(
                IPv6Address(targets[16 * index : 16 * index + 16])
                for index in range(layout.number(raw, "target_count"))
            ),
            underlay=UnderlayAddress(IPv6Address(layout.bytes(raw, "underlay"))),
        )

    # Firewalls and sources

    def rule_key(self, number: int, index: int) -> bytes:
        """An entry of a list of rules."""
        return self.layouts["rule_key"].pack(list=number, index=index)

    def rule(self, rule: PacketRule) -> bytes:
        """A rule."""
        return self.layouts["rule"].pack(
            source=rule.source.network_address.packed,
            source_mask=rule.source.netmask.packed,
            destination=rule.destination.network_address.packed,
            destination_mask=rule.destination.netmask.packed,
            is_ipv6=rule.source.version == 6,
            protocol=rule.protocol,
            accept=rule.accept,
            source_low=rule.source_ports[0],
            source_high=rule.source_ports[1],
            destination_low=rule.destination_ports[0],
            destination_high=rule.destination_ports[1],
            icmp_type=rule.icmp_type & 0xFFFF,
            icmp_code=rule.icmp_code & 0xFFFF,
        )

    def read_rule(self, raw: bytes) -> PacketRule:
        """The same back."""
        layout = self.layouts["rule"]

        def network(name: str) -> IPNetwork:
            address, mask = layout.bytes(raw, name), layout.bytes(raw, f"{name}_mask")
            if layout.number(raw, "is_ipv6"):
                return IPv6Network((address, int.from_bytes(mask, "big").bit_count()))
            return IPv4Network((address[:4], int.from_bytes(mask[:4], "big").bit_count()))

        def signed(name: str) -> int:
            return int.from_bytes(layout.bytes(raw, name), "little", signed=True)

        return PacketRule(
            accept=bool(layout.number(raw, "accept")),
            source=network("source"),
            destination=network("destination"),
            protocol=Protocol(layout.number(raw, "protocol")),
            source_ports=(layout.number(raw, "source_low"), layout.number(raw, "source_high")),
            destination_ports=(layout.number(raw, "destination_low"), layout.number(raw, "destination_high")),
            icmp_type=signed("icmp_type"),
            icmp_code=signed("icmp_code"),
        )

    def source_key(self, key: SourceKey) -> bytes:
        """A prefix that a port's guest may send from."""
        return self.layouts["source_key"].pack(
            prefixlen=SOURCE_BITS + key.prefix.prefixlen,
            port=key.port.to_bytes(4, "big"),
            is_ipv6=(key.prefix.version == 6).to_bytes(4, "big"),
            address=key.prefix.network_address.packed,
        )

    def read_source_key(self, raw: bytes) -> SourceKey:
        """The same back."""
        layout = self.layouts["source_key"]
        length, address = layout.number(raw, "prefixlen") - SOURCE_BITS, layout.bytes(raw, "address")
        port = PortNumber(int.from_bytes(layout.bytes(raw, "port"), "big"))
        if int.from_bytes(layout.bytes(raw, "is_ipv6"), "big"):
            return SourceKey(port, IPv6Network((address, length)))
        return SourceKey(port, IPv4Network((address[:4], length)))
