from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.__main__ import main
from services.dpservice.client import reading
from services.dpservice.client.commands import COMMANDS, FILES, KINDS, Command, find
from services.dpservice.client.completion import SCRIPTS, candidates
from services.dpservice.client.files import objects
from services.dpservice.client.flags import SHARED, parsed, split
from services.dpservice.client.kinds import BALANCER, INTERFACE, Object
from services.dpservice.client.render import NAT_LIST, Style, natural, ordered, render
from services.dpservice.client.rules import FIREWALL_RULE, filter_of, filter_text
from services.dpservice.client.values import BadValue


@pytest.mark.parametrize(
    ("line", "verb", "noun"),
    [
        pytest.param("add interface", "create", "interface", id="the short form of a verb"),
        pytest.param("DEL IFACE", "delete", "interface", id="case does not matter"),
        pytest.param("get lb", "get", "loadbalancer", id="an alias"),
        pytest.param("list lbprefixes", "list", "lbprefixes", id="a plural"),
        pytest.param("get lbtrgts", "get", "lbtarget", id="get knows plurals too"),
        pytest.param("list nat", "list", "nats", id="list knows singulars too"),
        pytest.param("add neighnat", "create", "neighbornat", id="a neighbor"),
        pytest.param("get translation", "get", "nat", id="a synonym"),
        pytest.param("init", "init", "", id="a verb alone"),
        pytest.param("capture status", "capture", "status", id="a capture"),
    ],
)
def test_words(line: str, verb: str, noun: str) -> None:
    (found,) = find(line.split())
    assert (found.verb, found.noun) == (verb, noun)


def test_no_two_commands_answer_to_one_name() -> None:
    for command in COMMANDS:
        for name in (command.noun, *command.aliases):
            assert find([command.verb, name]) == [command] if name else True


@pytest.mark.parametrize(
    ("line", "words", "flags"),
    [
        pytest.param("get vni --vni=1", ["get", "vni"], [("vni", "1")], id="with an equals sign"),
        pytest.param("get vni --vni 1", ["get", "vni"], [("vni", "1")], id="without"),
        pytest.param("--address=a:1 -o json init", ["init"], [("address", "a:1"), ("output", "json")], id="in front"),
        pytest.param("list -ojson", ["list"], [("output", "json")], id="short and glued"),
        pytest.param("list -o=json", ["list"], [("output", "json")], id="short with an equals sign"),
        pytest.param("list -w x", ["list", "x"], [("wide", "true")], id="a switch takes no word"),
        pytest.param("x --pretty=false", ["x"], [("pretty", "false")], id="a switch turned off"),
        pytest.param("x --icmp-type -1", ["x"], [("icmp-type", "-1")], id="a value that looks like a flag"),
        pytest.param("create -f -", ["create"], [("filename", "-")], id="standard input"),
    ],
)
def test_flags_are_told_from_words(line: str, words: list[str], flags: list[tuple[str, str]]) -> None:
    found = split(line.split(), (FILES, *SHARED))
    assert (found.words, found.flags) == (words, flags)


def values_of(line: str) -> tuple[Command, dict[str, Any]]:
    found = split(line.split(), (FILES, *SHARED))
    (command,) = find(found.words)
    return command, parsed(found, (*command.flags, *SHARED))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param("get vni --vni", "--vni: needs a value", id="a flag without its value"),
        pytest.param("get vni", "--vni, --vni-type: must be given", id="what is needed"),
        pytest.param("get vni --vni=-1 --vni-type=0", "--vni: -1 is not within 0-4294967295", id="a negative VNI"),
        pytest.param("get vni --vni=1 --vni-type=x", "'x' is not ipv4, ipv6 or both", id="an unknown type"),
        pytest.param("init --id=1", "--id: is not known here", id="a flag of another command"),
        pytest.param("init -o xml", "'xml' is not one of json, yaml, table, name", id="an unknown format"),
        pytest.param("init --connect-timeout=x", "'x' is not a duration", id="no duration"),
        pytest.param("del prefix --interface-id=a --prefix=10.0.0.0", "is not ADDRESS/LENGTH", id="no length"),
        pytest.param("add vip --interface-id=a --vip=x", "--vip: 'x' does not appear to be an IPv4", id="no address"),
        pytest.param("add lb --lbports=TCP", "'TCP' is not PROTOCOL/PORT", id="a protocol without its port"),
        pytest.param("add lb --lbports=GRE/1", "'GRE/1' is not PROTOCOL/PORT", id="an unknown protocol"),
        pytest.param("add fwrule --direction=up", "'up' is not Egress or Ingress", id="an unknown direction"),
    ],
)
def test_refused(line: str, says: str) -> None:
    with pytest.raises(BadValue, match=says):
        values_of(line)


