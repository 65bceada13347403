"""Ephemeral objects, claims, heartbeats, and the list of controllers."""

from __future__ import annotations

import pytest

from protos.common.v1alpha1.common_pb2 import LocalUIDReference
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.storage.v1alpha1.volume_pb2 import Volume
from services.apimachinery.runtime.owners import controller_of
from services.core.controllers.registry import CONTROLLERS, selected
from services.core.model import ephemeral, names
from services.core.model.claims import Claimer, Step, next_step
from services.core.model.lifecycle import Heartbeats, Sign


def machine() -> Machine:
    made = Machine(metadata=ObjectMeta(name="m", namespace="ns", uid="machine-uid"))
    made.spec.machine_pool_selector.update({names.ZONE_LABEL: "z", names.REGION_LABEL: "r", "other": "o"})
    nic = made.spec.network_interfaces.add(name="nic").ephemeral.network_interface_template
    nic.metadata.labels["app"] = "web"
    nic.spec.network_ref.name = "blue"
    made.spec.network_interfaces.add(name="mine").network_interface_ref.name = "own"
    disk = made.spec.volumes.add(name="disk").ephemeral.volume_template
    disk.spec.volume_class_ref.name = "fast"
    disk.spec.volume_pool_selector[names.REGION_LABEL] = "here"
    disk.spec.data_source.os_image.image = "debian"
    return made


def test_interfaces_are_claimed_by_their_machine() -> None:
    (nic,) = ephemeral.interfaces_of(machine())
    assert (nic.metadata.namespace, nic.metadata.name, nic.spec.network_ref.name) == ("ns", "m-nic", "blue")
    assert (nic.spec.machine_ref.name, nic.spec.machine_ref.uid) == ("m", "machine-uid")
    assert nic.metadata.annotations[names.EPHEMERAL_MANAGED_BY] == names.EPHEMERAL_MANAGER
    assert nic.metadata.labels["app"] == "web"
    owner = controller_of(nic)
    assert owner is not None
    assert (owner.uid, owner.block_owner_deletion) == ("machine-uid", True)


def test_volumes_follow_their_machine() -> None:
    (disk,) = ephemeral.volumes_of(machine(), "arm64")
    assert (disk.metadata.name, disk.spec.HasField("claim_ref")) == ("m-disk", False)
    assert dict(disk.spec.volume_pool_selector) == {names.REGION_LABEL: "here", names.ZONE_LABEL: "z"}
    assert disk.spec.data_source.os_image.architecture == "arm64"
    assert ephemeral.needs_architecture(machine())


def test_a_volume_without_class_gets_no_pool_selector() -> None:
    owner = machine()
    owner.spec.volumes[0].ephemeral.volume_template.spec.ClearField("volume_class_ref")
    owner.spec.volumes[0].ephemeral.volume_template.spec.volume_pool_selector.clear()
    assert not ephemeral.volumes_of(owner, "")[0].spec.volume_pool_selector


def interface() -> NetworkInterface:
    made = NetworkInterface(metadata=ObjectMeta(name="nic", namespace="ns", uid="nic-uid"))
    made.spec.ips.add(value="10.0.0.1")
    made.spec.ips.add().ephemeral.prefix_template.spec.prefix_length = 128
    made.spec.prefixes.add().ephemeral.prefix_template.spec.prefix_length = 28
    return made


def test_prefixes_are_named_by_their_index() -> None:
    made = ephemeral.interface_prefixes_of(interface())
    assert [prefix.metadata.name for prefix in made] == ["nic-1", "nic-pf-0"]
    assert ephemeral.interface_prefix_names(interface()) == ["nic-1", "nic-pf-0"]
    assert all(ephemeral.is_managed(prefix, interface()) for prefix in made)


