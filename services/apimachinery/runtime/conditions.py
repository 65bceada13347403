"""Conditions: typed statements about an object, in its status.

Works on the `conditions` of any kind: a repeated message with `type`, `status`, `reason`, `message`,
`last_transition_time` and, in most kinds, `observed_generation`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

TRUE = "True"
FALSE = "False"
UNKNOWN = "Unknown"


def find_condition(conditions: Iterable[Any], type: str) -> Any | None:
    """The condition of that type, or None."""
    return next((condition for condition in conditions if condition.type == type), None)


def is_true(conditions: Iterable[Any], type: str) -> bool:
    """Whether the condition exists and its status is True."""
    condition = find_condition(conditions, type)
    return condition is not None and condition.status == TRUE


def set_condition(
    conditions: Any,
    type: str,
    status: str,
    reason: str,
    message: str = "",
    *,
    observed_generation: int | None = None,
    now: float | None = None,
) -> bool:
    """Adds or changes one condition of a repeated field; returns whether anything changed.

    lastTransitionTime moves only when `status` does. `now` is in Unix seconds (the wall clock when None) and stored in
    whole seconds, as Kubernetes' Time. Raises ValueError for a status that is not True, False or Unknown.
    """
    if status not in (TRUE, FALSE, UNKNOWN):
        raise ValueError(f"condition {type}: status {status!r} is not True, False or Unknown")
    condition = find_condition(conditions, type)
    if condition is None:
        condition = conditions.add(type=type)
    before = condition.SerializeToString(deterministic=True)
    if condition.status != status or not condition.HasField("last_transition_time"):
        condition.last_transition_time.seconds = int(time.time() if now is None else now)
    condition.status, condition.reason, condition.message = status, reason, message
    if observed_generation is not None:
        condition.observed_generation = observed_generation
    return bool(condition.SerializeToString(deterministic=True) != before)


def remove_condition(conditions: Any, type: str) -> bool:
    """Removes a condition; returns whether it was there."""
    for index, condition in enumerate(conditions):
        if condition.type == type:
            del conditions[index]
            return True
    return False
