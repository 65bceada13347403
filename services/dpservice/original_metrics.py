"""The names that the original's exporter and telemetry socket use, for our numbers.

Its ports are DPDK's: statistics are named `rx_good_packets`; a queue's are those of the port, which has one queue here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from services.common.telemetry_metrics import Family
from services.dpservice.figures import (
    AT_BYTES,
    AT_ERRORS,
    AT_MISSED,
    AT_PACKETS,
    SENT_AT,
    Figures,
    counters,
    is_running,
    node_name,
)

ETHDEV_ERRORS = Family("gauge", "dpdk_ethdev_errors_total", "Packets that a device lost.", ("name", "stat"))
ETHDEV_PACKETS = Family("gauge", "dpdk_ethdev_packets_total", "Packets of a device.", ("name", "stat"))
ETHDEV_BYTES = Family("gauge", "dpdk_ethdev_bytes_total", "Bytes of a device.", ("name", "stat"))
ETHDEV_LINK = Family("gauge", "dpdk_ethdev_link_status", "1: the link is up, 0: it is down.", ("name",))
HEAP = Family("gauge", "dpdk_heap_info", "Memory of the tables, in bytes and maps.", ("node", "info"))
NAT_PORTS = Family("gauge", "dps_nat_used_ports_count", "NAT ports that an interface uses.", ("interface_id",))
SERVICE_PORTS = Family("gauge", "dps_virtsvc_used_ports_count", "Ports that a virtual service uses.", ("address",))
RULES = Family("gauge", "dps_firewall_rules_count", "Firewall rules of an interface.", ("interface_id",))
GRAPH = Family("gauge", "dps_graph_call_count", "Packets that came to a stage of the pipeline.", ("node", "graph_node"))
TABLES = Family("gauge", "dps_hash_table_saturation", "Capacity and entries of a table.", ("table", "stat"))

GRAPH_STAGES: Final = {
    "arp": "arp",
    "ipv6_nd": "nd",
    "dhcp": "dhcp",
    "dhcpv6": "dhcp6",
    "ipip_decap": "decapsulation",
    "conntrack": "conntrack",
    "dnat": "dnat",
    "ipv4_lookup": "route4",
    "ipv6_lookup": "route6",
    "snat": "snat",
    "firewall": "firewall",
    "lb": "balancer",
    "packet_relay": "relay",
    "ipip_encap": "encapsulation",
}
"""Nodes of the original's graph, and which of our stages does the same."""
REPRESENTOR = "representor"
"""Only devices without this in their names have a link of their own."""


def xstats(fields: Sequence[int]) -> dict[str, int]:
    """A netdev's counters by DPDK's names."""
    found = {"rx_missed_errors": fields[AT_MISSED], "rx_q0_errors": fields[AT_ERRORS], "rx_mbuf_allocation_errors": 0}
    for direction, at in (("rx", 0), ("tx", SENT_AT)):
        packets, size, errors = fields[at + AT_PACKETS], fields[at + AT_BYTES], fields[at + AT_ERRORS]
        found |= {
            f"{direction}_good_packets": packets,
            f"{direction}_good_bytes": size,
            f"{direction}_errors": errors,
            f"{direction}_q0_packets": packets,
            f"{direction}_q0_bytes": size,
        }
    return found


def heap(figures: Figures) -> dict[str, int]:
    """The tables' memory as if it were DPDK's heap: one block, all of it in use."""
    size = figures.memory()
    return {
        "Heap_id": 0,
        "Heap_size": size,
        "Alloc_count": 1,
        "Free_count": 0,
        "Alloc_size": size,
        "Free_size": 0,
        "Greatest_free_size": 0,
    }


def graph(figures: Figures) -> dict[str, int]:
    """Packets by stage: received and sent by each device, sorted, dropped, announced, and what our stages saw.

    As the original doesn't see what its hardware forwards, ours leaves out what belongs to flows that are decided.
    """
    devices = {}
    received = 0
    for number, (_, fields) in enumerate(counters(figures.devices)):
        received += fields[AT_PACKETS]
        devices[f"rx-{number}-0"] = fields[AT_PACKETS]
        devices[f"tx-{number}"] = fields[SENT_AT + AT_PACKETS]
    seen = figures.stages()
    ends = {"cls": received, "drop": sum(figures.drops().values()), "rx_periodic": figures.announcements}
    return devices | ends | {name: seen[stage] for name, stage in GRAPH_STAGES.items()}


def families(figures: Figures) -> Iterator[Any]:
    """All of them, for the Prometheus registry. Raises OSError."""
    node = node_name()
    by_family: dict[Family, dict[tuple[str, ...], float]] = {ETHDEV_BYTES: {}, ETHDEV_PACKETS: {}, ETHDEV_ERRORS: {}}
    links: dict[tuple[str, ...], float] = {}
    for device, fields in counters(figures.devices):
        for stat, value in xstats(fields).items():
            family = next(
                family
                for word, family in (("bytes", ETHDEV_BYTES), ("packets", ETHDEV_PACKETS), ("", ETHDEV_ERRORS))
                if word in stat
            )
            by_family[family][device.name, stat] = value
        if REPRESENTOR not in device.name:
            links[(device.name,)] = float(is_running(device.netdev))
    for family, values in by_family.items():
        yield family.of(values)
    yield ETHDEV_LINK.of(links)
    yield HEAP.of({(node, name): value for name, value in heap(figures).items()})
    owners = figures.owners()
    yield NAT_PORTS.of({(owner.id,): owner.nat_ports for owner in owners})
    yield RULES.of({(owner.id,): owner.rules for owner in owners})
    yield SERVICE_PORTS.of({(address,): count for address, count in figures.service_ports().items()})
    yield GRAPH.of({(node, stage): count for stage, count in graph(figures).items()})
    tables = figures.original_tables().items()
    yield TABLES.of(
        {
            (table, stat): value
            for table, saturation in tables
            for stat, value in zip(("capacity", "entries"), saturation, strict=True)
        }
    )
