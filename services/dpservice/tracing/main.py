"""`dpservice trace`: what the data plane would do with a packet, step by step, and nothing done."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final

from services.dpservice.client.flags import Flag, parsed, split
from services.dpservice.client.values import BadValue, address, number, text
from services.dpservice.engine.codec import u32
from services.dpservice.engine.pins import Pins, reason_texts
from services.dpservice.engine.trial import FROM_GUEST, FROM_UPLINK, SHOT, Outcome, Trial
from services.dpservice.inspection.main import PLACE, help_of, root
from services.dpservice.inspection.tables import interfaces, uplinks
from services.dpservice.model.rows import FunctionKind, RemoteHop
from services.dpservice.tracing import packets, pcap
from services.dpservice.tracing.packets import ECHO_REQUEST, FLAGS, BadPacket, IPAddress, Wanted
from services.dpservice.tracing.story import Names, reason, step_text, verdict_text

CLONE_NEWNET: Final = 0x40000000
SIOCGIFHWADDR: Final = 0x8927  # linux/sockios.h
NETNS: Final = Path("/run/netns")
TELLING_PORT: Final = 40000
GATEWAY: Final = bytes((2, 0, 0, 0, 0, 1))


def _format(value: Any) -> str:
    if value not in ("human", "json"):
        raise BadValue(f"{value!r} is not human or json")
    return str(value)


def _flags(value: Any) -> int:
    total = 0
    for name in str(value).lower().replace("+", ",").split(","):
        if name not in FLAGS:
            raise BadValue(f"{name!r} is not one of {', '.join(FLAGS)}")
        total |= FLAGS[name]
    return total


def _protocol(value: Any) -> str:
    if str(value).lower() not in ("tcp", "udp", "icmp"):
        raise BadValue(f"{value!r} is not tcp, udp or icmp")
    return str(value).lower()


OPTIONS: Final = (
    *PLACE,
    Flag("netns", text, "name or path of the network namespace of the data plane, if it is another"),
    Flag("interface", text, "the packet comes from this guest: device, its netdev, or an address of it", short="i"),
    Flag("uplink", number, "the packet comes from the fabric by this uplink, 0 or 1; --to says for whom"),
    Flag("to", address, "outer destination: an underlay address of this host"),
    Flag("from", address, "outer source; without it, the next hop of the route to --src"),
    Flag("src", address, "source; without it, the guest's own"),
    Flag("dst", address, "destination; without it, for packets from the fabric, the guest's own"),
    Flag("protocol", _protocol, "tcp, udp or icmp (an echo request)", default="tcp", short="p"),
    Flag("sport", number, "source port, or identifier of an echo", default=TELLING_PORT),
    Flag("dport", number, "destination port", default=80),
    Flag("tcp-flags", _flags, "as syn or syn,ack", default=FLAGS["syn"]),
    Flag("size", number, "bytes of payload", default=0),
    Flag("src-mac", text, "source MAC; without it, the one that the guest showed"),
    Flag("pcap", text, "frames of this file (pcap, pcapng) instead, as they come from the guest or by the uplink"),
    Flag("output", _format, "human or json", default="human", short="o"),
    Flag("help", None, "what there is", short="h"),
)


@dataclass(frozen=True)
class Place:
    """Where packets enter."""

    program: str
    netdev: int
    title: str


def main(arguments: list[str]) -> None:
    """Raises SystemExit: 2 for a wrong command line, 1 where no data plane is or was."""
    try:
        line = split(arguments, OPTIONS)
        given = parsed(line, OPTIONS)
        if line.words:
            raise BadValue(f"{' '.join(line.words)}: say it with a flag")
        if given["help"]:
            print(help_of("dpservice trace --interface DEVICE --dst ADDRESS", OPTIONS))
            return
        for told in _traced(given):
            print(told, flush=True)
    except (BadValue, BadPacket, pcap.BadCapture) as error:
        print(f"dpservice trace: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except BrokenPipeError:
        # Whoever read the output has seen enough of it.
        sys.stderr.close()
    except OSError as error:
        print(f"dpservice trace: {error}", file=sys.stderr)
        raise SystemExit(1) from error


def _traced(given: dict[str, Any]) -> Iterator[str]:
    pins = Pins(root(given))
    if given["netns"]:
        _enter(given["netns"])
    _check_namespace(pins)
    place, frames = _question(pins, given)
    trial, names = Trial(pins), _names(pins)
    tell = _as_json if given["output"] == "json" else _as_text
    try:
        for frame in frames:
            yield tell(place, frame, trial.run(place.program, place.netdev, frame), names)
    finally:
        trial.close()


def _question(pins: Pins, given: dict[str, Any]) -> tuple[Place, list[bytes]]:
    """Where the packets enter, and what they are."""
    captured = list(pcap.frames(Path(given["pcap"]).read_bytes())) if given["pcap"] else None
    if given["interface"] is not None and given["uplink"] is None:
        row = _guest(pins, given["interface"])
        place = Place(FROM_GUEST, row["ifindex"], f"from {row['device']} (port {row['port']}, VNI {row['vni']})")
        return place, captured if captured is not None else [_of_guest(pins, row, given)]
    if given["uplink"] is not None and given["interface"] is None:
        netdev = _uplink(pins, given["uplink"])
        place = Place(FROM_UPLINK, netdev, f"from the fabric by uplink {given['uplink']}")
        return place, captured if captured is not None else [_of_fabric(pins, given)]
    raise BadValue("--interface, --uplink: exactly one of them must be given")


def _guest(pins: Pins, name: str) -> dict[str, Any]:
    rows = list(interfaces(pins))
    try:
        netdev = socket.if_nametoindex(name)
    except OSError:
        netdev = -1
    for row in rows:
        if (
            name in (row["device"], str(row["ipv4"]), str(row["ipv6"]), str(row["underlay"]))
            or row["ifindex"] == netdev
        ):
            return row
    known = ", ".join(row["device"] for row in rows) or "there is none"
    raise BadValue(f"--interface: {name!r} is no device of an interface ({known})")


def _uplink(pins: Pins, index: int) -> int:
    raw = pins.map("uplinks").get(u32(index)) if index < 2 else None
    netdev = pins.layout("uplink").number(raw, "ifindex") if raw else 0
    if not netdev:
        raise BadValue(f"--uplink: there is no uplink {index}")
    return netdev


def _of_guest(pins: Pins, row: dict[str, Any], given: dict[str, Any]) -> bytes:
    if given["dst"] is None:
        raise BadValue("--dst: must be given")
    destination = ip_address(given["dst"])
    own = row["ipv4"] if destination.version == 4 else row["ipv6"]
    if given["src"] is None and own is None:
        raise BadValue(f"--src: {row['device']} has no address of the family of {destination}")
    source = ip_address(given["src"]) if given["src"] is not None else own
    packet = _packet(source, destination, given).packet()
    return packets.framed(packet, _gateway(pins, row["port"]), _mac(given["src-mac"] or row["guest_mac"]))


def _gateway(pins: Pins, port: int) -> bytes:
    raw = pins.map("ports").get(u32(port))
    return pins.layout("port").bytes(raw, "mac") if raw else GATEWAY


def _of_fabric(pins: Pins, given: dict[str, Any]) -> bytes:
    if given["to"] is None or ip_address(given["to"]).version != 6:
        raise BadValue("--to: must be given, an IPv6 address")
    outer = IPv6Address(given["to"])
    raw = pins.map("functions").get(outer.packed)
    function = pins.codec.read_function(raw) if raw else None
    rows = [row for row in interfaces(pins) if function is not None and row["port"] == function.port]
    owner = rows[0] if rows and function is not None and function.kind is not FunctionKind.BALANCER else None
    if given["src"] is None:
        raise BadValue("--src: must be given")
    source = ip_address(given["src"])
    own: IPAddress | None = owner["ipv4" if source.version == 4 else "ipv6"] if owner else None
    destination = ip_address(given["dst"]) if given["dst"] is not None else own
    if destination is None:
        raise BadValue(f"--dst: must be given, {outer} is no interface's of the family of {source}")
    inner = _packet(source, destination, given).packet()
    sender = given["from"] or _next_hop(pins, function.vni if function else 0, source)
    if sender is None:
        raise BadValue(f"--from: must be given, no route leads to {source}")
    packet = packets.tunnelled(inner, IPv6Address(sender), outer)
    return packets.framed(packet, GATEWAY, GATEWAY)


def _next_hop(pins: Pins, vni: int, source: IPAddress) -> IPv6Address | None:
    """The hypervisor that has `source`, as far as routes tell."""
    best: tuple[int, IPv6Address] | None = None
    for key, raw in pins.items(f"routes{source.version}"):
        owner, prefix = pins.codec.read_route_key(key)
        hop = pins.codec.read_hop(raw)
        if owner == vni and isinstance(hop, RemoteHop) and source in prefix and prefix.prefixlen >= (best or (0,))[0]:
            best = prefix.prefixlen, hop.underlay
    return best[1] if best else None


def _packet(source: IPAddress, destination: IPAddress, given: dict[str, Any]) -> Wanted:
    if given["protocol"] == "icmp":
        protocol = packets.ICMP if source.version == 4 else packets.ICMPV6
        kind = ECHO_REQUEST[source.version]
        return Wanted(source, destination, protocol, kind, given["sport"], payload=given["size"])
    protocol = packets.TCP if given["protocol"] == "tcp" else packets.UDP
    ports = given["sport"], given["dport"]
    return Wanted(source, destination, protocol, *ports, flags=given["tcp-flags"], payload=given["size"])


def _mac(value: str | None) -> bytes:
    try:
        raw = bytes.fromhex((value or "02:00:00:00:00:02").replace(":", ""))
    except ValueError as error:
        raise BadValue(f"--src-mac: {value!r} is no MAC") from error
    if len(raw) != 6:
        raise BadValue(f"--src-mac: {value!r} is no MAC")
    return raw


def _names(pins: Pins) -> Names:
    uplinks = {}
    for index, raw in enumerate(pins.map("uplinks").values()):
        netdev = pins.layout("uplink").number(raw, "ifindex")
        uplinks[netdev] = f"uplink {index}{_netdev_name(netdev)}"
    devices = {row["port"]: row["device"] for row in interfaces(pins)}
    return Names(devices, uplinks, pins.enum("drop_reason", "DROP_"), reason_texts())


def _netdev_name(number: int) -> str:
    try:
        return f" ({socket.if_indextoname(number)})"
    except OSError:
        return ""


def _enter(netns: str) -> None:
    path = Path(netns) if "/" in netns else NETNS / netns
    with path.open("rb") as opened:
        if ctypes.CDLL(None, use_errno=True).setns(opened.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"{path}: {os.strerror(ctypes.get_errno())}")


def _check_namespace(pins: Pins) -> None:
    """The tables name devices by their numbers, which are others' elsewhere. Raises BadValue."""
    found = list(uplinks(pins))
    if found and not any(row["mac"] == _mac_of(row["ifindex"]) for row in found):
        raise BadValue("--netns: the data plane's uplinks are not in this network namespace")


