"""Gives frames to a program over and over, as a processor of its own: `sender PROGRAM IFINDEX SECONDS < frames`.

PROGRAM is an inherited file descriptor; a line of the input is a frame in hexadecimal.
"""

from __future__ import annotations

import sys
import time

from services.dpservice.engine.runs import run_at_tc

if __name__ == "__main__":
    program, ifindex, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    frames = [bytes.fromhex(line) for line in sys.stdin]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for frame in frames:
            run_at_tc(program, ifindex, frame)