@pytest.mark.parametrize(("policy", "owned"), [("Retain", False), ("Delete", True), ("", True)])
def test_a_retained_address_is_tied_by_its_target_alone(policy: str, owned: bool) -> None:
    nic = interface()
    nic.spec.virtual_ip.ephemeral.virtual_ip_template.spec.reclaim_policy = policy
    (address,) = ephemeral.virtual_ips_of(nic)
    assert (controller_of(address) is not None) is owned
    assert ephemeral.is_managed(address, nic)
    nic.metadata.uid = "another"
    assert not ephemeral.is_managed(address, nic)


def test_what_to_do_about_children() -> None:
    owner = machine()
    present = ephemeral.volumes_of(owner, "")[0]
    surplus, leaving = Volume(), Volume()
    for name, child in (("m-old", surplus), ("m-gone", leaving)):
        child.CopyFrom(present)
        child.metadata.name = name
    leaving.metadata.deletion_timestamp.seconds = 1
    foreign = Volume(metadata=ObjectMeta(name="m-new", namespace="ns"))
    wanted = [present, Volume(metadata=ObjectMeta(name="m-new")), Volume(metadata=ObjectMeta(name="m-more"))]
    steps = ephemeral.difference(owner, wanted, [present, surplus, leaving, foreign])
    assert [child.metadata.name for child in steps.create] == ["m-more"]
    assert [child.metadata.name for child in steps.delete] == ["m-old"]
    assert steps.foreign == ["m-new"]


OURS, THEIRS = LocalUIDReference(name="m", uid="1"), LocalUIDReference(name="m", uid="2")


@pytest.mark.parametrize(
    ("claim", "selected_", "deleting", "claimer_deleting", "unclaimable", "step"),
    [
        pytest.param(None, True, False, False, False, Step.ADOPT, id="free and wanted"),
        pytest.param(None, True, False, False, True, Step.SKIP, id="unclaimable"),
        pytest.param(None, True, True, False, False, Step.SKIP, id="free but going"),
        pytest.param(None, True, False, True, False, Step.SKIP, id="the claimer goes"),
        pytest.param(None, False, False, False, False, Step.SKIP, id="free and not wanted"),
        pytest.param(THEIRS, True, False, False, False, Step.SKIP, id="another has it"),
        pytest.param(OURS, True, True, False, False, Step.KEEP, id="ours, even when it goes"),
        pytest.param(OURS, False, False, False, False, Step.RELEASE, id="ours and no longer wanted"),
        pytest.param(OURS, False, False, True, False, Step.SKIP, id="a claimer that goes leaves it"),
    ],
)
def test_claims(
    claim: LocalUIDReference | None,
    selected_: bool,
    deleting: bool,
    claimer_deleting: bool,
    unclaimable: bool,
    step: Step,
) -> None:
    claimer = Claimer("1", claimer_deleting)
    assert next_step(claimer, claim, selected=selected_, deleting=deleting, unclaimable=unclaimable) is step


def test_silence_counts_from_the_last_new_sign() -> None:
    beats = Heartbeats(grace=50)
    beats.observe("p", Sign((1, 0), None), now=0)
    beats.observe("p", Sign((1, 0), None), now=30)
    assert beats.left("p", now=30) == 20
    beats.observe("p", Sign((2, 0), None), now=40)
    assert beats.left("p", now=90) == 0
    beats.observe("p", Sign((2, 0), ("Unknown", 1)), now=91)
    assert beats.left("p", now=91) == 50
    beats.forget("p")
    assert beats.left("p", now=500) == 50


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("*", set(CONTROLLERS), id="all"),
        pytest.param("", set(CONTROLLERS), id="nothing said"),
        pytest.param("*,-prefix", set(CONTROLLERS) - {"prefix"}, id="all but one"),
        pytest.param("-prefix", set(CONTROLLERS) - {"prefix"}, id="but one"),
        pytest.param("prefix, machineclass", {"prefix", "machineclass"}, id="two"),
    ],
)
def test_selected_controllers(text: str, expected: set[str]) -> None:
    assert set(selected(text)) == expected


def test_an_unknown_controller_is_named() -> None:
    with pytest.raises(ValueError, match="unknown controllers: nonsense"):
        selected("*,-nonsense")
