from __future__ import annotations

import asyncio
from typing import TypeVar

import pytest
from google.protobuf.message import Message

from protos.k8s.core.v1.secret_pb2 import Secret
from protos.k8s.events.v1.event_pb2 import Event
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.errors import Forbidden
from services.apimachinery.runtime.recorder import NOTE_LIMIT, EventRecorder
from tests.support.eventually import eventually
from tests.support.memory_client import MemoryClient

M = TypeVar("M", bound=Message)


async def stored(client: MemoryClient) -> Secret:
    return await client.create(Secret(metadata=ObjectMeta(namespace="default", name="s")))


async def events(client: MemoryClient) -> list[Event]:
    return (await client.list(Event, "default")).items


async def test_an_event_says_who_did_what_to_which_object_and_counts_repetitions() -> None:
    client = MemoryClient()
    obj = await stored(client)
    recorder = EventRecorder(client, "scheduler", "scheduler-host")
    for _ in range(3):
        recorder.event(obj, "Warning", "NoPool", "no pool fits", action="Schedule")
        await recorder.flush()
    (event,) = await events(client)
    assert (event.type, event.reason, event.note, event.action) == ("Warning", "NoPool", "no pool fits", "Schedule")
    assert (event.reporting_controller, event.reporting_instance) == ("scheduler", "scheduler-host")
    assert (event.regarding.kind, event.regarding.api_version, event.regarding.name) == ("Secret", "v1", "s")
    assert event.regarding.uid == obj.metadata.uid
    assert event.metadata.name.startswith("s.")
    assert event.series.count == 2  # the third is written later, with those that follow
    assert event.series.last_observed_time.seconds >= event.event_time.seconds > 0


async def test_an_event_that_expired_is_created_again_with_its_count() -> None:
    client = MemoryClient()
    recorder = EventRecorder(client, "scheduler")
    obj = await stored(client)
    recorder.event(obj, "Normal", "Scheduled", "chose p1")
    await recorder.flush()
    await client.delete(Event, (await events(client))[0].metadata.name, "default")
    recorder.event(obj, "Normal", "Scheduled", "chose p1")
    await recorder.flush()
    await recorder.flush()
    (event,) = await events(client)
    assert (event.action, event.series.count) == ("Scheduled", 2)


async def test_events_outlast_an_outage() -> None:
    client = MemoryClient()
    recorder = EventRecorder(client, "scheduler")
    obj = await stored(client)
    task = asyncio.create_task(recorder.run())
    client.server.reachable = False
    recorder.event(obj, "Normal", "Scheduled", "chose p1")
    await asyncio.sleep(0.05)
    client.server.reachable = True
    await eventually(lambda: events(client))
    task.cancel()
    await asyncio.wait([task])


async def test_a_refused_event_does_not_hold_up_the_others() -> None:
    class Choosy(MemoryClient):
        async def create(self, obj: M) -> M:
            if isinstance(obj, Event) and obj.reason == "Bad":
                raise Forbidden("not you")
            return await super().create(obj)

    client = Choosy()
    recorder = EventRecorder(client, "scheduler")
    obj = await stored(client)
    recorder.event(obj, "Normal", "Bad", "a")
    recorder.event(obj, "Normal", "Good", "b")
    await recorder.flush()
    assert [event.reason for event in await events(client)] == ["Good"]


async def test_long_notes_are_cut_at_a_character() -> None:
    client = MemoryClient()
    recorder = EventRecorder(client, "scheduler")
    recorder.event(await stored(client), "Normal", "Long", "é" * NOTE_LIMIT)
    await recorder.flush()
    assert (await events(client))[0].note == "é" * (NOTE_LIMIT // 2)


async def test_an_unknown_type_is_refused() -> None:
    client = MemoryClient()
    with pytest.raises(ValueError, match="'Error' is not Normal or Warning"):
        EventRecorder(client, "scheduler").event(await stored(client), "Error", "R", "m")
