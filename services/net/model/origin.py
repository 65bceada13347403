"""Where a projected object came from: the labels and the annotation that tie it to its source in another API.

The name travels as an annotation, since names may be longer than label values may be.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import Message

from services.apimachinery.client.objects import Key, metadata_of


@dataclass(frozen=True)
class Origin:
    """The keys of one kind of source, for example `apinetlet.ironcore.dev/network`."""

    prefix: str

    @property
    def uid_label(self) -> str:
        """Label: the source's uid."""
        return f"{self.prefix}-uid"

    @property
    def namespace_label(self) -> str:
        """Label: the source's namespace."""
        return f"{self.prefix}-namespace"

    @property
    def name_annotation(self) -> str:
        """Annotation: the source's name."""
        return f"{self.prefix}-name"

    def mark(self, projected: Message, source: Message) -> None:
        """Ties `projected` to `source` (in memory)."""
        metadata, origin = metadata_of(projected), metadata_of(source)
        metadata.labels[self.uid_label] = origin.uid
        metadata.labels[self.namespace_label] = origin.namespace
        metadata.annotations[self.name_annotation] = origin.name

    def uid(self, projected: Message) -> str:
        """The source's uid, or "" for an object without this origin."""
        return metadata_of(projected).labels.get(self.uid_label, "")

    def key(self, projected: Message) -> Key | None:
        """The source's key; None unless label, namespace label and annotation are all there."""
        metadata = metadata_of(projected)
        name = metadata.annotations.get(self.name_annotation)
        namespace = metadata.labels.get(self.namespace_label)
        if name is None or namespace is None or not self.uid(projected):
            return None
        return Key(namespace, name)

    def keys(self, projected: Message) -> list[Key]:
        """For `Reconciler.watch`: the source to wake, if any."""
        key = self.key(projected)
        return [] if key is None else [key]

    def index(self, projected: Message) -> list[str]:
        """For `Informer.index`: finds projections by `str(key)` of their source, also when that is gone."""
        return [str(key) for key in self.keys(projected)]


APINETLET_NETWORK = Origin("apinetlet.ironcore.dev/network")
APINETLET_NETWORK_INTERFACE = Origin("apinetlet.ironcore.dev/networkinterface")
METALNETLET_NETWORK = Origin("metalnetlet.ironcore.dev/network")
METALNETLET_NETWORK_INTERFACE = Origin("metalnetlet.ironcore.dev/networkinterface")