def _mac_of(netdev: int) -> str:
    """Empty if there is no such device here."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            request = struct.pack("16s24x", socket.if_indextoname(netdev).encode())
            return fcntl.ioctl(any_socket, SIOCGIFHWADDR, request)[18:24].hex(":")
        except OSError:
            return ""


def _as_text(place: Place, frame: bytes, outcome: Outcome, names: Names) -> str:
    width = max((len(step.name) for step in outcome.steps), default=0)
    lines = [
        f"  {number:>2}  {step.name.replace('_', ' ').ljust(width)}  {step_text(step, names)}"
        for number, step in enumerate(outcome.steps, 1)
    ]
    return "\n".join([f"{place.title}: {packets.described(frame)}", *lines, verdict_text(outcome, names)])


def _as_json(place: Place, frame: bytes, outcome: Outcome, names: Names) -> str:
    why = reason(outcome, names)
    told: dict[str, Any] = {
        "from": place.title,
        "packet": packets.described(frame),
        "steps": [
            {"step": step.name, "a": step.a, "b": step.b, "text": step_text(step, names)} for step in outcome.steps
        ],
        "verdict": verdict_text(outcome, names).partition(" ")[0].rstrip(":"),
        "reason": why,
        "meaning": names.meanings.get(why) if why else None,
        "leaves": None
        if outcome.verdict == SHOT
        else {"packet": packets.described(outcome.frame), "frame": outcome.frame.hex()},
    }
    return json.dumps(told)
