from __future__ import annotations

import pytest

from services.apimachinery.server.settings import ApiServerSettings
from services.common.settings import load


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        pytest.param([], "tls-ca, tls-cert and tls-key are required", id="no certificate"),
        pytest.param(["--tls-ca=x"], "go together", id="half a certificate"),
        pytest.param(["--insecure", "--etcd-prefix=bad/"], "--etcd-prefix: Value error", id="prefix"),
        pytest.param(["--insecure", "--https-listen=nowhere"], "--https-listen: Value error", id="address"),
        pytest.param(["--insecure", "--grpc-listen=a:99999"], "--grpc-listen: Value error", id="port"),
        pytest.param(["--insecure", "--etcd-endpoints=,"], "at least one host:port", id="no etcd"),
        pytest.param(["--insecure", "--etcd-cert=x"], "go together", id="half an etcd certificate"),
        pytest.param(["--insecure", "--compaction-keep=-1"], "--compaction-keep", id="a negative time"),
    ],
)
def test_wrong_settings_are_named(flags: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(ApiServerSettings, flags, "apiserver")
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_defaults_and_lists() -> None:
    settings = load(ApiServerSettings, ["--insecure", "--etcd-endpoints=a:1, b:2"], "apiserver")
    assert settings.etcd().endpoints == ("a:1", "b:2")
    assert settings.server_tls() is None
