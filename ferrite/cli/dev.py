"""`ferrite dev`: a whole cluster on this machine."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated

import typer

from ferrite.dev import cluster, demo
from ferrite.dev.plan import MANAGEMENT, UNDERLAY, ClusterPlan

app = typer.Typer(no_args_is_help=True, help="A whole cluster on this machine: real processes, nothing simulated.")


@app.callback()
def choose(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="name of the cluster, up to six letters and digits")] = "dev",
    state: Annotated[Path, typer.Option(help="directory of its certificates, logs and data")] = Path("build/dev"),
    management: Annotated[str, typer.Option(help="IPv4 network that joins its control plane and nodes")] = MANAGEMENT,
    underlay: Annotated[str, typer.Option(help="IPv6 prefix of its fabric, /48 or shorter")] = UNDERLAY,
) -> None:
    """Which cluster the command is about; several may run side by side if their networks differ."""
    try:
        plan = ClusterPlan(name, state.resolve(), management=IPv4Network(management), underlay=IPv6Network(underlay))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    context.obj = plan


@app.command()
def up(context: typer.Context) -> None:
    """Starts the cluster and returns when every service is healthy."""
    demo.up(context.obj)


@app.command()
def down(context: typer.Context) -> None:
    """Stops the cluster and removes all of it from the machine but its logs."""
    cluster.down(context.obj)


@app.command()
def status(context: typer.Context) -> None:
    """Says which process runs, since when, and how often it was restarted."""
    cluster.print_status(context.obj)


@app.command("demo")
def run_demo(
    context: typer.Context,
    picture: Annotated[Path | None, typer.Option(help="write an SVG of the screen to this file")] = None,
) -> None:
    """Starts the cluster, applies examples/first-machine and shows each step until the guests ping each other."""
    raise typer.Exit(demo.run(context.obj, picture))


@app.command()
def check(context: typer.Context) -> None:
    """The demo without a person: up, verify, tear down; exit code 0 when all checks pass."""
    raise typer.Exit(demo.check(context.obj))


@app.command()
def grpcurl(
    context: typer.Context, target: Annotated[str, typer.Argument(help="core, hv1-dpservice, ...")] = ""
) -> None:
    """Prints the grpcurl command, with address and certificates, of a service, or of all that can be asked."""
    commands = cluster.grpcurl(context.obj)
    if target and target not in commands:
        raise typer.BadParameter(f"{target} is not one of {', '.join(commands)}")
    typer.echo(commands[target] if target else "\n".join(f"{name}: {text}" for name, text in commands.items()))


@app.command(hidden=True)
def supervise(context: typer.Context) -> None:
    """Runs in the background on behalf of `up`."""
    cluster.supervise(context.obj)


@app.command("kill-check")
def kill_check(
    context: typer.Context,
    only: Annotated[
        list[str] | None, typer.Option(help="run this case only, e.g. etcd or hv1-dpservice; repeatable")
    ] = None,
) -> None:
    """Kills, stops and starves each process in turn while guests ping and objects are written; 0 when all is well."""
    from ferrite.dev.kill import program

    try:
        code = program.run(context.obj, only or [])
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    raise typer.Exit(code)
