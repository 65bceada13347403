"""Who has which device; a device never has two owners."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.metalnet.claims import DeviceClaims
from services.metalnet.model.devices import Device, DevicePool, ForeignClaim, PoolExhausted, tap_devices
from services.metalnet.model.overlay import InterfaceId

TWO = tap_devices("dtapvf_", 2)
A, B, C = (InterfaceId(name) for name in "abc")


def test_names_of_taps() -> None:
    assert tap_devices("dtapvf_", 2) == [Device("dtapvf_0", "net_tap2"), Device("dtapvf_1", "net_tap3")]


@pytest.mark.parametrize(
    ("prefix", "count"),
    [pytest.param("", 1, id="empty"), pytest.param("a" * 15, 1, id="too long"), pytest.param("a" * 14, 11, id="at 10")],
)
def test_names_that_linux_refuses(prefix: str, count: int) -> None:
    with pytest.raises(ValueError, match="interface name"):
        tap_devices(prefix, count)


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        pytest.param({A: "eth0"}, "'eth0', which is not a device", id="unknown device"),
        pytest.param({A: "dtapvf_0", B: "dtapvf_0"}, "which another claim names", id="two owners"),
    ],
)
def test_claims_that_do_not_fit(claims: dict[InterfaceId, str], text: str) -> None:
    with pytest.raises(ForeignClaim, match=text):
        DevicePool(TWO, claims)


def test_the_longest_free_device_is_taken_first() -> None:
    pool = DevicePool(TWO, {})
    first = pool.claim(A)
    pool.release(A)
    assert pool.claim(B) != first
    assert pool.claim(C) == first
    with pytest.raises(PoolExhausted, match="all 2 devices"):
        pool.claim(A)


@given(st.lists(st.tuples(st.sampled_from(["claim", "release", "restart"]), st.sampled_from([A, B, C]))))
@settings(deadline=None)
def test_never_two_owners(steps: list[tuple[str, InterfaceId]]) -> None:
    pool, owned = DevicePool(TWO, {}), dict[InterfaceId, str]()
    for step, owner in steps:
        if step == "restart":
            pool = DevicePool(TWO, owned)
        elif step == "release":
            pool.release(owner)
            owned.pop(owner, None)
        elif owner in owned or len(owned) < len(TWO):
            device = pool.claim(owner)
            assert owned.setdefault(owner, device.name) == device.name
        else:
            with pytest.raises(PoolExhausted):
                pool.claim(owner)
        assert len(set(owned.values())) == len(owned)
        assert pool.owners == owned.keys()


async def test_claims_outlive_the_process(tmp_path: Path) -> None:
    claims = DeviceClaims(tmp_path, TWO)
    device = await claims.claim(A)
    assert (tmp_path / "netfns" / "claims" / "a").read_text() == device.name
    (tmp_path / "netfns" / "claims" / ".b").write_text("dtap")  # cut off by a power failure
    again = DeviceClaims(tmp_path, TWO)
    assert again.pool.owners == {A}
    assert await again.claim(A) == device
    assert await again.release(A)
    assert not await again.release(A)
    assert os.listdir(tmp_path / "netfns" / "claims") == []


async def test_a_cancelled_claim_stays_with_its_owner(tmp_path: Path) -> None:
    claims = DeviceClaims(tmp_path, TWO)
    task = asyncio.create_task(claims.claim(A))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    other = await claims.claim(B)
    assert other != await claims.claim(A)


async def test_a_claim_that_can_not_be_stored_is_none(tmp_path: Path) -> None:
    claims = DeviceClaims(tmp_path, TWO)
    with pytest.raises(OSError):
        await claims.claim(InterfaceId("no/such/directory"))
    assert claims.pool.owners == frozenset()
