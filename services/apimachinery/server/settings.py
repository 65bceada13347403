"""Settings that all API servers share; a service adds its own in a subclass."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from services.apimachinery.store.etcd import EtcdSettings
from services.common.addresses import split_address
from services.common.settings import ServiceSettings
from services.common.tls import TlsFiles, tls_files


class ApiServerSettings(ServiceSettings):
    """An API server on etcd."""

    https_listen: str = Field("127.0.0.1:6443", description="address of the REST API, host:port; port 0 = any")
    grpc_listen: str = Field("127.0.0.1:6444", description="address of the gRPC API, host:port; port 0 = any")
    tls_ca: str = Field("", description="PEM file: authority that signs clients' certificates")
    tls_cert: str = Field("", description="PEM file: the server's certificate with its chain")
    tls_key: str = Field("", description="PEM file: the server's key")
    insecure: bool = Field(False, description="serve without TLS, every caller as administrator; for tests only")
    etcd_endpoints: str = Field("127.0.0.1:2379", description="etcd's client addresses, host:port, comma-separated")
    etcd_prefix: str = Field("/ferrite", description="what all keys of this server start with; one server, one prefix")
    etcd_ca: str = Field("", description="PEM file: authority that signs etcd's certificate; empty = plaintext")
    etcd_cert: str = Field("", description="PEM file: client certificate for etcd")
    etcd_key: str = Field("", description="PEM file: key of the client certificate for etcd")
    encryption_key_file: str = Field(
        "", description="keys that encrypt Secrets at rest, lines name:base64 (32 bytes), the first one encrypts"
    )
    compaction_interval: int = Field(300, description="seconds between compactions of etcd; 0 = never", ge=0)
    compaction_keep: int = Field(600, description="seconds of history that a compaction leaves", ge=0)

    @field_validator("https_listen", "grpc_listen")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if not split_address(value)[0]:
            raise ValueError(f"{value!r}: a host is required")
        return value

    @field_validator("etcd_prefix")
    @classmethod
    def _is_prefix(cls, value: str) -> str:
        if not value.startswith("/") or value.endswith("/"):
            raise ValueError(f"{value!r} must start with a slash and not end with one")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.server_tls()
        self.etcd()
        return self

    def server_tls(self) -> TlsFiles | None:
        """The server's certificate. ValueError without one, unless `insecure` says so."""
        tls = tls_files(self.tls_ca, self.tls_cert, self.tls_key)
        if tls is None and not self.insecure:
            raise ValueError("tls-ca, tls-cert and tls-key are required (or --insecure, for tests)")
        return tls

    def etcd(self) -> EtcdSettings:
        """How etcd is reached. ValueError for an incomplete certificate."""
        endpoints = tuple(part.strip() for part in self.etcd_endpoints.split(",") if part.strip())
        if not endpoints:
            raise ValueError("etcd-endpoints must name at least one host:port")
        if not (self.etcd_ca or self.etcd_cert or self.etcd_key):
            return EtcdSettings(endpoints)
        tls = tls_files(self.etcd_ca, self.etcd_cert, self.etcd_key)
        return EtcdSettings(endpoints, tls)

    def encryption_keys(self) -> Path | None:
        """The key file, if there is one."""
        return Path(self.encryption_key_file) if self.encryption_key_file else None
