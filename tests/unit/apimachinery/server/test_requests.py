from __future__ import annotations

import pytest

from services.apimachinery.errors import ApiError, NotAcceptable, UnsupportedMediaType
from services.apimachinery.server.rest.media import JSON, PROTOBUF, YAML, Accepted, accepted, body_form, unwrap, wrap
from services.apimachinery.server.rest.target import Target, parse_path

G, V = "compute.ironcore.dev", "v1alpha1"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        pytest.param("/api/v1", Target("", "v1"), id="a version"),
        pytest.param("/api/v1/namespaces", Target("", "v1", "namespaces"), id="namespaces"),
        pytest.param("/api/v1/namespaces/a", Target("", "v1", "namespaces", name="a"), id="a namespace"),
        pytest.param(
            "/api/v1/namespaces/a/finalize", Target("", "v1", "namespaces", "", "a", "finalize"), id="its subresource"
        ),
        pytest.param("/api/v1/namespaces/a/secrets", Target("", "v1", "secrets", "a"), id="secrets of a namespace"),
        pytest.param(f"/apis/{G}/{V}/machines", Target(G, V, "machines"), id="all namespaces"),
        pytest.param(
            f"/apis/{G}/{V}/namespaces/a/machines/m/status", Target(G, V, "machines", "a", "m", "status"), id="status"
        ),
        pytest.param(f"/apis/{G}/{V}/watch/machines", Target(G, V, "machines", watch=True), id="the old watch"),
        pytest.param(f"/apis/{G}/{V}/machineclasses/small/", Target(G, V, "machineclasses", "", "small"), id="slash"),
        pytest.param("/apis", None, id="discovery"),
        pytest.param("/metrics", None, id="another path"),
        pytest.param(f"/apis/{G}/{V}/namespaces/a/machines/m/status/x", None, id="too long"),
    ],
)
def test_paths(path: str, target: Target | None) -> None:
    assert parse_path(path) == target


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("header", "protobuf", "form"),
    [
        pytest.param("", False, Accepted(JSON), id="nothing said"),
        pytest.param("*/*", False, Accepted(JSON), id="anything"),
        pytest.param("application/yaml", False, Accepted(YAML), id="YAML"),
        pytest.param(f"{TABLE},application/json", False, Accepted(JSON, "Table"), id="kubectl get"),
        pytest.param(
            "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", False, Accepted(JSON), id="old"
        ),
        pytest.param(f"{PROTOBUF},application/json", True, Accepted(PROTOBUF), id="a Go client, built-in kind"),
        pytest.param(f"{PROTOBUF},application/json", False, Accepted(JSON), id="a Go client, our kind"),
        pytest.param(PROTOBUF, False, NotAcceptable, id="nothing else will do"),
        pytest.param("text/html", True, NotAcceptable, id="a browser"),
    ],
)
def test_accept(header: str, protobuf: bool, form: Accepted | type[ApiError]) -> None:
    if isinstance(form, Accepted):
        assert accepted(header, protobuf=protobuf) == form
    else:
        with pytest.raises(form):
            accepted(header, protobuf=protobuf)


def test_bodies_of_unknown_form_are_refused() -> None:
    assert body_form("application/json; charset=utf-8", protobuf=False) == JSON
    for header in ("text/plain", PROTOBUF):
        with pytest.raises(UnsupportedMediaType):
            body_form(header, protobuf=False)


def test_envelopes() -> None:
    assert unwrap(wrap("v1", "Secret", b"\x0a\x00")) == ("v1", "Secret", b"\x0a\x00")
    for body in (b"", b"k8s\x00\xff\xff", b"other"):
        with pytest.raises(ApiError):
            unwrap(body)
