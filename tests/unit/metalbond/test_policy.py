"""Who may announce and hear of what."""

from __future__ import annotations

import pytest

from services.metalbond.routes import Vni
from services.metalbond.server.policy import ANONYMOUS, LOCAL, OPEN, parse

TEXT = """
rules:
  - identities: ["hypervisor-*", "router"]
    announce: ["100-199", 4000]
    subscribe: ["*"]
  - identities: ["hypervisor-1"]
    read: true
  - identities: [local]
    read: true
"""


@pytest.mark.parametrize(
    ("identity", "vni", "may"),
    [
        pytest.param("hypervisor-1", 100, (True, True), id="the first VNI of a range"),
        pytest.param("router", 199, (True, True), id="the last one"),
        pytest.param("router", 200, (False, True), id="the one after it"),
        pytest.param("router", 4000, (True, True), id="a single one"),
        pytest.param("visitor", 100, (False, False), id="an identity without a rule"),
        pytest.param(ANONYMOUS, 100, (False, False), id="nobody in particular"),
        pytest.param(LOCAL, 100, (False, False), id="a rule that only lets read"),
    ],
)
def test_a_rule_says_what_its_identities_may(identity: str, vni: int, may: tuple[bool, bool]) -> None:
    rule = parse(TEXT).rule_for(identity)
    assert (rule.may_announce(Vni(vni)), rule.may_subscribe(Vni(vni))) == may


def test_the_first_rule_that_fits_is_the_only_one() -> None:
    assert not parse(TEXT).rule_for("hypervisor-1").read
    assert parse(TEXT).rule_for(LOCAL).read


def test_without_a_policy_everybody_may_everything() -> None:
    rule = OPEN.rule_for(ANONYMOUS)
    assert rule.may_announce(Vni(0))
    assert rule.may_subscribe(Vni(2**24 - 1))
    assert rule.read


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("rules: [", "not YAML", id="not YAML"),
        pytest.param("", "the file: Input should be", id="empty"),
        pytest.param("rules: [{announce: []}]", "rules.0.identities: Field required", id="nobody"),
        pytest.param("rules: [{identities: [a], announces: []}]", "rules.0.announces: Extra inputs", id="a typo"),
        pytest.param("rules: [{identities: [a], announce: [16777216]}]", "rules.0.announce.0", id="a huge VNI"),
        pytest.param("rules: [{identities: [a], announce: ['9-3']}]", "ends before it begins", id="a range backwards"),
        pytest.param("rules: [{identities: [a], subscribe: [x]}]", "'x' is neither a VNI", id="no VNI"),
    ],
)
def test_a_wrong_file_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(text)
