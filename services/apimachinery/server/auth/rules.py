"""RBAC rules as pure data: what a role grants, and to whom a binding gives it (rbac.authorization.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.apimachinery.server.auth.authorizer import Attributes
from services.apimachinery.server.auth.identity import User

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """One PolicyRule; "*" stands for everything, "*/status" for that subresource of any resource."""

    verbs: frozenset[str]
    groups: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()

    @classmethod
    def of(cls, tree: Tree) -> Rule:
        """From a rule's JSON."""
        return cls(
            frozenset(tree.get("verbs", ())),
            frozenset(tree.get("apiGroups", ())),
            frozenset(tree.get("resources", ())),
            frozenset(tree.get("resourceNames", ())),
            frozenset(tree.get("nonResourceURLs", ())),
        )

    def tree(self) -> dict[str, Any]:
        """The rule's JSON."""
        members = {
            "verbs": self.verbs,
            "apiGroups": self.groups,
            "resources": self.resources,
            "resourceNames": self.names,
            "nonResourceURLs": self.paths,
        }
        return {name: sorted(values) for name, values in members.items() if values}

    def grants(self, what: Attributes) -> bool:
        """Whether this rule alone allows it."""
        if what.verb not in self.verbs and "*" not in self.verbs:
            return False
        if what.path:
            return any(_path_matches(path, what.path) for path in self.paths)
        if what.group not in self.groups and "*" not in self.groups:
            return False
        asked = f"{what.resource}/{what.subresource}" if what.subresource else what.resource
        wildcard = {"*", f"*/{what.subresource}"} if what.subresource else {"*"}
        if asked not in self.resources and not wildcard & self.resources:
            return False
        return not self.names or what.name in self.names


def _path_matches(pattern: str, path: str) -> bool:
    return pattern == path or (pattern.endswith("*") and path.startswith(pattern[:-1]))


@dataclass
class Policy:
    """All roles and bindings, indexed by subject."""

    # subject ("user:bob") -> (namespace of the grant, "" = everywhere; rules; why)
    grants: dict[str, list[tuple[str, Sequence[Rule], str]]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        cluster_roles: Iterable[Tree],
        cluster_bindings: Iterable[Tree],
        roles: Iterable[Tree],
        bindings: Iterable[Tree],
    ) -> Policy:
        """From stored objects; a binding to a missing role grants nothing."""
        known: dict[tuple[str, str], list[Rule]] = {}
        for role in (*cluster_roles, *roles):
            place = (role["metadata"].get("namespace", ""), role["metadata"]["name"])
            known[place] = [Rule.of(rule) for rule in role.get("rules") or ()]
        policy = cls()
        for binding in (*cluster_bindings, *bindings):
            policy._add(binding, known)
        return policy

    def _add(self, binding: Tree, known: Mapping[tuple[str, str], list[Rule]]) -> None:
        namespace = binding["metadata"].get("namespace", "")
        reference = binding.get("roleRef") or {}
        place = (namespace if reference.get("kind") == "Role" else "", reference.get("name", ""))
        rules = known.get(place)
        if rules is None:
            return
        binding_kind = "RoleBinding" if namespace else "ClusterRoleBinding"
        why = f'RBAC: allowed by {binding_kind} "{binding["metadata"]["name"]}" of {reference["kind"]} "{place[1]}"'
        for subject in binding.get("subjects") or ():
            self.grants.setdefault(_subject(subject, namespace), []).append((namespace, rules, why))

    def allows(self, user: User, what: Attributes) -> str | None:
        """Why it is allowed, or None."""
        return next(
            (why for rules, why in self._granted(user, what.namespace) if any(rule.grants(what) for rule in rules)),
            None,
        )

    def rules(self, user: User, namespace: str) -> list[Rule]:
        """All that is granted in a namespace, by whatever binding; "" = in every namespace."""
        return [rule for rules, _ in self._granted(user, namespace) for rule in rules]

    def _granted(self, user: User, namespace: str) -> Iterator[tuple[Sequence[Rule], str]]:
        for subject in (f"user:{user.name}", *(f"group:{group}" for group in user.groups)):
            for place, rules, why in self.grants.get(subject, ()):
                if not place or place == namespace:
                    yield rules, why


def _subject(subject: Tree, namespace: str) -> str:
    kind, name = subject.get("kind", ""), subject.get("name", "")
    if kind == "ServiceAccount":
        return f"user:system:serviceaccount:{subject.get('namespace') or namespace}:{name}"
    return f"{kind.lower()}:{name}"
