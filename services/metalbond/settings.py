"""Settings of the route reflector."""

from __future__ import annotations

from pydantic import Field

from services.common.settings import ServiceSettings


class ServerSettings(ServiceSettings):
    """`ferrite metalbond server`."""

    listen: str = Field(
        "[::]:4711", description="address of the TCP protocol; it is plaintext: bind it to the underlay; empty = off"
    )
    keepalive: int = Field(
        5, ge=0, le=3600, description="keepalive interval in seconds that peers may lower; 0 means 5"
    )
    grace: float = Field(
        30.0, ge=0, le=86_400, description="seconds for which a lost peer's routes are kept; 0 withdraws them at once"
    )
    max_grace: float = Field(3600.0, ge=0, description="most seconds that a peer of the gRPC API may ask for instead")
    max_sessions: int = Field(8192, ge=1, description="connections beyond so many are refused")
    max_sessions_per_address: int = Field(
        4096, ge=1, description="connections beyond so many from one IP address are refused"
    )
    max_routes_per_peer: int = Field(2_000_000, ge=1, description="a session that announces more is ended")
    max_subscriptions_per_peer: int = Field(65_536, ge=1, description="a session that subscribes to more is ended")
    max_pending_per_peer: int = Field(
        1_000_000, ge=1, description="a session for which more changes wait than so many is ended"
    )
    grpc_listen: str = Field(
        "unix:/run/ferrite/metalbond.sock", description="address of the gRPC API: unix:/path or host:port; empty = off"
    )
    tls_ca: str = Field("", description="PEM file with the authority whose clients may use the gRPC API")
    tls_cert: str = Field("", description="PEM file with the gRPC API's certificate")
    tls_key: str = Field("", description="PEM file with the gRPC API's key")
    grpc_insecure: bool = Field(False, description="serve the gRPC API on host:port without TLS")
    peer: list[str] = Field(
        [],
        description="another reflector whose peers' routes ours shall have as well, host:port or host:port/grpc-port; "
        "all reflectors must name each other; repeatable",
    )
    node: str = Field(
        "", description="our name at other reflectors; empty = the certificate's common name, or else the host's name"
    )
    policy: str = Field(
        "", description="YAML file that says which identity may announce and hear of which VNIs; empty = all may"
    )
    http: str = Field("", description="address of the status page, host:port, without authentication; empty = off")
    verbose: bool = Field(False, description="log at level debug (also -v)")
