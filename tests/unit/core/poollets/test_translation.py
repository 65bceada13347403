"""Between the API's words and the runtime's."""

from __future__ import annotations

from typing import Any

import pytest

from protos.compute.v1alpha1.machine_pb2 import Machine, MachineVolume
from protos.iri.machine.v1alpha1 import machine_pb2 as iri
from protos.iri.volume.v1alpha1 import volume_pb2 as iri_volume
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.networking.v1alpha1.network_pb2 import Network
from protos.storage.v1alpha1.volume_pb2 import Volume
from services.apimachinery.client.objects import Key
from services.apimachinery.runtime.conditions import find_condition, set_condition
from services.apimachinery.runtime.reconciler import Waiting
from services.core.poollets import classes
from services.core.poollets.classes import Share
from services.core.poollets.keys import MACHINE, RUNTIME_GENERATION
from services.core.poollets.machine import desired
from services.core.poollets.machine.status import is_observed, is_settled, status_of, waiting_status
from services.core.poollets.volume import translate

SMALL, BIG = {"cpu": 1, "memory": 1 << 30}, {"cpu": 2, "memory": 1 << 30}


@pytest.mark.parametrize(
    ("name", "offered", "wanted"),
    [
        pytest.param("small", {"small": SMALL, "other": SMALL}, "small", id="of that name and size"),
        pytest.param("small", {"small": BIG, "other": SMALL}, "other", id="the only one of that size"),
        pytest.param("small", {"a": SMALL, "b": SMALL}, None, id="several of that size"),
        pytest.param("small", {"small": BIG}, None, id="of that name but another size"),
        pytest.param("small", {"small": SMALL | {"gpu": 1}}, None, id="more than wanted"),
        pytest.param("small", {}, None, id="none"),
    ],
)
def test_class_matching(name: str, offered: dict[str, dict[str, int]], wanted: str | None) -> None:
    assert classes.match(name, SMALL, offered) == wanted


def test_shares_never_go_below_nothing() -> None:
    wanted = {"big": BIG, "small": SMALL, "huge": {"cpu": 64}}
    found = classes.shares(wanted, {"small": SMALL, "big": BIG}, {"small": 3, "big": 2}, {"small": 1, "big": 5})
    assert found == {"big": Share(2, 0), "small": Share(3, 2)}
    assert list(found) == ["big", "small"]


def test_capabilities_are_rounded_up() -> None:
    assert classes.capabilities({"cpu": "500m", "memory": "1Gi"}) == {"cpu": 1, "memory": 1 << 30}


def machine(*volumes: str, nics: tuple[str, ...] = ()) -> Machine:
    made = Machine()
    made.metadata.name, made.metadata.namespace, made.metadata.uid = "m", "ns", "u"
    for name in volumes:
        made.spec.volumes.add(name=name).volume_ref.name = f"{name}-object"
    for name in nics:
        made.spec.network_interfaces.add(name=name).network_interface_ref.name = f"{name}-object"
    return made


def running(*volumes: str, nics: tuple[str, ...] = (), state: Any = iri.MACHINE_RUNNING) -> iri.Machine:
    made = iri.Machine()
    made.metadata.id, made.status.state = "r-1", state
    for name in volumes:
        made.spec.volumes.add(name=name)
        made.status.volumes.add(name=name, handle=f"h/{name}", state=iri.VOLUME_ATTACHED)
    for name in nics:
        made.spec.network_interfaces.add(name=name)
        made.status.network_interfaces.add(name=name, handle=f"h/{name}", state=iri.NETWORK_INTERFACE_ATTACHED)
    return made


def reported(wanted: Machine, runtime: iri.Machine, *waits: Waiting, now: int = 100) -> Any:
    interfaces, volumes = desired.interface_names(wanted), desired.volume_names(wanted)
    return status_of(wanted, runtime, "test", interfaces, volumes, waits, now)


def conditions(status: Any) -> dict[str, tuple[str, str]]:
    return {condition.type: (condition.status, condition.reason) for condition in status.conditions}


@pytest.mark.parametrize(
    ("state", "wanted", "ready"),
    [
        pytest.param(iri.MACHINE_PENDING, "Pending", ("False", "Pending"), id="pending"),
        pytest.param(iri.MACHINE_RUNNING, "Running", ("True", "Running"), id="running"),
        pytest.param(iri.MACHINE_SUSPENDED, "Shutdown", ("False", "NotReady"), id="suspended"),
        pytest.param(iri.MACHINE_STOPPED, "Shutdown", ("False", "NotReady"), id="stopped"),
        pytest.param(iri.MACHINE_TERMINATING, "Terminating", ("False", "Terminating"), id="terminating"),
        pytest.param(iri.MACHINE_TERMINATED, "Terminated", ("False", "Terminating"), id="terminated"),
    ],
)
def test_machine_states(state: Any, wanted: str, ready: tuple[str, str]) -> None:
    status = reported(machine(), running(state=state))
    assert (status.state, conditions(status)["Ready"], status.machine_id) == (wanted, ready, "test://r-1")


def test_items_name_their_objects_in_the_order_of_the_spec_and_leftovers_come_last() -> None:
    status = reported(machine("a", "b"), running("x", "b"))
    assert [(item.name, item.state, item.volume_ref.name) for item in status.volumes] == [
        ("a", "Pending", "a-object"),
        ("b", "Attached", "b-object"),
        ("x", "Attached", ""),
    ]
    assert conditions(status)["VolumesReady"] == ("False", "VolumeNotReady")


