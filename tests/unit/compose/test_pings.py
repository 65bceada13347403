"""What is read from a guest's console."""

from __future__ import annotations

import pytest

from ferrite.compose.pings import Pings

OK = "ferrite: [4.31] ping 10.0.0.2 ok 1.204 ms\n"
LOST = "ferrite: [9.02] ping 10.0.0.2 lost\n"


def total(sent: int, lost: int, last: str) -> str:
    return f"/ # \x1b[6nferrite: [34.1] ping 10.0.0.2 sent {sent} lost {lost} last {last} ms\n"


@pytest.mark.parametrize(
    ("console", "expected"),
    [
        pytest.param("", Pings(), id="nothing yet"),
        pytest.param("ferrite: [8] ping 10.0.0.2 no answer yet\n", Pings(), id="no answer yet"),
        pytest.param(OK, Pings("1.204"), id="the first answer"),
        pytest.param(OK + LOST + OK.replace("1.204", "9.9"), Pings("1.204"), id="the first answer counts"),
        pytest.param(OK + total(30, 1, "0.8"), Pings("1.204", 30, 1, True), id="a sum"),
        pytest.param(OK + total(30, 0, "0.8") + total(60, 9, "none"), Pings("1.204", 60, 9, False), id="the last sum"),
    ],
)
def test_pings(console: str, expected: Pings) -> None:
    assert Pings.read(console) == expected
