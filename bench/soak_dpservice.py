"""API churn with traffic while the data plane is killed again and again: what is left must be what there was.

`python -m bench.soak_dpservice --seconds 600 --kill-every 20` prints a table and exits with 1 if anything has leaked:
pinned maps, programs at devices, rows, flows, NAT ports, open files or memory of the process.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
from rich.console import Console
from rich.table import Table

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.journal import COMPACT_AFTER_ROWS
from tests.integration.dpservice.lab import Guest, Host, Lab, eventually, run, sweep
from tests.integration.dpservice.namespaces import attached

VNI: Final = 100
DEADLINE: Final = 5.0  # seconds for a call
RETRY_SECONDS: Final = 0.1
FLOW_SECONDS: Final = 2
QUIET_SECONDS: Final = 15.0  # flows end, and the daemon's periodic work is done
MEMORY_SLACK: Final = 1.25
JOURNAL_MOST: Final = 2 * 300 * COMPACT_AFTER_ROWS  # bytes of a row and its step
COUNTED: Final = ("flows", "nat_mappings", "nat_claims", "functions", "publics", "balancers", "rules", "neighbors")
TABLES: Final = (*COUNTED, "routes4", "routes6", "allowed_sources", "templates", "port_of_device")
STRANGER: Final = b"203.0.113.50"
SHARED, BALANCED = (pb.IpAddress(ipver=pb.IPV4, address=text) for text in (b"203.0.113.2", b"203.0.113.3"))
SPRAY: Final = """
import random, socket, time
sent = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)]
while True:
    for each in sent:
        each.sendto(b"soak", (random.choice({targets}), random.randrange(1024, 9000)))
    time.sleep(0.005)
"""


def _address(text: bytes) -> pb.IpAddress:
    return pb.IpAddress(ipver=pb.IPV6 if b":" in text else pb.IPV4, address=text)


def _prefix(text: bytes, length: int) -> pb.Prefix:
    return pb.Prefix(ip=_address(text), length=length)


def _objects(spare: Guest, chance: random.Random) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """What is made and taken away again: its noun in RPCs, the key in both requests, and what only creation says."""
    number = chance.randrange(1, 250)
    hop = _address(b"fc00:1:0:9::%x" % number)
    a, c = {"interface_id": b"a"}, {"interface_id": b"c"}
    everything = _prefix(b"0.0.0.0", 0)
    rule = pb.FirewallRule(
        id=b"soak",
        direction=pb.INGRESS,
        action=pb.ACCEPT,
        priority=number,
        source_prefix=everything,
        destination_prefix=everything,
    )
    slice_ = {"nat_ip": SHARED, "vni": VNI, "min_port": 5000, "max_port": 6000}
    route = pb.Route(prefix=_prefix(b"10.9.%d.0" % number, 24), nexthop_vni=VNI, nexthop_address=hop)
    balancer = {"loadbalanced_ip": BALANCED, "vni": VNI, "loadbalanced_ports": [pb.LbPort(port=80, protocol=pb.TCP)]}
    guest = {"device_name": spare.device, "vni": VNI, "ipv4_config": pb.IpConfig(primary_address=spare.ipv4.encode())}
    return [
        ("Route", {"vni": VNI, "route": route}, {}),
        ("Vip", c, {"vip_ip": _address(b"203.0.113.1")}),
        ("Nat", a, {"nat_ip": SHARED, "min_port": 1000, "max_port": 1000 + number}),
        ("NeighborNat", slice_, {"underlay_route": b"fc00:1:0:9::1"}),
        ("Prefix", {**c, "prefix": _prefix(b"10.8.0.0", 24)}, {}),
        ("LoadBalancerPrefix", {**c, "prefix": _prefix(b"203.0.113.3", 32)}, {}),
        ("LoadBalancer", {"loadbalancer_id": b"soak"}, balancer),
        ("LoadBalancerTarget", {"loadbalancer_id": b"soak", "target_ip": hop}, {}),
        ("FirewallRule", c, {"rule": rule}),
        ("Interface", {"interface_id": b"spare"}, guest),
    ]


def _call(host: Host, verb: str, noun: str, fields: dict[str, Any]) -> None:
    """Refusals are answers too."""
    request = getattr(pb, f"{verb}{noun}Request")(**fields)
    getattr(host.stub, f"{verb}{noun}")(request, timeout=DEADLINE)


def churn(host: Host, spare: Guest, chance: random.Random, until: float) -> tuple[int, Counter[str]]:
    """Makes and removes objects in random order until a time; calls, and those without an answer by what gRPC said."""
    calls, failed = 0, Counter[str]()
    present: dict[str, dict[str, Any]] = {}
    while time.monotonic() < until:
        noun, key, rest = chance.choice(_objects(spare, chance))
        calls += 1
        try:
            if noun in present:
                _call(host, "Delete", noun, present.pop(noun))
            else:
                present[noun] = {**key, "rule_id": b"soak"} if noun == "FirewallRule" else key
                _call(host, "Create", noun, {**key, **rest})
        except grpc.RpcError as error:
            failed[f"{error.code().name} ({error.details()})"] += 1
            time.sleep(RETRY_SECONDS)
    for noun, key in sorted(present.items(), key=lambda item: item[0] == "LoadBalancer"):
        _call(host, "Delete", noun, key)
    return calls, failed


@contextmanager
def traffic(lab: Lab, a: Guest, c: Guest) -> Iterator[Callable[[], tuple[int, int]]]:
    """New flows all the time, to guests here and there and to strangers; gives pings sent and answered so far."""
    targets = [lab.guests[1].ipv4, c.ipv4, STRANGER.decode()]
    spray = a.spawn(sys.executable, "-c", SPRAY.format(targets=targets))
    ping = c.spawn("ping", "-q", "-i", "0.05", "-W", "1", lab.guests[1].ipv4)
    result: list[tuple[int, int]] = []

    def ended() -> tuple[int, int]:
        if not result:
            if spray.poll() is not None:
                raise RuntimeError(f"the traffic ended by itself: {spray.returncode}")
            ping.send_signal(2)
            out, _ = ping.communicate(timeout=10)
            summary = next(line for line in out.splitlines() if "packets transmitted" in line).split()
            result.append((int(summary[0]), int(summary[3])))
        return result[0]

    try:
        yield ended
    finally:
        for process in (spray, ping):
            process.kill()
            process.wait()


def entries(host: Host, table: str) -> int:
    """Of a pinned hash or trie."""
    shown = run("bpftool", "-j", "map", "dump", "pinned", str(host.directory / "bpf" / table))
    return len(json.loads(shown))


def _status(host: Host) -> dict[str, int]:
    """Numbers that the kernel has of the daemon: proc_pid_status(5)."""
    assert host.process is not None
    lines = Path(f"/proc/{host.process.pid}/status").read_text().splitlines()
    pairs = (line.replace(":", "").split()[:2] for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def figures(host: Host) -> dict[str, int]:
    """What must not grow."""
    assert host.process is not None
    process = Path(f"/proc/{host.process.pid}")
    status = _status(host)
    programs = [attached(host.namespace, device) for device in ("pf0", "pf1", "dtap0", "dtap1", "dtap2")]
    return {
        **{table: entries(host, table) for table in TABLES},
        "pinned maps": len(list((host.directory / "bpf").iterdir())),
        "programs at devices": len(programs) - programs.count(None),
        "open files": len(list((process / "fd").iterdir())),
        "threads": status["Threads"],
        "memory, kB": status["VmRSS"],
        "journal, bytes": (host.directory / "state" / "journal.jsonl").stat().st_size,
    }


def settle(host: Host) -> dict[str, int]:
    """A fresh process that nobody calls, once the flows have ended."""
    host.stop()
    host.start(f"--flow-timeout={FLOW_SECONDS}")
    eventually(lambda: entries(host, "flows") == 0, QUIET_SECONDS)
    return figures(host)


def prepared(lab: Lab) -> tuple[Guest, Guest, Guest, Guest]:
    """a, c and a spare guest on the first host, b on the second, routes between them, a stranger's route."""
    one, two = lab.hosts
    a, b = lab.guest(one, 0, "10.0.0.1", "2001:db8::1"), lab.guest(two, 0, "10.0.0.2", "2001:db8::2")
    c, spare = lab.guest(one, 1, "10.0.0.3", "2001:db8::3"), lab.guest(one, 2, "10.0.0.4", "2001:db8::4")
    for host in lab.hosts:
        host.start(f"--flow-timeout={FLOW_SECONDS}")
        host.initialize()
    for host, guest, name in ((one, a, "a"), (one, c, "c"), (two, b, "b")):
        host.create(guest, VNI, name)
    one.route(VNI, "10.0.0.2/32", b.underlay)
    one.route(VNI, "0.0.0.0/0", b.underlay)
    two.route(VNI, "10.0.0.3/32", c.underlay)
    return a, b, c, spare


