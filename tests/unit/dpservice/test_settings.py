from __future__ import annotations

import subprocess
import sys
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from services.common.settings import load
from services.dpservice.__main__ import main
from services.dpservice.settings import ServeSettings

ENOUGH = ["--uplink=pf0", "--grpc-unix=/run/x", "--bpf-root=/sys/fs/bpf/x", "--state-dir=/var/lib/x"]


def test_everything_given() -> None:
    wanted = load(
        ServeSettings,
        [
            *ENOUGH,
            "--uplink=pf1",
            "--device=net_tap2=dtapvf_0",
            "--device=net_tap3=dtapvf_1",
            "--compat-listen=[::1]:1",
        ],
        "dpservice",
    )
    assert wanted.problems() == []
    assert wanted.devices() == {"net_tap2": "dtapvf_0", "net_tap3": "dtapvf_1"}
    assert wanted.uplinks() == ["pf0", "pf1"]
    assert wanted.addresses() == ["unix:/run/x", "[::1]:1"]


def test_original_names_of_uplinks_and_port() -> None:
    wanted = load(ServeSettings, [*ENOUGH[1:], "--pf0=a", "--pf1=b", "--grpc-port=1337"], "dpservice")
    assert wanted.uplinks() == ["a", "b"]
    assert wanted.addresses() == ["unix:/run/x", "127.0.0.1:1337"]


@pytest.mark.parametrize(
    ("flags", "trusted"),
    [
        pytest.param([], "fc00:1::/48", id="the site of the host"),
        pytest.param(["--underlay-prefix=fc00::/16"], "fc00::/16", id="given"),
    ],
)
def test_trusted(flags: list[str], trusted: str) -> None:
    wanted = load(ServeSettings, [*ENOUGH, *flags], "dpservice")
    assert wanted.trusted(IPv6Address("fc00:1:0:7::1")) == (IPv6Network(trusted),)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        pytest.param(["--device=net_tap2"], "--device: ", id="a device without netdev"),
        pytest.param(["--device=a=x", "--device=a=y"], "name a is given twice", id="a name twice"),
        pytest.param(["--device=a=x", "--device=b=x"], "netdev x is given twice", id="a netdev twice"),
        pytest.param(["--device=a=sixteencharacter"], "is not NAME=IFNAME", id="a netdev too long"),
        pytest.param(["--ipv6=10.0.0.1"], "--ipv6: ", id="an IPv4 host address"),
        pytest.param(["--underlay-prefix=fc00::1/64"], "--underlay-prefix: ", id="a prefix with host bits"),
        pytest.param(["--dhcp-dns=dns.example"], "--dhcp-dns: ", id="a name as DNS server"),
        pytest.param(["--dhcp-mtu=9000"], "dhcp-mtu: 9000 is not within 68-1500", id="a large MTU"),
        pytest.param(["--grpc-port=80"], "80 is not within 1024-65535", id="a low port"),
        pytest.param(
            ["--compat-listen=0.0.0.0:1337"], "must be a loopback address", id="a door that is open to others"
        ),
        pytest.param(["--compat-listen=::1"], "is not host:port", id="a door without a port"),
        pytest.param(["--engine=dpdk"], "'dpdk' is not ebpf or memory", id="an unknown engine"),
        pytest.param(["--uplink=b", "--uplink=c"], "3 uplinks, not 1 or 2", id="three uplinks"),
    ],
)
def test_refused(flags: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["serve", *ENOUGH, *flags])
    assert left.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param([], "no command: use `dpservice serve|drops", id="nothing"),
        pytest.param(["dance"], "dance: use", id="unknown"),
        pytest.param(["serve"], "--grpc-unix, --compat-listen or --grpc-port: none is given", id="nowhere to listen"),
        pytest.param(["drops", "--bpf-root=/nowhere"], "no data plane has its maps in /nowhere", id="no maps"),
    ],
)
def test_commands(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code in (1, 2)
    assert says in capsys.readouterr().err


def test_no_place_for_maps(tmp_path: Path) -> None:
    """As where no bpffs is mounted: sysfs lets nobody make folders."""
    places = [f"--state-dir={tmp_path}", f"--grpc-unix={tmp_path}/grpc", "--bpf-root=/proc/ferrite"]
    command = [sys.executable, "-m", "services.dpservice", "serve", "--ipv6=fc00::1", "--uplink=pf0", *places]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "--bpf-root=/proc/ferrite: " in ended.stdout + ended.stderr
    assert "bpffs" in ended.stdout + ended.stderr
