"""What clients send becomes a canonical tree, or a refusal that names the field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.k8s.core.v1.config_map_pb2 import ConfigMap
from protos.k8s.core.v1.secret_pb2 import Secret
from services.apimachinery.errors import BadRequest
from services.apimachinery.kinds import kind_of
from services.apimachinery.schema.decode import FieldValidation, decode, normalise, prune_applied

MACHINE = kind_of(Machine)
SECRET = kind_of(Secret)
MACHINE_IS = {"apiVersion": "compute.ironcore.dev/v1alpha1", "kind": "Machine"}


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        pytest.param({"spec": None}, {}, id="null is absent"),
        pytest.param({"metadata": {"labels": {}, "name": ""}}, {"metadata": {}}, id="empties are absent"),
        pytest.param({"spec": {"volumes": []}}, {"spec": {}}, id="an empty list is absent, an object is not"),
        pytest.param({"unknown": 1, "spec": {"more": {}}}, {"spec": {}}, id="unknown fields are dropped"),
        pytest.param(
            {"spec": {"volumes": [{"name": "a", "localDisk": {"sizeLimit": "1024Mi"}}]}},
            {"spec": {"volumes": [{"name": "a", "localDisk": {"sizeLimit": "1Gi"}}]}},
            id="quantities become canonical",
        ),
        pytest.param(
            {"spec": {"volumes": [{"name": "a", "localDisk": {"sizeLimit": 1.5}}]}},
            {"spec": {"volumes": [{"name": "a", "localDisk": {"sizeLimit": "1500m"}}]}},
            id="a quantity may be a number",
        ),
        pytest.param(
            {"metadata": {"creationTimestamp": "2026-01-01T02:00:00.5+02:00"}},
            {"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}},
            id="times are in UTC, whole seconds",
        ),
        pytest.param(
            {"metadata": {"annotations": {"a": None}}},
            {"metadata": {"annotations": {"a": ""}}},
            id="a null entry is empty",
        ),
        pytest.param(
            {"metadata": {"managedFields": [{"fieldsV1": {"f:x": {"any": [None]}}}]}},
            {"metadata": {"managedFields": [{"fieldsV1": {"f:x": {"any": [None]}}}]}},
            id="raw JSON stays",
        ),
    ],
)
def test_canonical(given: Any, canonical: Any) -> None:
    before = json.dumps(given)
    assert normalise(MACHINE, given).tree == MACHINE_IS | canonical
    assert json.dumps(given) == before


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param(b'{"spec"', "not valid JSON.*line 1 column", id="syntax"),
        pytest.param(b'{"a": NaN}', "not valid JSON", id="NaN"),
        pytest.param(b"\xff", "not valid JSON", id="no UTF-8"),
        pytest.param(b"[]", "expected an object, got array", id="no object"),
        pytest.param(b'{"kind": "Pod"}', r"kind in the data \(Pod\) does not match", id="another kind"),
        pytest.param(b'{"apiVersion": "v1"}', "does not match the expected apiVersion", id="another version"),
        pytest.param(b'{"spec": 1}', "spec: expected object, got integer", id="number for object"),
        pytest.param(b'{"spec": {"volumes": {}}}', "spec.volumes: expected array, got object", id="object for list"),
        pytest.param(
            b'{"spec": {"volumes": [{}, {"name": true}]}}',
            r"spec.volumes\[1\].name: expected string, got boolean",
            id="boolean for string",
        ),
        pytest.param(
            b'{"metadata": {"generation": "1"}}', "metadata.generation: expected integer", id="string for int"
        ),
        pytest.param(b'{"metadata": {"generation": 1.0}}', "expected integer, got number", id="float for int"),
        pytest.param(b'{"metadata": {"generation": true}}', "expected integer, got boolean", id="bool for int"),
        pytest.param(b'{"metadata": {"generation": 9223372036854775808}}', "is not within", id="too large"),
        pytest.param(b'{"metadata": {"labels": {"a": 1}}}', "metadata.labels.a: expected string", id="map value"),
        pytest.param(
            b'{"spec": {"volumes": [{"localDisk": {"sizeLimit": "1GB"}}]}}',
            "sizeLimit: '1GB' is not a quantity",
            id="quantity",
        ),
        pytest.param(b'{"metadata": {"creationTimestamp": "today"}}', "'today' is not an RFC 3339 time", id="time"),
    ],
)
@pytest.mark.parametrize("validation", FieldValidation)
def test_refusals(body: bytes, why: str, validation: FieldValidation) -> None:
    with pytest.raises(BadRequest, match=why):
        decode(MACHINE, body, validation)


@pytest.mark.parametrize(("levels", "fits"), [(100, True), (230, False)])
def test_raw_json_must_fit_into_lists_and_events(levels: int, fits: bool) -> None:
    deep: Any = {}
    for _ in range(levels):
        deep = {"f:x": deep}
    tree = {"metadata": {"managedFields": [{"fieldsV1": deep}]}}
    if fits:
        assert normalise(MACHINE, tree).tree["metadata"] == tree["metadata"]
    else:
        with pytest.raises(BadRequest, match=r"managedFields\[0\].fieldsV1: the value is nested too deeply"):
            normalise(MACHINE, tree)


def test_base64() -> None:
    with pytest.raises(BadRequest, match=r"data\.a: expected base64"):
        decode(SECRET, b'{"data": {"a": "***"}}')
    assert decode(SECRET, b'{"data": {"a": "aGk="}}').tree["data"] == {"a": "aGk="}


UNUSUAL = b'{"spec": {"power": "On", "power": "Off", "volumes": [{"name": "a", "disk": 1}], "x": {}}}'
PROBLEMS = ['unknown field "spec.volumes[0].disk"', 'unknown field "spec.x"', 'duplicate field "spec.power"']


def test_strict_refuses() -> None:
    with pytest.raises(BadRequest) as refusal:
        decode(MACHINE, UNUSUAL, FieldValidation.STRICT)
    start = 'Machine in version "v1alpha1" cannot be handled as a Machine: strict decoding error: '
    assert refusal.value.message == start + ", ".join(PROBLEMS)


def test_warn_reports() -> None:
    decoded = decode(MACHINE, UNUSUAL, FieldValidation.WARN)
    assert decoded.warnings == PROBLEMS
    assert decoded.tree == MACHINE_IS | {"spec": {"power": "Off", "volumes": [{"name": "a"}]}}


def test_ignore_is_silent() -> None:
    assert decode(MACHINE, UNUSUAL).warnings == []


def test_a_map_key_twice() -> None:
    body = b'{"metadata": {"labels": {"a": "1", "a": "2"}}}'
    assert decode(MACHINE, body, FieldValidation.WARN).warnings == ['duplicate field "metadata.labels.a"']


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        pytest.param("spec: {power: On}", {"power": "On"}, id="On is no boolean"),
        pytest.param("spec:\n  guestConfig:\n    hostname: '1'", {"guestConfig": {"hostname": "1"}}, id="quoted"),
        pytest.param("spec: {power: 2026-01-01}", {"power": "2026-01-01"}, id="a date is no time"),
        pytest.param("spec: &s\n  power: 'On'\nstatus: {}", {"power": "On"}, id="an anchor"),
        pytest.param("spec: ~", None, id="null"),
    ],
)
def test_yaml(text: str, spec: Any) -> None:
    assert decode(MACHINE, text.encode(), FieldValidation.STRICT, yaml=True).tree.get("spec") == spec


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("spec: {", "not valid YAML", id="syntax"),
        pytest.param("spec: {power: true}", "expected string, got boolean", id="true"),
        pytest.param("spec: {power: 'On', power: 'Off'}", 'duplicate field "spec.power"', id="a key twice"),
        pytest.param("a: !!python/object:os.system {}", "not valid YAML", id="a Python tag"),
        pytest.param("spec: 1\n---\nspec: 2", "not valid YAML", id="two documents"),
        pytest.param("a: &a [&b [*a]]", "not valid YAML", id="a loop"),
        pytest.param(
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{n}: &{n} [{','.join([f'*{p}'] * 9)}]\n" for p, n in zip("abcdefg", "bcdefgh", strict=True)),
            "stands for more than",
            id="a billion laughs",
        ),
    ],
)
def test_bad_yaml(text: str, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        decode(MACHINE, text.encode(), FieldValidation.STRICT, yaml=True)


def test_an_applied_configuration_keeps_empties() -> None:
    tree = {"metadata": {"name": "a", "finalizers": []}, "spec": {"volumes": [], "power": ""}}
    assert prune_applied(MACHINE, tree).tree == MACHINE_IS | tree


def test_yaml_of_a_config_map() -> None:
    decoded = decode(kind_of(ConfigMap), b"data:\n  on: 'yes'\n", FieldValidation.STRICT, yaml=True)
    assert decoded.tree["data"] == {"on": "yes"}
