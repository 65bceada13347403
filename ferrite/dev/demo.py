"""The main job on a real cluster: from manifests applied with kubectl to two guests that ping each other."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ferrite.dev import cluster
from ferrite.dev.observe import Observer, View, is_ready
from ferrite.dev.plan import ClusterPlan
from ferrite.dev.stages import STAGES, Progress
from ferrite.dev.verify import Checks, verify, verify_deletion, verify_down

EXAMPLE: Final = Path(__file__).resolve().parents[2] / "examples" / "first-machine"
SHOWN_EXAMPLE: Final = "/".join(EXAMPLE.parts[-2:])
MACHINES: Final = ("vm-1", "vm-2")
READY_SECONDS: Final = 90.0
PING_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 0.1
WIDTH: Final = 118


class Failed(Exception):
    """The demo did not reach its end; the text says what is missing and where to look."""


def _console(*, record: bool = False) -> Console:
    """As wide as the terminal; wide enough for the table in pictures, files and pipes."""
    return Console(record=record, width=None if sys.stdout.isatty() and not record else WIDTH)


def up(plan: ClusterPlan) -> None:
    """Starts the cluster and waits until machines could run on it; SystemExit when it does not get there."""
    try:
        asyncio.run(_up(plan, _console()))
    except Failed as failure:
        raise SystemExit(f"ferrite dev up: {failure}") from None


def run(plan: ClusterPlan, picture: Path | None = None) -> int:
    """Up, apply, show each step, and leave the cluster running; the exit code. `picture` gets an SVG of the screen."""
    console = _console(record=picture is not None)
    try:
        asyncio.run(_show(plan, console))
    except Failed as failure:
        console.print(f"[bold red]failed:[/] {failure}")
        return 1
    _print_hints(plan, console)
    if picture is not None:
        # The viewer's own monospace font will do: a picture must not load anything from elsewhere.
        picture.write_text(re.sub(r"@font-face {.*?}", "", console.export_svg(title="make demo"), flags=re.DOTALL))
    return 0


def check(plan: ClusterPlan) -> int:
    """Up, apply, verify, delete, down; 0 when every check passed."""
    console = _console()
    checks = Checks(console)
    started = time.monotonic()
    try:
        try:
            asyncio.run(_checked(plan, console, checks))
        except Exception as failure:
            checks.failed("the demo reaches its end", f"{type(failure).__name__}: {failure}")
    finally:
        cluster.down(plan)
    verify_down(plan, checks)
    seconds = time.monotonic() - started
    console.print(f"demo: {checks.passed_count} checks passed, {checks.failed_count} failed in {seconds:.0f} s")
    return 1 if checks.failed_count else 0


async def _checked(plan: ClusterPlan, console: Console, checks: Checks) -> None:
    progress = await _show(plan, console)
    checks.passed(f"two guests reached all {len(STAGES)} stages", f"{len(progress.reached)} observations")
    observer = Observer(plan)
    try:
        await verify(plan, observer, checks)
        await asyncio.to_thread(kubectl, plan, "delete", "-f", "-", "--timeout=60s", body=manifests(plan))
        await verify_deletion(plan, observer, checks)
    finally:
        await observer.close()


async def _up(plan: ClusterPlan, console: Console) -> Callable[[str], None]:
    started = time.monotonic()

    def tell(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:6.1f} s[/]  {text}")

    await asyncio.to_thread(cluster.up, plan, tell)
    observer = Observer(plan)
    try:
        await _wait_until_ready(plan, observer)
    finally:
        await observer.close()
    tell(f"the cluster is ready: {len(cluster.status(plan))} processes")
    return tell


async def _show(plan: ClusterPlan, console: Console) -> Progress:
    tell = await _up(plan, console)
    observer = Observer(plan)
    try:
        tell(f"kubectl apply -f {SHOWN_EXAMPLE}")
        applied = time.monotonic()
        output = await asyncio.to_thread(kubectl, plan, "apply", "-f", "-", body=manifests(plan))
        console.print(Text(output.rstrip(), style="dim"))
        return await _follow(observer, console, applied)
    finally:
        await observer.close()


def manifests(plan: ClusterPlan) -> str:
    """The example's documents; a cluster of another name keeps its guest image elsewhere."""
    documents = [file.read_text() for file in sorted(EXAMPLE.glob("*.yaml"))]
    return "\n---\n".join(documents).replace("/run/ferrite-dev/", f"{plan.run}/")


