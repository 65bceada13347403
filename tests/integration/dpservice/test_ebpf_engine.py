"""The eBPF engine and its memory twin keep one contract: what was applied is what is read back."""

from __future__ import annotations

import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from services.dpservice.engine.codec import u32
from services.dpservice.engine.device_ports import DevicePorts
from services.dpservice.engine.ebpf import EbpfEngine
from services.dpservice.engine.interface import Engine, PacketSettings
from services.dpservice.engine.memory import MemoryEngine
from services.dpservice.guest.services import GuestServices
from services.dpservice.model.changes import AnyChange, Change, Rows, apply_to, difference, numbered
from services.dpservice.model.errors import Refusal
from services.dpservice.model.keys import RouteKey
from services.dpservice.model.rows import InterfaceId, PortNumber, RemoteHop, Vni
from services.dpservice.model.state import Model
from services.dpservice.model.underlay import UnderlayAddress
from services.dpservice.model.view import PacketView
from tests.integration.dpservice.lab import new_name
from tests.unit.dpservice.builders import DEVICES, HOP, model, net, nic

SERVICES = GuestServices()
UUID = "6E0A2F8E-9F0B-4B57-8F0A-3C1B3B1F4E11"


@pytest.fixture
def bpf_root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=new_name()) as directory:
        subprocess.run(["mount", "-t", "bpf", "bpf", directory], check=True)
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", directory], check=True)


@pytest.fixture(params=["ebpf", "memory"])
def engine(request: pytest.FixtureRequest, bpf_root: Path) -> Engine:
    return EbpfEngine(bpf_root, 1000) if request.param == "ebpf" else MemoryEngine()


def random_change(made: Model, view: PacketView, chance: random.Random) -> list[AnyChange]:
    name, prefix = InterfaceId(chance.choice("abc")), net(chance.choice(["10.9.0.0/16", "0.0.0.0/0", "2001:db8::/32"]))
    vni = Vni(chance.choice([0, 100, 2**32 - 1]))
    calls = [
        lambda: made.create_interface(
            nic(
                name,
                chance.choice(DEVICES),
                vni,
                chance.choice(["", "10.0.0.1"]),
                chance.choice(["::1", "2001:db8::1"]),
            )
        )[1],
        lambda: made.delete_interface(name),
        lambda: made.create_prefix(name, prefix, None)[1],
        lambda: made.delete_prefix(name, prefix),
        lambda: made.create_route(vni, numbered(prefix), HOP),
        lambda: made.delete_route(vni, numbered(prefix)),
        lambda: made.reset_vni(vni),
    ]
    try:
        return view.follow(chance.choice(calls)())
    except Refusal:
        return []


def test_reads_back_what_was_applied(engine: Engine) -> None:
    chance, made, wanted = random.Random(7), model(), Rows()
    view = PacketView(made.tables, SERVICES)
    engine.start_generation(UUID)
    for _ in range(600):
        changes = random_change(made, view, chance)
        engine.apply(changes)
        apply_to(wanted, changes)
        assert engine.read_back() == wanted
    assert len(wanted) > 3


def test_generation(engine: Engine) -> None:
    assert engine.generation() == ""
    engine.start_generation(UUID)
    engine.configure(PacketSettings(bytes(8), True, True, (IPv6Network("fc00::/16"),)))
    assert engine.generation() == UUID
    engine.apply([Change(RouteKey(Vni(1), net("::/0")), None, HOP)])
    engine.start_generation(UUID.replace("6", "7"))
    assert engine.read_back() == {}
    assert engine.generation() == UUID.replace("6", "7")


def test_a_second_process_reads_what_the_first_one_wrote(bpf_root: Path) -> None:
    first, made = EbpfEngine(bpf_root, 1000), model()
    first.start_generation(UUID)
    made.create_interface(nic(ipv6="2001:db8::1"))
    first.apply(PacketView(made.tables, SERVICES).follow(list(made.rows())))
    second = EbpfEngine(bpf_root, 1000)
    assert second.generation() == UUID
    assert second.read_back() == first.read_back()
    assert len(second.read_back()) == 4
    fresh = EbpfEngine(bpf_root, 2000, discard=True)
    assert (fresh.generation(), fresh.read_back()) == ("", {})


def test_a_port_leaves_all_devices_that_any_process_gave_it(bpf_root: Path) -> None:
    maps = EbpfEngine(bpf_root, 100)._maps
    first = DevicePorts(maps)
    for ifindex, port in ((7, 3), (8, 4), (9, 3), (20_000, 3)):
        first.set(ifindex, PortNumber(port))
    first.set(9, PortNumber(4))  # the device changed hands
    DevicePorts(maps).release(PortNumber(3))
    assert dict(maps["port_of_device"].items()) == {u32(8): u32(4), u32(9): u32(4)}
    assert [maps["device_ports"].get(u32(ifindex)) for ifindex in (7, 8, 9)] == [u32(0), u32(5), u32(5)]


def test_full_table(bpf_root: Path) -> None:
    engine = EbpfEngine(bpf_root, 10)
    engine.start_generation(UUID)
    routes = [Change(RouteKey(Vni(1), net(f"10.0.0.{number}/32")), None, HOP) for number in range(20)]
    with pytest.raises(OSError, match="map routes4"):
        engine.apply(routes)
    engine.apply(difference(engine.read_back(), {}))
    assert engine.read_back() == {}


def test_speed_of_route_changes(bpf_root: Path, record_property: pytest.RecordProperty) -> None:
    engine = EbpfEngine(bpf_root, 20000)
    engine.start_generation(UUID)
    hop = RemoteHop(UnderlayAddress(IPv6Address("fc00::1")), Vni(1))
    routes = [Change(RouteKey(Vni(1), net(f"10.{n >> 8 & 255}.{n & 255}.0/24")), None, hop) for n in range(10000)]
    started = time.perf_counter()
    engine.apply(routes)
    rate = len(routes) / (time.perf_counter() - started)
    record_property("routes_per_second", round(rate))
    assert rate > 4000
