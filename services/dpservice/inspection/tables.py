"""Rows of the tables, for people. Every function raises OSError."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, TypeAlias

from services.dpservice.engine.codec import u32
from services.dpservice.engine.flows import FlowEntry, read_flows
from services.dpservice.engine.pins import Pins, reason_texts
from services.dpservice.model.packet_rows import PacketRule, Port
from services.dpservice.model.rows import Direction, FunctionKind, LocalHop

Row: TypeAlias = dict[str, Any]
SIDES: Final = {0x1: "tunnel", 0x2: "vip", 0x3: "nat", 0x4: "balancer"}
KINDS: Final = ("plain", "vip", "nat", "neighbor", "balancer")  # enum flow_kind and the next, of layout_flows.h
TCP_STATES: Final = ("", "syn", "syn_ack", "established", "fin_wait", "closing")
REWRITES: Final = ("source", "destination", "port", "6to4", "4to6")
PROTOCOLS: Final = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 0: "any"}


@dataclass(frozen=True)
class Table:
    """A table that can be looked at: the maps it is made of, and its rows."""

    help: str
    maps: tuple[str, ...]
    rows: Callable[[Pins], Iterator[Row]]


def _ports(pins: Pins) -> Iterator[tuple[int, bytes, Port]]:
    for number, raw in enumerate(pins.map("ports").values()):
        port = pins.codec.read_port(raw, ())
        if port is not None:
            yield number, raw, port


def device_names(pins: Pins) -> dict[int, str]:
    """Guest devices by port number."""
    return {number: port.device for number, _, port in _ports(pins)}


def interfaces(pins: Pins) -> Iterator[Row]:
    """Guest ports that have an interface."""
    layout, usage = pins.layout("port"), pins.layout("usage")
    deliveries = pins.enum("delivery", "DELIVER_")
    for number, raw, port in _ports(pins):
        held = pins.map("usage").get(u32(number + 1)) or bytes(usage.size)
        guest = pins.map("guest_macs").get(u32(number)) or bytes(8)
        yield {
            "device": port.device,
            "port": number,
            "vni": port.vni,
            "ipv4": port.ipv4,
            "ipv6": port.ipv6,
            "underlay": port.underlay,
            "ifindex": layout.number(raw, "ifindex"),
            "delivery": deliveries[layout.number(raw, "delivery")],
            "guest_mac": guest[:6].hex(":") if guest[6] else None,
            "vip": port.vip,
            "nat": f"{port.nat.address} {port.nat.min_port}-{port.nat.max_port - 1}" if port.nat else None,
            "flows": usage.number(held, "flows"),
            "nat_ports": usage.number(held, "nat_ports"),
            "total_rate": port.total_rate,
            "public_rate": port.public_rate,
        }


def flows(pins: Pins) -> Iterator[Row]:
    """Every direction of every flow that has not expired."""
    devices = device_names(pins)
    for entry in read_flows(pins.map("flows"), pins.codec):
        if entry.seconds_left > 0:
            yield flow_row(entry, devices)


def flow_row(entry: FlowEntry, devices: Mapping[int, str]) -> Row:
    """A direction of a flow."""
    number = entry.side & 0xFFFF
    side = SIDES.get(entry.side >> 16, "")
    hops = {1: devices.get(entry.port, f"port {entry.port}"), 2: str(entry.underlay), 3: f"relay {entry.underlay}"}
    rewritten = [name for bit, name in enumerate(REWRITES) if entry.rewrite >> bit & 1]
    return {
        "vni": entry.vni,
        "from": side or devices.get(number, f"port {number}"),
        "protocol": PROTOCOLS.get(entry.protocol, entry.protocol),
        "source": entry.source,
        "sport": entry.source_port,
        "destination": entry.destination,
        "dport": entry.destination_port,
        "kind": _named(KINDS, entry.kind),
        "to": hops.get(entry.hop),
        "rewrites": ",".join(rewritten) or None,
        "new_address": entry.address if entry.rewrite & 3 else None,
        "new_port": entry.new_port if entry.rewrite & 4 else None,
        "tcp": _named(TCP_STATES, entry.tcp),
        "owner": devices.get(entry.owner - 1, "host"),
        "seconds_left": round(entry.seconds_left, 1),
    }


def _named(names: Sequence[str], value: int) -> str | int:
    return names[value] if value < len(names) else value


def _nat_address(words: bytes, is_ipv6: bool) -> IPv4Address | IPv6Address:
    return IPv6Address(words) if is_ipv6 else IPv4Address(int.from_bytes(words[:4], "little"))


def nat_mappings(pins: Pins) -> Iterator[Row]:
    """NAT ports in use: a guest's own port, and the one that stands for it."""
    names, layout, devices = pins.layout("nat_key"), pins.layout("nat_mapping"), device_names(pins)
    for key, raw in pins.items("nat_mappings"):
        packed = names.number(key, "port")
        yield {
            "vni": names.number(key, "vni"),
            "source": _nat_address(names.bytes(key, "address"), bool(packed & 0xFF)),
            "sport": packed >> 8,
            "nat": IPv4Address(layout.bytes(raw, "address")),
            "nat_port": layout.number(raw, "port"),
            "flows": layout.number(raw, "users"),
            "owner": devices.get(layout.number(raw, "owner") - 1, "host"),
        }


