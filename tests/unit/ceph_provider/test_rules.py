"""Sizes, classes, names, capabilities, and the rules about volumes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.iri.volume.v1alpha1 import volume_pb2 as pb
from services.ceph_provider.model import names
from services.ceph_provider.model import volume as rules
from services.ceph_provider.model.caps import volume_caps
from services.ceph_provider.model.classes import MAX_CAPABILITY, VolumeClass, limits, parse_classes
from services.ceph_provider.model.events import EventRing
from services.ceph_provider.model.record import Access, Encryption, Record, VolumeState
from services.ceph_provider.model.refusals import AlreadyExists, Invalid, NotNow, Unsupported
from services.ceph_provider.model.sizes import GIB, MAX_BYTES, MIB, rounded
from services.ceph_provider.store import _comparand

FAST = VolumeClass("fast", tps=262144000, iops=15000)
CLASSES = {"fast": FAST, "slow": VolumeClass("slow", 1, 1)}
ID = names.id_for_uid("u")


def volume(size: int = GIB, class_name: str = "fast", **labels: str) -> pb.Volume:
    made = pb.Volume()
    made.metadata.labels.update(labels)
    made.metadata.annotations["note"] = "kept"
    setattr(made.spec, "class", class_name)
    made.spec.resources.storage_bytes = size
    return made


def record(size: int = GIB, **labels: str) -> Record:
    return rules.new_record(volume(size, **labels), FAST, ID, "e76c0616e078c48e", 5)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        pytest.param(0, 0, id="nothing"),
        pytest.param(1, MIB, id="a byte"),
        pytest.param(1024, MIB, id="1 KiB"),
        pytest.param(MIB, MIB, id="1 MiB"),
        pytest.param(MIB * 11 // 10, 2 * MIB, id="1.1 MiB"),
        pytest.param(GIB - 1, GIB, id="a byte less than 1 GiB"),
        pytest.param(GIB, GIB, id="1 GiB"),
        pytest.param(GIB + 1, 2 * GIB, id="a byte more than 1 GiB"),
        pytest.param(GIB * 3 // 2, 2 * GIB, id="1.5 GiB"),
        pytest.param(MAX_BYTES, MAX_BYTES, id="the greatest"),
    ],
)
def test_rounding(size: int, wanted: int) -> None:
    assert rounded(size) == wanted


@given(st.integers(1, MAX_BYTES), st.integers(0, 3 * GIB))
def test_rounding_never_takes_away(size: int, more: int) -> None:
    assert size <= rounded(size) < size + (MIB if size < GIB else GIB)
    assert rounded(rounded(size)) == rounded(size)
    assert rounded(size) <= rounded(size + more)


def test_limits_of_a_class() -> None:
    assert limits(FAST) == {
        "rbd_qos_iops_limit": 15000,
        "rbd_qos_read_iops_limit": 15000,
        "rbd_qos_write_iops_limit": 15000,
        "rbd_qos_iops_burst": 150000,
        "rbd_qos_read_iops_burst": 150000,
        "rbd_qos_write_iops_burst": 150000,
        "rbd_qos_iops_burst_seconds": 15,
        "rbd_qos_bps_limit": 262144000,
        "rbd_qos_read_bps_limit": 262144000,
        "rbd_qos_write_bps_limit": 262144000,
        "rbd_qos_bps_burst": 2621440000,
        "rbd_qos_read_bps_burst": 2621440000,
        "rbd_qos_write_bps_burst": 2621440000,
        "rbd_qos_bps_burst_seconds": 15,
    }


def test_classes_are_read_with_numbers_as_text_too() -> None:
    document = [{"name": "fast", "capabilities": {"tps": "262144000", "iops": 15000}}]
    assert parse_classes(document) == {"fast": FAST}


@pytest.mark.parametrize(
    ("document", "named"),
    [
        pytest.param(None, "must be a list", id="empty file"),
        pytest.param([], "must be a list", id="no class"),
        pytest.param({"name": "a"}, "must be a list", id="not a list"),
        pytest.param(["a"], r"\[0\]: must be an object", id="a text as class"),
        pytest.param([{"capabilities": {}}], r"\[0\].name", id="no name"),
        pytest.param([{"name": "a"}], r"\[0\].capabilities", id="no capabilities"),
        pytest.param([{"name": "a", "capabilities": {"tps": 1}}], r"capabilities.iops", id="no iops"),
        pytest.param([{"name": "a", "capabilities": {"tps": -1, "iops": 1}}], r"capabilities.tps", id="negative"),
        pytest.param([{"name": "a", "capabilities": {"tps": True, "iops": 1}}], r"capabilities.tps", id="a boolean"),
        pytest.param([{"name": "a", "capabilities": {"tps": "1k", "iops": 1}}], r"capabilities.tps", id="a unit"),
        pytest.param(
            [{"name": "a", "capabilities": {"tps": MAX_CAPABILITY + 1, "iops": 1}}], r"capabilities.tps", id="too large"
        ),
        pytest.param([{"name": "a", "capabilities": {"tps": 1, "iops": 1, "x": 1}}], r"capabilities.x", id="unknown"),
        pytest.param([{"name": "a", "capabilities": {"tps": 1, "iops": 1}}] * 2, r"\[1\].name.*twice", id="twice"),
    ],
)
def test_wrong_classes(document: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse_classes(document)


def test_names() -> None:
    assert names.is_id(names.random_id())
    assert names.random_id() != names.random_id()
    assert len(names.random_wwn()) == 16
    assert names.id_for_uid("a") == names.id_for_uid("a") != names.id_for_uid("b")
    assert names.is_id(names.id_for_uid("a"))
    assert not names.is_id(ID + "\0")
    assert not names.is_id(ID.upper())


def test_capabilities_of_a_volumes_user() -> None:
    mon, mon_caps, osd, osd_caps = volume_caps("p", ID, "1013c3719686")
    assert (mon, mon_caps, osd) == ("mon", "profile rbd", "osd")
    assert osd_caps.split(", ") == [
        "allow rx pool=p object_prefix rbd_info",
        f"allow rx pool=p object_prefix rbd_id.img_{ID}",
        "allow rwx pool=p object_prefix rbd_header.1013c3719686",
        "allow rwx pool=p object_prefix rbd_object_map.1013c3719686",
        "allow rw pool=p object_prefix rbd_data.1013c3719686.",
    ]


def altered(change: Callable[[pb.Volume], Any]) -> pb.Volume:
    made = volume()
    change(made)
    return made


@pytest.mark.parametrize(
    ("asked", "error", "field"),
    [
        pytest.param(
            volume(class_name="gold"), Invalid, "volume.spec.class: .*'gold' not supported", id="no such class"
        ),
        pytest.param(volume(size=0), Invalid, "volume.spec.resources.storage_bytes", id="no size"),
        pytest.param(volume(size=-1), Invalid, "volume.spec.resources.storage_bytes", id="negative size"),
        pytest.param(volume(size=MAX_BYTES + 1), Invalid, "volume.spec.resources.storage_bytes", id="too large"),
        pytest.param(
            altered(lambda v: v.spec.encryption.secret_data.update({"encryptionKey": b"k"})),
            Unsupported,
            "volume.spec.encryption",
            id="encryption",
        ),
        pytest.param(
            altered(lambda v: v.spec.encryption.SetInParent()), Unsupported, "encryption", id="empty encryption"
        ),
        pytest.param(
            altered(lambda v: v.spec.volume_data_source.SetInParent()), Invalid, "volume_data_source", id="empty source"
        ),
        pytest.param(
            altered(lambda v: v.spec.volume_data_source.image_data_source.SetInParent()),
            Unsupported,
            "volume_data_source.image_data_source",
            id="image",
        ),
        pytest.param(
            altered(lambda v: v.spec.volume_data_source.snapshot_data_source.SetInParent()),
            Unsupported,
            "volume_data_source.snapshot_data_source",
            id="snapshot",
        ),
    ],
)
def test_refused_volumes(asked: pb.Volume, error: type[Exception], field: str) -> None:
    with pytest.raises(error, match=field):
        rules.check_new(asked, CLASSES)


def test_a_new_volume_is_pending_without_access() -> None:
    made = rules.to_iri(record(a="1", b="ä"), "m:1")
    assert made.metadata.id == ID
    assert dict(made.metadata.labels) == {"a": "1", "b": "ä"}
    assert dict(made.metadata.annotations) == {"note": "kept"}
    assert (made.metadata.created_at, made.metadata.deleted_at) == (5, 0)
    assert made.status.state == pb.VOLUME_PENDING
    assert made.status.resources.storage_bytes == 0
    assert not made.status.HasField("access")
    assert not made.spec.HasField("encryption")


def available() -> Record:
    made = record(size=1024)
    made.status.state, made.status.size = VolumeState.AVAILABLE, MIB
    made.status.access = Access(monitors="old:1", handle=f"p/img_{ID}", user="u", user_key="k")
    return made


def test_an_available_volume_tells_how_it_is_reached() -> None:
    made = rules.to_iri(available(), "m:1,m:2")
    assert made.status.state == pb.VOLUME_AVAILABLE
    assert (made.spec.resources.storage_bytes, made.status.resources.storage_bytes) == (1024, MIB)
    assert (made.status.access.driver, made.status.access.handle) == ("ceph", "e76c0616e078c48e")
    assert dict(made.status.access.attributes) == {"monitors": "m:1,m:2", "image": f"p/img_{ID}"}
    assert dict(made.status.access.secret_data) == {"userID": b"u", "userKey": b"k"}


def test_a_volume_in_error_has_no_access() -> None:
    made = rules.to_iri(available(), "m:1", failed=True)
    assert made.status.state == pb.VOLUME_ERROR
    assert not made.status.HasField("access")


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(None, id="missing"),
        pytest.param("{", id="cut off"),
        pytest.param("[1]", id="a list"),
        pytest.param("null", id="null"),
    ],
)
def test_unreadable_labels_do_not_hide_a_volume(labels: str | None) -> None:
    made = record(a="1")
    if labels is None:
        del made.metadata.annotations[names.LABELS_ANNOTATION]
    else:
        made.metadata.annotations[names.LABELS_ANNOTATION] = labels
    assert dict(rules.to_iri(made, "").metadata.labels) == {}


@pytest.mark.parametrize(
    ("size", "deleted", "error"),
    [
        pytest.param(GIB, False, Invalid, id="equal"),
        pytest.param(MIB, False, Invalid, id="smaller"),
        pytest.param(MAX_BYTES + 1, False, Invalid, id="too large"),
        pytest.param(2 * GIB, True, NotNow, id="being deleted"),
    ],
)
def test_refused_growth(size: int, deleted: bool, error: type[Exception]) -> None:
    made = record()
    if deleted:
        rules.mark_deleted(made, 7)
    with pytest.raises(error):
        rules.expand(made, size)


def test_growth_raises_the_generation() -> None:
    made = record()
    rules.expand(made, 2 * GIB)
    assert (made.spec.size, made.metadata.generation) == (2 * GIB, 1)


def test_the_first_deletion_counts() -> None:
    made = record()
    rules.mark_deleted(made, 7)
    rules.mark_deleted(made, 8)
    assert made.metadata.deleted_at == 7


def deleted() -> Record:
    made = record()
    rules.mark_deleted(made, 7)
    return made


@pytest.mark.parametrize(
    ("present", "error"),
    [
        pytest.param(record(size=2 * GIB), AlreadyExists, id="another size"),
        pytest.param(rules.new_record(volume(), CLASSES["slow"], ID, "w", 1), AlreadyExists, id="another class"),
        pytest.param(deleted(), NotNow, id="being deleted"),
    ],
)
def test_a_repeated_order_must_be_the_same(present: Record, error: type[Exception]) -> None:
    with pytest.raises(error, match=ID):
        rules.same_order(present, record())


def test_a_repeated_order_answers_the_first() -> None:
    first = record()
    assert rules.same_order(first, record()) is first


def grown() -> Record:
    made = available()
    rules.expand(made, GIB)
    return made


@pytest.mark.parametrize(
    ("present", "wanted"),
    [
        pytest.param(record(), False, id="pending"),
        pytest.param(available(), True, id="available"),
        pytest.param(grown(), False, id="to grow"),
        pytest.param(deleted(), False, id="to be deleted"),
    ],
)
def test_settled(present: Record, wanted: bool) -> None:
    assert rules.settled(present) is wanted


def test_stand_ins_are_not_managed() -> None:
    made = record()
    assert rules.managed(made)
    del made.metadata.labels[names.MANAGER_LABEL]
    assert not rules.managed(made)


def test_records_of_others_keep_their_encryption() -> None:
    made = record()
    made.spec.encryption = Encryption(type="Encrypted", encrypted_passphrase="c2VhbGVk")
    assert rules.to_iri(made, "").spec.HasField("encryption") is False


def test_events_are_bounded_expire_and_do_not_repeat() -> None:
    ring = EventRing(capacity=3, ttl=10)
    one, two = rules.to_iri(record(a="1"), ""), pb.Volume()
    two.metadata.id = "two"
    assert ring.record(one, "Normal", "Made", "Make", "m", 1)
    assert ring.record(two, "Warning", "Odd", "Make", "m", 2)
    assert not ring.record(one, "Normal", "Made", "Make", "m", 3)
    every = ring.select(pb.EventFilter(), 3)
    assert [(each.spec.reason, each.spec.event_time) for each in every] == [("Odd", 2), ("Made", 3)]
    by_label = ring.select(pb.EventFilter(label_selector={"a": "1"}), 3)
    assert [each.spec.reason for each in by_label] == ["Made"]
    window = pb.EventFilter(events_from_time=1, events_to_time=2)
    assert [each.spec.reason for each in ring.select(window, 3)] == ["Odd"]
    assert [each.spec.reason for each in ring.select(pb.EventFilter(id="two"), 3)] == ["Odd"]
    assert ring.select(pb.EventFilter(), 14) == []


@given(st.text())
def test_comparands_have_as_many_characters_as_the_text_has_bytes(text: str) -> None:
    assert len(_comparand(text)) == len(text.encode())
    assert _comparand(text).startswith(text)
