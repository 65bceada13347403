from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.common.settings import load
from services.dpservice.guest.virtual import VirtualService
from services.dpservice.options import OptionError, understand, without_effect
from services.dpservice.serve import main
from services.dpservice.settings import ServeSettings


def settings_of(line: str, conf: str = "", tmp_path: Path | None = None) -> ServeSettings:
    environment = {}
    if tmp_path is not None:
        (tmp_path / "conf").write_text(conf)
        environment["DP_CONF"] = str(tmp_path / "conf")
    invocation = understand(line.split(), environment, Path("/nowhere"))
    return load(ServeSettings, invocation.flags, "dpservice serve", invocation.defaults)


def test_the_line_that_starts_the_original_on_taps() -> None:
    wanted = settings_of(
        "-l 0,1 --log-level=user*:8 --huge-unlink --no-pci --file-prefix=hatest"
        ' --vdev=net_tap0,iface=dtap0,mac="22:22:22:22:22:00" --vdev=net_tap1,iface=dtap1'
        " --vdev net_tap2,iface=dtapvf_0 --vdev=net_tap3,iface=dtapvf_1"
        " -- --pf0=dtap0 --pf1=dtap1 --vf-pattern=dtapvf_ --nic-type=tap --ipv6=fc00:1::1 --enable-ipv6-overlay"
        " --dhcp-mtu=1337 --dhcp-dns=8.8.4.4 --dhcp-dns=8.8.8.8 --dhcpv6-dns=2001:4860:4860::6464 --grpc-port=1338"
        " --no-stats --color=auto --no-offload --wcmp=50 --flow-timeout=1"
        " --udp-virtsvc=1.2.3.4,53,fc00:2::64:0:1,5353 --tcp-virtsvc 1.2.3.4,443,fc00:2::64:0:1,4443"
    )
    assert wanted.problems() == []
    assert wanted.uplinks() == ["dtap0", "dtap1"]
    assert wanted.devices() == {"net_tap2": "dtapvf_0", "net_tap3": "dtapvf_1"}
    assert wanted.addresses() == ["127.0.0.1:1338"]
    assert (wanted.wcmp, wanted.flow_timeout, wanted.dhcp_mtu) == (50, 1, 1337)
    assert wanted.telemetry_path() == Path("/var/run/dpdk/hatest/dpdk_telemetry.v2")
    assert wanted.bpf_root == "/sys/fs/bpf/dpservice/hatest"
    services = [(each.protocol, each.port, each.service_port) for each in wanted.virtual_services()]
    assert services == [("udp", 53, 5353), ("tcp", 443, 4443)]
    assert isinstance(wanted.virtual_services()[0], VirtualService)
    assert [line.split(":")[0] for line in without_effect(wanted)] == [
        "--nic-type",
        "--no-stats",
        "--no-offload",
        "--color",
    ]


def test_defaults_of_the_original() -> None:
    wanted = settings_of("-l 0,1 -- --pf0 eth0")
    assert wanted.problems() == []
    assert wanted.addresses() == ["127.0.0.1:1337"]
    assert wanted.telemetry_path() == Path("/var/run/dpdk/rte/dpdk_telemetry.v2")


def test_flags_alone_have_none_of_them() -> None:
    invocation = understand(["--uplink=a"], {}, Path("/nowhere"))
    assert (invocation.flags, invocation.defaults, invocation.warnings) == (["--uplink=a"], {}, [])


def test_each_option_for_dpdk_is_named_in_a_warning() -> None:
    warnings = understand(
        ["-l", "0,1", "--no-pci", "-a", "0000:3b:00.0,class=x", "--socket-mem=1", "--"], {}, Path("/nowhere")
    ).warnings
    assert [warning.split(":  ")[0].removesuffix(": is for DPDK and has no effect") for warning in warnings] == [
        "-l 0,1",
        "--no-pci",
        "-a 0000:3b:00.0,class=x",
        "--socket-mem 1",
    ]


CONF = """\
# written by a preparation script
pf0 eth0
pf1 eth1

vf-pattern eth0vf
ipv6 fc00::1
dhcp-dns 8.8.8.8
dhcp-dns 8.8.4.4
wcmp 30
no-stats
enable-ipv6-overlay
"""


