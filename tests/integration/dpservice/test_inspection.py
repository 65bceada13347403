"""What `inspect` and `dump` read out of the maps of a data plane at work, and of one whose daemon is dead."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from services.dpservice.__main__ import main
from tests.integration.dpservice.conftest import BALANCED, VNI, furnish
from tests.integration.dpservice.lab import Host, Lab, eventually
from tests.integration.dpservice.test_packets import introduce


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab()
    try:
        one = furnish(made, "fc00:1:0:9::1").hosts[0]
        target = ("--lb-id=lb1", "--target-ip=fc00:1:0:8::2")
        main([f"--address=unix:{one.directory}/grpc.sock", "create", "lbtarget", *target])
        yield made
    finally:
        made.close()


def rows(host: Host, capsys: pytest.CaptureFixture[str], command: str) -> Any:
    capsys.readouterr()
    main([*command.split(), f"--bpf-root={host.directory}/bpf", "-o", "json"])
    return json.loads(capsys.readouterr().out)


def test_tables(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    one = lab.hosts[0]
    listed = {row["table"]: row for row in rows(one, capsys, "inspect")}
    assert listed["iface"]["entries"] == 2
    assert listed["routes"]["capacity"] == 2 * 65536
    assert [row["entries"] for row in rows(one, capsys, "inspect -t vnf")] == [5]
    ports = {row["device"]: row for row in rows(one, capsys, "dump iface")}
    assert ports["net_tap2"]["nat"] == "1.2.3.4 100-103"
    assert ports["net_tap3"]["vip"] == "1.2.3.5"
    assert ports["net_tap2"]["delivery"] == "peer"
    to = {row["prefix"]: row["to"] for row in rows(one, capsys, "dump routes")}
    assert to["10.0.0.1/32"] == "net_tap2"
    assert to["0.0.0.0/0"] == "fc00:1:0:9::1"
    assert {row["kind"] for row in rows(one, capsys, "dump vnf")} == {"interface", "nat", "vip", "balancer"}
    assert {row["address"]: row["kind"] for row in rows(one, capsys, "dump dnat")} == {
        "1.2.3.4": "nat",
        "1.2.3.5": "vip",
    }
    assert [(row["min_port"], row["max_port"]) for row in rows(one, capsys, "dump neighbors")] == [(104, 200)]
    assert [row["ports"] for row in rows(one, capsys, "inspect lb --dump")] == ["TCP/80,UDP/53"]
    assert sum(row["slots"] for row in rows(one, capsys, "dump lb_targets")) == 503
    first, second = rows(one, capsys, "dump rules")
    assert (first["action"], first["protocol"], first["dport"], first["destination"]) == (
        "drop",
        "udp",
        "53-54",
        "10.66.0.0/16",
    )
    assert second["dport"] == "any"
    assert [(row["vni"], row["interfaces"], row["balancers"]) for row in rows(one, capsys, "dump vni")] == [(VNI, 2, 1)]
    assert eventually(lambda: [row["usable"] for row in rows(one, capsys, "dump uplinks")] == [True, True])
    assert len(rows(one, capsys, "dump snat")) == 2
    assert len(rows(one, capsys, "dump vnf_rev")) == 5


def test_flows_and_nat_ports(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    one = lab.hosts[0]
    a, b, c = lab.guests
    introduce(a, b, c)
    assert a.ping(b.ipv4)
    a.ping("9.9.9.9")
    flows = {(row["from"], row["destination"]): row for row in rows(one, capsys, "dump flows")}
    there, back = flows["net_tap2", b.ipv4], flows["tunnel", a.ipv4]
    assert (there["to"], there["protocol"], there["kind"]) == (b.underlay, "icmp", "plain")
    assert (back["to"], back["source"]) == ("net_tap2", b.ipv4)
    assert 0 < there["seconds_left"] <= 38  # the timeout and a quarter of it
    out = flows["net_tap2", "9.9.9.9"]
    assert (out["kind"], out["new_address"], out["rewrites"]) == ("nat", "1.2.3.4", "source,port")
    mapping = next(row for row in rows(one, capsys, "dump portmap") if row["nat_port"] == out["new_port"])
    assert (mapping["source"], mapping["nat"], mapping["owner"], mapping["flows"]) == (a.ipv4, "1.2.3.4", "net_tap2", 1)
    assert 100 <= mapping["nat_port"] < 104
    claims = {row["destination"]: row for row in rows(one, capsys, "dump portoverload")}
    assert (claims["9.9.9.9"]["nat_port"], claims["9.9.9.9"]["protocol"]) == (out["new_port"], "icmp")


def test_formats(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    place = f"--bpf-root={lab.hosts[0].directory}/bpf"
    capsys.readouterr()
    main(["dump", "lb", place, "-o", "csv"])
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["address"], row["targets"]) == (BALANCED, "2")
    main(["dump", "lb", place, "-o", "table"])
    assert capsys.readouterr().out.split("\n")[0].split() == [
        "number",
        "vni",
        "address",
        "ports",
        "targets",
        "underlay",
    ]
    main(["dump", "lb", place])
    assert f"address: {BALANCED}  ports: TCP/80,UDP/53  targets: 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        pytest.param("inspect nowhere", 2, "'nowhere' is not one of list, conntrack", id="an unknown table"),
        pytest.param("inspect -o xml", 2, "'xml' is not one of human, table, csv, json", id="an unknown format"),
        pytest.param("dump --watch=0", 2, "'0' is not above 0", id="no pause"),
        pytest.param("dump iface --bpf-root=/nowhere", 1, "no data plane has its maps in /nowhere", id="no data plane"),
    ],
)
def test_refused(line: str, code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(line.split())
    assert left.value.code == code
    assert says in capsys.readouterr().err


def test_drops_while_the_daemon_is_dead(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """The last test of the module: it ends the daemon."""
    one, a = lab.hosts[0], lab.guests[0]
    one.kill()
    before = {row["reason"]: row["packets"] for row in rows(one, capsys, "dump drops")}
    a.ping("224.0.0.9")
    after = {row["reason"]: row for row in rows(one, capsys, "inspect drops")}
    assert after["not_unicast"]["packets"] == before.get("not_unicast", 0) + 1
    assert after["not_unicast"]["meaning"] == "multicast, broadcast and link-local go nowhere"
    assert len(rows(one, capsys, "dump iface")) == 2
