"""The plan of a development cluster: names that fit, addresses that don't overlap."""

from __future__ import annotations

import ipaddress
import itertools
from pathlib import Path

import pytest

from ferrite.dev.plan import ClusterPlan

IFNAMSIZ = 15  # usable characters of a link's name
UNIX_PATH_MAX = 107


def plan(name: str = "dev", hypervisors: int = 2) -> ClusterPlan:
    return ClusterPlan(name, Path("/tmp/state"), hypervisors)


@pytest.mark.parametrize("name", ["", "sevenxx", "a-b", "ä"])
def test_a_name_that_would_not_fit_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="letters and digits"):
        plan(name)


def test_an_underlay_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="/48 or shorter"):
        ClusterPlan("dev", Path("/tmp/state"), underlay=ipaddress.IPv6Network("fd77::/56"))


def test_names_of_links_and_sockets_fit_the_kernel() -> None:
    longest = plan("sixsix")
    assert all(len(member.leg) <= IFNAMSIZ for member in longest.members)
    assert len(longest.bridge) <= IFNAMSIZ
    assert len(str(longest.run / "hv1" / "libvirt" / "run" / "libvirt-sock")) <= UNIX_PATH_MAX


def test_members_have_addresses_of_their_own() -> None:
    members = plan(hypervisors=5).members
    assert len({member.management for member in members}) == len(members)
    assert not any(a.underlay.overlaps(b.underlay) for a, b in itertools.combinations(members, 2))
    assert all(member.address in member.underlay for member in members)


def test_the_reflector_is_on_the_fabric() -> None:
    made = plan()
    assert made.reflector in made.fabric.underlay
    assert made.control.ip not in {member.management for member in made.members}
