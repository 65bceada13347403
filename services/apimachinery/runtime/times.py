"""Unix seconds to Kubernetes' times and back."""

from __future__ import annotations

from protos.k8s.meta.v1.meta_pb2 import MicroTime


def micro_time(seconds: float) -> MicroTime:
    """A MicroTime, rounded to microseconds."""
    whole, micros = divmod(round(seconds * 1e6), 1_000_000)
    return MicroTime(seconds=whole, nanos=micros * 1000)


def unix_seconds(time: MicroTime) -> float:
    """Unix seconds of a MicroTime."""
    return time.seconds + time.nanos / 1e9
