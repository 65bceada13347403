"""A client from settings.

class Settings(ServiceSettings):
    core: ServerSettings = Field(default_factory=ServerSettings, description="the core API server")

client = connect(settings.core, manager="machinepoollet")      # --core.address, --core.tls-ca, ... or --core.kubeconfig
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.apimachinery.client.grpc import GrpcClient
from services.apimachinery.client.interface import Client
from services.common.tls import TlsFiles, tls_files


class ServerSettings(BaseModel):
    """How a process reaches one API server: over gRPC by `address`, or over REST by `kubeconfig`."""

    model_config = ConfigDict(extra="forbid")

    address: str = Field("", description="host:port of the API server's gRPC door")
    tls_ca: str = Field("", description="PEM file of the authority that signed the server's certificate")
    tls_cert: str = Field("", description="PEM file of our client certificate")
    tls_key: str = Field("", description="PEM file of its key")
    server_name: str = Field("", description="name expected in the server's certificate instead of the host")
    insecure: bool = Field(False, description="allow gRPC without TLS")
    kubeconfig: str = Field("", description="kubeconfig file; use the REST door of any Kubernetes API server")
    context: str = Field("", description="context of the kubeconfig; empty = the current one")

    @model_validator(mode="after")
    def _one_door(self) -> ServerSettings:
        if bool(self.address) == bool(self.kubeconfig):
            raise ValueError("give either address (gRPC) or kubeconfig (REST)")
        files = tls_files(self.tls_ca, self.tls_cert, self.tls_key)
        if self.address and files is None and not self.insecure:
            raise ValueError("tls-ca, tls-cert and tls-key are missing (or set insecure)")
        return self

    @property
    def tls(self) -> TlsFiles | None:
        """The certificates of the gRPC door; None without TLS."""
        return tls_files(self.tls_ca, self.tls_cert, self.tls_key)


def connect(settings: ServerSettings, *, manager: str) -> Client:
    """A client; no request is made yet. `manager` names us as the writer of fields.

    Raises KubeconfigError (a ValueError) or OSError for unusable files.
    """
    if settings.kubeconfig:
        # Loaded when needed: an HTTP library that most processes never use takes half a second of their start.
        from services.apimachinery.client import kubeconfig
        from services.apimachinery.client.rest import RestClient

        return RestClient(kubeconfig.read(Path(settings.kubeconfig), settings.context), manager=manager)
    return GrpcClient(settings.address, tls=settings.tls, server_name=settings.server_name, manager=manager)
