"""Firewall rules: lists that are replaced as a whole, so that no packet sees half of one."""

from __future__ import annotations

from services.dpservice.engine import libbpf
from services.dpservice.engine.codec import Codec, u32
from services.dpservice.model.changes import Rows
from services.dpservice.model.keys import RulesKey
from services.dpservice.model.packet_rows import PacketRule, Rules
from services.dpservice.model.rows import Direction, PortNumber


class RuleLists:
    """A list has a number of its own; a port's direction names the one that counts."""

    def __init__(self, loaded: libbpf.Object, codec: Codec) -> None:
        self._rules, self._lists, self._codec = loaded.map("rules"), loaded.map("rule_lists"), codec
        self._held: dict[RulesKey, tuple[int, Rules]] = {}
        self._next = 1
        self._read()

    def change(self, key: RulesKey, rules: Rules | None) -> None:
        """Puts another list in place of a port's, or with None takes it away. Raises OSError."""
        old = self._held.get(key)
        number, self._next = self._next, self._next + 1
        wanted = rules.rules if rules is not None else ()
        keys = b"".join(self._codec.rule_key(number, index) for index in range(len(wanted)))
        try:
            self._rules.put_many(keys, b"".join(self._codec.rule(rule) for rule in wanted))
        except OSError:
            self._rules.remove_many(keys)
            raise
        entry = self._codec.layouts["rule_list"].pack(list=number, count=len(wanted))
        self._lists.put(u32(2 * key.port + key.direction), entry)
        if old is not None:
            gone = range(len(old[1].rules))
            self._rules.remove_many(b"".join(self._codec.rule_key(old[0], index) for index in gone))
        self._held.pop(key, None)
        if rules is not None:
            self._held[key] = number, rules

    def rows(self) -> Rows:
        """All lists."""
        return {key: rules for key, (_, rules) in self._held.items()}

    def forget(self) -> None:
        """The maps have been emptied."""
        self._held.clear()

    def _read(self) -> None:
        """A process that died in the middle may have left rules of no list, and a list without its rules."""
        rules: dict[int, dict[int, PacketRule]] = {}
        names, lists = self._codec.layouts["rule_key"], self._codec.layouts["rule_list"]
        for key, raw in self._rules.items():
            self._next = max(self._next, names.number(key, "list") + 1)
            rules.setdefault(names.number(key, "list"), {})[names.number(key, "index")] = self._codec.read_rule(raw)
        for index, raw in enumerate(self._lists.values()):
            number, count = lists.number(raw, "list"), lists.number(raw, "count")
            self._next = max(self._next, number + 1)
            if count:
                present = rules.pop(number, {})
                found = tuple(present[place] for place in sorted(present) if place < count)
                self._held[RulesKey(PortNumber(index // 2), Direction(index % 2))] = number, Rules(found)
        for number, left in rules.items():
            self._rules.remove_many(b"".join(self._codec.rule_key(number, place) for place in left))
