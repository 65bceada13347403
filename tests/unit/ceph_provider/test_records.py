"""The stored form of volumes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ceph_provider.model.record import (
    FIRST_TIME,
    LAST_TIME,
    Access,
    Metadata,
    Record,
    Spec,
    Status,
    VolumeState,
    decode,
    encode,
    format_time,
    parse_time,
)

ID = "0a" * 31 + "b"
STORED = {
    "metadata": {
        "id": ID,
        "annotations": {"ceph-provider.ironcore.dev/labels": '{"a":"1"}'},
        "labels": {"ceph-provider.ironcore.dev/class": "foo"},
        "createdAt": "2024-05-06T07:08:09.123456789Z",
        "generation": 0,
        "resourceVersion": 3,
        "finalizers": ["image"],
    },
    "spec": {
        "size": 1024,
        "wwn": "e76c0616e078c48e",
        "limits": {"rbd_qos_iops_limit": 15000},
        "image": "",
        "imageArchitecture": None,
        "snapshotRef": None,
        "encryption": None,
    },
    "status": {
        "state": "Available",
        "encryption": "",
        "access": {"monitors": "m:1", "handle": f"pool/img_{ID}", "user": "u", "userKey": "k=="},
        "size": 1048576,
    },
}


def test_keys_are_those_of_the_original() -> None:
    assert json.loads(encode(decode(json.dumps(STORED)))) == STORED


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        pytest.param("spec", "pool", {"name": "x"}, id="a key of the spec"),
        pytest.param("metadata", "ownerReferences", [1, 2], id="a key of the metadata"),
        pytest.param("status", "phase", "odd", id="a key of the status"),
    ],
)
def test_what_we_do_not_know_is_kept(part: str, key: str, value: object) -> None:
    document = json.loads(json.dumps(STORED))
    document[part][key] = value
    assert json.loads(encode(decode(json.dumps(document)))) == document


def test_null_maps_and_missing_status_are_read() -> None:
    document = json.loads(json.dumps(STORED))
    document["metadata"].update(labels=None, annotations=None, finalizers=None)
    document["spec"]["limits"] = None
    del document["status"]
    record = decode(json.dumps(document))
    assert (record.metadata.labels, record.metadata.finalizers, record.spec.limits) == ({}, [], {})
    assert record.status.state is VolumeState.PENDING


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param("", "record", id="empty"),
        pytest.param("[]", "record", id="a list"),
        pytest.param('{"metadata": {}, "spec": {}}', "metadata.id", id="no id"),
        pytest.param(json.dumps(STORED).replace("1024", '"x"'), "spec.size", id="a size that is no number"),
        pytest.param(json.dumps(STORED).replace("Available", "Odd"), "status.state", id="an unknown state"),
        pytest.param(json.dumps(STORED).replace("2024-", "24-"), "metadata.createdAt", id="a wrong time"),
    ],
)
def test_broken_records_name_the_field(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        decode(text)


def test_the_key_is_not_shown() -> None:
    assert "k==" not in repr(decode(json.dumps(STORED)))


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        pytest.param("1970-01-01T00:00:00Z", 0, id="the epoch"),
        pytest.param("0001-01-01T00:00:00Z", FIRST_TIME, id="no time"),
        pytest.param("1970-01-01T00:00:01.5Z", 1_500_000_000, id="half a second"),
        pytest.param("2024-05-06T07:08:09.123456789Z", 1714979289_123456789, id="nanoseconds"),
    ],
)
def test_times(text: str, nanoseconds: int) -> None:
    assert parse_time(text) == nanoseconds
    assert format_time(nanoseconds) == text


def test_times_with_an_offset_are_read() -> None:
    assert parse_time("1970-01-01T01:00:00+01:00") == 0


@given(st.integers(FIRST_TIME, LAST_TIME))
def test_times_survive_the_round_trip(nanoseconds: int) -> None:
    assert parse_time(format_time(nanoseconds)) == nanoseconds


TEXT = st.text(max_size=20)
STRINGS = st.dictionaries(TEXT, TEXT, max_size=4)
TIMES = st.integers(FIRST_TIME, LAST_TIME)
RECORDS = st.builds(
    Record,
    metadata=st.builds(
        Metadata,
        id=TEXT,
        annotations=STRINGS,
        labels=STRINGS,
        created_at=TIMES,
        deleted_at=st.none() | TIMES,
        generation=st.integers(0, 2**63 - 1),
        resource_version=st.integers(0, 2**63 - 1),
        finalizers=st.lists(TEXT, max_size=2),
    ),
    spec=st.builds(
        Spec,
        size=st.integers(0, 2**63 - 1),
        wwn=TEXT,
        limits=st.dictionaries(TEXT, st.integers(0, 2**63 - 1), max_size=4),
        image=TEXT,
        image_architecture=st.none() | TEXT,
        snapshot_ref=st.none() | TEXT,
    ),
    status=st.builds(
        Status,
        state=st.sampled_from(VolumeState),
        access=st.none() | st.builds(Access, monitors=TEXT, handle=TEXT, user=TEXT, user_key=TEXT),
        size=st.integers(0, 2**63 - 1),
    ),
)


@given(RECORDS)
def test_records_survive_the_round_trip(record: Record) -> None:
    text = encode(record)
    assert text.isascii()
    assert decode(text) == record
