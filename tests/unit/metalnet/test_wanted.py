"""From a spec to what is wanted of the data plane, and what is announced of it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest

from protos.metalnet.v1alpha1.network_interface_pb2 import MeteringRate, NATDetails, NetworkInterface
from protos.metalnet.v1alpha1.network_pb2 import NetworkSpec
from services.metalnet.model.announcements import Announcement, announcements
from services.metalnet.model.overlay import InterfaceId, Port, Rates, UnderlayAddress, Vni, Wanted
from services.metalnet.model.wanted import Unusable, not_carried_out, wanted_interface

UNDERLAY, PREFIX_UNDERLAY = (UnderlayAddress(IPv6Address(f"fc00::{number}")) for number in (1, 2))
V4, V6 = IPv4Address("10.0.0.1"), IPv6Address("fd00::1")
PREFIX = ip_network("10.1.0.0/24")
BLUE, PUBLIC = Vni(2001), Vni(100)


def nic(ips: list[str], families: list[str] | None = None, **spec: Any) -> NetworkInterface:
    made = NetworkInterface()
    made.metadata.uid = "uid"
    made.spec.MergeFrom(type(made.spec)(ips=ips, ip_families=families or [_family(ip) for ip in ips], **spec))
    return made


def _family(ip: str) -> str:
    return "IPv6" if ":" in ip else "IPv4"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        pytest.param(nic(["10.0.0.1"]), Wanted(InterfaceId("uid"), BLUE, V4), id="IPv4"),
        pytest.param(nic(["fd00::1"]), Wanted(InterfaceId("uid"), BLUE, None, V6), id="IPv6"),
        pytest.param(nic(["fd00::1", "10.0.0.1"]), Wanted(InterfaceId("uid"), BLUE, V4, V6), id="both, in any order"),
        pytest.param(
            nic(["10.0.0.1"], hostname="vm", prefixes=["10.1.0.7/24", "10.1.0.0/24"]),
            Wanted(InterfaceId("uid"), BLUE, V4, hostname="vm", prefixes=(PREFIX,)),
            id="prefixes are masked and counted once",
        ),
        pytest.param(
            nic(["10.0.0.1"], metering_rate=MeteringRate(total_rate=10, public_rate=10)),
            Wanted(InterfaceId("uid"), BLUE, V4, rates=Rates(10, 10)),
            id="rates",
        ),
        pytest.param(
            nic(["10.0.0.1"], metering_rate=MeteringRate(public_rate=10)),
            Wanted(InterfaceId("uid"), BLUE, V4, rates=Rates(0, 10)),
            id="no total rate is no limit",
        ),
    ],
)
def test_wanted(given: NetworkInterface, wanted: Wanted) -> None:
    assert wanted_interface(given, NetworkSpec(id=BLUE), ipv6=True) == wanted


@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param(nic([]), "spec.ips: at least one", id="no address"),
        pytest.param(nic(["10.0.0.1"], ["IPv6"]), r"spec.ips\[0\]: 10.0.0.1 is not IPv6", id="another family"),
        pytest.param(nic(["10.0.0.1"], ["IPv4", "IPv6"]), "spec.ipFamilies", id="a family too many"),
        pytest.param(nic(["10.0.0.1", "10.0.0.2"]), r"spec.ips\[1\]: only one IPv4", id="two IPv4"),
        pytest.param(nic(["fd00::1", "fd00::2"]), r"spec.ips\[1\]: only one IPv6", id="two IPv6"),
        pytest.param(nic(["0.0.0.0"]), "not the address of a machine", id="unspecified"),
        pytest.param(nic(["x"]), "'x' is not an IP address", id="no address at all"),
        pytest.param(nic(["10.0.0.1"], prefixes=["x"]), r"spec.prefixes\[0\]", id="no prefix"),
        pytest.param(
            nic(["10.0.0.1"], metering_rate=MeteringRate(total_rate=1, public_rate=2)), "totalRate", id="rates"
        ),
    ],
)
def test_unusable(given: NetworkInterface, text: str) -> None:
    with pytest.raises(Unusable, match=text):
        wanted_interface(given, NetworkSpec(id=BLUE), ipv6=True)


def test_peers_are_known() -> None:
    network = NetworkSpec(id=BLUE, peered_ids=[2002])
    assert wanted_interface(nic(["10.0.0.1"]), network, ipv6=True).peers == (2002,)


def test_ipv6_has_to_be_switched_on() -> None:
    with pytest.raises(Unusable, match="IPv6"):
        wanted_interface(nic(["10.0.0.1", "fd00::1"]), NetworkSpec(id=BLUE), ipv6=False)


def test_what_is_not_carried_out_is_named() -> None:
    spec = nic(["10.0.0.1"], virtual_ip="192.0.2.1", nat=NATDetails(ip="192.0.2.2", port=1, end_port=9)).spec
    assert not_carried_out(spec) == ["virtualIP", "nat"]
    assert not_carried_out(nic(["10.0.0.1"]).spec) == []


@pytest.mark.parametrize(
    ("port", "serves"),
    [
        pytest.param(Port(InterfaceId("uid"), BLUE, "net_tap2", UNDERLAY, V4), True, id="as wanted"),
        pytest.param(Port(InterfaceId("uid"), BLUE, "net_tap3", UNDERLAY, V4), False, id="another device"),
        pytest.param(Port(InterfaceId("uid"), PUBLIC, "net_tap2", UNDERLAY, V4), False, id="another network"),
        pytest.param(Port(InterfaceId("uid"), BLUE, "net_tap2", UNDERLAY, V4, V6), False, id="an address more"),
        pytest.param(Port(InterfaceId("uid"), BLUE, "net_tap2", UNDERLAY, V4, hostname="x"), False, id="hostname"),
        pytest.param(
            Port(InterfaceId("uid"), BLUE, "net_tap2", UNDERLAY, V4, rates=Rates(7, 0)), False, id="another limit"
        ),
    ],
)
def test_when_an_interface_is_made_anew(port: Port, serves: bool) -> None:
    assert port.serves(Wanted(InterfaceId("uid"), BLUE, V4, rates=Rates(5, 0)), "net_tap2") is serves


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        pytest.param(
            Port(InterfaceId("uid"), BLUE, "net_tap2", UNDERLAY, V4),
            {(BLUE, "10.0.0.1/32", UNDERLAY), (BLUE, "10.1.0.0/24", PREFIX_UNDERLAY)},
            id="IPv4 in its network, prefixes with their own underlay address",
        ),
        pytest.param(
            Port(InterfaceId("uid"), BLUE, "net_tap2", UNDERLAY, None, V6),
            {
                (BLUE, "fd00::1/128", UNDERLAY),
                (PUBLIC, "fd00::1/128", UNDERLAY),
                (BLUE, "10.1.0.0/24", PREFIX_UNDERLAY),
            },
            id="IPv6 in the public network too",
        ),
    ],
)
def test_announcements(port: Port, expected: set[tuple[Vni, str, UnderlayAddress]]) -> None:
    assert announcements(port, {PREFIX: PREFIX_UNDERLAY}, PUBLIC) == {
        Announcement(vni, ip_network(destination), underlay) for vni, destination, underlay in expected
    }
