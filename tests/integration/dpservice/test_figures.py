"""What the daemon tells in numbers: its /metrics, and the telemetry socket as the original's exporter reads it."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.dpservice.client.main import main
from tests.integration.dpservice.daemon import Daemon
from tests.integration.dpservice.lab import eventually

SOCKET = "dpdk_telemetry.v2"


class Reader:
    """A connection to the telemetry socket, held open as the exporter holds it."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(10)
        self._socket.connect(str(path))
        self.greeting: dict[str, Any] = json.loads(self._socket.recv(1024))

    def ask(self, command: str) -> Any:
        self._socket.send(command.encode())
        answer = json.loads(self._socket.recv(6 * 1024))
        assert list(answer) == [command.partition(",")[0]]
        return answer[command.partition(",")[0]]

    def close(self) -> None:
        self._socket.close()


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(scope="module")
def metrics() -> str:
    return free_address()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("daemon")


@pytest.fixture(scope="module")
def daemon(folder: Path, metrics: str) -> Iterator[Daemon]:
    made = Daemon(folder, f"--telemetry-socket={folder}/t/{SOCKET}", f"--ops-listen={metrics}", "--device=own=lo")
    address = f"--address=unix:{made.socket}"
    try:
        for line in (
            "init",
            "add interface --id=vm1 --vni=100 --ipv4=10.0.0.1 --device=own",
            "add nat --interface-id=vm1 --nat-ip=1.2.3.4 --minport=100 --maxport=200",
            "add lb --id=lb1 --vni=100 --vip=5.5.5.5 --lbports=TCP/80",
            "add fwrule --interface-id=vm1 --rule-id=r --direction=0 --action=1 --src=0.0.0.0/0 --dst=0.0.0.0/0",
        ):
            main([address, *line.split()])
        yield made
    finally:
        made.close()


def test_commands_of_the_original_exporter(daemon: Daemon, folder: Path) -> None:
    path = folder / "t" / SOCKET
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    reader = Reader(path)
    assert reader.greeting["pid"] == daemon.process.pid
    assert reader.ask("/eal/heap_list") == [0]
    assert {"Heap_size", "Alloc_size", "Greatest_free_size"} <= set(reader.ask("/eal/heap_info,0"))
    names = [reader.ask(f"/ethdev/info,{number}")["name"] for number in reader.ask("/ethdev/list")]
    assert names == ["pf0", "net_tap2", "net_tap3", "own"]
    assert reader.ask("/ethdev/link_status,3")["status"] == "UP"
    assert reader.ask("/ethdev/link_status,0")["status"] == "DOWN"
    assert reader.ask("/ethdev/xstats,3")["rx_good_packets"] > 0
    assert reader.ask("/dp_service/firewall/rule_count") == {"vm1": 1}
    assert reader.ask("/dp_service/nat/used_port_count") == {"vm1": 0}
    assert reader.ask("/dp_service/virtsvc/used_port_count") == {}
    nodes = reader.ask("/dp_service/graph/call_count")["Node_0_to_255"]
    assert nodes["drop"] == 0
    assert set(nodes) == {
        *("rx-0-0", "tx-0", "rx_periodic", "arp", "cls", "conntrack", "dhcp", "dhcpv6", "dnat", "drop", "firewall"),
        *("lb", "packet_relay", "snat", "ipip_decap", "ipip_encap", "ipv4_lookup", "ipv6_lookup", "ipv6_nd"),
    }
    tables = reader.ask("/dp_service/table/saturation")
    assert tables["interface_table"] == {"capacity": 3, "entries": 1}
    assert {name: each["entries"] for name, each in tables.items() if name in ("snat_table", "vnf_table")} == {
        "snat_table": 1,
        "vnf_table": 3,
    }
    reader.close()


@pytest.mark.usefixtures("daemon")
def test_what_is_not_there_is_null(folder: Path) -> None:
    reader = Reader(folder / "t" / SOCKET)
    for command in ("/nowhere", "/ethdev/info,9", "/ethdev/xstats,x", "/ethdev/link_status", "/eal/heap_info,1"):
        assert reader.ask(command) is None
    assert "/ethdev/list" in reader.ask("/")
    reader.close()


@pytest.mark.usefixtures("daemon")
def test_metrics_by_the_original_names(metrics: str) -> None:
    page = urllib.request.urlopen(f"http://{metrics}/metrics", timeout=30).read().decode()
    for line in (
        'dpdk_ethdev_link_status{name="own"} 1.0',
        'dpdk_ethdev_errors_total{name="own",stat="rx_missed_errors"}',
        'dpdk_ethdev_packets_total{name="own",stat="rx_good_packets"}',
        'dpdk_ethdev_bytes_total{name="own",stat="tx_q0_bytes"}',
        'dpdk_heap_info{info="Heap_size",node="',
        'dps_nat_used_ports_count{interface_id="vm1"} 0.0',
        'dps_firewall_rules_count{interface_id="vm1"} 1.0',
        'dps_graph_call_count{graph_node="drop",node="',
        'dps_hash_table_saturation{stat="entries",table="loadbalancer_table"} 1.0',
        'ferrite_dpservice_interface_packets_total{direction="in",interface="vm1",vni="100"}',
        'ferrite_dpservice_interface_bytes_total{direction="out",interface="vm1",vni="100"}',
        'ferrite_dpservice_interface_flows{interface="vm1",vni="100"} 0.0',
    ):
        assert line in page


def test_a_socket_left_behind_is_taken_over_and_a_live_one_is_not(daemon: Daemon, folder: Path) -> None:
    """The last test of the module: it ends the daemon."""
    path = folder / "t" / SOCKET
    (folder / "second").mkdir()
    line = [sys.executable, "-m", "services.dpservice", "serve", "--engine=memory", "--ipv6=fc00:1::1"]
    options = [f"--state-dir={folder}/second", f"--grpc-unix={folder}/second/s", f"--telemetry-socket={path}"]
    second = subprocess.run([*line, *options], capture_output=True, text=True, timeout=60)
    assert second.returncode == 1
    assert f"{path}: another process serves it" in second.stderr
    daemon.process.kill()
    daemon.process.wait()
    again = Daemon(folder, f"--telemetry-socket={path}")
    try:
        assert eventually(lambda: Reader(path)).greeting["pid"] == again.process.pid
    finally:
        again.close()
