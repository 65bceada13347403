"""Rules across fields of metalnet's kinds: a good object is changed in one place, one cause names it."""

from __future__ import annotations

from typing import Any

import pytest

from services.metalnet.model.hooks import LoadBalancerHooks, NetworkHooks, NetworkInterfaceHooks

RULE = {"firewallRuleID": "one", "direction": "Ingress", "action": "Accept", "ipFamily": "IPv4"}


def rule(**change: Any) -> dict[str, Any]:
    return {"firewallRules": [{**RULE, **change}]}


def match(protocol: str, **change: Any) -> dict[str, Any]:
    return rule(protocolMatch={"protocolType": protocol, **change})


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        pytest.param({}, [], id="good"),
        pytest.param({"ipFamilies": ["IPv6"]}, ["spec.ips[0]"], id="address of another family"),
        pytest.param({"ipFamilies": ["IPv4", "IPv6"]}, ["spec.ipFamilies"], id="a family too many"),
        pytest.param({"nat": {"ip": "192.0.2.1", "port": 5, "endPort": 5}}, [], id="one NAT port"),
        pytest.param({"nat": {"ip": "192.0.2.1", "port": 5, "endPort": 4}}, ["spec.nat.endPort"], id="no NAT port"),
        pytest.param({"meteringRate": {"publicRate": 5}}, [], id="public rate alone"),
        pytest.param(
            {"meteringRate": {"totalRate": 4, "publicRate": 5}},
            ["spec.meteringRate.totalRate"],
            id="total below public",
        ),
        pytest.param({"loadBalancerTargets": ["10.0.0.1/32", "fd00::1/128"]}, [], id="targets are hosts"),
        pytest.param({"loadBalancerTargets": ["10.0.0.0/31"]}, ["spec.loadBalancerTargets[0]"], id="and nothing else"),
        pytest.param({"firewallRules": [RULE, RULE]}, ["spec.firewallRules[1].firewallRuleID"], id="a rule's id twice"),
        pytest.param(rule(direction="EGRESS", action="deny"), [], id="any case"),
        pytest.param(rule(direction="up"), ["spec.firewallRules[0].direction"], id="direction"),
        pytest.param(rule(action="maybe"), ["spec.firewallRules[0].action"], id="action"),
        pytest.param(
            rule(sourcePrefix="fd00::/8"), ["spec.firewallRules[0].sourcePrefix"], id="source of another family"
        ),
        pytest.param(
            match("tcp", icmp={"icmpType": 1, "icmpCode": 1}),
            ["spec.firewallRules[0].protocolMatch.icmp"],
            id="TCP with ICMP types",
        ),
        pytest.param(
            match("icmp", portRange={"dstPort": 1}),
            ["spec.firewallRules[0].protocolMatch.portRange"],
            id="ICMP with ports",
        ),
        pytest.param(match("TCP", portRange={"dstPort": 5, "endDstPort": 0}), [], id="0 = only the first port"),
        pytest.param(
            match("UDP", portRange={"srcPort": 5, "endSrcPort": 4}),
            ["spec.firewallRules[0].protocolMatch.portRange.endSrcPort"],
            id="an empty range of ports",
        ),
        pytest.param(
            match("UDP", portRange={"endDstPort": 4}),
            ["spec.firewallRules[0].protocolMatch.portRange.endDstPort"],
            id="a range without a start",
        ),
    ],
)
def test_interfaces(change: dict[str, Any], fields: list[str]) -> None:
    spec = {"networkRef": {"name": "blue"}, "ips": ["10.0.0.1"], "ipFamilies": ["IPv4"], **change}
    assert [cause.field for cause in NetworkInterfaceHooks().validate({"spec": spec}, None)] == fields


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        pytest.param({"id": 1, "peeredIDs": [2, 3]}, [], id="good"),
        pytest.param({"id": 1, "peeredIDs": [2, 1]}, ["spec.peeredIDs[1]"], id="its own peer"),
    ],
)
def test_networks(spec: dict[str, Any], fields: list[str]) -> None:
    assert [cause.field for cause in NetworkHooks().validate({"spec": spec}, None)] == fields


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        pytest.param({"ip": "192.0.2.1", "ipFamily": "IPv4"}, [], id="good"),
        pytest.param({"ip": "192.0.2.1", "ipFamily": "IPv6"}, ["spec.ip"], id="an address of the other family"),
    ],
)
def test_load_balancers(spec: dict[str, Any], fields: list[str]) -> None:
    assert [cause.field for cause in LoadBalancerHooks().validate({"spec": spec}, None)] == fields
