"""Label and field selectors."""

from __future__ import annotations

import pytest

from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.k8s.meta.v1.meta_pb2 import LabelSelector
from services.apimachinery.errors import BadRequest
from services.apimachinery.kinds import kind_of
from services.apimachinery.schema.renderers import label_selector_text
from services.apimachinery.selectors import labels_of, parse_fields, parse_labels

MACHINE = kind_of(Machine)
LABELS = {"app": "web", "tier": "", "n": "5", "example.com/x": "1"}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        ("  ", True),
        ("app", True),
        ("db", False),
        ("!db", True),
        ("! app", False),
        ("app=web", True),
        ("app==web", True),
        ("app = web , n=5", True),
        ("app=web,n=6", False),
        ("app!=web", False),
        ("db!=web", True),
        ("app in (web, db)", True),
        ("app in (db)", False),
        ("db in (a)", False),
        ("app notin (db)", True),
        ("db notin (a)", True),
        ("app notin (web)", False),
        ("tier=", True),
        ("tier in (,x)", True),
        ("app=", False),
        ("n>4", True),
        ("n > 5", False),
        ("n<6", True),
        ("app>1", False),
        ("db<1", False),
        ("example.com/x=1", True),
        ("in=notin", False),
    ],
)
def test_labels(text: str, selected: bool) -> None:
    selector = parse_labels(text)
    assert selector.matches(LABELS) is selected
    assert selector.everything is (text.strip() == "")


@pytest.mark.parametrize(
    "text",
    [
        "=a",
        "a=b=c",
        "a,",
        ",a",
        "a b",
        "a in",
        "a in (",
        "a in ()b",
        "a in b",
        "a>x",
        "a>",
        "a=b c",
        "a/b/c",
        "a=-",
        "!",
        "()",
    ],
)
def test_bad_labels(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_labels(text)


TREE = {
    "matchLabels": {"app": "web"},
    "matchExpressions": [
        {"key": "n", "operator": "In", "values": ["6", "5"]},
        {"key": "db", "operator": "DoesNotExist"},
        {"key": "tier", "operator": "Exists"},
        {"key": "x", "operator": "NotIn", "values": ["y"]},
    ],
}


def test_messages_and_trees_mean_the_same() -> None:
    message = LabelSelector(
        match_labels=TREE["matchLabels"],
        match_expressions=TREE["matchExpressions"],  # type: ignore[arg-type]
    )
    assert labels_of(message) == labels_of(TREE)
    assert labels_of(TREE).matches(LABELS)
    assert not labels_of(TREE).matches({**LABELS, "db": ""})
    assert labels_of({}).everything


def test_the_text_of_a_selector_means_the_same() -> None:
    text = label_selector_text(TREE)
    assert text == "app=web,n in (5,6),!db,tier,x notin (y)"
    for labels in (LABELS, {**LABELS, "x": "y"}, {}):
        assert parse_labels(text).matches(labels) is labels_of(TREE).matches(labels)


@pytest.mark.parametrize(
    "expression",
    [
        {"key": "a", "operator": "Gt", "values": ["1"]},
        {"key": "a", "operator": "In"},
        {"key": "", "operator": "Exists"},
    ],
)
def test_bad_messages(expression: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        labels_of({"matchExpressions": [expression]})


OBJECT = {"metadata": {"name": "m", "namespace": "ns"}, "spec": {"machinePoolRef": {"name": "p,=1"}}}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        ("metadata.name=m", True),
        ("metadata.name==m,metadata.namespace=ns", True),
        ("metadata.name!=m", False),
        (r"spec.machinePoolRef.name=p\,\=1", True),
        ("spec.machinePoolRef.name=", False),
        ("spec.machineClassRef.name=", True),
        ("spec.machineClassRef.name!=", False),
    ],
)
def test_fields(text: str, selected: bool) -> None:
    assert parse_fields(text, MACHINE).matches(OBJECT) is selected


@pytest.mark.parametrize(
    "text", ["spec.power=On", "metadata.name", "=a", "metadata.name=a=b", "a,b", "metadata.name>1"]
)
def test_bad_fields(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_fields(text, MACHINE)


def test_the_exact_value() -> None:
    selector = parse_fields("metadata.namespace!=a,metadata.name=b", MACHINE)
    assert (selector.exact("metadata.name"), selector.exact("metadata.namespace")) == ("b", None)