@pytest.mark.parametrize(
    ("text", "seconds"), [("4s", 4), ("250ms", 0.25), ("1m30s", 90), ("1.5s", 1.5), ("3", 3), ("1h", 3600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert values_of(f"init --connect-timeout={text}")[1]["connect-timeout"] == seconds


def test_an_interface_of_flags() -> None:
    _, given = values_of(
        "add interface --id=vm1 --vni=100 --ipv4=10.0.0.1 --device=net_tap2 --pxe-server=fc00::1 --pxe-file-name=a"
        " --total-meter-rate=10 --hostname=h --underlay=fc00:1::d000:80:0:1"
    )
    assert INTERFACE.create(INTERFACE.from_flags(given)) == pb.CreateInterfaceRequest(
        interface_id=b"vm1",
        vni=100,
        ipv4_config=pb.IpConfig(primary_address=b"10.0.0.1"),
        ipv6_config=pb.IpConfig(primary_address=b"::"),
        device_name="net_tap2",
        pxe_config=pb.PxeConfig(next_server="fc00::1", boot_filename="a"),
        metering_parameters=pb.MeteringParams(total_rate=10),
        preferred_underlay_route=b"fc00:1::d000:80:0:1",
        hostname="h",
    )


def test_ports_of_a_balancer_given_twice() -> None:
    _, given = values_of("add lb --id=1 --vni=1 --vip=1.1.1.1 --lbports=tcp/80,UDP/53 --lbports=TCP/443")
    request = BALANCER.create(BALANCER.from_flags(given))
    assert isinstance(request, pb.CreateLoadBalancerRequest)
    assert [(port.protocol, port.port) for port in request.loadbalanced_ports] == [(6, 80), (17, 53), (6, 443)]


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        pytest.param("", "any", id="no protocol"),
        pytest.param("--protocol=tcp", "tcp", id="all of TCP"),
        pytest.param("--protocol=6 --dst-port-min=443 --dst-port-max=443", "tcp any > 443", id="one port"),
        pytest.param("--protocol=udp --src-port-min=1 --src-port-max=9", "udp 1-9 > any", id="a range"),
        pytest.param("--protocol=icmp --icmp-type=8", "icmp type 8", id="a type"),
        pytest.param("--protocol=icmp --icmp-type=0 --icmp-code=0", "icmp type 0 code 0", id="zeros are no wildcards"),
    ],
)
def test_filters_of_rules(flags: str, text: str) -> None:
    line = "add fwrule --interface-id=a --rule-id=r --direction=1 --action=allow --src=0.0.0.0/0 --dst=10.0.0.0/8 "
    _, given = values_of(line + flags)
    wanted = FIREWALL_RULE.from_flags(given)
    wanted["spec"]["protocol_filter"] = filter_of(given)
    request = FIREWALL_RULE.create(wanted)
    assert isinstance(request, pb.CreateFirewallRuleRequest)
    again = reading.rule("a", request.rule)
    assert again["spec"] == wanted["spec"]
    assert filter_text(again["spec"]) == text


LISTED: Object = reading.listed(
    "Interface",
    {},
    [
        reading.interface(
            pb.Interface(
                id=name, vni=100, primary_ipv4=ipv4, primary_ipv6=b"::", underlay_route=b"fc00::1", pci_name=device
            )
        )
        for name, ipv4, device in ((b"vm1", b"10.0.0.10", "net_tap2"), (b"b", b"10.0.0.9", "net_tap3"))
    ],
)


def test_shown_as_a_table() -> None:
    assert render(LISTED, Style("table"), lambda shown: "").splitlines() == [
        "ID   VNI  Device    IPv4       IPv6  UnderlayRoute  TotalTx  PublicTx  Hostname",
        "vm1  100  net_tap2  10.0.0.10  ::    fc00::1              0         0",
        "b    100  net_tap3  10.0.0.9   ::    fc00::1              0         0",
    ]


def test_shown_by_name() -> None:
    assert render(LISTED, Style("name"), INTERFACE.title).splitlines() == ["interface/vm1", "interface/b"]


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_shown_for_programs(form: str, read: Any) -> None:
    assert read(render(LISTED, Style(form), INTERFACE.title)) == LISTED


@pytest.mark.parametrize(
    ("by", "ids"),
    [("", ["b", "vm1"]), ("IPv4", ["b", "vm1"]), ("device", ["vm1", "b"])],
)
def test_sorted(by: str, ids: list[str]) -> None:
    assert [item["metadata"]["id"] for item in ordered(LISTED["items"], INTERFACE, by)] == ids


def test_sorting_by_what_is_no_column() -> None:
    with pytest.raises(BadValue, match="'size' is not one of id, vni,"):
        ordered([], INTERFACE, "size")


def test_natural_order() -> None:
    texts = ["10.0.10.0/24", "10.0.2.0/24", "2001:db8::/32", "b", "a"]
    assert sorted(texts, key=natural) == ["10.0.2.0/24", "10.0.10.0/24", "2001:db8::/32", "a", "b"]


def test_slices_of_both_kinds() -> None:
    local = pb.NatEntry(
        nat_ip=pb.IpAddress(address=b"10.0.0.1"), actual_nat_ip=pb.IpAddress(address=b"1.1.1.1"), max_port=9, vni=7
    )
    foreign = pb.NatEntry(
        actual_nat_ip=pb.IpAddress(address=b"1.1.1.1"), min_port=9, max_port=12, underlay_route=b"fc::1"
    )
    shown = reading.listed("Nat", {}, [reading.nat_entry(local), reading.nat_entry(foreign)])
    assert shown["kind"] == NAT_LIST
    assert [line.split() for line in render(shown, Style("table"), lambda each: "").splitlines()[1:]] == [
        ["7", "10.0.0.1", "0", "9", "1.1.1.1", "Local"],
        ["0", "9", "12", "fc::1", "1.1.1.1", "Neighbor"],
    ]


def test_what_is_printed_can_be_made_again(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text(render(LISTED, Style("yaml"), INTERFACE.title))
    (tmp_path / "one.json").write_text(
        '{"kind": "VirtualIP", "metadata": {"interface_id": "b"}, "spec": {"vip_ip": "1.1.1.1"}}'
    )
    (tmp_path / "notes.txt").write_text("not an object")
    found = objects([str(tmp_path)], KINDS)
    assert [(kind.name, kind.title(each)) for kind, each in found] == [
        ("Interface", "vm1"),
        ("Interface", "b"),
        ("VirtualIP", "b"),
    ]


@pytest.mark.parametrize(
    ("underlay", "asked"),
    [
        pytest.param("fc00:1::d000:8001:0:7", b"fc00:1::d000:8001:0:7", id="chosen once, wished again"),
        pytest.param("fc00:1::d000:1:0:7", b"", id="made up by the server, which makes up another"),
        pytest.param("fc00:1::7", b"fc00:1::7", id="neither: for the server to refuse"),
    ],
)
def test_underlay_addresses_of_files(tmp_path: Path, underlay: str, asked: bytes) -> None:
    (tmp_path / "vip.yaml").write_text(
        f"kind: VirtualIP\nmetadata: {{interface_id: a}}\nspec: {{vip_ip: 1.1.1.1, underlay_route: '{underlay}'}}"
    )
    [(kind, found)] = objects([str(tmp_path)], KINDS)
    request = kind.create(found)
    assert isinstance(request, pb.CreateVipRequest)
    assert request.preferred_underlay_route == asked


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out.startswith("dpservice version ")


def test_help_has_articles() -> None:
    helps = {f"{command.verb} {command.noun}": command.help for command in COMMANDS}
    assert helps["create interface"] == "makes an Interface"
    assert helps["get route"] == "shows a Route, or all"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("kind: Pod", "Pod: is not one of Interface,", id="an unknown kind"),
        pytest.param("- a", "an object needs a kind", id="no object"),
        pytest.param(
            "kind: Route\nspec: {prefix: x}", "Route: spec.prefix: 'x' is not ADDRESS/LENGTH", id="a bad value"
        ),
        pytest.param("kind: VirtualIP\nspec: {size: 3}", "VirtualIP: spec.size: is not known", id="an unknown field"),
        pytest.param("kind: VirtualIP\nspec: {vip_ip: 1.1.1.1}", "metadata.interface_id: is missing", id="no owner"),
        pytest.param("{", "expected the node content", id="no YAML"),
    ],
)
def test_files_that_are_refused(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text(content)
    with pytest.raises(BadValue) as refused:
        objects([str(tmp_path / "x")], KINDS)
    assert str(tmp_path / "x") in str(refused.value)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["de"], ["delete"], id="a verb"),
        pytest.param(["add", "lb"], ["lbprefix", "lbtarget"], id="a noun"),
        pytest.param(["get", "interface", "--i"], ["--id"], id="a flag"),
        pytest.param(["get", ""], sorted(c.noun for c in COMMANDS if c.verb == "get"), id="anything after a verb"),
    ],
)
def test_completion(words: list[str], expected: list[str]) -> None:
    assert candidates(words) == expected


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        pytest.param("completion tcsh", 1, "'tcsh' is not one of bash, zsh", id="an unknown shell"),
        pytest.param("get", 1, "get: say one of firewallrule, init, interface", id="a verb alone"),
        pytest.param("create interface", 1, "--id, --vni, --device, --ipv4: must be given", id="flags missing"),
        pytest.param(
            "init --address=127.0.0.1:1 --connect-timeout=1ms", 1, "nobody answers within 0.001 s", id="nobody"
        ),
        pytest.param("get init -o json --address", 1, '{"kind":"Error","spec":{"source":"client"}', id="for programs"),
    ],
)
def test_exit_codes(line: str, code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(line.split())
    assert left.value.code == code
    assert says in capsys.readouterr().out


@pytest.mark.parametrize("shell", SCRIPTS)
def test_scripts_for_shells(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", shell])
    assert "ferrite dpservice complete" in capsys.readouterr().out


def test_help_names_each_flag(capsys: pytest.CaptureFixture[str]) -> None:
    main(["create", "fwrule", "--help"])
    shown = capsys.readouterr().out
    assert all(f"--{flag.name}" in shown for flag in find(["create", "firewallrule"])[0].flags)
