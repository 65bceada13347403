"""One realistic object of every kind of the core API server, from tests/vectors/manifests."""

from __future__ import annotations

import copy
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from services.apimachinery.kinds import kind_of
from services.core.kinds import definitions

MANIFESTS: Final = Path(__file__).parents[1] / "vectors" / "manifests"


@dataclass(frozen=True, eq=False)
class Sample:
    """An object as a user writes it, and the status that a controller would give it."""

    tree: dict[str, Any]
    status: dict[str, Any]
    plural: str
    namespaced: bool
    short_names: tuple[str, ...]

    @property
    def group(self) -> str:
        """The API group, "" for the core one."""
        return str(self.tree["apiVersion"]).rpartition("/")[0]

    @property
    def kind(self) -> str:
        """The kind; that of events.k8s.io is told apart by its group."""
        kind = str(self.tree["kind"])
        return f"{kind}.{self.group}" if self.group == "events.k8s.io" else kind

    @property
    def resource(self) -> str:
        """How kubectl is told the resource without doubt."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def printed(self) -> str:
        """How kubectl prints the resource of an object."""
        kind = str(self.tree["kind"]).lower()
        return f"{kind}.{self.group}" if self.group else kind

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.tree["metadata"]["name"])

    @property
    def quoted(self) -> str:
        """How the server's messages name the object."""
        return f'{self.resource} "{self.name}"'

    @property
    def reference(self) -> str:
        """`resource/name` as kubectl prints it."""
        return f"{self.printed}/{self.name}"


class Samples:
    """A set of objects, one of each kind, in a namespace of its own. All have the same name, one that no other set has;
    only the newer Event has another, since both groups show the same events.
    """

    def __init__(self, place: Path) -> None:
        token = secrets.token_hex(4)
        self.namespace = f"t-{token}"
        self.all = {sample.kind: _renamed(sample, token) for sample in originals()}
        self.place = self.written(place / token, {kind: sample.tree for kind, sample in self.all.items()})

    def __iter__(self) -> Any:
        return iter(self.all.values())

    @property
    def files(self) -> tuple[str, ...]:
        """Arguments that name all of them."""
        return "-n", self.namespace, "-f", str(self.place)

    def written(self, place: Path, trees: dict[str, dict[str, Any]]) -> Path:
        """A directory with these manifests, a file for each."""
        place.mkdir(parents=True, exist_ok=True)
        for kind, tree in trees.items():
            (place / f"{kind.lower()}.yaml").write_text(yaml.safe_dump(tree))
        return place


def originals() -> list[Sample]:
    """The manifests as they are in the repository."""
    kinds = {(kind.api_version, kind.name): kind for kind in (kind_of(item.message) for item in definitions())}
    found = []
    for path in sorted(MANIFESTS.glob("*.yaml")):
        tree = yaml.safe_load(path.read_text())
        status = tree.pop("status", {})
        kind = kinds.pop((tree["apiVersion"], tree["kind"]))
        found.append(Sample(tree, status, kind.plural, kind.namespaced, tuple(kind.rules.short_names)))
    assert not kinds, f"no manifest in {MANIFESTS} for {sorted(str(kind) for kind in kinds.values())}"
    return found


def _renamed(sample: Sample, token: str) -> Sample:
    tree = copy.deepcopy(sample.tree)
    tree["metadata"]["name"] = f"s-{token}.1" if "regarding" in tree else f"s-{token}"
    if "involvedObject" in tree:
        tree["involvedObject"]["namespace"] = f"t-{token}"
    if "regarding" in tree:
        tree["regarding"]["namespace"] = f"t-{token}"
    return Sample(tree, sample.status, sample.plural, sample.namespaced, sample.short_names)
