"""Settings of `ferrite ceph-provider serve`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pydantic import Field, field_validator, model_validator

from services.common.settings import ServiceSettings

HOST_PORT: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:,\s]+):([0-9]{1,5})")
KEK_BYTES: Final = 32
"""AES-256."""


class Settings(ServiceSettings):
    """One provider per pool; several may share it."""

    listen: str = Field(
        "unix:/var/run/iri-volumeprovider.sock", description="where VolumeRuntime is served: unix:/path (mode 0600)"
    )
    supported_volume_classes: Path = Field(
        ..., description="YAML or JSON file: a list of objects with name and capabilities (tps, iops)"
    )
    ceph_monitors: str = Field(
        ..., description="monitors as host:port or [v6]:port, separated by commas; consumers of volumes get them, too"
    )
    ceph_user: str = Field(..., description="the provider's cephx user, without client.")
    ceph_key_file: Path | None = Field(None, description="file with the user's key")
    ceph_keyring_file: Path | None = Field(None, description="keyring with the user's key, instead of a key file")
    ceph_pool: str = Field(..., description="the pool of images and records")
    ceph_kek_path: Path | None = Field(
        None, description="file of 32 bytes that seals the passphrases of encrypted volumes"
    )
    ceph_connect_timeout: float = Field(10.0, gt=0, le=300, description="seconds that one try to connect may take")
    worker_size: int = Field(15, ge=1, le=256, description="volumes that are worked on at the same time")

    @field_validator("ceph_monitors")
    @classmethod
    def _monitors(cls, value: str) -> str:
        for entry in value.split(","):
            match = HOST_PORT.fullmatch(entry)
            if match is None or not 0 < int(match[2]) < 65536:
                raise ValueError(f"{entry!r} is not host:port or [v6]:port")
        return value

    @field_validator("ceph_user")
    @classmethod
    def _user(cls, value: str) -> str:
        if not value or value.startswith("client."):
            raise ValueError("must be the user's name without client.")
        return value

    @field_validator("ceph_pool")
    @classmethod
    def _pool(cls, value: str) -> str:
        # It becomes part of capabilities and of "pool/image".
        if not re.fullmatch(r"[A-Za-z0-9._-]+", value):
            raise ValueError("must be letters, digits, '.', '_', '-'")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if not self.listen.startswith("unix:"):
            raise ValueError("listen: must be unix:/path; possession of the socket is the authority")
        if self.ceph_key_file is None and self.ceph_keyring_file is None:
            raise ValueError("ceph-key-file or ceph-keyring-file must be given")
        return self


def read_key(path: Path) -> str:
    """The key in a key file. Raises OSError, or ValueError for a file without a key."""
    return _checked(path.read_text().strip())


def read_keyring(path: Path) -> str:
    """The first key of a keyring. Raises OSError, or ValueError for a file without a key."""
    for line in path.read_text().splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "key":
            return _checked(value.strip())
    return _checked("")


def check_kek(path: Path) -> None:
    """Raises OSError, or ValueError when the file is no key-encryption key."""
    size = len(path.read_bytes())
    if size != KEK_BYTES:
        raise ValueError(f"holds {size} bytes, not {KEK_BYTES}")


def _checked(key: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", key):
        raise ValueError("holds no key of a cephx user")
    return key
