"""Packets between guests through real daemons and real kernels."""

from __future__ import annotations

from tests.integration.dpservice.lab import Lab, eventually


def test_guests_reach_each_other(pair: Lab) -> None:
    a, b, c = pair.guests
    for guest in (b, c):  # each guest speaks first once, so that its MAC is known
        eventually(lambda guest=guest: guest.ping(a.ipv4))
    for source, target in ((a, b), (b, a), (a, c), (c, b)):
        eventually(lambda source=source, target=target: source.ping(target.ipv4))
        eventually(lambda source=source, target=target: source.ping(target.ipv6))
