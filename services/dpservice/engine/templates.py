"""The table of answers that are made beforehand for each port."""

from __future__ import annotations

from services.dpservice.engine.codec import Codec
from services.dpservice.engine.libbpf import Map
from services.dpservice.guest.templates import Template, Templates
from services.dpservice.model.rows import PortNumber


class TemplateTable:
    """Every call raises OSError."""

    def __init__(self, table: Map, codec: Codec) -> None:
        self._table = table
        self._key, self._value = codec.layouts["template_key"], codec.layouts["template"]

    def put(self, port: PortNumber, wanted: Templates) -> None:
        """Sets all answers of a port; those of kinds that are not named go."""
        frames = dict(wanted)
        for kind in Template:
            if kind in frames:
                raw = self._value.pack(length=len(frames[kind]), frame=frames[kind])
                self._table.put(self._key.pack(port=port, kind=kind), raw)
            else:
                self._table.remove(self._key.pack(port=port, kind=kind))

    def of(self, port: PortNumber) -> Templates:
        """The answers of a port, in the order of their kinds."""
        found = []
        for kind in Template:
            raw = self._table.get(self._key.pack(port=port, kind=kind))
            if raw is not None:
                found.append((kind, self._value.bytes(raw, "frame")[: self._value.number(raw, "length")]))
        return tuple(found)
