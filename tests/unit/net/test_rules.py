"""What the net API refuses, and what an object claims."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import Message

from protos.net.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.net.v1alpha1.network_pb2 import Network
from services.apimachinery.kinds import kind_of
from services.apimachinery.schema.decode import normalise
from services.apimachinery.schema.defaults import apply_defaults
from services.apimachinery.schema.hooks import KindHooks
from services.apimachinery.schema.schema import Tree
from services.apimachinery.schema.validate import validate
from services.net.allocators import InterfaceAddresses, NetworkNumbers
from services.net.model.hooks import NetworkHooks, NetworkInterfaceHooks

HOOKS: dict[type[Message], KindHooks] = {Network: NetworkHooks(80, 5000), NetworkInterface: NetworkInterfaceHooks()}
PLACED = {"nodeRef": {"name": "p.hv1"}, "networkRef": {"name": "blue"}}


def completed(kind: type[Message], spec: dict[str, Any]) -> Tree:
    served = kind_of(kind)
    metadata = {"name": "x", "namespace": "ns"}
    raw = {"apiVersion": served.api_version, "kind": served.name, "metadata": metadata, "spec": spec}
    tree = normalise(served, raw).tree
    apply_defaults(served, tree)
    HOOKS[kind].default(tree)
    return tree


def refused(kind: type[Message], spec: dict[str, Any]) -> list[str]:
    tree = completed(kind, spec)
    found = validate(kind_of(kind), tree) or HOOKS[kind].validate(tree, None)
    return [f"{cause.field} {cause.reason.removeprefix('FieldValue')}" for cause in found]


def peering(name: str, vni: str) -> dict[str, str]:
    return {"name": name, "id": vni}


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        pytest.param({}, [], id="without number"),
        pytest.param({"id": "80"}, [], id="the lowest"),
        pytest.param({"id": "5000"}, [], id="the highest"),
        pytest.param({"id": "79"}, ["spec.id Invalid"], id="too low"),
        pytest.param({"id": "5001"}, ["spec.id Invalid"], id="too high"),
        pytest.param({"id": "100"}, ["spec.id Invalid"], id="the public network"),
        pytest.param({"id": "0200"}, ["spec.id Invalid"], id="leading zero"),
        pytest.param({"id": "+200"}, ["spec.id Invalid"], id="sign"),
        pytest.param({"id": "2²"}, ["spec.id Invalid"], id="a digit that is none"),
        pytest.param({"id": "9" * 5000}, ["spec.id Invalid"], id="absurdly long"),
        pytest.param({"peerings": [peering("a", "200"), peering("b", "201")]}, [], id="two peers"),
        pytest.param(
            {"peerings": [peering("a", "200"), peering("a", "201")]},
            ["spec.peerings[1].name Duplicate"],
            id="peer named twice",
        ),
        pytest.param(
            {"peerings": [peering("a", "200"), peering("b", "200")]},
            ["spec.peerings[1].id Duplicate"],
            id="same peer twice",
        ),
        pytest.param({"peerings": [peering("a", "x")]}, ["spec.peerings[0].id Invalid"], id="peer without number"),
        pytest.param({"id": "200", "peerings": [peering("a", "200")]}, ["spec.peerings[0].id Invalid"], id="itself"),
    ],
)
def test_network_rules(spec: dict[str, Any], wanted: list[str]) -> None:
    assert refused(Network, spec) == wanted


def gateway(family: str) -> dict[str, Any]:
    return {"ipFamily": family, "claimRef": {"name": "g", "uid": "u"}}


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        pytest.param({"ips": ["10.0.0.1", "fd00::1"]}, [], id="one address of each family"),
        pytest.param({"ips": ["10.0.0.1", "10.0.0.2"]}, ["spec.ips[1] Duplicate"], id="two of a family"),
        pytest.param({"nodeRef": {"name": ""}}, ["spec.nodeRef.name Required"], id="no node"),
        pytest.param({"networkRef": {"name": ""}}, ["spec.networkRef.name Required"], id="no network"),
        pytest.param({"publicIPs": [{"name": "a", "ip": "1.2.3.4"}]}, [], id="family from the address"),
        pytest.param(
            {"publicIPs": [{"name": "a", "ip": "1.2.3.4", "ipFamily": "IPv6"}]},
            ["spec.publicIPs[0].ip Invalid"],
            id="address of another family",
        ),
        pytest.param(
            {"publicIPs": [{"name": "a", "ipFamily": "IPv4"}, {"name": "b", "ipFamily": "IPv4"}]},
            ["spec.publicIPs[1].ipFamily Duplicate"],
            id="two public addresses of a family",
        ),
        pytest.param({"natGateways": [gateway("IPv4"), gateway("IPv6")]}, [], id="a gateway for each family"),
        pytest.param(
            {"natGateways": [gateway("IPv4"), gateway("IPv4")]},
            ["spec.natGateways[1].ipFamily Duplicate"],
            id="two gateways of a family",
        ),
        pytest.param(
            {"publicIPs": [{"name": "a", "ip": "1.2.3.4"}], "natGateways": [gateway("IPv4")]},
            ["spec.natGateways[0] Forbidden"],
            id="gateway beside a public address",
        ),
    ],
)
def test_interface_rules(spec: dict[str, Any], wanted: list[str]) -> None:
    assert refused(NetworkInterface, PLACED | spec) == wanted


def test_a_public_address_that_is_none_is_refused_not_a_crash() -> None:
    assert "spec.publicIPs[0].ip Invalid" in refused(
        NetworkInterface, PLACED | {"publicIPs": [{"name": "a", "ip": "nowhere"}]}
    )


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        pytest.param(
            PLACED | {"ips": ["10.0.0.1", "fd00:0::1"]},
            ["address/ns/blue/10.0.0.1", "address/ns/blue/fd00::1"],
            id="one key an address, in its one spelling",
        ),
        pytest.param(PLACED, [], id="no address"),
        pytest.param(PLACED | {"ips": ["10.0.0.300"]}, [], id="not valid: refused later"),
        pytest.param({"ips": ["10.0.0.1"]}, [], id="no network: refused later"),
        pytest.param({}, [], id="nothing at all: refused later"),
    ],
)
def test_claims_of_an_interface(spec: dict[str, Any], wanted: list[str]) -> None:
    tree = {"metadata": {"name": "x", "namespace": "ns"}, "spec": spec}
    assert list(InterfaceAddresses().claims(tree)) == wanted


def test_claims_of_a_network() -> None:
    numbers = NetworkNumbers(200, 300)
    assert list(numbers.claims({"metadata": {}, "spec": {"id": "200"}})) == ["vni/200"]
    assert list(numbers.claims({"metadata": {}})) == []
