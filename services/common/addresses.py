"""Where a server listens or is reached: `host:port`, `[v6]:port`. Pure."""

from __future__ import annotations

from typing import Final

MAX_PORT: Final = 2**16 - 1


def split_address(address: str, default_port: int | None = None) -> tuple[str, int]:
    """Host (without brackets) and port of `[v6]:port`, `host:port` or `:port` (host empty then); with a
    `default_port` also of a bare host. Raises ValueError.
    """
    bare_v6 = address.count(":") > 1 and not address.startswith("[")
    host, colon, port = (address, "", "") if bare_v6 else address.rpartition(":")
    if not colon or "]" in port:
        if default_port is None:
            raise ValueError(f"address {address!r} is not host:port or [v6]:port")
        host, port = address, str(default_port)
    if not (port.isascii() and port.isdigit() and int(port) <= MAX_PORT):
        raise ValueError(f"address {address!r}: {port!r} is not a port")
    if host.startswith("[") != host.endswith("]"):
        raise ValueError(f"address {address!r}: brackets don't match")
    return host.strip("[]"), int(port)


def join_address(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
