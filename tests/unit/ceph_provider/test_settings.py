"""Settings of the Ceph provider, and the files with keys that they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.ceph_provider.settings import Settings, check_kek, read_key, read_keyring


def settings(tmp_path: Path, **changes: Any) -> Settings:
    values = {
        "supported_volume_classes": tmp_path / "c",
        "ceph_monitors": "a:1,[fd00::1]:6789",
        "ceph_user": "ferrite",
        "ceph_key_file": tmp_path / "key",
        "ceph_pool": "volumes",
    }
    return Settings(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        pytest.param({"ceph_monitors": ""}, "host:port", id="no monitor"),
        pytest.param({"ceph_monitors": "a:1,b"}, "'b' is not host:port", id="no port"),
        pytest.param({"ceph_monitors": "a:70000"}, "host:port", id="port too large"),
        pytest.param({"ceph_user": "client.ferrite"}, "without client", id="entity instead of user"),
        pytest.param({"ceph_pool": "a, allow *"}, "letters, digits", id="capabilities in the pool"),
        pytest.param({"listen": "0.0.0.0:1"}, "unix:/path", id="not a socket"),
        pytest.param({"ceph_key_file": None}, "must be given", id="no key"),
        pytest.param({"worker_size": 0}, "worker_size", id="no workers"),
    ],
)
def test_wrong_settings(tmp_path: Path, changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        settings(tmp_path, **changes)


KEY = "AQDyWAFrtkqrFhAA5EzI/uFFM7faDmTq3Cm6uw=="


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param(f"{KEY}\n", read_key, id="key file"),
        pytest.param(f'[client.ferrite]\n\tkey = {KEY}\n\tcaps mon = "x"\n', read_keyring, id="keyring"),
    ],
)
def test_keys_are_read(tmp_path: Path, text: str, read: Callable[[Path], str]) -> None:
    (tmp_path / "file").write_text(text)
    assert read(tmp_path / "file") == KEY


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param("", read_key, id="an empty key file"),
        pytest.param("[client.x]\nkey = A\n", read_key, id="a keyring as key file"),
        pytest.param("", read_keyring, id="an empty keyring"),
        pytest.param("[client.x]\ncaps mon = 1\n", read_keyring, id="a keyring without key"),
    ],
)
def test_files_without_a_key(tmp_path: Path, text: str, read: Callable[[Path], str]) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(ValueError, match="no key"):
        read(tmp_path / "file")


def test_a_kek_has_32_bytes(tmp_path: Path) -> None:
    (tmp_path / "kek").write_bytes(b"k" * 32)
    check_kek(tmp_path / "kek")
    (tmp_path / "kek").write_bytes(b"k" * 32 + b"\n")
    with pytest.raises(ValueError, match="33 bytes"):
        check_kek(tmp_path / "kek")
