"""Taints keep objects off pools; tolerations let them pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from protos.common.v1alpha1.common_pb2 import Taint, Toleration

NO_EXECUTE = "NoExecute"


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether one toleration covers one taint. Empty effect and key cover all; an empty operator means Equal."""
    if toleration.effect not in ("", taint.effect) or toleration.key not in ("", taint.key):
        return False
    if toleration.operator == "Exists":
        return True
    return toleration.operator in ("", "Equal") and toleration.value == taint.value


def untolerated(taints: Iterable[Taint], tolerations: Sequence[Toleration]) -> list[Taint]:
    """The taints that no toleration covers."""
    return [taint for taint in taints if not any(tolerates(toleration, taint) for toleration in tolerations)]


def evicting(taints: Iterable[Taint], tolerations: Sequence[Toleration]) -> list[Taint]:
    """The taints that drive a running object off its pool."""
    return [taint for taint in untolerated(taints, tolerations) if taint.effect == NO_EXECUTE]
