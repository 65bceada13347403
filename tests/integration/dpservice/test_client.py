"""The client on the command line against a real daemon: every noun is made, shown, listed and deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from services.dpservice.__main__ import main
from tests.integration.dpservice.daemon import Daemon

Run: TypeAlias = Callable[[str], tuple[int, str]]


def runner(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> Run:
    def command(line: str) -> tuple[int, str]:
        code: int | str | None = 0
        try:
            main([f"--address=unix:{daemon.socket}", *line.split()])
        except SystemExit as left:
            code = left.code
        return int(code or 0), capsys.readouterr().out

    return command


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """A daemon of the test's own that nobody has called yet."""
    daemon = Daemon(tmp_path)
    try:
        yield runner(daemon, capsys)
    finally:
        daemon.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("shared"))
    try:
        for line in POPULATE:
            main([f"--address=unix:{daemon.socket}", *line.split()])
        yield daemon
    finally:
        daemon.close()


@pytest.fixture
def populated(shared: Daemon, capsys: pytest.CaptureFixture[str]) -> Run:
    """A daemon that the test leaves as it found it."""
    return runner(shared, capsys)


def succeed(run: Run, line: str) -> str:
    code, shown = run(line)
    assert code == 0, f"{line}: {shown}"
    return shown


def objects(run: Run, line: str) -> Any:
    return json.loads(succeed(run, f"{line} -o json"))


POPULATE = (
    "init",
    "create interface --id=vm1 --vni=100 --ipv4=10.0.0.1 --ipv6=2001:db8::1 --device=net_tap2 --hostname=h",
    "create interface --id=vm2 --vni=100 --ipv4=10.0.0.2 --device=net_tap3",
)
NOUNS = [
    pytest.param(
        "prefix --interface-id=vm1 --prefix=10.9.0.0/24",
        "prefixes --interface-id=vm1",
        "prefix --interface-id=vm1 --prefix=10.9.0.0/24",
        id="prefix",
    ),
    pytest.param(
        "lbprefix --interface-id=vm1 --prefix=5.5.5.5/32",
        "lbprefixes",
        "lbprefix --interface-id=vm1 --prefix=5.5.5.5/32",
        id="balancer prefix",
    ),
    pytest.param(
        "route --vni=100 --prefix=10.2.0.0/16 --next-hop-vni=7 --next-hop-ip=fc00:2::1",
        "routes --vni=100",
        "route --vni=100 --prefix=10.2.0.0/16",
        id="route",
    ),
    pytest.param(
        "route --vni=100 --prefix=2001:db8:1::/48 --next-hop-vni=0 --next-hop-ip=fc00:2::1",
        "routes --vni=100",
        "route --vni=100 --prefix=2001:db8:1::/48",
        id="IPv6 route",
    ),
    pytest.param(
        "virtualip --interface-id=vm1 --vip=1.2.3.4", "virtualips", "virtualip --interface-id=vm1", id="virtual address"
    ),
    pytest.param(
        "nat --interface-id=vm1 --nat-ip=1.2.3.4 --minport=100 --maxport=200",
        "nats --nat-type=local",
        "nat --interface-id=vm1",
        id="slice",
    ),
    pytest.param(
        "neighbornat --nat-ip=1.2.3.4 --vni=100 --minport=200 --maxport=300 --underlayroute=fc00:2::1",
        "nats --nat-ip=1.2.3.4 --nat-type=neigh",
        "neighbornat --nat-ip=1.2.3.4 --vni=100 --minport=200 --maxport=300",
        id="slice of a neighbor",
    ),
    pytest.param(
        "loadbalancer --id=lb1 --vni=100 --vip=5.5.5.5 --lbports=TCP/80,UDP/53",
        "loadbalancers",
        "loadbalancer --id=lb1",
        id="balancer",
    ),
    pytest.param(
        "firewallrule --interface-id=vm1 --rule-id=r --direction=egress --action=drop --src=0.0.0.0/0"
        " --dst=10.0.0.0/8 --protocol=udp --dst-port-min=53 --dst-port-max=53 --priority=7",
        "firewallrules --interface-id=vm1",
        "firewallrule --interface-id=vm1 --rule-id=r",
        id="firewall rule",
    ),
]


@pytest.mark.parametrize(("create", "listing", "delete"), NOUNS)
def test_made_listed_and_deleted(populated: Run, create: str, listing: str, delete: str) -> None:
    assert objects(populated, f"list {listing}")["items"] == []
    made = objects(populated, f"create {create}")
    (found,) = objects(populated, f"list {listing}")["items"]
    for name, value in made["spec"].items():
        assert name not in found["spec"] or found["spec"][name] == value or name == "nat_ip"
    assert len(succeed(populated, f"list {listing}").splitlines()) == 2
    assert populated(f"create {create}")[0] == 2
    assert "deleted" in succeed(populated, f"delete {delete}")
    assert objects(populated, f"list {listing}")["items"] == []
    code, shown = populated(f"delete {delete} -o json")
    error = json.loads(shown)
    assert (code, error["kind"], error["spec"]) == (2, "Error", {"source": "server"})
    assert 200 < error["status"]["code"] < 500


