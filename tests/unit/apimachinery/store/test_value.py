from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from services.apimachinery.store.value import PROTO, Encryption, Unreadable, pack, unpack

KEY, OTHER = os.urandom(32), os.urandom(32)
PLACE = b"/p/core/secrets/default/s"


def test_a_payload_comes_back_with_its_codec() -> None:
    assert unpack(pack(PROTO, b"body")) == (PROTO, b"body")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"x\x01body", id="unknown codec"),
        pytest.param(b"p\x02body", id="a later version"),
    ],
)
def test_unknown_values_are_not_guessed_at(value: bytes) -> None:
    with pytest.raises(Unreadable):
        unpack(value)


def test_sealed_values_open_and_hide() -> None:
    sealed = Encryption({"k1": KEY}).seal(b"p\x01hunter2", PLACE)
    assert b"hunter2" not in sealed
    assert Encryption({"k2": OTHER, "k1": KEY}).open(sealed, PLACE) == b"p\x01hunter2"


def test_values_from_before_encryption_still_open() -> None:
    assert Encryption({"k1": KEY}).open(b"p\x01plain", PLACE) == b"p\x01plain"


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        pytest.param({"k2": KEY}, PLACE, id="the key is not in the file"),
        pytest.param({"k1": OTHER}, PLACE, id="another key of that name"),
        pytest.param({"k1": KEY}, PLACE + b"2", id="moved to another object"),
    ],
)
def test_foreign_ciphertexts_are_refused(keys: dict[str, bytes], place: bytes) -> None:
    sealed = Encryption({"k1": KEY}).seal(b"p\x01hunter2", PLACE)
    with pytest.raises(Unreadable):
        Encryption(keys).open(sealed, place)


def test_a_key_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# newest first\nk2:{base64.b64encode(OTHER).decode()}\n\nk1:{base64.b64encode(KEY).decode()}\n")
    assert Encryption.read(path).open(Encryption({"k1": KEY}).seal(b"p\x01x", PLACE), PLACE) == b"p\x01x"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("k1", "line 1", id="no colon"),
        pytest.param("k1:!!", "line 1", id="not base64"),
        pytest.param(f"k1:{base64.b64encode(b'short').decode()}", "5 bytes", id="a short key"),
        pytest.param("", "no encryption key", id="an empty file"),
    ],
)
def test_bad_key_files_are_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        Encryption.read(path)
