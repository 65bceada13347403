"""What the bytes of a stored object mean.

A stored value is one byte that names the codec, one byte with the codec's version, and the payload:

    p 1  the kind's protobuf message, wire format
    j 1  JSON, for kinds without a descriptor
    e 1  AES-256-GCM: key name (length byte + UTF-8), 12 bytes nonce, ciphertext of a whole stored value; the etcd key
         is authenticated with it, so that a ciphertext can't be moved to another object

Values never contain metadata.resourceVersion: it is the key's mod revision.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PROTO, JSON, ENCRYPTED = b"p", b"j", b"e"
VERSION = 1
_NONCE_BYTES = 12  # NIST SP 800-38D 8.2: a 96-bit nonce
_KEY_BYTES = 32


class Unreadable(Exception):
    """A stored value that this version can't read: unknown codec or version, or a missing key. Never shows content."""


def pack(codec: bytes, payload: bytes) -> bytes:
    """Tags a payload."""
    return codec + bytes([VERSION]) + payload


def unpack(value: bytes) -> tuple[bytes, bytes]:
    """Codec and payload. Raises Unreadable."""
    if len(value) < 2 or value[:1] not in (PROTO, JSON, ENCRYPTED) or value[1] != VERSION:
        raise Unreadable(f"stored value begins with {value[:2]!r}: no codec of this version")
    return value[:1], value[2:]


class Encryption:
    """Seals and opens values at rest with named keys; the first one seals, all of them open (rotation)."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        if not keys:
            raise ValueError("no encryption key is given")
        for name, key in keys.items():
            if len(key) != _KEY_BYTES:
                raise ValueError(f"encryption key {name!r} has {len(key)} bytes; AES-256 needs {_KEY_BYTES}")
            if not 0 < len(name.encode()) < 256:
                raise ValueError("the name of an encryption key must have 1 to 255 bytes")
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self._first = next(iter(keys))

    @classmethod
    def read(cls, path: Path) -> Encryption:
        """Keys from a file with lines `name:base64`. Raises OSError, ValueError (which shows no key)."""
        keys: dict[str, bytes] = {}
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            name, colon, text = line.partition(":")
            try:
                keys[name.strip()] = base64.b64decode(text.strip(), validate=True)
            except ValueError:
                colon = ""
            if not colon:
                raise ValueError(f"{path}, line {number}: want name:base64 of {_KEY_BYTES} bytes")
        return cls(keys)

    def seal(self, value: bytes, key: bytes) -> bytes:
        """Encrypts a stored value for the etcd key `key`."""
        name, nonce = self._first.encode(), os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._first].encrypt(nonce, value, key)
        return pack(ENCRYPTED, bytes([len(name)]) + name + nonce + sealed)

    def open(self, value: bytes, key: bytes) -> bytes:
        """Decrypts what `seal` made; other values pass, so that encryption can be switched on. Raises Unreadable."""
        if value[:1] != ENCRYPTED:
            return value
        _, payload = unpack(value)
        end = 1 + payload[0] if payload else 1
        name, nonce = payload[1:end].decode(errors="replace"), payload[end : end + _NONCE_BYTES]
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise Unreadable(f"{key.decode()} is encrypted with key {name!r}, which the key file does not have")
        try:
            return cipher.decrypt(nonce, payload[end + _NONCE_BYTES :], key)
        except (InvalidTag, ValueError):
            raise Unreadable(f"{key.decode()} can't be decrypted with key {name!r}") from None
