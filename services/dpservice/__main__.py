"""`dpservice COMMAND ...`: the data plane of one hypervisor, what it holds and does, and its client."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

PROGRAM: Final = "dpservice"
COMMANDS: Final = {
    "serve": "services.dpservice.serve",
    "drops": "services.dpservice.drops",
    "capture": "services.dpservice.recording.main",
    "inspect": "services.dpservice.inspection.main",
    "dump": "services.dpservice.inspection.dump",
    "trace": "services.dpservice.tracing.main",
}
"""What imports netlink, BPF or gRPC is imported by whom it is for."""
CLIENT: Final = "services.dpservice.client.main"
VERBS: Final = ("init", "get", "list", "create", "add", "delete", "del", "reset", "completion", "complete")
CAPTURE: Final = ("start", "stop", "status")


def main(arguments: list[str]) -> None:
    """Runs a sub-command. Raises SystemExit: 2 for wrong settings, 1 for what the machine refuses."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    module = COMMANDS.get(command)
    is_capture = command == "capture" and bool(rest) and rest[0] in CAPTURE
    if command.lower() in VERBS or is_capture or command.startswith("-"):
        import_module(CLIENT).main(arguments)
    elif module is None:
        known = "|".join([*COMMANDS, *VERBS[:-1]])
        print(f"{PROGRAM}: {command or 'no command'}: use `{PROGRAM} {known} [--help]`", file=sys.stderr)
        raise SystemExit(2)
    else:
        import_module(module).main(rest)


if __name__ == "__main__":
    main(sys.argv[1:])