def leaks(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """Figures that grew more than they may. A journal grows until it is worth to be made anew."""
    most = {name: value * MEMORY_SLACK if name.startswith("memory") else value for name, value in before.items()}
    most["journal, bytes"] = JOURNAL_MOST
    return [name for name, value in after.items() if value > most[name]]


def soak(lab: Lab, seconds: float, kill_every: float, chance: random.Random) -> list[str]:
    """Runs it, prints the figures, and names what leaked or failed."""
    one = lab.hosts[0]
    a, _, c, spare = prepared(lab)
    assert c.ping("10.0.0.2")
    before, calls, unanswered, kills = settle(one), 0, Counter[str](), 0
    lives: list[int] = []  # kB that each process had at its end
    with traffic(lab, a, c) as ended:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            made, failed = churn(one, spare, chance, min(until, time.monotonic() + kill_every))
            calls, unanswered, kills = calls + made, unanswered + failed, kills + 1
            lives.append(_status(one)["VmRSS"])
            one.kill()
            one.start(f"--flow-timeout={FLOW_SECONDS}")
        sent, answered = ended()
    assert c.ping("10.0.0.2")
    after = settle(one)
    before["memory at a life's end, kB"], after["memory at a life's end, kB"] = lives[0], max(lives)
    found = leaks(before, after)
    table = Table("", "before", "after", title=f"{calls} calls, {kills} kills, pings {answered} of {sent} answered")
    for name, value in before.items():
        table.add_row(name, str(value), f"[red]{after[name]}" if name in found else str(after[name]))
    Console().print(table)
    found += [f"{count} calls ended with {what}" for what, count in unanswered.items()]
    if answered < sent - 1:
        found.append(f"{sent - answered} pings lost")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--kill-every", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sweep()
    with ExitStack() as stack:
        lab = Lab()
        stack.callback(lab.close)
        found = soak(lab, given.seconds, given.kill_every, random.Random(given.seed))
    if found:
        sys.exit("leaked or failed: " + ", ".join(found))


if __name__ == "__main__":
    main()
