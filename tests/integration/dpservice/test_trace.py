"""Packets tried out over the maps of a data plane at work: what is told, that it is true, and that nothing changes."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from services.dpservice.engine.pins import Pins
from services.dpservice.inspection.tables import TABLES
from services.dpservice.tracing.packets import UDP, Wanted, framed
from tests.integration.dpservice.conftest import BALANCED, VNI, furnish
from tests.integration.dpservice.lab import Host, Lab, within
from tests.integration.dpservice.test_packets import introduce

ROUTER = "fc00:1:0:2:d000::99"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab()
    try:
        furnish(made, ROUTER)
        introduce(*made.guests)
        yield made
    finally:
        made.close()


def trace(host: Host, line: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.dpservice", "trace", f"--bpf-root={host.directory}/bpf", *line.split()]
    return subprocess.run(within(host.namespace, *command), capture_output=True, text=True, timeout=60)


def told(host: Host, line: str) -> list[dict[str, Any]]:
    done = trace(host, f"{line} -o json")
    assert done.returncode == 0, done.stderr
    return [json.loads(each) for each in done.stdout.splitlines()]


def balancer_underlay(lab: Lab) -> str:
    pins = Pins(lab.hosts[0].directory / "bpf")
    return next(str(row["underlay"]) for row in TABLES["vnf"].rows(pins) if row["kind"] == "balancer")


@pytest.mark.parametrize(
    ("line", "steps", "verdict", "leaves"),
    [
        pytest.param(
            "-i net_tap2 --dst=10.0.0.2",
            "parsed source_checked flow_missing routed rule_matched flow_made encapsulated",
            "sent",
            " | 10.0.0.1:40000 > 10.0.0.2:80 TCP syn, 94 bytes",
            id="to another host",
        ),
        pytest.param(
            "-i 10.0.0.1 --dst=10.0.0.3 -p udp",
            "parsed source_checked flow_missing routed rule_matched flow_made delivered",
            "sent",
            "10.0.0.1:40000 > 10.0.0.3:80 UDP, 42 bytes",
            id="to a guest of this host",
        ),
        pytest.param(
            "-i dtap1 --dst=9.9.9.9 -p icmp",
            "parsed source_checked flow_missing routed flow_made translated encapsulated",
            "sent",
            f" > {ROUTER} | 1.2.3.5 > 9.9.9.9 ICMP echo request, identifier 40000, 82 bytes",
            id="out by a VIP",
        ),
        pytest.param(
            "-i net_tap2 --dst=1.2.3.5",
            "parsed source_checked flow_missing public_found routed rule_matched flow_made translated delivered",
            "sent",
            "10.0.0.1:40000 > 10.0.0.3:80 TCP syn, 54 bytes",
            id="to a VIP of this host",
        ),
        pytest.param(
            "-i net_tap2 --dst=1.2.3.4 --dport=150",
            "parsed source_checked flow_missing public_found neighbor_found rule_matched encapsulated",
            "sent",
            "fc00:1:0:1::1 > fc00:7::1 | 10.0.0.1:40000 > 1.2.3.4:150 TCP syn, 94 bytes",
            id="to a neighbor's slice",
        ),
        pytest.param(
            "-i net_tap2 --dst=2001:db8::2 -p udp --src=2001:db8::66",
            "parsed source_checked dropped",
            "dropped",
            "spoofed_address",
            id="a foreign source",
        ),
        pytest.param(
            "-i net_tap2 --dst=10.0.0.2 --src-mac=02:00:00:00:00:77",
            "parsed dropped",
            "dropped",
            "spoofed_mac",
            id="a foreign MAC",
        ),
        pytest.param(
            "-i net_tap2 --dst=10.66.1.1 -p udp --dport=53",
            "parsed source_checked flow_missing routed rule_matched dropped",
            "dropped",
            "firewall",
            id="refused by a rule",
        ),
        pytest.param(
            "-i net_tap2 --dst=10.0.0.2 -p udp --size=1600",
            "parsed source_checked flow_missing routed rule_matched flow_made dropped delivered",
            "dropped",
            "too_big",
            id="too long for the tunnel",
        ),
        pytest.param(
            "--uplink=0 --to=fc00:1:0:1:d000:ff:0:1 --src=1.1.1.1 --dst=2.2.2.2 --from=fc00:1:0:2::1",
            "dropped",
            "dropped",
            "unknown_underlay",
            id="an underlay address of nobody",
        ),
    ],
)
def test_told(lab: Lab, line: str, steps: str, verdict: str, leaves: str) -> None:
    (answer,) = told(lab.hosts[0], line)
    assert [step["step"] for step in answer["steps"]] == steps.split()
    assert answer["verdict"] == verdict
    if verdict == "dropped":
        assert answer["reason"] == leaves
        assert answer["meaning"]
    else:
        assert answer["leaves"]["packet"].endswith(leaves)


def test_packets_out_of_tunnels(lab: Lab) -> None:
    one = lab.hosts[0]
    a, b, _ = lab.guests
    (answer,) = told(one, f"--uplink=0 --to={a.underlay} --src={b.ipv4}")
    assert answer["packet"].startswith(f"{b.underlay} > {a.underlay} | {b.ipv4}:40000 > {a.ipv4}:80 TCP syn")
    assert answer["leaves"]["packet"] == f"{b.ipv4}:40000 > {a.ipv4}:80 TCP syn, 54 bytes"
    (answer,) = told(one, f"--uplink=1 --to={balancer_underlay(lab)} --src=9.9.9.9 --dst={BALANCED}")
    assert [step["step"] for step in answer["steps"]][-2:] == ["target_chosen", "encapsulated"]
    assert "fc00:1:0:1::1 > fc00:1:0:8::1 | 9.9.9.9:40000" in answer["leaves"]["packet"]
    (answer,) = told(one, f"--uplink=1 --to={balancer_underlay(lab)} --src=9.9.9.9 --dst={BALANCED} --dport=81")
    assert answer["reason"] == "balancer"


def state(lab: Lab) -> dict[str, Any]:
    pins = Pins(lab.hosts[0].directory / "bpf")
    names = ("conntrack", "portmap", "portoverload", "drops")
    shown: dict[str, Any] = {name: list(TABLES[name].rows(pins)) for name in names}
    for row in shown["conntrack"]:
        del row["seconds_left"]
    return shown


def test_nothing_changes_and_the_truth_is_told(lab: Lab) -> None:
    one, a = lab.hosts[0], lab.guests[0]
    before = state(lab)
    (answer,) = told(one, "-i net_tap2 --dst=9.9.9.1 -p udp --sport=5555 --dport=53")
    (translated,) = [step for step in answer["steps"] if step["step"] == "translated"]
    told(one, "-i net_tap2 --dst=9.9.9.1 -p tcp --tcp-flags=rst")
    told(one, "-i net_tap2 --dst=224.0.0.9")
    after = state(lab)
    assert after["drops"] == before["drops"]
    for name in ("conntrack", "portmap", "portoverload"):  # others may have expired meanwhile
        assert [row for row in after[name] if row not in before[name]] == []

    send = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 5555));"
    a.run(sys.executable, "-c", f"{send} s.sendto(b'x', ('9.9.9.1', 53))")
    (mapping,) = [row for row in state(lab)["portmap"] if row["sport"] == 5555]
    assert mapping["nat_port"] == translated["b"]
    assert IPv4Address(mapping["nat"]) == IPv4Address("1.2.3.4")
    (answer,) = told(one, "-i net_tap2 --dst=9.9.9.1 -p udp --sport=5555 --dport=53")
    assert "a NAT flow is known" in " ".join(step["text"] for step in answer["steps"])


def test_a_capture_file(lab: Lab, tmp_path: Path) -> None:
    a = lab.guests[0]
    packets = [
        Wanted(IPv4Address(a.ipv4), IPv4Address(target), UDP, 1, 2).packet() for target in ("10.0.0.3", "10.66.0.1")
    ]
    mac = bytes.fromhex(a.mac.replace(":", ""))
    content = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for packet in packets:
        frame = framed(packet, b"\x02" + bytes(5), mac)
        content += struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame
    (tmp_path / "x.pcap").write_bytes(content)
    first, second = told(lab.hosts[0], f"-i net_tap2 --pcap={tmp_path}/x.pcap")
    assert first["leaves"]["packet"] == f"{a.ipv4}:1 > 10.0.0.3:2 UDP, 42 bytes"
    assert second["packet"] == f"{a.ipv4}:1 > 10.66.0.1:2 UDP, 42 bytes"


def test_a_question_to_the_gateway(lab: Lab, tmp_path: Path) -> None:
    a = lab.guests[0]
    mac = bytes.fromhex(a.mac.replace(":", ""))
    ends = mac + IPv4Address(a.ipv4).packed + bytes(6) + IPv4Address("169.254.0.1").packed
    frame = b"\xff" * 6 + mac + bytes.fromhex("0806 0001 0800 06 04 0001") + ends
    content = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    (tmp_path / "arp.pcap").write_bytes(content + struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)
    (answer,) = told(lab.hosts[0], f"-i net_tap2 --pcap={tmp_path}/arp.pcap")
    assert [step["step"] for step in answer["steps"]][:1] == ["for_gateway"]
    assert answer["leaves"]["packet"] == "ARP reply, 42 bytes"


def test_text_for_people(lab: Lab) -> None:
    shown = trace(lab.hosts[0], "-i net_tap2 --dst=10.66.1.1 -p udp --dport=53").stdout.splitlines()
    assert shown[0] == f"from net_tap2 (port 0, VNI {VNI}): 10.0.0.1:40000 > 10.66.1.1:53 UDP, 42 bytes"
    assert shown[-1] == "dropped: firewall (the firewall of an interface refuses it)"
    assert shown[-3].split() == ["5", "rule", "matched", "rule", "0", "refuses"]


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        pytest.param("--dst=1.1.1.1", 2, "--interface, --uplink: exactly one of them must be given", id="no place"),
        pytest.param("-i nope --dst=1.1.1.1", 2, "'nope' is no device of an interface (net_tap2", id="no device"),
        pytest.param("-i net_tap2", 2, "--dst: must be given", id="no destination"),
        pytest.param("-i net_tap2 --dst=1.1.1.1 --src=::1", 2, "are not of one family", id="two families"),
        pytest.param("--uplink=7 --to=::1 --src=1.1.1.1", 2, "there is no uplink 7", id="no uplink"),
        pytest.param(
            "--uplink=0 --to=fc00::9 --src=1.1.1.1", 2, "--dst: must be given, fc00::9 is no", id="for nobody"
        ),
        pytest.param("-i net_tap2 --pcap=/etc/hostname", 2, "capture", id="no capture"),
        pytest.param("-i net_tap2 --dst=1.1.1.1 --netns=/nowhere", 1, "/nowhere", id="no namespace"),
    ],
)
def test_refused(lab: Lab, line: str, code: int, says: str) -> None:
    done = trace(lab.hosts[0], line)
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr


def test_in_another_namespace(lab: Lab) -> None:
    """Where the devices' numbers are those of others."""
    one = lab.hosts[0]
    line = f"trace --bpf-root={one.directory}/bpf -i net_tap2 --dst=10.0.0.2"
    command = [*within(lab.fabric, sys.executable, "-m", "services.dpservice"), *line.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--netns: the data plane's uplinks are not in this network namespace" in done.stderr
    assert "sent out of uplink 0 (pf0)" in trace(one, "-i net_tap2 --dst=10.0.0.2").stdout


def test_while_the_daemon_is_dead_and_from_elsewhere(lab: Lab) -> None:
    """The last test of the module: it ends the daemon."""
    one = lab.hosts[0]
    one.kill()
    command = [sys.executable, "-m", "services.dpservice", "trace", f"--bpf-root={one.directory}/bpf", "-i", "net_tap2"]
    done = subprocess.run(
        [*command, "--dst=10.0.0.2", f"--netns={one.namespace}"], capture_output=True, text=True, timeout=60
    )
    assert "sent out of uplink 0 (pf0)" in done.stdout, done.stderr
