"""Each event of the runtime reaches its object once, whatever the windows in which it is listed."""

from __future__ import annotations

from protos.iri.event.v1alpha1.event_pb2 import Event
from services.core.poollets.relay import OVERLAP, EventRelay


class Runtime:
    """Lists what lies in a window, both ends included, as IRI does."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, at: int, reason: str) -> None:
        event = Event()
        event.spec.event_time, event.spec.reason = at, reason
        self.events.append(event)

    async def window(self, since: int, until: int) -> list[Event]:
        return [event for event in self.events if since <= event.spec.event_time <= until]


def relay_of(runtime: Runtime, start: int) -> tuple[EventRelay, list[str]]:
    said: list[str] = []
    relay = EventRelay(runtime.window, lambda event: said.append(event.spec.reason))
    relay._until = start
    return relay, said


async def test_an_event_is_published_once() -> None:
    runtime = Runtime()
    relay, said = relay_of(runtime, 100)
    runtime.add(101, "Started")
    for now in (101, 102, 104, 110, 130):
        await relay.turn(now)
    assert said == ["Started"]


async def test_an_event_that_is_listed_late_is_not_lost() -> None:
    runtime = Runtime()
    relay, said = relay_of(runtime, 100)
    await relay.turn(103)
    runtime.add(103 - OVERLAP + 1, "Late")
    await relay.turn(106)
    assert said == ["Late"]


async def test_events_of_a_time_without_answers_are_fetched_later() -> None:
    runtime = Runtime()
    relay, said = relay_of(runtime, 100)
    runtime.add(120, "Unseen")
    await relay.turn(200)
    assert said == ["Unseen"]


async def test_the_same_again_later_is_another_event() -> None:
    runtime = Runtime()
    relay, said = relay_of(runtime, 100)
    for at in (101, 140):
        runtime.add(at, "Restarted")
        await relay.turn(at)
    assert said == ["Restarted", "Restarted"]
