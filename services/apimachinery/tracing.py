"""How a trace crosses the gap between a write and those who act on it later: the annotation `ferrite.dev/traceparent`.

A controller does not get a request: it sees an object, some time after it was written. The API server therefore leaves
the context of the write with the object, and reconcilers go on from there.

*Written by the server only*, when a traced request creates the object, changes what it wants (a new generation) or
asks for its deletion. So it costs no write of its own, and status reports, which are the bulk of writes, leave it
alone. What a client sends under this name is ignored: a manifest copied from elsewhere must not bring an old trace.

*Invisible to kubectl and apply*: it is put in after managedFields are made, so nobody owns it, no apply can prune it or
conflict over it; a replace without it gets it back before it is compared, so that an unchanged object stays unchanged;
a dry run (`kubectl diff`) shows the present one. It is not part of the spec: generation does not count it.

*Compatible*: an annotation in a domain of our own, which no controller of IronCore reads or copies. The value is a
plain W3C traceparent, so that a foreign controller may use it. It is not copied onto objects that are made on behalf of
this one: those are made by traced calls and get their own, whose parent is the call; thus the trace shows the way.

Only kinds with a status carry it, and only writes to them may begin a trace: controllers act on them. Leases, Events,
Secrets and heartbeats in a status would begin one every few seconds. An unsampled trace leaves none.

A reconciler joins the object's trace for `JOIN_SECONDS` after it first saw it. What it does later (a node came back, a
pool has room at last) begins a trace of its own with a link to the old one: else traces would grow for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import Message

from services.apimachinery.client.objects import Key, metadata_of
from services.common.telemetry_context import TraceContext, parse, traceparent

ANNOTATION: Final = "ferrite.dev/traceparent"
JOIN_SECONDS: Final = 300.0


def restore(metadata: dict[str, Any], kept: dict[str, Any]) -> None:
    """Gives `metadata` the annotation of `kept` and no other; both are JSON trees."""
    present = kept.get("annotations", {}).get(ANNOTATION)
    annotations = metadata.get("annotations")
    if present is not None:
        metadata["annotations"] = {**(annotations or {}), ANNOTATION: present}
    elif annotations and ANNOTATION in annotations:
        del annotations[ANNOTATION]
        if not annotations:
            del metadata["annotations"]


def stamp(metadata: dict[str, Any]) -> None:
    """Notes the running request, if it is traced, as the one that wants the object as it is now."""
    header = traceparent()
    if header:
        metadata["annotations"] = {**metadata.get("annotations", {}), ANNOTATION: header}


class Origins:
    """Which request each object of a reconciler goes back to, and since when we know it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[Key, tuple[str, float]] = {}

    def note(self, key: Key, obj: Message | None) -> None:
        """The object was seen; None: it is gone."""
        header = "" if obj is None else metadata_of(obj).annotations.get(ANNOTATION, "")
        self.note_header(key, header)

    def note_header(self, key: Key, header: str) -> None:
        """As `note`, for a record that is no API object."""
        known = self._known.get(key)
        if not header:
            self._known.pop(key, None)
        elif known is None or known[0] != header:
            self._known[key] = (header, self._clock())

    def of(self, key: Key) -> tuple[TraceContext | None, bool]:
        """The request, and whether it is recent enough to join its trace."""
        header, since = self._known.get(key, ("", 0.0))
        return parse(header), self._clock() - since < JOIN_SECONDS
