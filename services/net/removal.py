"""Deleting objects in another API that finalizers may hold."""

from __future__ import annotations

from typing import Final

from services.apimachinery.client.interface import Client, M
from services.apimachinery.errors import NotFound

RECHECK_SECONDS: Final = 10.0
"""Between looks at an object that is being deleted. Its disappearance wakes us earlier, unless a watch had a gap in
which the object came and went."""


async def removed(client: Client, kind: type[M], name: str, namespace: str = "", *, uid: str = "") -> bool:
    """Asks for the deletion; True when the object is gone, False while finalizers hold it."""
    try:
        await client.delete(kind, name, namespace, uid=uid)
        await client.get(kind, name, namespace)
    except NotFound:
        return True
    return False
