"""The process dies, packets go on, and its successor knows everything."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.engine.settings import LAYOUT_VERSION
from tests.integration.dpservice.conftest import VNI
from tests.integration.dpservice.lab import Lab, eventually, run
from tests.integration.dpservice.test_packets import introduce


def uuid_of(host: object) -> str:
    answer = host.stub.CheckInitialized(pb.CheckInitializedRequest(), timeout=30)  # type: ignore[attr-defined]
    assert answer.status.code == 0
    return str(answer.uuid)


def test_killed_while_ping_runs(pair: Lab) -> None:
    a, b, _ = pair.guests
    one, two = pair.hosts
    introduce(a, b)
    assert a.ping(b.ipv4)
    before = uuid_of(one), one.stub.ListInterfaces(pb.ListInterfacesRequest(), timeout=30)
    routes = one.stub.ListRoutes(pb.ListRoutesRequest(vni=VNI), timeout=30)
    assert [route.prefix.length for route in routes.routes] == [32, 128]

    ping = a.spawn("ping", "-q", "-i", "0.01", "-c", "600", "-W", "1", b.ipv4)
    for host in (one, two):
        host.kill()
    for host in (one, two):
        host.start()
    assert (uuid_of(one), one.stub.ListInterfaces(pb.ListInterfacesRequest(), timeout=30)) == before
    assert one.stub.ListRoutes(pb.ListRoutesRequest(vni=VNI), timeout=30) == routes
    assert '"repaired": 0' in one.log
    out, _ = ping.communicate(timeout=30)
    assert re.search(r"600 packets transmitted, 600 received", out), out

    added = one.create(pair.guest(one, 2, "10.0.0.9", "2001:db8::9"), VNI, "late")
    assert added.underlay not in {a.underlay, pair.guests[2].underlay}
    introduce(added)
    assert a.ping(added.ipv4)


def test_stops_cleanly_and_leaves_packets_alone(pair: Lab) -> None:
    a, b, _ = pair.guests
    introduce(a, b)
    assert pair.hosts[0].stop() == 0
    assert a.ping(b.ipv4)


def test_cold_start_forgets(pair: Lab) -> None:
    a, b, _ = pair.guests
    one = pair.hosts[0]
    old = uuid_of(one)
    one.kill()
    one.start("--cold")
    answer = one.stub.Initialize(pb.InitializeRequest(), timeout=30)
    assert answer.uuid != old
    assert not one.stub.ListInterfaces(pb.ListInterfacesRequest(), timeout=30).interfaces
    assert not a.ping(b.ipv4)
    one.create(a, VNI, "a")
    one.route(VNI, f"{b.ipv4}/32", b.underlay)
    pair.hosts[1].stub.DeleteRoute(_route(f"{a.ipv4}"), timeout=30)
    pair.hosts[1].route(VNI, f"{a.ipv4}/32", a.underlay)
    eventually(lambda: a.ping(b.ipv4))  # the guest asked for its gateway in vain and waits before it asks again


def _route(address: str) -> pb.DeleteRouteRequest:
    prefix = pb.Prefix(ip=pb.IpAddress(ipver=pb.IPV4, address=address.encode()), length=32)
    hop = pb.IpAddress(ipver=pb.IPV6, address=b"::1")
    return pb.DeleteRouteRequest(vni=VNI, route=pb.Route(prefix=prefix, nexthop_address=hop))


def test_lost_maps_mean_a_new_uuid(pair: Lab) -> None:
    """As after a reboot of the host: the journal alone is not the state."""
    one = pair.hosts[0]
    old = uuid_of(one)
    one.kill()
    for pinned in (one.directory / "bpf").iterdir():
        if pinned.is_file() and not pinned.name.endswith(".debug"):
            pinned.unlink()
    one.start()
    assert one.stub.Initialize(pb.InitializeRequest(), timeout=30).uuid != old
    assert not one.stub.ListInterfaces(pb.ListInterfacesRequest(), timeout=30).interfaces


def test_torn_journal_line_is_ignored(pair: Lab) -> None:
    one = pair.hosts[0]
    old = uuid_of(one)
    one.kill()
    with (one.directory / "state/journal.jsonl").open("ab") as journal:
        journal.write(b'{"changes":[[["route",100')
    one.start()
    assert uuid_of(one) == old
    assert len(one.stub.ListInterfaces(pb.ListInterfacesRequest(), timeout=30).interfaces) == 2


def test_packets_are_brought_in_line_with_the_journal(pair: Lab) -> None:
    """A process that dies between journal and packets leaves work for its successor."""
    a, b, _ = pair.guests
    one = pair.hosts[0]
    introduce(a, b)
    one.kill()
    for table in ("routes4", "functions"):
        path = f"{one.directory}/bpf/{table}"
        for entry in json.loads(run("bpftool", "-j", "map", "dump", "pinned", path)):
            run("bpftool", "map", "delete", "pinned", path, "key", *entry["key"])
    assert not a.ping(b.ipv4)
    one.start()
    assert a.ping(b.ipv4)


def test_device_that_is_made_anew(pair: Lab) -> None:
    """Its ifindex and MAC change; the port follows."""
    a, b, _ = pair.guests
    one = pair.hosts[0]
    introduce(a, b)
    assert a.ping(b.ipv4)
    run("ip", "-n", one.namespace, "link", "delete", "dtap0")
    eventually(lambda: "guest device went away" in one.log)
    run("ip", "-n", one.namespace, "link", "add", "dtap0", "type", "veth", "peer", "name", "eth0",
        "address", a.mac, "netns", a.namespace)  # fmt: skip
    a.configure()
    eventually(lambda: a.ping(b.ipv4, "-W", "0.2"))


def other_number(maps: Path) -> Callable[[], None]:
    """As a version with another meaning of the same bytes leaves them; returns the way back."""
    path = str(maps / "settings")
    (entry,) = json.loads(run("bpftool", "-j", "map", "dump", "pinned", path))
    key, value = ([int(byte, 16) for byte in entry[part]] for part in ("key", "value"))

    def put(first: int) -> None:
        changed = [first, *value[1:]]
        run("bpftool", "map", "update", "pinned", path, "key", *map(str, key), "value", *map(str, changed))

    put(value[0] + 1)
    return lambda: put(value[0])


def other_struct(maps: Path) -> Callable[[], None]:
    """As a version with a shorter struct leaves them."""
    path, aside = maps / "fragments", maps / "aside"
    path.rename(aside)
    run("bpftool", "map", "create", str(path), "type", "hash", "key", "4", "value", "4", "entries", "4096",
        "name", "fragments")  # fmt: skip

    def put_back() -> None:
        path.unlink()
        aside.rename(path)

    return put_back


@pytest.mark.parametrize(
    ("options", "spoil", "says"),
    [
        pytest.param(["--routes=1000"], None, "of other sizes", id="routes"),
        pytest.param(["--flows=2048"], None, "of other sizes", id="flows"),
        pytest.param(["--nat-ports=2048"], None, "of other sizes", id="NAT ports"),
        pytest.param([], other_number, f"layout {LAYOUT_VERSION + 1}, this version's is {LAYOUT_VERSION}", id="layout"),
        pytest.param([], other_struct, "of another version", id="struct"),
    ],
)
def test_maps_that_do_not_fit_are_refused_with_the_way_out(
    shared_pair: Lab, options: list[str], spoil: Callable[[Path], Callable[[], None]] | None, says: str
) -> None:
    """Packets go on all the while, and the version that made the maps still starts on them."""
    a, b, _ = shared_pair.guests
    one = shared_pair.hosts[0]
    introduce(a, b)
    before = uuid_of(one)
    one.kill()
    undo = spoil(one.directory / "bpf") if spoil else None
    done = subprocess.run([*one.command(), *options], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert says in done.stderr
    assert "start with --cold" in done.stderr
    assert a.ping(b.ipv4)
    if undo:
        undo()
    one.start()
    assert uuid_of(one) == before
    assert a.ping(b.ipv4)
