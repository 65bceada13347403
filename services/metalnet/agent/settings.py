"""Settings of `ferrite metalnet agent`; where the original has a flag for the same thing, it has its name."""

from __future__ import annotations

import socket
from ipaddress import IPv6Address, ip_address

from pydantic import Field, field_validator, model_validator

from services.apimachinery.client.connect import ServerSettings
from services.common.settings import ServiceSettings
from services.metalnet.agent.node import HEARTBEAT_SECONDS
from services.metalnet.agent.routes import SETTLE_SECONDS
from services.metalnet.model.devices import Device, tap_devices
from services.metalnet.model.names import LEASE_NAMESPACE
from services.metalnet.model.overlay import UnderlayAddress


class AgentSettings(ServiceSettings):
    """The agent of one hypervisor."""

    metalnet: ServerSettings = Field(description="the partition's metalnet API server")
    node_name: str = Field(default_factory=socket.gethostname, description="node whose interfaces are realised here")
    node_address: list[str] = Field([], description="IP address under which the node is reached; repeatable")
    node_lease_namespace: str = Field(LEASE_NAMESPACE, description="namespace of the Lease that says the agent lives")
    node_heartbeat: float = Field(HEARTBEAT_SECONDS, ge=0.25, description="seconds between renewals of that Lease")
    dp_service_address: str = Field("127.0.0.1:1337", description="the data plane: host:port or unix:/path")
    metalbond_peer: list[str] = Field([], description="a route reflector, host:port or [v6]:port; repeatable")
    public_vni: int = Field(100, ge=1, le=0xFFFFFF, description="VNI of public routes")
    router_address: str = Field("", description="underlay address of the default router while none is announced")
    enable_ipv6: bool = Field(False, description="carry IPv6 in overlay networks")
    tapdevice_mod: bool = Field(False, description="machines get TAP devices; required, there is no other kind yet")
    tap_prefix: str = Field("dtapvf_", description="TAPs are named PREFIX0, PREFIX1, ...")
    tap_count: int = Field(4, ge=1, le=1024, description="how many TAPs there are")
    metalnet_dir: str = Field("/var/lib/metalnet", description="directory of the device claims")
    route_settle: float = Field(
        SETTLE_SECONDS, ge=0, description="seconds after the first session until routes that nobody announced go"
    )
    audit_interval: float = Field(60.0, ge=1, description="seconds between comparisons of the data plane with the API")

    @field_validator("node_address")
    @classmethod
    def _addresses(cls, value: list[str]) -> list[str]:
        return [str(ip_address(address)) for address in value]

    @field_validator("router_address")
    @classmethod
    def _router(cls, value: str) -> str:
        return str(IPv6Address(value)) if value else ""

    @model_validator(mode="after")
    def _devices(self) -> AgentSettings:
        if not self.tapdevice_mod:
            raise ValueError("tapdevice-mod must be given: virtual functions are not supported yet")
        self.devices()
        return self

    def devices(self) -> list[Device]:
        """What machines can have. Raises ValueError."""
        return tap_devices(self.tap_prefix, self.tap_count)

    def router(self) -> UnderlayAddress | None:
        """The fixed default router."""
        return UnderlayAddress(IPv6Address(self.router_address)) if self.router_address else None
