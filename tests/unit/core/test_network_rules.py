from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import Message

from protos.networking.v1alpha1.load_balancer_pb2 import LoadBalancer
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.networking.v1alpha1.network_pb2 import Network
from protos.networking.v1alpha1.network_policy_pb2 import NetworkPolicy
from tests.unit.core.writes import causes, completed

BLUE = {"networkRef": {"name": "blue"}}


def made(**spec: Any) -> dict[str, Any]:
    """An address, or range, made from a template."""
    return {"ephemeral": {"prefixTemplate": {"spec": {"parentRef": {"name": "p"}, **spec}}}}


@pytest.mark.parametrize(
    ("kind", "spec", "families", "first"),
    [
        pytest.param(
            NetworkInterface,
            {**BLUE, "ips": [{"value": "10.0.0.1"}, {"value": "2001:db8::1"}]},
            ["IPv4", "IPv6"],
            None,
            id="families of literals",
        ),
        pytest.param(NetworkInterface, {**BLUE, "ips": [made(ipFamily="IPv6")]}, ["IPv6"], 128, id="of a template"),
        pytest.param(NetworkInterface, {**BLUE, "ipFamilies": ["IPv4"], "ips": [made()]}, ["IPv4"], 32, id="to it"),
        pytest.param(NetworkInterface, {**BLUE, "ips": [made()]}, [], None, id="nobody says the family"),
        pytest.param(LoadBalancer, {**BLUE, "type": "Internal", "ips": [made(ipFamily="IPv4")]}, ["IPv4"], 32, id="lb"),
    ],
)
def test_address_defaults(kind: type[Message], spec: dict[str, Any], families: list[str], first: int | None) -> None:
    tree = completed(kind, spec)["spec"]
    assert tree.get("ipFamilies", []) == families
    template = tree["ips"][0].get("ephemeral", {}).get("prefixTemplate", {}).get("spec", {})
    assert template.get("prefixLength") == first


def test_a_public_load_balancer_has_no_addresses_of_its_own() -> None:
    spec = {**BLUE, "type": "Public", "ipFamilies": ["IPv4"], "ips": [{"value": "10.0.0.1"}]}
    assert "ips" not in completed(LoadBalancer, spec)["spec"]


IPS = "spec.ips[0].ephemeral.prefixTemplate.spec"
ONE = {**BLUE, "ipFamilies": ["IPv4"], "ips": [{"value": "10.0.0.1"}]}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(ONE, [], id="one address"),
        pytest.param({**ONE, "ips": []}, [("spec.ips", "Invalid")], id="fewer addresses than families"),
        pytest.param({**ONE, "ips": [{"value": "::1"}]}, [("spec.ips[0].value", "Invalid")], id="another family"),
        pytest.param({**ONE, "ips": [made()]}, [], id="a made address"),
        pytest.param(
            {**ONE, "ips": [made(ipFamily="IPv6", prefixLength=128)]}, [(f"{IPS}.ipFamily", "Forbidden")], id="family"
        ),
        pytest.param({**ONE, "ips": [made(prefixLength=24)]}, [(f"{IPS}.prefixLength", "Forbidden")], id="a range"),
        pytest.param(
            {**ONE, "ips": [made(prefix="10.0.0.0/24")]}, [(f"{IPS}.prefix", "Forbidden")], id="a literal range"
        ),
        pytest.param(
            {**ONE, "prefixes": [made(ipFamily="IPv4")]},
            [("spec.prefixes[0].ephemeral.prefixTemplate.spec", "Invalid")],
            id="a routed range without size",
        ),
    ],
)
def test_interface(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert causes(NetworkInterface, completed(NetworkInterface, spec)) == expected


def test_derived_names_must_be_possible() -> None:
    spec = {**ONE, "ips": [made()], "prefixes": [made(ipFamily="IPv4", prefixLength=28)]}
    name = ".".join(["a" * 62] * 4)
    found = causes(NetworkInterface, completed(NetworkInterface, spec, name=name))
    assert found == [("spec.prefixes[0].ephemeral", "Invalid")]
    assert (
        causes(NetworkInterface, completed(NetworkInterface, spec, name=f"{name}aa"))[0][0] == "spec.ips[0].ephemeral"
    )


LB = {**BLUE, "type": "Internal", "ipFamilies": ["IPv4"]}


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        pytest.param([{"port": 80}], [], id="one"),
        pytest.param([{"port": 80, "endPort": 79}], [("spec.ports[0].endPort", "Invalid")], id="a single bad range"),
        pytest.param(
            [{"port": 80, "endPort": 90}, {"protocol": "TCP", "port": 85}],
            [("spec.ports[1]", "Forbidden")],
            id="overlap; no protocol means TCP",
        ),
        pytest.param([{"port": 53}, {"protocol": "UDP", "port": 53}], [], id="protocols are apart"),
    ],
)
def test_load_balancer_ports(ports: list[dict[str, Any]], expected: list[tuple[str, str]]) -> None:
    assert causes(LoadBalancer, completed(LoadBalancer, {**LB, "ports": ports})) == expected