async def _wait_until_ready(plan: ClusterPlan, observer: Observer) -> None:
    deadline = time.monotonic() + READY_SECONDS
    view = View()
    while time.monotonic() < deadline:
        view = await observer.look()
        if is_ready(view, plan):
            return
        await asyncio.sleep(LOOK_SECONDS)
    seen = f"machine pools {sorted(view.pools)}, nodes {sorted(view.nodes)}, volume pools {sorted(view.volume_pools)}"
    raise Failed(f"not ready within {READY_SECONDS:.0f} s ({seen}; {view.problem}); logs are in {plan.logs}")


async def _follow(observer: Observer, console: Console, applied: float) -> Progress:
    """Looks until every stage is reached: as a live table on a terminal, as lines elsewhere."""
    progress = Progress(MACHINES)
    live = Live(console=console, refresh_per_second=10)
    if console.is_terminal:
        live.start()
    try:
        while not progress.is_complete:
            elapsed = time.monotonic() - applied
            if elapsed > PING_SECONDS:
                raise Failed(f"after {PING_SECONDS:.0f} s still open: {'; '.join(progress.missing())}")
            for stage, machine, seen in progress.note(await observer.look(), elapsed):
                if not console.is_terminal:
                    console.print(f"{elapsed:6.1f} s  {machine}  {stage.title}: {seen} ({stage.actor})")
            live.update(_table(progress, elapsed))
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        live.update(_table(progress))
        live.stop()
    if not console.is_terminal:
        console.print(_table(progress))
    return progress


def _table(progress: Progress, elapsed: float | None = None) -> Group:
    table = Table(title="kubectl apply → first ping", title_justify="left")
    table.add_column("who")
    table.add_column("what")
    for machine in progress.machines:
        table.add_column(machine, min_width=28)
    for index, stage in enumerate(STAGES):
        cells = []
        for machine in progress.machines:
            seen = progress.reached.get((index, machine))
            cells.append(Text("…", "dim") if seen is None else Text(f"{seen[0]:5.1f} s  {seen[1]}", "green"))
        table.add_row(Text(stage.actor, "cyan"), stage.title, *cells)
    return Group(table, Text(f"{elapsed:.1f} s", "dim")) if elapsed is not None else Group(table)


def kubectl(plan: ClusterPlan, *words: str, body: str = "", seconds: float = 90.0) -> str:
    """Runs kubectl as administrator with `body` as its standard input; its output. Failed with what it said."""
    command = ["kubectl", "--kubeconfig", str(plan.kubeconfig), *words]
    done = subprocess.run(command, input=body, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode != 0:
        raise Failed(f"kubectl {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _print_hints(plan: ClusterPlan, console: Console) -> None:
    kubeconfig = os.path.relpath(plan.kubeconfig)
    state = os.path.relpath(plan.state)
    lines = [
        f"export KUBECONFIG={kubeconfig}",
        "kubectl get machines -o wide",
        "kubectl describe machine vm-1",
        "kubectl --context net get networkinterfaces.core.apinet.ironcore.dev",
        "kubectl --context metalnet get networkinterfaces.networking.metalnet.ironcore.dev -o wide",
        f"{cluster.grpcurl(plan)['core']} list",
        f"{cluster.grpcurl(plan)['metalbond']} ferrite.metalbond.v1.RouteReflector/ListRoutes",
        f"tail -f {state}/hv*/provider/machines/*/logs/console.log        # the guests' consoles",
        f"sudo nsenter --net=/var/run/netns/{plan.fabric.netns} tcpdump -ni any 'ip6 proto 4'",
        f"ls {state}/logs                                                 # one log a process",
        "make demo-down",
    ]
    console.print("\n[bold]Next, try:[/]")
    for line in lines:
        console.print(f"  {line}", highlight=False, soft_wrap=True)
