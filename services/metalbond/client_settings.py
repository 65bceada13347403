"""Settings of `ferrite metalbond client`. The flags of the original's client keep their names and their syntax."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Final

from pydantic import Field, field_validator

from services.common.settings import ServiceSettings
from services.metalbond.client import parse_server
from services.metalbond.routes import MAX_PORT, NextHop, NextHopType, Route, check_vni

MAX_TABLE: Final = 2**32 - 1  # RTA_TABLE has 32 bits (linux/rtnetlink.h)

_TYPES: Final = (
    ("std", NextHopType.STANDARD),
    ("lb", NextHopType.LOADBALANCER_TARGET),
    ("nat", NextHopType.NAT),
)


class ClientSettings(ServiceSettings):
    """`ferrite metalbond client`. Lists may also be given as one value with commas."""

    server: list[str] = Field(
        [], description="a route reflector, host:port or host:port/grpc-port or unix:/path of a gRPC socket; repeatable"
    )
    subscribe: list[str] = Field([], description="VNI to follow; repeatable")
    announce: list[str] = Field(
        [], description="route to announce, vni#prefix#nexthop[#std|lb|nat[#first-port#last-port]]; repeatable"
    )
    install_routes: list[str] = Field([], description="vni#table: routes of the VNI go into this table; repeatable")
    tun: str = Field(
        "", description="device of installed routes: an external ip6tnl, or any other for SRv6 encapsulation"
    )
    ipv4_only: bool = Field(False, description="install IPv4 destinations only")
    decapsulate: bool = Field(
        False, description="unpack what arrives at the next hops announced here (SRv6); an ip6tnl device does it itself"
    )
    cleanup: bool = Field(False, description="remove installed routes at the end; else they stay for the next start")
    keepalive: int = Field(5, ge=0, le=3600, description="keepalive interval in seconds; 0 means 5")
    http: str = Field("", description="address of the status page, host:port; empty = off")
    grace: float = Field(
        120.0, ge=0, le=86_400, description="seconds for which routes of a lost server are kept while it stays away"
    )
    settle: float = Field(
        15.0, ge=0, le=3600, description="seconds that others have to announce again after a server's return"
    )
    hold: int = Field(
        30, ge=0, le=86_400, description="seconds for which servers shall keep our routes when we are away"
    )
    node: str = Field("", description="our name at gRPC doors; empty = the certificate's or host's, and /client")
    local_address: str = Field("", description="address to connect from by TCP; empty = any")
    grpc_port: int = Field(0, ge=0, le=MAX_PORT, description="gRPC port of servers that name none; 0 = TCP only")
    grpc_insecure: bool = Field(False, description="use gRPC doors on host:port without TLS")
    tls_ca: str = Field("", description="PEM file with the authority of the servers' gRPC doors")
    tls_cert: str = Field("", description="PEM file with our certificate")
    tls_key: str = Field("", description="PEM file with our key")
    verbose: bool = Field(False, description="log at level debug (also -v)")

    @field_validator("server", "subscribe", "announce", "install_routes")
    @classmethod
    def _split(cls, values: list[str]) -> list[str]:
        return [part.strip() for value in values for part in value.split(",") if part.strip()]

    @field_validator("server")
    @classmethod
    def _servers(cls, values: list[str]) -> list[str]:
        for value in values:
            parse_server(value)
        return values

    @field_validator("subscribe")
    @classmethod
    def _vnis(cls, values: list[str]) -> list[str]:
        for value in values:
            parse_vni(value)
        return values

    @field_validator("announce")
    @classmethod
    def _routes(cls, values: list[str]) -> list[str]:
        for value in values:
            parse_announcement(value)
        return values

    @field_validator("install_routes")
    @classmethod
    def _tables(cls, values: list[str]) -> list[str]:
        tables = [parse_table(value) for value in values]
        if len({vni for vni, _ in tables}) < len(tables):
            raise ValueError("a VNI has one table")
        return values


def parse_vni(text: str) -> int:
    """Raises ValueError for anything but a number of 24 bits."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"vni: {text!r} is not a number")
    return check_vni(int(text))


def parse_table(text: str) -> tuple[int, int]:
    """VNI and kernel table of `vni#table`; table 0 is the main one. Raises ValueError."""
    vni, separator, table = text.partition("#")
    if not separator or not (table.isascii() and table.isdigit()) or int(table) > MAX_TABLE:
        raise ValueError(f"{text!r} is not vni#table with a table of 0..{MAX_TABLE}")
    return parse_vni(vni), int(table)


def parse_announcement(text: str) -> Route:
    """The route of `vni#prefix#nexthop[#type[#first-port#last-port]]`, host bits masked.

    The type is told by a part of its name in any case (`std`, `lb`, `nat`) and STANDARD otherwise, as by the original.
    Raises ValueError.
    """
    fields = text.split("#")
    if len(fields) not in (3, 4, 6):
        raise ValueError(f"{text!r} is not vni#prefix#nexthop[#type[#first-port#last-port]]")
    kind = next((kind for part, kind in _TYPES if part in "".join(fields[3:4]).lower()), NextHopType.STANDARD)
    if (kind is NextHopType.NAT) != (len(fields) == 6):
        raise ValueError(f"{text!r}: NAT, and no other type, has two ports")
    ports = None
    if kind is NextHopType.NAT:
        ports = _port(fields[4]), _port(fields[5])
    return Route(
        check_vni(parse_vni(fields[0])),
        ip_network(fields[1], strict=False),
        NextHop(ip_address(fields[2]), kind, ports),
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > MAX_PORT:
        raise ValueError(f"port: {text!r} is not a number of 0..{MAX_PORT}")
    return int(text)
