"""Whose program is at a device, when two instances come to it in whatever order."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.dpservice.engine import hooks, ingress
from services.dpservice.engine.ebpf import EbpfEngine
from services.dpservice.engine.runs import run_at_tc
from tests.support.dpservice.trial import Trial, trials

PASSED_ON = 0xFFFFFFFF  # TC_ACT_UNSPEC: to whatever else is at the device
IN = ingress.OURS | ingress.RESERVED
Both = Callable[[str, str], None]


@pytest.fixture(scope="module")
def on_tap() -> Iterator[Callable[[Callable[[int, Both], None]], None]]:
    """Calls a function with a TAP's ifindex, and with what has instance `a` or `b` do something to it."""
    with trials() as run, tempfile.TemporaryDirectory(prefix="ft-bpf-") as folder:
        subprocess.run(["mount", "-t", "bpf", "bpf", folder], check=True)
        other = EbpfEngine(Path(folder), 1000)

        def use(test: Callable[[int, Both], None], trial: Trial) -> None:
            ifindex = trial.guests[0].ifindex
            for number in ingress._attached(ifindex, IN):
                with ingress._opened(number) as program:
                    assert ingress._bpf.bpf_prog_detach2(program, ifindex, ingress._TCX_INGRESS) == 0
            engines = {"a": trial.engine, "b": other}

            def act(instance: str, what: str) -> None:
                program = engines[instance]._object.program("from_guest" if "attach" in what else "standing_by")
                if what == "attach":
                    ingress.attach_ingress(ifindex, program)
                elif what == "reserve":
                    ingress.reserve_ingress(ifindex, program)
                else:  # it had looked before the other one came
                    options = ingress._AttachOptions(sz=ingress.ctypes.sizeof(ingress._AttachOptions))
                    ingress._attach(ifindex, program, options)

            test(ifindex, act)

        try:
            yield lambda test: run(lambda trial: use(test, trial))
        finally:
            other.close()
            subprocess.run(["umount", "--lazy", folder], check=True)


def _names(ifindex: int) -> list[str]:
    return list(ingress._attached(ifindex, IN).values())


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        pytest.param("b reserve", ["standing_by"], id="a place is kept"),
        pytest.param("b reserve, b reserve", ["standing_by"], id="once"),
        pytest.param("b reserve, b attach", ["from_guest"], id="and taken"),
        pytest.param("a attach, b reserve", ["from_guest"], id="none is kept where the active one is"),
        pytest.param("b reserve, a attach", ["from_guest"], id="the active one takes it"),
        pytest.param("b reserve, a attach, b reserve, b attach", ["from_guest"], id="and loses it when it has died"),
        pytest.param("a attach, b late reserve", ["from_guest", "standing_by"], id="both at once"),
        pytest.param("a attach, b late reserve, b attach", ["from_guest"], id="both at once, then a takeover"),
        pytest.param("b reserve, a late attach", ["standing_by", "from_guest"], id="the other way round"),
        pytest.param("b reserve, a late attach, b attach", ["from_guest"], id="the other way round, then a takeover"),
    ],
)
def test_one_program_serves(on_tap: Callable[[Callable[[int, Both], None]], None], steps: str, left: list[str]) -> None:
    def attach(ifindex: int, act: Both) -> None:
        owner = None
        for step in steps.split(", "):
            instance, what = step.split(" ", 1)
            before = ingress.ingress_program(ifindex)
            act(instance, what)
            after = ingress.ingress_program(ifindex)
            if "reserve" in what:
                assert after == before, "whoever stands by changes nothing"
            else:
                assert after not in (None, owner)
                owner = after
        assert _names(ifindex) == left

    on_tap(attach)


def test_a_kept_place_is_as_none(on_tap: Callable[[Callable[[int, Both], None]], None]) -> None:
    """Also what an earlier version left at a tc filter goes on."""

    def look(ifindex: int, act: Both) -> None:
        act("b", "reserve")
        (number,) = ingress._attached(ifindex, IN)
        with ingress._opened(number) as program:
            frame = bytes(64)
            assert run_at_tc(program, ifindex, frame) == (PASSED_ON, frame)
            hooks.attach_ingress(ifindex, program)
        hooks.detach_ingress(ifindex)

    on_tap(look)
