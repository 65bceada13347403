"""Between the global interface and that of a partition."""

from __future__ import annotations

import pytest

from protos.k8s.meta.v1.meta_pb2 import Condition
from protos.metalnet.v1alpha1 import network_interface_pb2 as metalnet
from protos.net.v1alpha1 import network_interface_pb2 as net
from services.apimachinery.runtime.conditions import find_condition, set_condition
from services.net.metalnetlet.network_interface import projected_spec, reported_status, waiting_status


def interface() -> net.NetworkInterface:
    made = net.NetworkInterface()
    made.metadata.generation = 7
    made.spec.node_ref.name, made.spec.network_ref.name = "p.hv1", "blue"
    made.spec.ips.extend(["10.0.0.5", "fd00::5"])
    made.spec.prefixes.append("10.1.0.0/24")
    return made


def projection(state: str, generation: int = 3, observed: int = 3) -> metalnet.NetworkInterface:
    made = metalnet.NetworkInterface()
    made.metadata.generation, made.status.observed_generation = generation, observed
    made.spec.node_name, made.status.state = "hv1", state
    return made


def test_projected_spec() -> None:
    spec = projected_spec(interface(), "uid-of-blue", "hv1")
    assert (spec.node_name, spec.network_ref.name) == ("hv1", "uid-of-blue")
    assert list(zip(spec.ip_families, spec.ips, strict=True)) == [("IPv4", "10.0.0.5"), ("IPv6", "fd00::5")]
    assert list(spec.prefixes) == ["10.1.0.0/24"]
    assert not spec.HasField("hostname")


@pytest.mark.parametrize(
    ("state", "told", "wanted", "ready"),
    [
        pytest.param("", [], "Pending", ("False", "Projected"), id="not answered yet"),
        pytest.param("Pending", [], "Pending", ("False", "Projected"), id="pending without a word"),
        pytest.param("Error", [], "Error", ("False", "Projected"), id="error without a word"),
        pytest.param("Ready", [], "Ready", ("True", "Programmed"), id="ready without a word"),
        pytest.param(
            "Pending", [("Ready", "False", "NoDevice")], "Pending", ("False", "NoDevice"), id="with its own reason"
        ),
        pytest.param(
            "Ready", [("Announced", "False", "NoPeer")], "Ready", ("True", "Programmed"), id="another aspect stays"
        ),
    ],
)
def test_reported_state(state: str, told: list[tuple[str, str, str]], wanted: str, ready: tuple[str, str]) -> None:
    answer = projection(state)
    answer.status.conditions.extend(Condition(type=kind, status=holds, reason=why) for kind, holds, why in told)
    before = interface()
    set_condition(before.status.conditions, "Ready", "False", "NodeUnknown", "an earlier wait", now=1)
    status = reported_status(before, answer)
    condition = find_condition(status.conditions, "Ready")
    assert condition is not None
    assert (status.state, (condition.status, condition.reason)) == (wanted, ready)
    assert {kind for kind, _, _ in told} <= {present.type for present in status.conditions}


@pytest.mark.parametrize(
    ("generation", "observed", "wanted"),
    [
        pytest.param(3, 3, 7, id="about what is wanted now"),
        pytest.param(4, 3, 5, id="still about an earlier wish"),
    ],
)
def test_observed_generation(generation: int, observed: int, wanted: int) -> None:
    before = interface()
    before.status.observed_generation = 5
    assert reported_status(before, projection("Ready", generation, observed)).observed_generation == wanted


def test_devices_come_change_and_go() -> None:
    before, answer = interface(), projection("Ready")
    answer.status.tap_device.name = "dtapvf_0"
    before.status.CopyFrom(reported_status(before, answer))
    assert before.status.tap_device.name == "dtapvf_0"
    answer.status.pci_address.bus = "06"
    answer.status.ClearField("tap_device")
    before.status.CopyFrom(reported_status(before, answer))
    assert before.status.pci_address.bus == "06"
    assert not before.status.HasField("tap_device")
    assert not reported_status(before, projection("Pending")).HasField("pci_address")


def test_a_second_look_changes_nothing() -> None:
    """Else every status write would be the cause of the next."""
    before, answer = interface(), projection("Ready")
    before.status.CopyFrom(reported_status(before, answer))
    assert reported_status(before, answer) == before.status
    before.status.CopyFrom(waiting_status(before, "Unknown", "NodeUnknown", "gone"))
    assert waiting_status(before, "Unknown", "NodeUnknown", "gone") == before.status


def test_a_wait_keeps_the_device() -> None:
    before = interface()
    before.status.tap_device.name = "dtapvf_0"
    status = waiting_status(before, "Unknown", "NodeUnknown", "node hv1 is not registered")
    assert (status.state, status.tap_device.name) == ("Unknown", "dtapvf_0")
