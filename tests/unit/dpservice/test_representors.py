from __future__ import annotations

import pytest

from services.dpservice.node.representors import Netdev, guest_devices

NIC = "0000:3b:00.0"


@pytest.mark.parametrize(
    ("netdevs", "multiport", "expected"),
    [
        pytest.param([Netdev("tap_10"), Netdev("tap_2"), Netdev("lo")], False, ["tap_2", "tap_10"], id="plain netdevs"),
        pytest.param([Netdev("tap0", "pf0vf3", NIC)], False, [f"{NIC}_representor_vf3"], id="a representor"),
        pytest.param(
            [Netdev("tap0", "c0pf1vf3", NIC)], False, [f"{NIC}_representor_c0pf1vf3"], id="of the second port"
        ),
        pytest.param([Netdev("tap0", "pf0vf3", NIC)], True, [f"{NIC}_representor_c0pf0vf3"], id="in multiport mode"),
        pytest.param([Netdev("tap0", "p0", NIC)], False, ["tap0"], id="a port that is no function"),
    ],
)
def test_names(netdevs: list[Netdev], multiport: bool, expected: list[str]) -> None:
    assert list(guest_devices(netdevs, "tap", multiport=multiport)) == expected
