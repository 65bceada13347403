"""What steps mean, for people. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from services.dpservice.engine.trial import PASSED, SHOT, Outcome, Step
from services.dpservice.tracing.packets import PROTOCOLS, described

NO_PORT: Final = 0xFFFFFFFF
SIDES: Final = {0x1: "a tunnel to", 0x2: "a tunnel to a VIP", 0x3: "a tunnel to NAT", 0x4: "a tunnel to a balancer"}
KINDS: Final = ("plain", "VIP", "NAT", "neighbor NAT", "balanced")
HOPS: Final = ("nowhere", "a guest of this host", "another host", "the owner on another host")


@dataclass(frozen=True)
class Names:
    """What numbers are called here."""

    devices: Mapping[int, str]
    uplinks: Mapping[int, str]  # by ifindex
    reasons: Mapping[int, str]
    meanings: Mapping[str, str]

    def device(self, number: int) -> str:
        """A guest's device by its port."""
        return self.devices.get(number, f"port {number}")


def step_text(step: Step, names: Names) -> str:
    """A step in a sentence."""
    tell = _TELL.get(step.name)
    return tell(step.a, step.b, names) if tell else f"{step.a}, {step.b}"


def reason(outcome: Outcome, names: Names) -> str | None:
    """Why the packet is dropped, by the name of the counter; None if it isn't."""
    dropped = [step.a for step in outcome.steps if step.name == "dropped"]
    if dropped:
        return names.reasons.get(dropped[-1], str(dropped[-1]))
    return "unknown" if outcome.verdict == SHOT else None


def verdict_text(outcome: Outcome, names: Names) -> str:
    """What becomes of the packet."""
    why = reason(outcome, names)
    if why is not None:
        meaning = names.meanings.get(why)
        text = f"dropped: {why}" + (f" ({meaning})" if meaning else "")
        # What was too long for the tunnel is answered by an error.
        return text if outcome.verdict == SHOT else f"{text}; the sender is told: {described(outcome.frame)}"
    if outcome.verdict == PASSED:
        return "left to the kernel: it is not for a function of this host"
    last = next((step for step in reversed(outcome.steps) if step.name in ("delivered", "encapsulated")), None)
    to = "back to the sender"
    if last is not None and last.name == "delivered":
        to = f"into {names.device(last.a)}"
    elif last is not None:
        to = f"out of {names.uplinks.get(last.a, f'device {last.a}')}"
    return f"sent {to}: {described(outcome.frame)}"


def _named(values: tuple[str, ...], number: int) -> str:
    return values[number] if number < len(values) else str(number)


def _parsed(protocol: int, side: int, names: Names) -> str:
    where = SIDES.get(side >> 16)
    device = names.device(side & 0xFFFF)
    came = f"from {device}" if where is None else f"out of {where}" + (f" {device}" if side >> 16 == 1 else "")
    return f"{PROTOCOLS.get(protocol, f'protocol {protocol}')}, {came}"


def _public(port: int, _: int, names: Names) -> str:
    return (
        "the destination is shared by NAT" if port == NO_PORT else f"the destination is the VIP of {names.device(port)}"
    )


def _translated(address: int, port: int, _: Names) -> str:
    text = f"address {IPv4Address(address.to_bytes(4, 'little'))}"
    return f"{text}, port or identifier {port}" if port else text


def _rule(place: int, accept: int, _: Names) -> str:
    return f"rule {place} {'accepts' if accept else 'refuses'}"


_TELL: Final[Mapping[str, Callable[[int, int, Names], str]]] = {
    "parsed": _parsed,
    "flow_found": lambda kind, hop, _: f"a {_named(KINDS, kind)} flow is known, it leads to {_named(HOPS, hop)}",
    "flow_missing": lambda _a, _b, _: "the first packet of a flow: everything is decided now",
    "source_checked": lambda port, _b, names: f"the MAC is that of the guest behind {names.device(port)}",
    "public_found": _public,
    "routed": lambda kind, port, names: f"to {names.device(port)}" if kind == 1 else f"to {_named(HOPS, kind)}",
    "translated": _translated,
    "rule_matched": _rule,
    "flow_made": lambda kind, _b, _: f"a {_named(KINDS, kind)} flow would be kept",
    "target_chosen": lambda word, _b, _: f"the target that ends in :{_groups(word)}",
    "neighbor_found": lambda port, _b, _: f"another host owns port or identifier {port}",
    "answered": lambda kind, _b, _: f"answered here, with type {kind}",
    "for_gateway": lambda _a, _b, _: "a question to the gateway",
    "for_service": lambda _a, _b, _: "for or from a virtual service",
    "encapsulated": lambda ifindex, _b, names: f"for {names.uplinks.get(ifindex, f'device {ifindex}')}",
    "delivered": lambda port, _b, names: f"to {names.device(port)}",
    "dropped": lambda why, _b, names: names.reasons.get(why, str(why)),
}


def _groups(word: int) -> str:
    raw = word.to_bytes(4, "little")
    return f"{int.from_bytes(raw[:2], 'big'):x}:{int.from_bytes(raw[2:], 'big'):x}"
