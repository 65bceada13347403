"""The identity of a network or interface as it travels through the core API's `spec.providerID`.

ironcore-net://<namespace>/<name>/<VNI>/<uid>     of a Network
ironcore-net://<namespace>/<name>/<node>/<uid>    of a NetworkInterface
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SCHEME: Final = "ironcore-net://"


@dataclass(frozen=True)
class ProviderId:
    """Names an object of the net API; `detail` is a network's VNI or an interface's node."""

    namespace: str
    name: str
    detail: str
    uid: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.namespace}/{self.name}/{self.detail}/{self.uid}"

    @classmethod
    def parse(cls, text: str) -> ProviderId:
        """Raises ValueError for another scheme or another number of parts."""
        parts = text.removeprefix(SCHEME).split("/")
        if not text.startswith(SCHEME) or len(parts) != 4 or not all(parts):
            raise ValueError(f"provider id {text!r} is not {SCHEME}namespace/name/detail/uid")
        return cls(*parts)


def uid_in(text: str) -> str:
    """The uid of a provider id, or "" where the text is none."""
    parsed = _parsed(text)
    return parsed.uid if parsed is not None else ""


def vni_in(text: str) -> str:
    """The VNI of a network's provider id, or "" where the text is none."""
    parsed = _parsed(text)
    return parsed.detail if parsed is not None else ""


def _parsed(text: str) -> ProviderId | None:
    try:
        return ProviderId.parse(text)
    except ValueError:
        return None