def test_targets_of_a_balancer(populated: Run) -> None:
    succeed(populated, "add lb --id=lb1 --vni=100 --vip=5.5.5.5 --lbports=TCP/80")
    assert "fc00:2::9 created" in succeed(populated, "add lbtarget --lb-id=lb1 --target-ip=fc00:2::9")
    assert [each["spec"] for each in objects(populated, "get lbtarget --lb-id=lb1")["items"]] == [
        {"target_ip": "fc00:2::9"}
    ]
    succeed(populated, "del lbtarget --lb-id=lb1 --target-ip=fc00:2::9")
    assert objects(populated, "list lbtargets")["items"] == []
    succeed(populated, "del lb --id=lb1")


def test_single_objects(populated: Run) -> None:
    succeed(populated, "add nat --interface-id=vm1 --nat-ip=1.2.3.4 --minport=100 --maxport=200")
    interface = objects(populated, "get interface --id=vm1 -w")
    assert interface["spec"]["primary_ipv6"] == "2001:db8::1"
    assert interface["spec"]["nat"]["spec"]["max_port"] == 200
    assert [each["metadata"]["id"] for each in objects(populated, "get iface --sort-by=ipv4")["items"]] == [
        "vm1",
        "vm2",
    ]
    assert objects(populated, "get nat")["items"] == [objects(populated, "get nat --interface-id=vm1")]
    assert populated("get nat --interface-id=vm2") == (2, "server error: SNAT_NO_DATA (341)\n")
    assert objects(populated, "get vni --vni=100 --vni-type=ipv4")["spec"] == {"in_use": True}
    assert succeed(populated, "reset vni --vni=100") == "vni/100 reset\n"
    assert objects(populated, "get version")["spec"]["service_version"].startswith("ferrite ")
    succeed(populated, "del nat --interface-id=vm1")


def test_before_and_after_init(run: Run) -> None:
    assert run("get init") == (1, "grpc error: not initialized\n")
    code, shown = run("list interfaces -o json")
    assert (code, json.loads(shown)["status"]) == (1, {"code": 10, "message": "not initialized"})
    uuid = objects(run, "init")["spec"]["uuid"]
    assert objects(run, "get init")["spec"] == {"uuid": uuid}
    assert run("init") == (1, f"client error: is initialized already, its uuid is {uuid}\n")


def test_captures(populated: Run) -> None:
    start = "capture start --sink-node-ip=fc00:2::9 --udp-src-port=1 --udp-dst-port=2 --vf=vm1,vm2 --pf=0"
    succeed(populated, start)
    assert populated(start) == (2, "server error: ALREADY_ACTIVE (210)\n")
    assert objects(populated, "capture status")["spec"] == {
        "operation_status": True,
        "capture_config": {"sink_node_ipv6": "fc00:2::9", "udp_src_port": 1, "udp_dst_port": 2},
        "interfaces": [
            {"interface_type": "pf", "interface_info": "0"},
            {"interface_type": "vf", "interface_info": "vm1"},
            {"interface_type": "vf", "interface_info": "vm2"},
        ],
    }
    assert objects(populated, "capture stop")["spec"] == {"iface_cnt": 3}
    assert populated("capture stop")[0] == 2


def test_lists_of_all_tell_whose_they_are(run: Run) -> None:
    """The answers don't: neither a route's VNI nor a target's balancer."""
    for line in (
        *POPULATE[:2],
        "create interface --id=vm3 --vni=300 --ipv4=10.0.0.1 --device=net_tap3",
        "create route --vni=100 --prefix=10.2.0.0/16 --next-hop-vni=0 --next-hop-ip=fc00:2::1",
        "create route --vni=300 --prefix=10.2.0.0/16 --next-hop-vni=0 --next-hop-ip=fc00:2::3",
        "create loadbalancer --id=lb1 --vni=400 --vip=5.5.5.5 --lbports=TCP/80",
        "create route --vni=400 --prefix=10.2.0.0/16 --next-hop-vni=0 --next-hop-ip=fc00:2::4",
        "create lbtarget --lb-id=lb1 --target-ip=fc00:3::1",
    ):
        succeed(run, line)
    listed = objects(run, "list routes")["items"]
    assert {item["metadata"]["vni"]: item["spec"]["next_hop"]["address"] for item in listed} == {
        100: "fc00:2::1",
        300: "fc00:2::3",
        400: "fc00:2::4",
    }
    [target] = objects(run, "list lbtargets")["items"]
    assert target["metadata"]["loadbalancer_id"] == "lb1"


def test_files(run: Run, tmp_path: Path) -> None:
    for line in POPULATE:
        succeed(run, line)
    folder = tmp_path / "objects"
    folder.mkdir()
    (folder / "interfaces.yaml").write_text(succeed(run, "list interfaces -o yaml"))
    (folder / "vip.json").write_text(
        '{"kind": "VirtualIP", "metadata": {"interface_id": "vm2"}, "spec": {"vip_ip": "1.1.1.1"}}'
    )
    code, shown = run(f"create -f {folder}")
    assert code == 2
    assert [line.partition(":")[0] for line in shown.splitlines()[:2]] == ["server error", "server error"]
    assert shown.splitlines()[2].startswith("virtualip/vm2 created, underlay route: fc00:1::")
    assert [line.split()[-1] for line in succeed(run, f"delete -f {folder}").splitlines()] == ["deleted"] * 3
    assert succeed(run, "list interfaces -o name") == "\n"
    assert "interface/vm1 created" in succeed(run, f"create -f {folder}/interfaces.yaml,{folder}/vip.json")
