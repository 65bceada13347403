"""Stands in for QEMU: carries frames with their virtio headers between a host's TAP and a TAP in a guest's namespace.

Usage: tap_pump.py HOST_NAMESPACE HOST_TAP GUEST_NAMESPACE GUEST_TAP. Ends with SIGTERM and then prints how many frames
went to the guest and how many of them were merged ones (GSO).
"""

from __future__ import annotations

import os
import selectors
import signal
import sys
from contextlib import suppress

from tests.integration.dpservice.namespaces import open_tap

FRAME_LIMIT = 1 << 17


def main() -> None:
    host, guest = open_tap(sys.argv[1], sys.argv[2]), open_tap(sys.argv[3], sys.argv[4])
    for descriptor in (host, guest):
        os.set_blocking(descriptor, False)
    frames = merged = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    selector = selectors.DefaultSelector()
    selector.register(host, selectors.EVENT_READ, guest)
    selector.register(guest, selectors.EVENT_READ, host)
    print("ready", flush=True)
    try:
        while True:
            for ready, _ in selector.select():
                for _ in range(64):
                    try:
                        frame = os.read(ready.fd, FRAME_LIMIT)
                    except BlockingIOError:
                        break
                    if ready.fd == host:
                        frames += 1
                        merged += frame[1] != 0  # gso_type of struct virtio_net_hdr
                    with suppress(OSError):  # a device that is not up yet
                        os.write(ready.data, frame)
    finally:
        print(frames, merged, flush=True)


if __name__ == "__main__":
    main()
