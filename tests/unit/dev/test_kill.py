"""What the kill check does, and how it judges what it saw."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ferrite.dev.kill import objects
from ferrite.dev.kill.inventory import differences, duplicates
from ferrite.dev.kill.ledger import Found, Ledger
from ferrite.dev.kill.matrix import Case, Harm, cases, chosen
from ferrite.dev.kill.pings import PingLog, Tally
from ferrite.dev.plan import ClusterPlan
from ferrite.dev.services import Services

PLAN = ClusterPlan("t", Path("/state"))


def test_every_process_of_ours_is_killed() -> None:
    ours = {process.name for process in Services(PLAN).independent_of_ceph()}
    killed = {victim for case in cases(PLAN) if case.harm is Harm.KILL for victim in case.victims}
    one_at_a_time = {case.victims[0] for case in cases(PLAN) if case.harm is Harm.KILL and len(case.victims) == 1}
    assert ours <= killed
    assert {"etcd", "ceph-osd", "ceph-mon", "ceph-mgr", "ceph-provider", "volumepoollet"} <= one_at_a_time
    assert {name for name in ours if not name.startswith("hv2")} <= one_at_a_time
    assert {name for name in ours if name.startswith("hv2")} in [set(case.victims) for case in cases(PLAN)]


def test_every_process_is_stopped() -> None:
    processes = {victim for case in cases(PLAN) if case.harm is Harm.KILL for victim in case.victims}
    stopped = {victim for case in cases(PLAN) if case.harm is Harm.STOP for victim in case.victims}
    # The first hypervisor's stand for the second's, and the other way round.
    assert {name.replace("hv2", "hv1") for name in stopped} == {name.replace("hv2", "hv1") for name in processes}


def test_the_names_of_the_cases_are_unique_and_fit_into_an_objects_name() -> None:
    names = [case.name for case in cases(PLAN)]
    assert len(set(names)) == len(names)
    assert all(len(objects.machine(f"out-{name}").metadata.name) <= 40 for name in names)


@pytest.mark.parametrize(
    ("case", "lost", "restarts", "ends_watches"),
    [
        pytest.param(Case("a", Harm.KILL, ("etcd",)), 0, True, False, id="the control plane costs no packet"),
        pytest.param(Case("a", Harm.KILL, ("hv1-dpservice",), "hv1"), 1, True, False, id="the data plane at most one"),
        pytest.param(Case("a", Harm.KILL, ("core-apiserver",)), 0, True, True, id="a killed server drops its watches"),
        pytest.param(Case("a", Harm.KILL, ("etcd", "core-apiserver")), 0, True, True, id="so it does among others"),
        pytest.param(Case("a", Harm.STOP, ("core-apiserver",)), 0, False, False, id="a stopped one keeps them"),
        pytest.param(Case("a", Harm.KILL_GUESTS, ("hv1-agent",), "hv1"), None, True, False, id="guests die too"),
        pytest.param(Case("a", Harm.FULL_DISK, ("etcd",)), 0, False, False, id="a full disk is no excuse"),
    ],
)
def test_what_a_case_allows(case: Case, lost: int | None, restarts: bool, ends_watches: bool) -> None:
    assert (case.lost_packets, case.restarts, case.ends_watches) == (lost, restarts, ends_watches)


def test_cases_are_chosen_by_name_in_the_order_of_the_matrix() -> None:
    assert [case.name for case in chosen(PLAN, ["hv1-agent", "etcd"])] == ["etcd", "hv1-agent"]
    assert chosen(PLAN, []) == cases(PLAN)
    with pytest.raises(ValueError, match="nonsense: no such case; there are etcd, "):
        chosen(PLAN, ["nonsense"])


CAPTURED = """\
100.000000 IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 7, seq 0, length 64
100.010000 IP 10.0.0.2 > 10.0.0.1: ICMP echo reply, id 7, seq 0, length 64
100.050000 IP 10.0.0.2 > 10.0.0.1: ICMP echo request, id 7, seq 1, length 64
100.200000 IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 7, seq 1, length 64
100.400000 IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 7, seq 2, length 64
100.900000 IP 10.0.0.2 > 10.0.0.1: ICMP echo reply, id 7, seq 2, length 64
100.950000 IP 10.0.0.1 > 10.0.0.2: ICMP host 10.0.0.2 unreachable, length 92
101.000000 IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 8, seq 0, length 64
101.010000 ARP, Request who-has 10.0.0.2
"""


@pytest.mark.parametrize(
    ("begin", "end", "tally"),
    [
        pytest.param(100.0, 100.04, Tally(1, (), pytest.approx(0.01)), id="answered"),
        pytest.param(100.1, 101.0, Tally(2, (100.2,), pytest.approx(0.5)), id="one lost, the other slow"),
        pytest.param(100.0, 100.1, Tally(2, (100.05,), pytest.approx(0.01)), id="the other direction counts by itself"),
        pytest.param(101.0, 102.0, Tally(1, (101.0,), 0.0), id="another identifier is another request"),
        pytest.param(200.0, 300.0, Tally(0, (), 0.0), id="silence"),
    ],
)
def test_lost_pings(begin: float, end: float, tally: Tally) -> None:
    log = PingLog()
    log.add(CAPTURED.splitlines())
    assert log.tally(begin, end) == tally


@pytest.mark.parametrize(
    ("found", "lies"),
    [
        pytest.param({"A/kept": Found("1", False), "A/gone": Found("2", True)}, [], id="as acknowledged"),
        pytest.param({}, ["A/kept was acknowledged and is gone"], id="lost"),
        pytest.param({"A/kept": Found("9", False)}, ["A/kept is another object than the one acknowledged"], id="other"),
        pytest.param(
            {"A/kept": Found("1", True)}, ["A/kept is being deleted and nobody asked for it"], id="deleted by nobody"
        ),
        pytest.param(
            {"A/kept": Found("1", False), "A/gone": Found("2", False)}, ["A/gone was deleted and is back"], id="risen"
        ),
        pytest.param(
            {"A/kept": Found("1", False), "A/either": Found("3", False)}, [], id="an open deletion may go either way"
        ),
    ],
)
def test_lies_of_the_server(found: dict[str, Found], lies: list[str]) -> None:
    ledger = Ledger()
    for name, uid in (("kept", "1"), ("gone", "2"), ("either", "3")):
        ledger.note_created(f"A/{name}", uid)
    ledger.note_created("B/unseen", "4")
    ledger.note_deleting("A/gone")
    ledger.note_deleted("A/gone")
    ledger.note_deleting("A/either")
    assert ledger.lies(found, {"A"}) == lies
    assert ledger.acknowledged == 5


def test_differences_name_what_came_and_what_went() -> None:
    before = {"images": Counter(["a", "b"]), "users": Counter(["u"]), "programs": Counter({"qemu": 2})}
    after = {"images": Counter(["b", "c"]), "users": Counter(["u"]), "programs": Counter({"qemu": 3})}
    assert differences(before, after) == {"images": "+c -a", "programs": "+qemu"}
    assert differences(before, before) == {}
    assert differences({}, {"images": Counter("x")}) == {"images": "+x"}


def test_a_thing_has_one_owner() -> None:
    assert duplicates([("VNI 1", "a"), ("VNI 2", "b"), ("VNI 1", "a")]) == []
    assert duplicates([("VNI 1", "b"), ("VNI 1", "a")]) == ["VNI 1 is of a and b"]


def test_the_demos_guests_also_ping_finely() -> None:
    manifests = objects.with_pings("    hostname vm-1\n    ping 10.0.0.2\n")
    assert manifests.splitlines()[:2] == ["    hostname vm-1", "    ping 10.0.0.2"]
    assert "ping -q -i 0.2 10.0.0.2" in manifests
    assert objects.with_pings(manifests.splitlines()[2]) == manifests.splitlines()[2]
