"""Names that tie the global API to one partition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PARTITION_LABEL: Final = "topology.core.apinet.ironcore.dev/partition"
NODE_FINALIZER: Final = "apinet.ironcore.dev/node"


@dataclass(frozen=True)
class Partition:
    """A partition by its name; a global Node is named `<partition>.<node>`."""

    name: str

    @property
    def finalizer(self) -> str:
        """On global objects that this partition has projected."""
        return f"partition.metalnetlet.apinet.ironcore.dev/{self.name}"

    def node_name(self, local: str) -> str:
        """The global name of a node of this partition."""
        return f"{self.name}.{local}"

    def local_node(self, global_name: str) -> str | None:
        """The node's name in the partition, or None for a node of another one."""
        prefix = f"{self.name}."
        return global_name.removeprefix(prefix) if global_name.startswith(prefix) else None
