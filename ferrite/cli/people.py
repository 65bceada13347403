"""The commands for people: everything of `ferrite` that is not a process of the system."""

from __future__ import annotations

import typer

from ferrite.cli import trace
from ferrite.cli.main import COMMANDS, PROCESSES

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A whole IaaS in Python: from kubectl apply to packets on the wire.",
    epilog="Services: "
    + ", ".join([" ".join(process) for process in PROCESSES] + list(COMMANDS))
    + ". Each takes --config FILE and --help.",
)


def _add_dev() -> None:
    """`ferrite dev`, or where its libraries are missing a command that says which one."""
    try:
        from ferrite.cli import dev
    except ModuleNotFoundError as error:
        missing = error.name
    else:
        app.add_typer(dev.app, name="dev")
        return

    @app.command("dev", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
    def unavailable() -> None:
        """A whole cluster on this machine (not available: a library is missing)."""
        raise SystemExit(f"ferrite dev: the Python module {missing} is not installed; tools/setup.sh installs it")


_add_dev()
app.command("trace")(trace.trace)