def nat_claims(pins: Pins) -> Iterator[Row]:
    """NAT ports by what they are used towards."""
    layout = pins.layout("claim_key")
    for key, _ in pins.items("nat_claims"):
        protocol = layout.number(key, "protocol")
        yield {
            "nat": IPv4Address(layout.bytes(key, "nat")),
            "nat_port": layout.number(key, "nat_port"),
            "destination": IPv4Address(layout.bytes(key, "destination")),
            "dport": layout.number(key, "destination_port"),
            "protocol": PROTOCOLS.get(protocol, protocol),
        }


def routes(pins: Pins) -> Iterator[Row]:
    """Routes of both families."""
    devices = device_names(pins)
    for table in ("routes4", "routes6"):
        for key, raw in pins.items(table):
            vni, prefix = pins.codec.read_route_key(key)
            hop = pins.codec.read_hop(raw)
            local = isinstance(hop, LocalHop)
            yield {
                "vni": vni,
                "prefix": prefix,
                "to": devices.get(hop.port, f"port {hop.port}") if isinstance(hop, LocalHop) else hop.underlay,
                "next_hop_vni": None if local or isinstance(hop, LocalHop) else hop.vni,
            }


def functions(pins: Pins) -> Iterator[Row]:
    """Underlay addresses of this host, and what they stand for."""
    devices = device_names(pins)
    for key, raw in pins.items("functions"):
        function = pins.codec.read_function(raw)
        is_balancer = function.kind is FunctionKind.BALANCER
        yield {
            "underlay": IPv6Address(key),
            "kind": function.kind.name.lower(),
            "vni": function.vni,
            "device": None if is_balancer else devices.get(function.port, f"port {function.port}"),
            "balancer": function.balancer,
        }


def functions_by_owner(pins: Pins) -> Iterator[Row]:
    """The same, by what they stand for."""
    rows = [{"kind": row["kind"], "vni": row["vni"], "device": row["device"], **row} for row in functions(pins)]
    yield from sorted(rows, key=lambda row: (row["vni"], str(row["device"]), row["kind"]))


def publics(pins: Pins) -> Iterator[Row]:
    """Public addresses: whose VIP, or shared by NAT."""
    devices = device_names(pins)
    for key, raw in pins.items("publics"):
        public, found = pins.codec.read_public_key(key), pins.codec.read_public(raw)
        is_vip = found.port is not None
        yield {
            "vni": public.vni,
            "address": public.address,
            "kind": "vip" if is_vip else "nat",
            "device": devices.get(found.port, f"port {found.port}") if found.port is not None else None,
        }


def senders(pins: Pins) -> Iterator[Row]:
    """Interfaces whose source address is rewritten."""
    for _, _, port in _ports(pins):
        if port.vip or port.nat:
            yield {
                "vni": port.vni,
                "address": port.ipv4,
                "device": port.device,
                "vip": port.vip,
                "nat": port.nat.address if port.nat else None,
                "min_port": port.nat.min_port if port.nat else None,
                "max_port": port.nat.max_port if port.nat else None,
            }


def neighbors(pins: Pins) -> Iterator[Row]:
    """Foreign slices of shared addresses."""
    found = {pins.codec.read_neighbor(key, raw) for key, raw in pins.items("neighbors")}
    for slice_, underlay in sorted(found, key=lambda each: (each[0].vni, each[0].address, each[0].min_port)):
        yield {
            "vni": slice_.vni,
            "address": slice_.address,
            "min_port": slice_.min_port,
            "max_port": slice_.max_port,
            "underlay": underlay,
        }


def balancers(pins: Pins) -> Iterator[Row]:
    """Load balancers."""
    for key, raw in pins.items("balancers"):
        found = pins.codec.read_balancer(raw)
        yield {
            "number": int.from_bytes(key, "little"),
            "vni": found.vni,
            "address": found.address,
            "ports": ",".join(f"{protocol.name}/{port}" for port, protocol in found.ports),
            "targets": len(found.targets),
            "underlay": found.underlay,
        }


def targets(pins: Pins) -> Iterator[Row]:
    """Targets of load balancers, with their shares of the 503 slots."""
    layout = pins.layout("balancer")
    for key, raw in pins.items("balancers"):
        found = pins.codec.read_balancer(raw)
        shares = Counter(layout.bytes(raw, "slots")[:503])
        for index, target in enumerate(found.targets):
            yield {
                "number": int.from_bytes(key, "little"),
                "vni": found.vni,
                "address": found.address,
                "target": target,
                "slots": shares[index],
            }


