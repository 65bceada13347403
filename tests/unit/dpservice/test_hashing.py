"""Hashes against the vectors that peers keep: flow keys, uplink slots, NAT mappings, order of lists."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dpservice.model.hashing import (
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    FlowKey,
    first_uplink_slots,
    jhash,
    local_nat_bucket,
    nat_mapping_key,
    nat_ports,
    service_hash,
    uplink_slot,
)
from services.dpservice.model.rows import FunctionKind, Vni

ADDRESSES = st.ip_addresses()
NAT, PLAIN = FunctionKind.NAT, FunctionKind.UNDEFINED


def flow(
    protocol: int, source: str, source_port: int, destination: str, destination_port: int, kind: FunctionKind = PLAIN
) -> FlowKey:
    return FlowKey(Vni(100), protocol, ip_address(source), source_port, ip_address(destination), destination_port, kind)


@pytest.mark.parametrize(
    ("salt", "data", "wanted"),
    [
        pytest.param(0, b"", 0xDEADBEEF, id="nothing"),
        pytest.param(0, b"Four score and seven years ago", 0x17770551, id="the author's own check"),
        pytest.param(1, b"Four score and seven years ago", 0xCD628161, id="the author's check with a salt"),
    ],
)
def test_lookup3(salt: int, data: bytes, wanted: int) -> None:
    assert jhash(data, salt) == wanted


def test_hash_of_a_ping() -> None:
    assert flow(ICMP, "10.100.1.1", 8, "10.100.2.102", 0).hash() == 0xBCBB84D0


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        pytest.param(flow(ICMP, "10.100.1.1", 8, "10.100.2.102", 0), 0, id="ping, first uplink"),
        pytest.param(flow(ICMP, "10.100.1.1", 8, "10.100.2.125", 0), 8, id="ping, second uplink"),
        pytest.param(flow(TCP, "10.100.1.2", 1240, "45.86.6.6", 100), 2, id="VIP, first uplink"),
        pytest.param(flow(TCP, "10.100.1.2", 1240, "45.86.6.6", 120), 6, id="VIP, second uplink"),
        pytest.param(flow(ICMP, "10.100.1.1", 8, "45.86.6.206", 0x50, NAT), 8, id="ping through NAT"),
        pytest.param(flow(TCP, "10.100.1.1", 1256, "45.86.6.6", 503, NAT), 3, id="NAT, first uplink"),
        pytest.param(flow(TCP, "10.100.1.1", 1256, "45.86.6.6", 505, NAT), 9, id="NAT, second uplink"),
    ],
)
def test_uplink_slot(key: FlowKey, slot: int) -> None:
    assert uplink_slot(key.hash()) == slot


@pytest.mark.parametrize(
    ("source_port", "slot"),
    [
        *((12345, 1), (12346, 2), (12347, 0), (12349, 4), (12350, 3)),
        *((12348, 6), (12351, 5), (12354, 6), (12355, 5), (12357, 6)),
    ],
)
def test_uplink_slot_of_a_virtual_service(source_port: int, slot: int) -> None:
    assert uplink_slot(service_hash(2, IPv4Address("10.100.1.1"), source_port)) == slot


def test_hash_of_a_virtual_service() -> None:
    assert service_hash(2, IPv4Address("10.100.1.1"), 12345) == 0x88840B07


@pytest.mark.parametrize(("percent", "slots"), [(0, 0), (4, 0), (5, 1), (44, 4), (45, 5), (50, 5), (95, 10), (100, 10)])
def test_share_of_the_first_uplink(percent: int, slots: int) -> None:
    assert first_uplink_slots(percent) == slots


@pytest.mark.parametrize(
    ("source", "port", "wanted"),
    [
        pytest.param("10.100.1.1", 1025, 0x0E242115, id="IPv4"),
        pytest.param("2000:100:1::1", 1026, 0x48BAABC3, id="IPv6 by NAT64"),
    ],
)
def test_hash_of_a_mapping(source: str, port: int, wanted: int) -> None:
    assert jhash(nat_mapping_key(Vni(100), ip_address(source), port)) == wanted


@pytest.mark.parametrize(
    ("source", "ports"),
    [
        pytest.param("10.100.1.1", [101, 102, 100, 103], id="IPv4"),
        pytest.param("2000:100:1::1", [103, 101, 100, 102], id="IPv6 by NAT64"),
    ],
)
def test_ports_of_held_connections(source: str, ports: list[int]) -> None:
    taken: list[int] = []
    for private in range(1024, 1028):
        order = nat_ports(nat_mapping_key(Vni(100), ip_address(source), private), 100, 104)
        taken.append(next(port for port in order if port not in taken))
    assert taken == ports


@given(source=ADDRESSES, private=st.integers(0, 65535), low=st.integers(0, 65534), size=st.integers(1, 300))
def test_every_port_of_a_slice_is_tried_once(
    source: IPv4Address | IPv6Address, private: int, low: int, size: int
) -> None:
    high = min(low + size, 65535)
    tried = list(nat_ports(nat_mapping_key(Vni(7), source, private), low, high))
    assert sorted(tried) == list(range(low, high))


@pytest.mark.parametrize(("address", "bucket"), [("10.100.1.1", 277), ("10.100.1.2", 3)])
def test_order_of_local_nats(address: str, bucket: int) -> None:
    assert local_nat_bucket(IPv4Address(address), Vni(100)) == bucket


def test_layout_of_a_key() -> None:
    packed = flow(UDP, "10.0.0.1", 0x1234, "2001:db8::2", 0x5678, NAT).packed()
    assert packed == bytes.fromhex(
        "20010db8000000000000000000000002 01 11 7856 0100000a 00000000 00000000 00000000 00 03 3412 64000000"
    )


@given(
    protocol=st.sampled_from([ICMP, TCP, UDP, ICMPV6]),
    source=ADDRESSES,
    destination=ADDRESSES,
    ports=st.tuples(st.integers(0, 65535), st.integers(0, 65535)),
)
def test_the_reply_of_a_reply_is_the_flow(
    protocol: int, source: IPv4Address, destination: IPv4Address, ports: tuple[int, int]
) -> None:
    key = FlowKey(Vni(1), protocol, source, ports[0], destination, ports[1])
    assert key.reply().reply() == key
    assert len(key.packed()) == 44


@pytest.mark.parametrize(
    ("protocol", "asked", "answered"),
    [(ICMP, 8, 0), (ICMP, 0, 8), (ICMPV6, 128, 129), (ICMPV6, 129, 128), (ICMP, 13, 13), (ICMPV6, 8, 8)],
)
def test_an_echo_is_answered_by_the_opposite_type(protocol: int, asked: int, answered: int) -> None:
    key = flow(protocol, "10.0.0.1", asked, "10.0.0.2", 77)
    assert key.reply() == flow(protocol, "10.0.0.2", answered, "10.0.0.1", 77)
