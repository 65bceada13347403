"""What is read from a guest's console."""

from __future__ import annotations

import pytest

from ferrite.compose.pings import Pings

OK = "ferrite: [4.31] ping 10.0.0.2 ok 1.204 ms\n"
LOST = "ferrite: [9.02] ping 10.0.0.2 lost\n"


@pytest.mark.parametrize(
    ("console", "expected"),
    [
        pytest.param("", Pings(), id="nothing yet"),
        pytest.param("ferrite: [8] ping 10.0.0.2 no answer yet\n", Pings(), id="no answer yet"),
        pytest.param(OK, Pings("1.204 ms", 0, True), id="the first answer"),
        pytest.param(OK + LOST, Pings("1.204 ms", 1, False), id="answers ceased"),
        pytest.param(OK + LOST + OK, Pings("1.204 ms", 1, True), id="answers came back"),
        pytest.param(
            OK + "ferrite: [34] ping 10.0.0.2 sent 30 lost 0 last 0.8 ms\n", Pings("1.204 ms", 0, True), id="a sum"
        ),
        pytest.param(
            OK + LOST + "ferrite: [34] ping 10.0.0.2 sent 30 lost 9 last none ms\n",
            Pings("1.204 ms", 1, False),
            id="a sum without answers",
        ),
    ],
)
def test_pings(console: str, expected: Pings) -> None:
    assert Pings.read(console) == expected
