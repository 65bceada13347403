"""Firewall rules of interfaces. A direction without rules accepts; once it has one, what no rule matches is dropped."""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.dpservice.model.changes import AnyChange, Change
from services.dpservice.model.concern import Concern
from services.dpservice.model.errors import AlreadyExists, DropUnsupported, NotFound, OutOfMemory
from services.dpservice.model.keys import FirewallKey
from services.dpservice.model.rows import FirewallRule, InterfaceId, RuleId


@dataclass(frozen=True)
class NewRule:
    """A readable rule; its place among the others is not known yet."""

    id: RuleId
    rule: FirewallRule


class Firewall(Concern):
    """Get, List, Create and Delete. All raise InterfaceUnknown 205."""

    def rules(self, interface_id: InterfaceId) -> list[tuple[RuleId, FirewallRule]]:
        """In the order in which they came."""
        self._owner(interface_id)
        return sorted(self.tables.rules.get(interface_id, {}).items(), key=lambda named: named[1].order)

    def rule(self, interface_id: InterfaceId, rule_id: RuleId) -> FirewallRule:
        """Raises NotFound 201."""
        self._owner(interface_id)
        found = self.tables.rules.get(interface_id, {}).get(rule_id)
        if found is None:
            raise NotFound(f"interface {interface_id} has no rule {rule_id}")
        return found

    def create_rule(self, interface_id: InterfaceId, new: NewRule) -> list[AnyChange]:
        """Raises AlreadyExists 202, DropUnsupported 441, OutOfMemory 208."""
        self._owner(interface_id)
        present = self.tables.rules.get(interface_id, {})
        if new.id in present:
            raise AlreadyExists(f"interface {interface_id} has a rule {new.id}")
        if self.accept_only and not new.rule.accept:
            raise DropUnsupported("rules are not enforced")
        if sum(rule.direction is new.rule.direction for rule in present.values()) >= self.limits.rules:
            raise OutOfMemory(f"interface {interface_id} has {self.limits.rules} rules")
        order = 1 + max((rule.order for rule in present.values()), default=-1)
        return self._commit([Change(FirewallKey(interface_id, new.id), None, replace(new.rule, order=order))])

    def delete_rule(self, interface_id: InterfaceId, rule_id: RuleId) -> list[AnyChange]:
        """Raises NotFound 201."""
        rule = self.rule(interface_id, rule_id)
        return self._commit([Change(FirewallKey(interface_id, rule_id), rule, None)])
