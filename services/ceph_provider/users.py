"""The cephx user of each volume: its credentials open this volume's image and no other."""

from __future__ import annotations

import errno

from services.ceph_provider.cluster import CephError, Cluster
from services.ceph_provider.model.caps import volume_caps
from services.ceph_provider.model.names import user_id


class Users:
    """Users of volumes in the pool."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def ensure(self, volume_id: str, rbd_id: str) -> str:
        """Makes the user, or gives the present one the capabilities it should have; returns its key."""
        entity = f"client.{user_id(volume_id)}"
        caps = volume_caps(self._cluster.address.pool, volume_id, rbd_id)
        try:
            answer = await self._cluster.command("auth get-or-create", entity=entity, caps=caps)
            return str(answer[0]["key"])
        except CephError as error:
            if error.code != errno.EINVAL:  # what the monitors answer when it has other capabilities
                raise
        await self._cluster.command("auth caps", entity=entity, caps=caps)
        return str((await self._cluster.command("auth get-key", entity=entity))["key"])

    async def remove(self, volume_id: str) -> None:
        """Removes the user; one that does not exist is fine, for the monitors too."""
        await self._cluster.command("auth del", entity=f"client.{user_id(volume_id)}")