def test_a_wait_stands_in_the_condition_of_its_aspect_and_a_second_look_changes_nothing() -> None:
    wanted, wait = machine(nics=("n",)), Waiting("NetworkInterfacesReady", "PrefixNotAllocated", "prefix p")
    set_condition(wanted.status.conditions, "Scheduled", "True", "Bound", now=1)
    status = reported(wanted, running(), wait)
    assert conditions(status) == {
        "Scheduled": ("True", "Bound"),
        "VolumesReady": ("True", "VolumesReady"),
        "NetworkInterfacesReady": ("False", "PrefixNotAllocated"),
        "Ready": ("True", "Running"),
    }
    wanted.status.CopyFrom(status)
    assert reported(wanted, running(), wait, now=200) == wanted.status


def test_a_machine_that_waits_to_be_made() -> None:
    wanted = machine()
    first, second = Waiting("NetworkInterfacesReady", "A", "a"), Waiting("VolumesReady", "B", "b")
    wanted.status.CopyFrom(waiting_status(wanted, [first, second], 1))
    both = {"NetworkInterfacesReady": ("False", "A"), "VolumesReady": ("False", "B"), "Ready": ("False", "A")}
    assert conditions(wanted.status) == both
    # What is no longer waited for leaves no stale reason behind.
    status = waiting_status(wanted, [second], 2)
    assert conditions(status) == {"VolumesReady": ("False", "B"), "Ready": ("False", "B")}
    kept = find_condition(status.conditions, "Ready")
    assert kept is not None
    assert kept.last_transition_time.seconds == 1


@pytest.mark.parametrize(
    ("wanted", "runtime", "settled"),
    [
        pytest.param(machine("a"), running("a"), True, id="all there"),
        pytest.param(machine(), running(state=iri.MACHINE_PENDING), False, id="still starting"),
        pytest.param(machine(), iri.Machine(), False, id="just made"),
    ],
)
def test_settled(wanted: Machine, runtime: iri.Machine, settled: bool) -> None:
    assert is_settled(wanted, runtime) is settled


def test_a_status_about_an_earlier_wish_is_not_observed() -> None:
    runtime = running()
    runtime.metadata.annotations[RUNTIME_GENERATION] = "2"
    runtime.status.observed_generation = 1
    assert not is_observed(runtime)
    runtime.status.observed_generation = 2
    assert is_observed(runtime)


def test_what_the_runtime_holds_is_known_by_uid() -> None:
    nic, network, volume = NetworkInterface(), Network(), Volume()
    nic.metadata.uid, volume.metadata.uid = "u-nic", "u-volume"
    runtime = iri.Machine()
    runtime.spec.network_interfaces.append(desired.interface("n", nic, network, ["10.0.0.1"]))
    runtime.spec.volumes.append(desired.remote_volume(MachineVolume(name="v"), volume, None, None))
    runtime.spec.volumes.append(desired.local_disk(MachineVolume(name="root")))
    assert {"u-nic", "u-volume"} <= desired.held_uids(runtime)
    assert desired.is_detaching(running("a")) is False
    leaving = running("a")
    del leaving.spec.volumes[:]
    assert desired.is_detaching(leaving)


def test_growth_is_an_update_anything_else_is_not() -> None:
    volume = Volume()
    volume.status.access.driver, volume.status.resources["storage"] = "ceph", "1Gi"
    small = desired.remote_volume(MachineVolume(name="v"), volume, None, None)
    volume.status.resources["storage"] = "2Gi"
    big = desired.remote_volume(MachineVolume(name="v"), volume, None, None)
    assert desired.differs_only_in_size(big, small)
    volume.status.access.handle = "elsewhere"
    assert not desired.differs_only_in_size(desired.remote_volume(MachineVolume(name="v"), volume, None, None), small)


def test_identity_labels_round_trip() -> None:
    labels = MACHINE.labels(machine().metadata)
    assert MACHINE.key(labels) == Key("ns", "m")
    assert MACHINE.key({}) is None


@pytest.mark.parametrize(
    ("state", "wanted", "ready", "has_access"),
    [
        pytest.param(iri_volume.VOLUME_PENDING, "Pending", ("False", "Pending"), False, id="pending"),
        pytest.param(iri_volume.VOLUME_AVAILABLE, "Available", ("True", "Available"), True, id="available"),
        pytest.param(iri_volume.VOLUME_ERROR, "Error", ("False", "Error"), False, id="error"),
    ],
)
def test_volume_states(state: Any, wanted: str, ready: tuple[str, str], has_access: bool) -> None:
    volume, runtime = Volume(), iri_volume.Volume()
    volume.metadata.name, volume.metadata.uid = "v", "u"
    runtime.metadata.id, runtime.status.state = "r-1", state
    runtime.status.access.driver, runtime.status.access.handle = "ceph", "pool/x"
    runtime.status.access.secret_data["key"] = b"k"
    runtime.status.resources.storage_bytes = 3 << 29
    secret = translate.access_secret(volume, runtime)
    status = translate.status_of(volume, runtime, "test", "s", 100)
    assert (status.state, conditions(status)["Ready"], status.volume_id) == (wanted, ready, "test://r-1")
    assert status.HasField("access") is (secret is not None) is has_access
    assert status.resources["storage"] == "1536Mi"
    volume.status.CopyFrom(status)
    assert translate.status_of(volume, runtime, "test", "s", 200) == status
    if secret is not None:
        assert len(secret.metadata.name) == 63
