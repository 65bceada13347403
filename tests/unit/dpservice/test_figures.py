from __future__ import annotations

import json

import pytest

from services.dpservice.figures import netdev_counters
from services.dpservice.original_metrics import xstats
from services.dpservice.telemetry_socket import ANSWER_LIMIT, fitted

NETDEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
  pf0:     100       2    3    4    5     6          7         8   9      10   11   12   13    14      15         16
"""


def test_counters_of_a_netdev_by_their_names_in_dpdk() -> None:
    assert xstats(netdev_counters(NETDEV)["pf0"]) == {
        "rx_good_packets": 2,
        "rx_good_bytes": 100,
        "rx_q0_packets": 2,
        "rx_q0_bytes": 100,
        "rx_errors": 3,
        "rx_q0_errors": 3,
        "rx_missed_errors": 4,
        "rx_mbuf_allocation_errors": 0,
        "tx_good_packets": 10,
        "tx_good_bytes": 9,
        "tx_errors": 11,
        "tx_q0_packets": 10,
        "tx_q0_bytes": 9,
    }


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        pytest.param({"a": 1}, 1, id="small"),
        pytest.param({f"interface-{number}": number for number in range(1000)}, 250, id="many members"),
        pytest.param(list(range(5000)), 1000, id="a long list"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_answers_fit_into_what_is_read(value: object, kept: int | None) -> None:
    text = fitted("/x", value)
    assert len(text) <= ANSWER_LIMIT
    found = json.loads(text)["/x"]
    assert found is None if kept is None else len(found) >= kept
