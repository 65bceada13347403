"""Runs the kill matrix on a cluster of its own and prints one line a check."""

from __future__ import annotations

import asyncio
import time
import traceback

from rich.console import Console

from ferrite.dev import cluster
from ferrite.dev.kill import survey
from ferrite.dev.kill.inventory import differences
from ferrite.dev.kill.matrix import chosen
from ferrite.dev.kill.rig import Rig, running
from ferrite.dev.kill.trial import Trial
from ferrite.dev.plan import ClusterPlan
from ferrite.dev.verify import Checks, verify_down

CLEAN_SECONDS = 90.0


def run(plan: ClusterPlan, only: list[str]) -> int:
    """Up, each case in turn, down; 0 when every check passed. ValueError for an unknown case."""
    matrix = chosen(plan, only)
    console = Console(width=None, soft_wrap=True, highlight=False)
    checks = Checks(console)
    started = time.monotonic()

    def tell(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:6.1f} s[/]  {text}")

    async def harmed() -> None:
        async with running(plan, tell) as rig:
            writing = asyncio.create_task(rig.writer.run(), name="writer")
            for case in matrix:
                tell(f"[bold]{case.name}[/]: {case.harm.value} {', '.join(case.victims)}")
                await Trial(rig, case, checks).run()
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await _nothing_leaks(rig, checks)

    try:
        try:
            asyncio.run(harmed())
        except Exception as failure:
            checks.failed("the matrix is run to its end", f"{type(failure).__name__}: {failure}")
            traceback.print_exc()
    finally:
        cluster.down(plan)
    verify_down(plan, checks)
    seconds = time.monotonic() - started
    console.print(f"kill: {checks.passed_count} checks passed, {checks.failed_count} failed in {seconds:.0f} s")
    return 1 if checks.failed_count else 0


async def _nothing_leaks(rig: Rig, checks: Checks) -> None:
    """When all is deleted that was written, there is what there was before."""
    await rig.writer.delete_all()
    deadline = time.monotonic() + CLEAN_SECONDS
    while left := differences(rig.before, await survey.take(rig.plan, rig.routes)):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(1.0)
    for category in sorted(rig.before):
        checks.that(
            category not in left,
            f"no leak: {category}",
            left.get(category, f"{rig.before[category].total()} as before"),
        )
    for category in sorted(left.keys() - rig.before.keys()):
        checks.failed(f"no leak: {category}", left[category])
    acknowledged = rig.writer.ledger.acknowledged
    checks.that(
        acknowledged > 0, "the writer wrote", f"{acknowledged} acknowledged, {len(rig.writer.refusals)} refused"
    )
