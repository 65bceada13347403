"""Packets tried out over the maps of a data plane: the programs of the dry run read them and change none."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.dpservice.engine import libbpf, runs
from services.dpservice.engine.btf import Btf
from services.dpservice.engine.pins import Pins
from services.dpservice.engine.settings import FIRST

TRACE_FILE: Final = Path(__file__).parent.parent / "bpf" / "trace.bpf.o"
PASSED, SHOT, REDIRECTED = 0, 2, 7  # TC_ACT_OK, TC_ACT_SHOT, TC_ACT_REDIRECT
FROM_GUEST: Final = "from_guest"
FROM_UPLINK: Final = "from_uplink"
_CONTINUED: Final = {
    (FROM_GUEST, "for_gateway"): "serve_guest",
    (FROM_GUEST, "for_service"): "to_service",
    (FROM_UPLINK, "for_service"): "from_service",
}
"""Programs in which others continue: where the live ones would, a packet is given to ours."""


@dataclass(frozen=True)
class Step:
    """A step of the pipeline by its name in effects.h; what the numbers mean is up to it."""

    name: str
    a: int
    b: int


@dataclass(frozen=True)
class Outcome:
    """The steps, the verdict (PASSED, SHOT, REDIRECTED), and the frame as it would leave."""

    steps: list[Step]
    verdict: int
    frame: bytes


class Trial:
    """The programs of the dry run, loaded over the maps of `pins`."""

    def __init__(self, pins: Pins, object_file: Path = TRACE_FILE) -> None:
        """Raises OSError, also when the maps are of another version: then nothing has been made or changed."""
        self._object = libbpf.Object(object_file, pins.root)
        for name in self._object.pinned_maps():
            if not (pins.root / name).exists():
                raise OSError(errno.EPROTO, f"{pins.root}: has no map {name}, it is another version's")
            self._object.set_max_entries(name, pins.capacity(name))
        self._object.load()
        btf = Btf(self._object.btf())
        self._record, self._step = btf.layout("trace"), btf.layout("trace_step")
        self._names = {value: name for name, value in btf.enum("step", "STEP_").items()}
        self._traces = self._object.map("traces")

    def run(self, program: str, ifindex: int, frame: bytes) -> Outcome:
        """Tries a frame that comes in by a device of this thread's network namespace. Raises OSError."""
        allowed = os.sched_getaffinity(0)
        # What one program hands to the next lies with the processor.
        os.sched_setaffinity(0, {min(allowed)})
        try:
            outcome = self._run_one(program, ifindex, frame)
            following = _CONTINUED.get((program, outcome.steps[-1].name)) if outcome.steps else None
            if following is None:
                return outcome
            rest = self._run_one(following, ifindex, frame)
            return Outcome(outcome.steps + rest.steps, rest.verdict, rest.frame)
        finally:
            os.sched_setaffinity(0, allowed)

    def _run_one(self, program: str, ifindex: int, frame: bytes) -> Outcome:
        self._traces.put(FIRST, bytes(self._record.size))
        verdict, left = runs.run_at_tc(self._object.program(program), ifindex, frame)
        raw = self._traces.get(FIRST) or bytes(self._record.size)
        steps = self._record.bytes(raw, "steps")
        size = self._step.size
        return Outcome(
            [
                self._read(steps[index * size : (index + 1) * size])
                for index in range(self._record.number(raw, "count"))
            ],
            verdict,
            left,
        )

    def _read(self, raw: bytes) -> Step:
        number = self._step.number(raw, "which")
        return Step(self._names.get(number, str(number)), self._step.number(raw, "a"), self._step.number(raw, "b"))

    def close(self) -> None:
        """Gives the programs up."""
        self._object.close()
