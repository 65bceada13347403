"""The command line of `ferrite metalbond client`, the original's flags included."""

from __future__ import annotations

import re

import pytest

from services.common.settings import load
from services.metalbond.client import parse_server
from services.metalbond.client_settings import ClientSettings, parse_announcement, parse_table


def loaded(*flags: str) -> ClientSettings:
    return load(ClientSettings, list(flags), "client")


def test_the_original_s_command_line() -> None:
    config = loaded(
        *("--server", "[2001:db8::1]:4711", "--server", "[2001:db8::2]:4711,host:4711"),
        *("--subscribe", "23", "--subscribe", "42,100"),
        *("--announce", "23#2001:db8:dead::/64#2001:db8::cafe", "--announce", "42#10.0.0.0/24#2001:db8::1#STANDARD"),
        *("--install-routes", "23#100", "--tun", "overlay-tun", "--ipv4-only", "--keepalive", "3"),
        *("--http", "[::1]:4712", "--cleanup", "--verbose"),
    )
    assert config.server == ["[2001:db8::1]:4711", "[2001:db8::2]:4711", "host:4711"]
    assert config.subscribe == ["23", "42", "100"]
    assert len(config.announce) == 2
    assert (config.install_routes, config.tun, config.ipv4_only, config.keepalive) == (
        ["23#100"],
        "overlay-tun",
        True,
        3,
    )
    assert (config.http, config.cleanup, config.verbose) == ("[::1]:4712", True, True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("23#2001:db8:dead::/64#2001:db8::cafe", "VNI 23: 2001:db8:dead::/64 via 2001:db8::cafe"),
        ("23#10.0.0.7/24#2001:db8::1", "VNI 23: 10.0.0.0/24 via 2001:db8::1"),
        ("23#10.0.0.7/32#2001:db8::1#Std", "VNI 23: 10.0.0.7/32 via 2001:db8::1"),
        ("23#10.0.0.7/32#2001:db8::1#whatever", "VNI 23: 10.0.0.7/32 via 2001:db8::1"),
        ("23#10.0.0.7/32#2001:db8::1#lbtarget", "VNI 23: 10.0.0.7/32 via 2001:db8::1 LOADBALANCER_TARGET"),
        ("23#10.0.0.7/32#2001:db8::1#NAT#1024#65535", "VNI 23: 10.0.0.7/32 via 2001:db8::1 NAT ports 1024-65535"),
    ],
)
def test_announcements(text: str, shown: str) -> None:
    assert str(parse_announcement(text)) == shown


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("23#10.0.0.0/24", "is not vni#prefix"),
        ("23#10.0.0.0/24#::1#nat#1", "is not vni#prefix"),
        ("23#10.0.0.0/24#::1#nat", "two ports"),
        ("23#10.0.0.0/24#::1#std#1#2", "two ports"),
        ("23#10.0.0.0/24#::1#nat#1#65536", "port"),
        ("16777216#10.0.0.0/24#::1", "vni"),
        ("x#10.0.0.0/24#::1", "vni"),
        ("23#10.0.0.0/33#::1", "10.0.0.0/33"),
        ("23#10.0.0.0/24#there", "there"),
    ],
)
def test_wrong_announcements(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_announcement(text)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--server", "[::1]:x"], "--server: .*'x' is not a port"),
        (["--server", "host:1/70000"], "--server: .*is not a port"),
        (["--subscribe", "x"], "--subscribe: .*'x' is not a number"),
        (["--subscribe", "16777216"], "--subscribe: .*outside"),
        (["--install-routes", "23"], "--install-routes: .*not vni#table"),
        (["--install-routes", "23#1", "--install-routes", "23#2"], "--install-routes: .*one table"),
        (["--announce", "23#10.0.0.0/24"], "--announce: "),
        (["--no-such-flag"], "--no-such-flag"),
    ],
)
def test_wrong_flags_are_named(flags: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        loaded(*flags)
    assert re.search(reason, capsys.readouterr().err)


def test_tables() -> None:
    assert parse_table("23#0") == (23, 0)
    with pytest.raises(ValueError, match="table of"):
        parse_table(f"23#{2**32}")


@pytest.mark.parametrize(
    ("server", "port", "doors"),
    [
        ("[2001:db8::1]:4711", 0, (("2001:db8::1", 4711), "")),
        ("[2001:db8::1]:4711", 4712, (("2001:db8::1", 4711), "[2001:db8::1]:4712")),
        ("[2001:db8::1]:4711/99", 4712, (("2001:db8::1", 4711), "[2001:db8::1]:99")),
        ("host", 0, (("host", 4711), "")),
        ("host/4712", 0, (("host", 4711), "host:4712")),
        ("unix:/run/a.sock", 4712, (None, "unix:/run/a.sock")),
    ],
)
def test_doors_of_a_server(server: str, port: int, doors: tuple[tuple[str, int] | None, str]) -> None:
    assert parse_server(server, port) == doors
