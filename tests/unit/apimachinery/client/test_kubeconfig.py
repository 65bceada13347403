from __future__ import annotations

import stat
from pathlib import Path

import pytest

from services.apimachinery.client import kubeconfig
from services.apimachinery.client.connect import ServerSettings
from services.apimachinery.client.kubeconfig import Access, KubeconfigError

CORE = Access("https://core:6443", ca=b"CA", cert=b"CERT", key=b"KEY", namespace="team", server_name="core.test")
NET = Access("https://[fd00::1]:6443", token="secret token", insecure=True)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "config"
    kubeconfig.write(path, {"core": CORE, "net": NET}, "core")
    assert kubeconfig.read(path) == CORE
    assert kubeconfig.read(path, "net") == NET
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["config"]


def test_secrets_do_not_show() -> None:
    assert "KEY" not in repr(CORE)
    assert "secret token" not in repr(NET)


MINIMAL = """
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: "https://h:1/", certificate-authority: ca.pem}}]
users: [{name: u, user: {tokenFile: token}}]
"""


def test_files_are_relative_to_the_kubeconfig_and_tokens_read_anew(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(MINIMAL)
    (tmp_path / "ca.pem").write_bytes(b"CA")
    (tmp_path / "token").write_text("one\n")
    access = kubeconfig.read(tmp_path / "config")
    assert (access.server, access.ca, access.bearer()) == ("https://h:1", b"CA", "one")
    (tmp_path / "token").write_text("two")
    assert access.bearer() == "two"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("current-context: c", "", "has no current-context", id="no context chosen"),
        pytest.param("current-context: c", "current-context: d", "contexts has no 'd'", id="unknown context"),
        pytest.param("cluster: k", "cluster: x", "clusters has no 'x'", id="unknown cluster"),
        pytest.param("user: u}", "user: x}", "users has no 'x'", id="unknown user"),
        pytest.param("server:", "srv:", "cluster k: server is missing", id="no server"),
        pytest.param("tokenFile: token", "exec: {command: x}", "user u: exec is not supported", id="a plugin"),
        pytest.param("tokenFile: token", "client-key-data: S0VZ", "go together", id="half a certificate"),
        pytest.param("tokenFile: token", "client-key-data: '*'", "client-key: ", id="no base64"),
        pytest.param("ca.pem", "nowhere.pem", "certificate-authority: ", id="a file that is not there"),
        pytest.param("users: [", "users: [[", "while parsing", id="no YAML"),
    ],
)
def test_an_unusable_file_says_what_is_wrong(old: str, new: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"CA")
    (tmp_path / "config").write_text(MINIMAL.replace(old, new))
    with pytest.raises(KubeconfigError) as raised:
        kubeconfig.read(tmp_path / "config")
    assert message in str(raised.value)
    assert str(tmp_path / "config") in str(raised.value)


def test_the_current_context_must_be_among_the_written() -> None:
    with pytest.raises(KubeconfigError, match="'x' is not one of core"):
        kubeconfig.write(Path("unused"), {"core": CORE}, "x")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({}, "either address", id="no door"),
        pytest.param({"address": "h:1", "kubeconfig": "f"}, "either address", id="two doors"),
        pytest.param({"address": "h:1"}, "tls-ca, tls-cert and tls-key are missing", id="no TLS"),
        pytest.param({"address": "h:1", "tls_ca": "f"}, "go together", id="half of TLS"),
        pytest.param({"adress": "h:1"}, "adress", id="a misspelt setting"),
    ],
)
def test_server_settings_are_checked(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServerSettings.model_validate(settings)
