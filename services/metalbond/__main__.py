"""`ferrite metalbond server`: the route reflector."""

from __future__ import annotations

import sys
from typing import Final

from services.metalbond.server import process

USAGE: Final = "usage: ferrite metalbond server [--config FILE] [flags]   (server --help lists the flags)"


def main(arguments: list[str]) -> None:
    """Runs the process named by the first argument to its end. Raises SystemExit(2) for a wrong command line."""
    if arguments[:1] != ["server"]:
        print(USAGE, file=sys.stderr)
        raise SystemExit(2)
    process.main(arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
