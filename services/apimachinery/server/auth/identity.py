"""Callers: a user with groups, taken from the client certificate that the transport has verified."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Protocol

from cryptography import x509
from cryptography.x509.oid import NameOID

AUTHENTICATED: Final = "system:authenticated"
UNAUTHENTICATED: Final = "system:unauthenticated"
MASTERS: Final = "system:masters"  # may do everything, as in Kubernetes


@dataclass(frozen=True)
class User:
    """Who calls; names and groups as Kubernetes RBAC subjects know them."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)


ANONYMOUS: Final = User("system:anonymous", (UNAUTHENTICATED,))
# The server's own controllers, in process.
SYSTEM: Final = User("system:apiserver", (MASTERS, AUTHENTICATED))


class TokenAuthenticator(Protocol):
    """Turns a bearer token into a user."""

    async def user(self, token: str) -> User | None:
        """The token's user, or None when it is not valid."""
        ...


def certificate_user(name: str, groups: Iterable[str]) -> User:
    """The user of a verified certificate: its common name, its organisations as groups."""
    return User(name, (*groups, AUTHENTICATED))


def user_of_peer(certificate: Mapping[str, Any] | None) -> User | None:
    """The user of `ssl.SSLSocket.getpeercert()`; None without a certificate or common name."""
    if not certificate:
        return None
    pairs = [pair for relative in certificate.get("subject", ()) for pair in relative]
    name = next((value for key, value in pairs if key == "commonName"), "")
    return certificate_user(name, [value for key, value in pairs if key == "organizationName"]) if name else None


@lru_cache(maxsize=1024)
def user_of_pem(pem: bytes) -> User | None:
    """The user of a PEM certificate that the transport has verified; None without a common name."""
    subject = x509.load_pem_x509_certificate(pem).subject
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not names:
        return None
    organisations = subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return certificate_user(str(names[0].value), [str(item.value) for item in organisations])
