"""One data plane takes over from another: the two, what they take over, and that they have it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from services.dpservice.engine.ebpf import EbpfEngine
from services.dpservice.engine.interface import Delivery, GuestLink
from services.dpservice.model.changes import Change
from services.dpservice.model.rows import InterfaceId
from tests.integration.dpservice.path_town import A4, B4, B6, BALANCED, EXTRA, FAR64, NET4, SHARED, A, B, Town, ends
from tests.support.dpservice.fates import Delivered, Tunnelled
from tests.support.dpservice.packets import echo, tcp, udp
from tests.support.dpservice.trial import GUESTS


@contextmanager
def another(town: Town) -> Iterator[Town]:
    """A second data plane that was told the same; its flows are its own."""
    first = town.trial.engine
    with tempfile.TemporaryDirectory(prefix="ft-bpf-") as folder:
        subprocess.run(["mount", "-t", "bpf", "bpf", folder], check=True)
        engine = EbpfEngine(Path(folder), 1000)
        try:
            engine.start_generation(str(uuid4()))
            for name, link in zip(GUESTS, town.trial.guests, strict=True):
                engine.set_guest_link(name, GuestLink(link.ifindex, link.mac, Delivery.REDIRECT))
            engine.apply([Change(key, None, row) for key, row in first.read_back().items()])
            for name in ("settings", "uplinks"):
                for key, raw in first._object.map(name).items():
                    engine._object.map(name).put(key, raw)
            town.trial.engine = engine
            yield Town(town.trial, town.u)
        finally:
            town.trial.engine = first
            engine.close()
            subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def at(town: Town, engine: EbpfEngine) -> Iterator[None]:
    """Packets meet the programs of that engine."""
    before, town.trial.engine = town.trial.engine, engine
    try:
        yield
    finally:
        town.trial.engine = before


def take_over(heir: EbpfEngine, first: EbpfEngine) -> int:
    """Everything that is in the tables of the first one; how many flows the heir has then."""
    heir.transfer.follow(first.transfer.shared())
    return heir.transfer.settle()


def tables(town: Town) -> dict[str, dict[bytes, bytes]]:
    names, engine = ("nat_mappings", "nat_claims", "usage"), town.trial.engine
    found = {name: dict(engine._object.map(name).items()) for name in names}
    layout = engine._codec.layouts["nat_mapping"]
    for key, raw in found["nat_mappings"].items():
        found["nat_mappings"][key] = layout.changed(raw, born=0)
    return found


def open_flows(town: Town) -> None:
    """Of each kind: NAT of each protocol, one NAT port for many, NAT64, between guests, relayed, balanced."""
    town.call("delete_vip", InterfaceId("a"))
    town.call("create_nat", InterfaceId("a"), EXTRA, 5000, 6000, None)
    for port, packet in (
        (A, udp(ends(A4, 7, NET4, 53))),
        (A, udp(ends(A4, 7, NET4 + 1, 53))),
        (A, tcp(ends(A4, 7, NET4, 80))),
        (A, tcp(ends(A4, 8, NET4, 80))),
        (A, echo(ends(A4, 9, NET4, 9))),
        (A, udp(ends(A4, 7, B4, 9))),
        (B, udp(ends(B4, 7, NET4, 53))),
        (B, udp(ends(B6, 7, FAR64, 53))),
        (B, echo(ends(B6, 8, FAR64, 8))),
    ):
        assert isinstance(town.guest(port, packet), Tunnelled | Delivered)
    town.call("create_target", "lb", town.u["prefix"])
    for to, packet in (("NAT", udp(ends(NET4, 53, SHARED, 2000))), ("LB", udp(ends(NET4, 7, BALANCED, 53)))):
        assert isinstance(town.fabric(to, packet), Tunnelled | Delivered)
