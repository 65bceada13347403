"""The commands for people: everything of `ferrite` that is not a process of the system."""

from __future__ import annotations

import typer

from ferrite.cli import dev, trace
from ferrite.cli.main import COMMANDS, PROCESSES

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A whole IaaS in Python: from kubectl apply to packets on the wire.",
    epilog="Services: "
    + ", ".join([" ".join(process) for process in PROCESSES] + list(COMMANDS))
    + ". Each takes --config FILE and --help.",
)
app.add_typer(dev.app, name="dev")
app.command("trace")(trace.trace)
