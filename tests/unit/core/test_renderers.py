from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protos.core.v1alpha1.resource_quota_pb2 import ResourceQuota
from services.apimachinery.kinds import kind_of
from services.core.model import renderers
from services.core.model.hooks import HOOKS
from tests.unit.core.writes import causes, completed


@pytest.mark.parametrize(
    ("render", "tree", "cell"),
    [
        pytest.param(
            renderers.local_disk_image, {"spec": {"volumes": [{}, {"localDisk": {"image": "i"}}]}}, "i", id="i"
        ),
        pytest.param(renderers.local_disk_image, {"spec": {"volumes": [{"localDisk": {}}]}}, None, id="no image"),
        pytest.param(
            renderers.available_classes,
            {"status": {"availableVolumeClasses": [{"name": "b"}, {"name": "a"}]}},
            "a,b",
            id="classes are sorted",
        ),
        pytest.param(renderers.available_classes, {}, None, id="no classes"),
        pytest.param(
            renderers.routing_targets, {"destinations": [{"ip": str(n)} for n in range(5)]}, "0,1,2 + 2 more", id="5"
        ),
        pytest.param(renderers.routing_targets, {"destinations": [{"ip": "1"}]}, "1", id="one target"),
        pytest.param(renderers.routing_targets, {}, None, id="no target"),
        pytest.param(renderers.prefix_request, {"spec": {"prefixLength": 28}}, "/28", id="a length"),
        pytest.param(renderers.prefix_request, {"spec": {"prefix": "10.0.0.0/8"}}, "10.0.0.0/8", id="a range"),
        pytest.param(renderers.prefix_request, {"spec": {}}, None, id="nothing asked"),
        pytest.param(
            renderers.interface_selector,
            {
                "spec": {
                    "networkInterfaceSelector": {
                        "matchLabels": {"b": "2", "a": "1"},
                        "matchExpressions": [
                            {"key": "c", "operator": "In", "values": ["y", "x"]},
                            {"key": "d", "operator": "NotIn", "values": ["z"]},
                            {"key": "e", "operator": "Exists"},
                            {"key": "f", "operator": "DoesNotExist"},
                        ],
                    }
                }
            },
            "a=1,b=2,c in (x,y),d notin (z),e,!f",
            id="a selector as kubectl writes it",
        ),
        pytest.param(renderers.interface_selector, {}, "<none>", id="an empty selector"),
        pytest.param(
            renderers.quota_usage,
            {"status": {"hard": {"requests.cpu": "4", "count/x": "2"}, "used": {"requests.cpu": "1"}}},
            "count/x: 0/2, requests.cpu: 1/4",
            id="usage",
        ),
    ],
)
def test_cells(render: Callable[[Any], str | None], tree: dict[str, Any], cell: str | None) -> None:
    assert render(tree) == cell


def test_every_renderer_that_a_kind_names_is_there() -> None:
    for message, hooks in HOOKS.items():
        wanted = {column.renderer for column in kind_of(message).rules.columns if column.renderer}
        assert wanted <= set(hooks.renderers), message


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        pytest.param({"operator": "In", "values": ["a"]}, [], id="in"),
        pytest.param({"operator": "In"}, ["Required"], id="in nothing"),
        pytest.param({"operator": "Exists", "values": ["a"]}, ["Forbidden"], id="exists takes no values"),
    ],
)
def test_quota_scopes(requirement: dict[str, Any], expected: list[str]) -> None:
    spec = {"scopeSelector": {"matchExpressions": [{"scopeName": "MachineClass", **requirement}]}}
    path = "spec.scopeSelector.matchExpressions[0].values"
    assert causes(ResourceQuota, completed(ResourceQuota, spec)) == [(path, reason) for reason in expected]
