from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dpservice import appended
from services.dpservice.appended import AppendedFile

LINES = st.binary(max_size=9000).map(lambda raw: raw.replace(b"\n", b"").replace(b"\0", b""))


def content(path: Path) -> bytes:
    return path.read_bytes().rstrip(b"\0")


@given(steps=st.lists(LINES | st.floats(0, 1) | st.none(), max_size=40), kept=st.integers(0, 5))
def test_has_what_was_appended_and_not_cut(
    tmp_path_factory: pytest.TempPathFactory, steps: list[bytes | float | None], kept: int
) -> None:
    """Lines longer and shorter than what is mapped; cuts anywhere; None opens it anew."""
    path = tmp_path_factory.mktemp("appended") / "file"
    path.write_bytes(b"head\nrest\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(appended, "WINDOW", 8192)
        file, expected = AppendedFile(path, kept), b"head\nrest\n"[:kept]
        for step in steps:
            match step:
                case None:
                    file.close()
                    assert path.read_bytes() == expected
                    file = AppendedFile(path, len(expected))
                case float():
                    expected = expected[: int(step * len(expected))]
                    file.cut(len(expected))
                case _:
                    file.append(step)
                    expected += step + b"\n"
            assert file.size == len(expected)
            assert content(path) == expected
        file.close()
    assert path.read_bytes() == expected


def test_line_is_there_only_with_its_newline(tmp_path: Path) -> None:
    """A process may be killed between any two of its stores."""
    path = tmp_path / "file"
    path.touch()
    file = AppendedFile(path, 0)
    file.append(b"one")

    class Killed(Exception):
        pass

    class Window:
        def __init__(self, whole: Any) -> None:
            self.whole = whole

        def __setitem__(self, place: Any, value: Any) -> None:
            if not isinstance(place, slice):
                raise Killed
            self.whole[place] = value

    file._window = Window(file._window)  # type: ignore[assignment]
    with pytest.raises(Killed):
        file.append(b"two")
    assert content(path) == b"one\ntwo"


def test_without_room_for_more_than_a_line_each_line_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "posix_fallocate", full)
    path = tmp_path / "file"
    path.touch()
    file = AppendedFile(path, 0)
    for _ in range(3):
        file.append(b"line")
    assert path.read_bytes() == b"line\n" * 3
