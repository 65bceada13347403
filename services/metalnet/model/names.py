"""Names that the agents and the API server share."""

from __future__ import annotations

from typing import Final

# The original's, so that objects can be handed over.
INTERFACE_FINALIZER: Final = "networking.metalnet.ironcore.dev/networkInterface"
LEASE_NAMESPACE: Final = "kube-node-lease"  # where kubelets renew theirs
