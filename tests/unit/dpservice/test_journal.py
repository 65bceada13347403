from __future__ import annotations

import resource
import signal
from ipaddress import ip_interface
from pathlib import Path

import pytest

from services.dpservice.journal import Journal, JournalError, Step, as_step
from services.dpservice.model.changes import numbered
from services.dpservice.model.firewall import NewRule
from services.dpservice.model.rows import Direction, FirewallRule, IcmpFilter, InterfaceId, RuleId, Vni
from tests.unit.dpservice.builders import HOP, model, net, nic

UUID = "6E0A2F8E-9F0B-4B57-8F0A-3C1B3B1F4E11"


def rule(name: str, source: str, destination: str) -> NewRule:
    ends = ip_interface(source), ip_interface(destination)
    return NewRule(RuleId(name), FirewallRule(Direction.EGRESS, True, 1, *ends, IcmpFilter(8, 0), order=0))


def steps() -> list[Step]:
    made = model()
    changes = [
        made.create_interface(nic("a", ipv6="2001:db8::1"))[1],
        made.create_interface(nic("b", "net_tap3", ipv4="", ipv6="2001:db8::2"))[1],
        made.create_prefix(InterfaceId("a"), net("10.1.0.0/24"), None)[1],
        made.create_route(Vni(100), numbered(net("::/0")), HOP),
        made.create_rule(InterfaceId("a"), rule("four", "10.0.0.7/8", "0.0.0.0/0")),
        made.create_rule(InterfaceId("a"), rule("six", "2001:db8::7/64", "::/0")),
        made.delete_interface(InterfaceId("b")),
    ]
    return [Step(each, counter, counter > 1) for counter, each in enumerate(changes)]


def test_reads_what_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "state" / "journal.jsonl"
    journal = Journal(path)
    assert journal.read() == ("", [])
    written = steps()
    journal.rewrite(UUID, written[0])
    for step in written[1:]:
        journal.append(step)
    assert Journal(path).read() == (UUID, written)


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_torn_last_line_is_no_step(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    written = steps()
    journal.rewrite(UUID, written[0])
    journal.append(written[1])
    path.write_bytes(path.read_bytes()[:-cut])
    assert Journal(path).read() == (UUID, written[:1])


def test_rewrite_replaces_history(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal, made = Journal(path), model()
    journal.rewrite(UUID, as_step([], 0, initialized=False))
    journal.append(Step(made.create_interface(nic("a"))[1], 1, True))
    journal.append(Step(made.delete_interface(InterfaceId("a")), 1, True))
    journal.rewrite(UUID, as_step(made.rows(), 1, initialized=True))
    journal.append(Step(made.create_interface(nic("a"))[1], 2, True))
    assert [len(step.changes) for step in Journal(path).read()[1]] == [0, 3]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param('{"version": 1, "uuid": "x"}\n', "has version 1, not 2", id="an earlier version"),
        pytest.param("nonsense\n", "is damaged", id="no JSON"),
        pytest.param('{"version": 2}\n', "is damaged", id="no uuid"),
        pytest.param('{"version": 2, "uuid": "x"}\n{"changes": 1}\n', "is damaged", id="no step"),
        pytest.param(
            '{"version": 2, "uuid": "x"}\n{"changes":[[["Vip",1],null,null]],"counter":0,"initialized":true}\n',
            "is damaged",
            id="an unknown row",
        ),
    ],
)
def test_what_it_can_not_read(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(content)
    with pytest.raises(JournalError, match=says) as error:
        Journal(path).read()
    assert "--cold" in str(error.value)


def test_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal, written = Journal(path), steps()
    journal.rewrite(UUID, written[0])
    limit = path.stat().st_size + 20
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OSError):
            journal.append(written[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    journal.append(written[1])
    assert Journal(path).read() == (UUID, written[:2])
