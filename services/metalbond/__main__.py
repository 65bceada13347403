"""`ferrite metalbond`: the route reflector and its client as processes, and commands for people.

server   the route reflector
client   announces routes, follows virtual networks, installs routes into the kernel
routes   lists a reflector's routes
peers    lists its sessions
monitor  follows changes of virtual networks
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

PROCESSES: Final = {
    "server": "services.metalbond.server.process",
    "client": "services.metalbond.client_process",
}


def main(arguments: list[str]) -> None:
    """Runs the process or the command named by the first argument. Raises SystemExit(2) for a wrong command line."""
    # What the commands for people need must not slow down the start of a process, nor one process that of the other.
    if arguments and arguments[0] in PROCESSES:
        import_module(PROCESSES[arguments[0]]).main(arguments[1:])
    else:
        import_module("services.metalbond.people").main(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
