from __future__ import annotations

from typing import Any

import pytest

from protos.storage.v1alpha1.bucket_pb2 import Bucket
from protos.storage.v1alpha1.volume_pb2 import Volume
from services.apimachinery.errors import BadRequest
from services.core.model.admission import check_expansion
from tests.unit.core.writes import causes, completed

CLASS = {"volumeClassRef": {"name": "fast"}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({}, [], id="provided by somebody else"),
        pytest.param({**CLASS, "resources": {"storage": "1Gi"}}, [], id="a class and a size"),
        pytest.param(CLASS, [("spec.resources.storage", "Required")], id="a class without a size"),
        pytest.param(
            {**CLASS, "resources": {"storage": "0"}}, [("spec.resources.storage", "Invalid")], id="a size of nothing"
        ),
        pytest.param({"resources": {"storage": "1"}}, [("spec.resources", "Forbidden")], id="a size without a class"),
        pytest.param({"volumePoolRef": {"name": "p"}}, [("spec.volumePoolRef", "Forbidden")], id="a pool without"),
        pytest.param(
            {"volumePoolSelector": {"a": "b"}}, [("spec.volumePoolSelector", "Forbidden")], id="a selector without"
        ),
        pytest.param({"tolerations": [{"key": "a"}]}, [("spec.tolerations", "Forbidden")], id="tolerations without"),
        pytest.param(
            {"dataSource": {"osImage": {"image": "i"}}},
            [("spec.dataSource.osImage", "Forbidden")],
            id="an image without a class",
        ),
    ],
)
def test_volume(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert causes(Volume, completed(Volume, spec)) == expected


def test_bucket_placement_needs_a_class() -> None:
    bucket = completed(Bucket, {"bucketPoolRef": {"name": "p"}, "tolerations": [{"key": "a"}]})
    assert causes(Bucket, bucket) == [("spec.bucketPoolRef", "Forbidden"), ("spec.tolerations", "Forbidden")]
    assert causes(Bucket, completed(Bucket, {"bucketClassRef": {"name": "c"}, "bucketPoolRef": {"name": "p"}})) == []


@pytest.mark.parametrize(
    ("old", "new", "policy", "refusal"),
    [
        pytest.param("1Gi", "1024Mi", "Static", "", id="the same size in other words"),
        pytest.param("1Gi", "2Gi", "Static", "can't be resized", id="static"),
        pytest.param("1Gi", "2Gi", "ExpandOnly", "", id="grows"),
        pytest.param("2Gi", "1Gi", "ExpandOnly", "can't shrink", id="shrinks"),
        pytest.param("1Gi", "2Gi", None, "does not exist", id="the class is missing"),
        pytest.param("1Gi", None, "ExpandOnly", "must have a size", id="the size is missing"),
    ],
)
def test_expansion(old: str, new: str | None, policy: str | None, refusal: str) -> None:
    before = {"spec": {**CLASS, "resources": {"storage": old}}}
    after = {"spec": {**CLASS, "resources": {"storage": new} if new else {}}}
    volume_class = {"resizePolicy": policy} if policy is not None else None
    if not refusal:
        check_expansion(after, before, "fast", volume_class)
        return
    with pytest.raises(BadRequest, match=refusal):
        check_expansion(after, before, "fast", volume_class)
