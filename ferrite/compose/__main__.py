"""`python -m ferrite.compose COMMAND`: the helper containers' entry point and `make compose-check`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

# Imported when asked for: a container holds only the libraries of its own command.
COMMANDS: Final = ("setup", "fabric", "join", "ceph", "check", "engine", "units")
MODULES: Final = {"fabric": "uplinks", "join": "uplinks"}


def main(arguments: list[str]) -> int:
    """Runs one command; its exit code."""
    if not arguments or arguments[0] not in COMMANDS:
        print(f"usage: python -m ferrite.compose {' | '.join(COMMANDS)}", file=sys.stderr)
        return 2
    name = arguments[0]
    command = getattr(import_module(f"ferrite.compose.{MODULES.get(name, name)}"), name)
    return int(command(arguments[1:]) or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
