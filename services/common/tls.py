"""Certificates of a process: which files, and the contexts that gRPC and HTTP make of them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: the authority that signs peers, our certificate (with its chain) and our key."""

    ca: Path
    cert: Path
    key: Path

    def server_credentials(self, *, require_client: bool = True) -> grpc.ServerCredentials:
        """Credentials of a gRPC server; with `require_client` peers must show a certificate of our authority.

        Raises OSError for an unreadable file.
        """
        return grpc.ssl_server_credentials(
            [(self.key.read_bytes(), self.cert.read_bytes())],
            root_certificates=self.ca.read_bytes(),
            require_client_auth=require_client,
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Credentials of a gRPC channel. Raises OSError for an unreadable file."""
        return grpc.ssl_channel_credentials(self.ca.read_bytes(), self.key.read_bytes(), self.cert.read_bytes())

    def server_context(self, *, client: ssl.VerifyMode = ssl.CERT_OPTIONAL) -> ssl.SSLContext:
        """Context of an HTTPS server that asks clients for certificates of our authority."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.cert, self.key)
        context.verify_mode = client
        return context

    def client_context(self) -> ssl.SSLContext:
        """Context of an HTTPS client that trusts only our authority."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.cert, self.key)
        return context


def tls_files(ca: str, cert: str, key: str) -> TlsFiles | None:
    """The files of three settings; None when all are empty. Raises ValueError when only some are given."""
    given = [bool(value) for value in (ca, cert, key)]
    if not any(given):
        return None
    if not all(given):
        raise ValueError("tls-ca, tls-cert and tls-key go together: all of them or none")
    return TlsFiles(Path(ca), Path(cert), Path(key))
