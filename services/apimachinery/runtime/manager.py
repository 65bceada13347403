"""The parts of a controller process that share one API server: informers, reconcilers, leadership.

manager = Manager(client)
manager.add(MachineScheduler(manager))
manager.add(VolumeScheduler(manager))
await manager.run()
"""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.message import Message

from services.apimachinery.client.interface import Client
from services.apimachinery.client.objects import M
from services.apimachinery.runtime.informer import Informer
from services.apimachinery.runtime.leader import LeaderElection
from services.apimachinery.runtime.reconciler import Reconciler
from services.apimachinery.runtime.recorder import EventRecorder


class Manager:
    """Runs reconcilers over shared informers; with `leader` they work only while this process leads."""

    def __init__(self, client: Client, *, leader: LeaderElection | None = None) -> None:
        self.client = client
        self._leader = leader
        self._informers: dict[tuple[type[Message], str, str, str], Informer[Any]] = {}
        self._reconcilers: list[Reconciler] = []
        self._recorders: list[EventRecorder] = []
        self._group: asyncio.TaskGroup | None = None

    def informer(self, kind: type[M], namespace: str = "", *, labels: str = "", fields: str = "") -> Informer[M]:
        """The informer of these objects, one for all who ask; started by `run`, or at once while that runs."""
        selection = (kind, namespace, labels, fields)
        informer = self._informers.get(selection)
        if informer is None:
            informer = self._informers[selection] = Informer(self.client, kind, namespace, labels=labels, fields=fields)
            if self._group is not None:
                self._start(self._group, informer)
        return informer

    def recorder(self, controller: str) -> EventRecorder:
        """A recorder of events in the name of `controller`; started by `run`. Before `run`."""
        recorder = EventRecorder(self.client, controller)
        self._recorders.append(recorder)
        return recorder

    def add(self, reconciler: Reconciler) -> None:
        """Adds a reconciler; before `run`."""
        self._reconcilers.append(reconciler)

    @property
    def is_synced(self) -> bool:
        """Whether every informer has its first list: the process is ready."""
        return all(informer.is_synced for informer in self._informers.values())

    async def run(self) -> None:
        """Runs everything until cancelled. Informers stay warm on processes that don't lead."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for informer in self._informers.values():
                    self._start(group, informer)
                for recorder in self._recorders:
                    group.create_task(recorder.run(), name="events")
                if self._leader is None:
                    await self._reconcile()
                else:
                    await self._leader.run(self._reconcile)
            finally:
                self._group = None

    async def _reconcile(self) -> None:
        async with asyncio.TaskGroup() as group:
            for reconciler in self._reconcilers:
                group.create_task(reconciler.run(), name=reconciler.name)

    @staticmethod
    def _start(group: asyncio.TaskGroup, informer: Informer[Any]) -> None:
        group.create_task(informer.run(), name=f"informer-{informer.kind.DESCRIPTOR.name}")
