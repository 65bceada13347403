"""What `kubectl get` shows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.k8s.certificates.v1.certificate_signing_request_pb2 import CertificateSigningRequest
from protos.k8s.core.v1.event_pb2 import Event
from protos.k8s.core.v1.node_pb2 import Node
from protos.k8s.core.v1.secret_pb2 import Secret
from services.apimachinery.kinds import kind_of
from services.apimachinery.schema.columns import (
    cells_of,
    columns_of,
    human_duration,
    missing_renderers,
    table,
    values_at,
)
from services.apimachinery.schema.schema import Tree

NOW = datetime(2026, 1, 1, 12, 5, 3, tzinfo=UTC)
NOON = "2026-01-01T12:00:00Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119.9, "119s"),
        (120, "2m"),
        (303, "5m3s"),
        (599, "9m59s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 720, "3h12m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (52 * 3600, "2d4h"),
        (8 * 86400, "8d"),
        (729 * 86400, "729d"),
        (730 * 86400, "2y"),
        (750 * 86400, "2y20d"),
        (3000 * 86400, "8y"),
    ],
)
def test_human_duration(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (".a", [{"b": [{"c": 1}, {"c": 2}, {}]}]),
        (".a.b[*].c", [1, 2]),
        (".a.b[1].c", [2]),
        (".a.b[7].c", []),
        (".x.y", []),
    ],
)
def test_paths(path: str, values: list[Any]) -> None:
    assert values_at({"a": {"b": [{"c": 1}, {"c": 2}, {}]}}, path) == values


def test_a_machine() -> None:
    kind = kind_of(Machine)
    tree = {
        "metadata": {"name": "m", "creationTimestamp": NOON},
        "spec": {"machineClassRef": {"name": "small"}},
        "status": {"state": "Running"},
    }
    renderers = {"local-disk-image": lambda tree: None}
    names = [column["name"] for column in columns_of(kind)]
    assert names == ["Name", "MachineClassRef", "Image", "MachinePoolRef", "State", "Age"]
    assert cells_of(kind, tree, NOW, renderers) == ["m", "small", "<none>", "<none>", "Running", "5m3s"]
    assert missing_renderers(kind, {}) == ["local-disk-image"]
    assert missing_renderers(kind, renderers) == []


@pytest.mark.parametrize(
    ("message", "tree", "cells"),
    [
        pytest.param(Secret, {"type": "Opaque", "data": {"a": "", "b": ""}}, ["Opaque", 2], id="a secret"),
        pytest.param(Secret, {}, ["", 0], id="an empty secret"),
        pytest.param(
            Event,
            {
                "lastTimestamp": NOON,
                "eventTime": "2026-01-01T11:00:00.000000Z",
                "type": "Normal",
                "reason": "R",
                "involvedObject": {"kind": "Machine", "name": "m"},
                "message": "hi",
            },
            ["5m3s", "Normal", "R", "machine/m", "hi"],
            id="an event",
        ),
        pytest.param(
            Node,
            {
                "spec": {"unschedulable": True},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                },
            },
            ["Ready,SchedulingDisabled", "10.0.0.1"],
            id="a node",
        ),
    ],
)
def test_built_in_kinds(message: Any, tree: Tree, cells: list[Any]) -> None:
    row = cells_of(kind_of(message), {"metadata": {"name": "x"}, **tree}, NOW)
    assert row[1 : 1 + len(cells)] == cells
    assert (row[0], row[-1]) == ("x", "<unknown>")


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ({}, "Pending"),
        ({"conditions": [{"type": "Approved"}]}, "Approved"),
        ({"conditions": [{"type": "Approved"}], "certificate": "eA=="}, "Approved,Issued"),
        ({"conditions": [{"type": "Denied"}]}, "Denied"),
    ],
)
def test_a_certificate_request(status: Tree, word: str) -> None:
    kind = kind_of(CertificateSigningRequest)
    at = [column["name"] for column in columns_of(kind)].index("Condition")
    assert cells_of(kind, {"metadata": {"name": "x"}, "status": status}, NOW)[at] == word


def test_a_table() -> None:
    kind = kind_of(Secret)
    tree = {"metadata": {"name": "s"}}
    made = table(kind, [(cells_of(kind, tree, NOW), tree), (["t"], None)], {"resourceVersion": "7"})
    assert (made["kind"], made["apiVersion"], made["metadata"]) == ("Table", "meta.k8s.io/v1", {"resourceVersion": "7"})
    assert made["columnDefinitions"][0]["format"] == "name"
    assert made["rows"] == [{"cells": ["s", "", 0, "<unknown>"], "object": tree}, {"cells": ["t"]}]