def test_a_file_says_what_the_line_does_not(tmp_path: Path) -> None:
    wanted = settings_of("-- --wcmp=60", CONF, tmp_path)
    assert wanted.uplinks() == ["eth0", "eth1"]
    assert wanted.dhcp_dns == ["8.8.8.8", "8.8.4.4"]
    assert (wanted.wcmp, wanted.stats, wanted.enable_ipv6_overlay) == (60, False, True)


def test_an_empty_variable_means_no_file(tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("dance")
    assert understand(["--"], {"DP_CONF": ""}, tmp_path / "conf").warnings == []
    with pytest.raises(OptionError, match=":1: dance: is not known"):
        understand(["--"], {}, tmp_path / "conf")


@pytest.mark.parametrize(
    ("conf", "says"),
    [
        pytest.param("pf0\n", "conf:1: pf0: needs a value", id="a key without its value"),
        pytest.param("\n# x\nno-pf0 eth0\n", "conf:3: no-pf0: is not known", id="a value that is turned off"),
        pytest.param("wcmp=3\n", "conf:1: wcmp=3: is not known", id="another form"),
    ],
)
def test_lines_that_are_refused(conf: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=says):
        settings_of("--", conf, tmp_path)


def test_what_the_nic_gets_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("a-pf0 0000:3b:00.0,representor=pf[0]vf[0-125]\n")
    warnings = understand(["--"], {"DP_CONF": str(tmp_path / "conf")}).warnings
    assert [warning.partition(": is")[0] for warning in warnings] == [f"{tmp_path}/conf:1: a-pf0"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param("0,1 --", "0,1: follows no option", id="a value on its own"),
        pytest.param("-- --wcmp=101", "--wcmp: Input should be less than or equal to 100", id="a percentage too high"),
        pytest.param("-- --flow-timeout=0", "--flow-timeout: Input should be greater", id="flows of no time"),
        pytest.param(
            "-- --firewall=off", "--firewall: Input should be 'enforce' or 'compat'", id="an unknown firewall"
        ),
        pytest.param("-- --nic-type=e1000", "--nic-type: Input should be 'mellanox'", id="an unknown NIC"),
        pytest.param("-- --udp-virtsvc=1.2.3.4,53,fc00::1", "is not IPv4,port,IPv6,port", id="a service cut short"),
        pytest.param("-- --tcp-virtsvc=1.2.3.4,0,fc00::1,1", "'0' is not within 1-65535", id="a service at port 0"),
        pytest.param("-- --tcp-virtsvc=::1,1,fc00::1,1", "--tcp-virtsvc: ", id="a virtual endpoint in IPv6"),
        pytest.param(
            "-- --tcp-virtsvc=1.1.1.1,1,fc00::1,1 --tcp-virtsvc=1.1.1.1,1,fc00::2,1",
            "virtual endpoint 1.1.1.1,1 is given twice",
            id="a virtual endpoint twice",
        ),
        pytest.param("-- --vdev=net_tap2,iface=a/b", "is not NAME,iface=IFNAME", id="a netdev that can't be"),
        pytest.param("-- --dhcpv6-dns=8.8.8.8", "--dhcpv6-dns: ", id="an IPv4 server for DHCPv6"),
        pytest.param("-- --file-prefix=../x", "is not the name of a directory", id="a path as prefix"),
        pytest.param("-- --pf0=a --sync-tap=tap0", "followed over gRPC", id="flows by a TAP"),
        pytest.param("-- --ipv6=fc00::1", "--uplink: 0 uplinks, not 1 or 2", id="no uplink"),
    ],
)
def test_refused(line: str, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DP_CONF", "")
    with pytest.raises(SystemExit) as left:
        main(line.split())
    assert left.value.code == 2
    assert says in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out.startswith("DP Service version ferrite ")


def test_environment_and_flags_go_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRITE_WCMP", "20")
    defaults: dict[str, Any] = {"wcmp": 10, "flow_timeout": 5}
    wanted = load(ServeSettings, [], "dpservice serve", defaults)
    assert (wanted.wcmp, wanted.flow_timeout) == (20, 5)
