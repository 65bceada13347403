"""`ferrite dev`: a whole cluster on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ferrite.dev import cluster, demo
from ferrite.dev.plan import ClusterPlan

app = typer.Typer(no_args_is_help=True, help="A whole cluster on this machine: real processes, nothing simulated.")

Name = Annotated[str, typer.Option(help="name of the cluster, up to six letters and digits")]
State = Annotated[Path, typer.Option(help="directory of its certificates, logs and data")]
NAME, STATE = "dev", Path("build/dev")


@app.command()
def up(name: Name = NAME, state: State = STATE) -> None:
    """Starts the cluster and returns when every service is healthy."""
    cluster.up(ClusterPlan(name, state.resolve()))


@app.command()
def down(name: Name = NAME, state: State = STATE) -> None:
    """Stops the cluster and removes all of it from the machine but its logs."""
    cluster.down(ClusterPlan(name, state.resolve()))


@app.command()
def status(name: Name = NAME, state: State = STATE) -> None:
    """Says which process runs, since when, and how often it was restarted."""
    cluster.print_status(ClusterPlan(name, state.resolve()))


@app.command("demo")
def run_demo(
    name: Name = NAME,
    state: State = STATE,
    picture: Annotated[Path | None, typer.Option(help="write an SVG of the screen to this file")] = None,
) -> None:
    """Starts the cluster, applies examples/first-machine and shows each step until the guests ping each other."""
    raise typer.Exit(demo.run(ClusterPlan(name, state.resolve()), picture))


@app.command()
def check(name: Name = NAME, state: State = STATE) -> None:
    """The demo without a person: up, verify, tear down; exit code 0 when all checks pass."""
    raise typer.Exit(demo.check(ClusterPlan(name, state.resolve())))


@app.command(hidden=True)
def supervise(name: Name = NAME, state: State = STATE) -> None:
    """Runs in the background on behalf of `up`."""
    cluster.supervise(ClusterPlan(name, state.resolve()))
