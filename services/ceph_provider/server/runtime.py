"""The runtime itself: version, classes and capacity, events; and the servicer made of all parts.

Snapshots are not offered: the generated base class answers their calls with UNIMPLEMENTED.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from protos.iri.volume.v1alpha1 import volume_pb2 as pb
from protos.iri.volume.v1alpha1 import volume_pb2_grpc
from services.ceph_provider.cluster import CephLost
from services.ceph_provider.server.answers import Calls, answers
from services.ceph_provider.server.volumes import VolumeCalls

# Clients make it the type part of a volume's id; it is the name that the original answers.
RUNTIME_NAME = "ceph-provider"


class RuntimeCalls(Calls):
    """Calls that are not about one volume."""

    async def Version(self, request: pb.VersionRequest, context: Any) -> pb.VersionResponse:
        """Name and semantic version; the client's own version does not matter."""
        try:
            release = version("ferrite")
        except PackageNotFoundError:
            release = "0.0.0"
        return pb.VersionResponse(runtime_name=RUNTIME_NAME, runtime_version=release)

    @answers
    async def Status(self, request: pb.StatusRequest, context: Any) -> pb.StatusResponse:
        """Every class with the bytes that the whole pool holds: volumes are thin, and all classes share them."""
        quantity = await self._pool_bytes()
        answer = pb.StatusResponse()
        for each in self.classes.values():
            status = answer.volume_class_status.add(quantity=quantity)
            status.volume_class.name = each.name
            status.volume_class.capabilities.tps = each.tps
            status.volume_class.capabilities.iops = each.iops
        return answer

    async def ListEvents(self, request: pb.ListEventsRequest, context: Any) -> pb.ListEventsResponse:
        """What happened lately, oldest first."""
        return pb.ListEventsResponse(events=self.recorder.select(request.filter))

    async def _pool_bytes(self) -> int:
        """What the pool has stored and what it may still take."""
        pool = self.cluster.address.pool
        for each in (await self.cluster.command("df"))["pools"]:
            if each["name"] == pool:
                return int(each["stats"]["max_avail"] + each["stats"]["stored"])
        raise CephLost(f"df: the monitors know no figures of pool {pool!r} yet")


class VolumeRuntime(VolumeCalls, RuntimeCalls, volume_pb2_grpc.VolumeRuntimeServicer):
    """volume.v1alpha1.VolumeRuntime."""
