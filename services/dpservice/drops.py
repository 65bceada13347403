"""`dpservice drops`: what the data plane dropped and why."""

from __future__ import annotations

import sys
from pathlib import Path

from services.common import settings
from services.dpservice.engine.inspect import read_drops
from services.dpservice.settings import DropsSettings


def main(arguments: list[str]) -> None:
    """Prints counters by reason. Raises SystemExit: 2 for wrong settings, 1 if there are no maps."""
    wanted = settings.load(DropsSettings, arguments, "dpservice drops")
    try:
        drops = read_drops(Path(wanted.bpf_root))
    except OSError as error:
        print(f"dpservice drops: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    try:
        for reason, count in drops.items():
            if count or wanted.all:
                print(f"{count:>12}  {reason}")
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has seen enough of it.
        sys.stderr.close()
