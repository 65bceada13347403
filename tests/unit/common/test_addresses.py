from __future__ import annotations

import pytest

from services.common.addresses import join_address, split_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        pytest.param("[2001:db8::1]:4000", "2001:db8::1", 4000, id="IPv6 and port"),
        pytest.param("2001:db8::1", "2001:db8::1", 4711, id="bare IPv6"),
        pytest.param("[2001:db8::1]", "2001:db8::1", 4711, id="IPv6 in brackets"),
        pytest.param("192.0.2.1:1", "192.0.2.1", 1, id="IPv4 and port"),
        pytest.param("bond.example", "bond.example", 4711, id="a name"),
        pytest.param(":4711", "", 4711, id="any host"),
    ],
)
def test_split_with_a_default(text: str, host: str, port: int) -> None:
    assert split_address(text, 4711) == (host, port)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("bond.example", "is not host:port", id="no port"),
        pytest.param("2001:db8::1", "is not host:port", id="bare IPv6"),
        pytest.param("host:", "'' is not a port", id="an empty port"),
        pytest.param("host:65536", "'65536' is not a port", id="a large port"),
        pytest.param("host:\u0661", "is not a port", id="a digit that is none"),
        pytest.param("host:-1", "'-1' is not a port", id="a negative port"),
        pytest.param("[::1:80", "brackets don't match", id="half of the brackets"),
    ],
)
def test_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match="address") as refused:
        split_address(text)
    assert says in str(refused.value)


@pytest.mark.parametrize("text", ["[2001:db8::1]:4000", "192.0.2.1:1", ":0"])
def test_join_undoes_split(text: str) -> None:
    assert join_address(*split_address(text)) == text
