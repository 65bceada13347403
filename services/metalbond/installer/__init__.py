"""Learned routes into the kernel's tables, for Linux routers at the edge of the overlay.

`desired` (pure) holds which hops each prefix should have, `plan` (pure) what the kernel has and which operations make
the one into the other, `messages` (pure) their bytes as rtnetlink, `netlink` the socket, `install` the loop.
"""