def rules(pins: Pins) -> Iterator[Row]:
    """Firewall rules in the order in which they are tried."""
    devices, lists = device_names(pins), pins.layout("rule_list")
    for index, raw in enumerate(pins.map("rule_lists").values()):
        for place in range(lists.number(raw, "count")):
            found = pins.map("rules").get(pins.codec.rule_key(lists.number(raw, "list"), place))
            if found is not None:
                yield {
                    "device": devices.get(index // 2, f"port {index // 2}"),
                    "direction": Direction(index % 2).name.lower(),
                    "place": place,
                    **_rule(pins.codec.read_rule(found)),
                }


def _rule(rule: PacketRule) -> Row:
    ends = {}
    for name, (low, high) in (("sport", rule.source_ports), ("dport", rule.destination_ports)):
        ends[name] = "any" if (low, high) == (0, 65535) else f"{low}-{high}"
    return {
        "action": "accept" if rule.accept else "drop",
        "source": rule.source,
        "destination": rule.destination,
        "protocol": PROTOCOLS.get(rule.protocol, rule.protocol),
        **ends,
        "icmp_type": "any" if rule.icmp_type < 0 else rule.icmp_type,
        "icmp_code": "any" if rule.icmp_code < 0 else rule.icmp_code,
    }


def vnis(pins: Pins) -> Iterator[Row]:
    """Networks that this host knows."""
    counts = {name: Counter(row["vni"] for row in rows(pins)) for name, rows in _OF_VNI.items()}
    key = pins.layout("flow_key")
    counts["flows"] = Counter(key.number(raw, "vni") for raw, _ in pins.items("flows"))
    for vni in sorted(set().union(*counts.values())):
        yield {"vni": vni, **{name: count[vni] for name, count in counts.items()}}


_OF_VNI: Final = {"interfaces": interfaces, "routes": routes, "balancers": balancers}


def uplinks(pins: Pins) -> Iterator[Row]:
    """Uplinks as packets see them."""
    layout = pins.layout("uplink")
    for index, raw in enumerate(pins.map("uplinks").values()):
        if layout.number(raw, "ifindex"):
            yield {
                "uplink": index,
                "ifindex": layout.number(raw, "ifindex"),
                "usable": bool(layout.number(raw, "usable")),
                "mtu": layout.number(raw, "mtu"),
                "mac": layout.bytes(raw, "mac").hex(":"),
                "router_mac": layout.bytes(raw, "router_mac").hex(":"),
            }


def drops(pins: Pins) -> Iterator[Row]:
    """Lost packets by reason, those that occurred."""
    texts = reason_texts()
    for reason, packets in pins.drops().items():
        if packets:
            yield {"packets": packets, "reason": reason, "meaning": texts.get(reason)}


TABLES: Final[Mapping[str, Table]] = {
    "conntrack": Table("flows, each direction by itself", ("flows",), flows),
    "dnat": Table("public addresses and whose they are", ("publics",), publics),
    "drops": Table("lost packets by reason", (), drops),
    "iface": Table("interfaces", (), interfaces),
    "lb": Table("load balancers", ("balancers",), balancers),
    "lb_targets": Table("targets of load balancers", (), targets),
    "neighbors": Table("NAT slices of other hosts", ("neighbors",), neighbors),
    "portmap": Table("NAT ports by the guest's own", ("nat_mappings",), nat_mappings),
    "portoverload": Table("NAT ports by what they are used towards", ("nat_claims",), nat_claims),
    "routes": Table("routes", ("routes4", "routes6"), routes),
    "rules": Table("firewall rules", ("rules",), rules),
    "snat": Table("interfaces with a VIP or NAT", (), senders),
    "uplinks": Table("uplinks", (), uplinks),
    "vnf": Table("underlay addresses of this host", ("functions",), functions),
    "vnf_rev": Table("the same by what they stand for", (), functions_by_owner),
    "vni": Table("networks that this host knows", (), vnis),
}
ALIASES: Final = {
    "flows": "conntrack",
    "interfaces": "iface",
    "balancers": "lb",
    "lb_id": "lb",
    "nat": "portmap",
    "underlay": "vnf",
    "vnis": "vni",
}


def listing(pins: Pins) -> Iterator[Row]:
    """The tables themselves."""
    for name in TABLES:
        yield counted(pins, name)


def counted(pins: Pins, name: str) -> Row:
    """A table without its rows. Flows that expired are counted until they are removed, some seconds later."""
    table = TABLES[name]
    entries = (pins.items(each) for each in table.maps) if table.maps else (table.rows(pins),)
    return {
        "table": name,
        "entries": sum(sum(1 for _ in each) for each in entries),
        "capacity": sum(map(pins.capacity, table.maps)) or None,
        "what": table.help,
    }
