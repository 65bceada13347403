"""When a node counts as lost, and when as gone."""

from __future__ import annotations

import pytest

from services.metalnet.model.heartbeat import Absences, Heartbeat, Heartbeats

FIRST, SECOND = Heartbeat("10:00", 40), Heartbeat("10:10", 40)


@pytest.mark.parametrize(
    ("looks", "lost"),
    [
        pytest.param([({"a": FIRST}, 0)], [], id="just seen, whatever its clock says"),
        pytest.param([({"a": FIRST}, 0), ({"a": FIRST}, 40)], [], id="just in time"),
        pytest.param([({"a": FIRST}, 0), ({"a": FIRST}, 41)], ["a"], id="too long without change"),
        pytest.param([({"a": FIRST}, 0), ({"a": SECOND}, 41)], [], id="renewed"),
        pytest.param([({"a": FIRST}, 0), ({}, 20), ({"a": FIRST}, 41)], [], id="a new lease starts anew"),
    ],
)
def test_lost(looks: list[tuple[dict[str, Heartbeat], float]], lost: list[str]) -> None:
    heartbeats = Heartbeats()
    for present, now in looks:
        answer = heartbeats.lost(present, now)
    assert answer == lost


@pytest.mark.parametrize(
    ("looks", "over"),
    [
        pytest.param([({"a"}, 0), ({"a"}, 60)], [], id="not yet"),
        pytest.param([({"a"}, 0), ({"a"}, 61)], ["a"], id="for too long"),
        pytest.param([({"a"}, 0), (set(), 30), ({"a"}, 61)], [], id="it was back in between"),
    ],
)
def test_over(looks: list[tuple[set[str], float]], over: list[str]) -> None:
    absences = Absences(60)
    for missing, now in looks:
        answer = absences.over(missing, now)
    assert answer == over