def peering(name: str, target: str, *prefixes: dict[str, Any], namespace: str = "") -> dict[str, Any]:
    reference = {"name": target, **({"namespace": namespace} if namespace else {})}
    return {"name": name, "networkRef": reference, "prefixes": list(prefixes)}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({"peerings": [peering("a", "y"), peering("b", "z")]}, [], id="two peers"),
        pytest.param({"peerings": [peering("a", "x")]}, [("spec.peerings[0].networkRef", "Forbidden")], id="itself"),
        pytest.param({"peerings": [peering("a", "x", namespace="other")]}, [], id="a namesake elsewhere"),
        pytest.param(
            {"peerings": [peering("a", "y"), peering("b", "y", namespace="ns")]},
            [("spec.peerings[1].networkRef", "Duplicate")],
            id="the same peer twice",
        ),
        pytest.param(
            {"peerings": [peering("a", "y", {"name": "p", "prefix": "10.0.0.0/8"}), peering("b", "z", {"name": "p"})]},
            [("spec.peerings[1].prefixes[0].name", "Duplicate")],
            id="prefix names are unique across peerings",
        ),
        pytest.param(
            {"peerings": [peering("a", "y", {"name": "p", "prefix": "10.0.0.0/8"}, {"name": "q"})]},
            [],
            id="several prefixes without reference",
        ),
        pytest.param(
            {"incomingPeerings": [{"name": "y"}, {"name": "y", "namespace": "ns"}]},
            [("spec.incomingPeerings[1]", "Duplicate")],
            id="the same claim twice",
        ),
        pytest.param(
            {"incomingPeerings": [{"name": "x"}]}, [("spec.incomingPeerings[0]", "Forbidden")], id="own claim"
        ),
    ],
)
def test_network(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert causes(Network, completed(Network, spec)) == expected


@pytest.mark.parametrize(
    ("spec", "types", "expected"),
    [
        pytest.param({"ingress": [{}]}, ["Ingress"], [], id="types follow from rules"),
        pytest.param({"egress": [{}], "policyTypes": ["Ingress"]}, ["Egress", "Ingress"], [], id="and are sorted"),
        pytest.param({}, [], [("spec.policyTypes", "Required")], id="about nothing"),
        pytest.param(
            {"ingress": [{"ports": [{"endPort": 80}]}]},
            ["Ingress"],
            [("spec.ingress[0].ports[0].endPort", "Forbidden")],
            id="an end without a start",
        ),
        pytest.param(
            {"egress": [{"ports": [{"port": 80, "endPort": 79}]}]},
            ["Egress"],
            [("spec.egress[0].ports[0].endPort", "Invalid")],
            id="an end before the start",
        ),
        pytest.param(
            {"ingress": [{"from": [{}, {"objectSelector": {"kind": "Machine"}}]}]},
            ["Ingress"],
            [("spec.ingress[0].from[1].objectSelector.kind", "NotSupported")],
            id="a peer of another kind",
        ),
        pytest.param(
            {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "11.0.0.0/16"]}}]}]},
            ["Egress"],
            [("spec.egress[0].to[0].ipBlock.except[1]", "Invalid")],
            id="an exception outside",
        ),
    ],
)
def test_policy(spec: dict[str, Any], types: list[str], expected: list[tuple[str, str]]) -> None:
    policy = completed(NetworkPolicy, {**BLUE, **spec})
    assert policy["spec"].get("policyTypes", []) == types
    assert causes(NetworkPolicy, policy) == expected
