"""The clients that guests really run: busybox' udhcpc, ISC's dhclient for both families, rdisc6."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.integration.dpservice.guest_port import Port
from tests.integration.dpservice.lab import Guest, Lab, eventually, within

TOLD = """#!/bin/sh
env | sort >> {file}
"""


def _told(tmp_path: Path, guest: Guest, *command: str) -> dict[str, str]:
    """What a DHCP client tells its script when it is bound."""
    script, file = tmp_path / "script", tmp_path / "told"
    file.unlink(missing_ok=True)
    script.write_text(TOLD.format(file=file))
    script.chmod(0o755)
    done = subprocess.run(
        within(guest.namespace, *(part.format(tmp=tmp_path) for part in command)),
        capture_output=True, text=True, timeout=40,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)


def test_clients(lab: Lab, tmp_path: Path) -> None:
    """Each is bound at the first try to what the interface has."""
    port = Port(lab, "veth", silent=False)
    guest = port.guest
    assert guest is not None
    guest.run("ip", "-4", "address", "flush", "dev", "eth0")
    guest.run("ip", "-6", "address", "flush", "dev", "eth0", "scope", "global")

    told = _told(
        tmp_path, guest, "busybox", "udhcpc", "-fqn", "-i", "eth0", "-t", "3", "-T", "1", "-O", "staticroutes",
        "-O", "mtu", "-s", "{tmp}/script",
    )  # fmt: skip
    assert told["ip"] == "10.0.0.1"
    assert told["subnet"] == "255.255.255.255"
    assert told["dns"] == "8.8.8.8 9.9.9.9"
    assert told["mtu"] == "1440"
    assert told["hostname"] == "vm-1"
    assert told["staticroutes"] == "169.254.0.0/16 0.0.0.0 0.0.0.0/0 169.254.0.1"
    assert int(told["lease"]) > 1 << 30

    files = ("-sf", "{tmp}/script", "-lf", "{tmp}/leases", "-pf", "{tmp}/pid")
    told = _told(tmp_path, guest, "dhclient", "-4", "-1", *files, "eth0")
    assert told["reason"] == "BOUND"
    assert told["new_ip_address"] == "10.0.0.1"
    assert told["new_dhcp_server_identifier"] == "169.254.0.1"
    assert told["new_interface_mtu"] == "1440"
    subprocess.run(within(guest.namespace, "dhclient", "-4", "-x", "-pf", f"{tmp_path}/pid"), capture_output=True)

    eventually(lambda: "tentative" not in guest.run("ip", "-6", "address", "show", "dev", "eth0"))
    shown = guest.run("rdisc6", "-1", "-r", "3", "eth0")
    assert "from fe80::1" in shown
    assert "Stateful address conf.    :          Yes" in shown
    assert "Stateful other conf.      :          Yes" in shown

    told = _told(tmp_path, guest, "dhclient", "-6", "-1", *files, "eth0")
    assert told["reason"] == "BOUND6"
    assert told["new_ip6_address"] == "2001:db8::1"
    assert told["new_dhcp6_name_servers"] == "2001:4860:4860::8888 2620:fe::fe"
    subprocess.run(within(guest.namespace, "dhclient", "-6", "-x", "-pf", f"{tmp_path}/pid"), capture_output=True)
    port.close()
