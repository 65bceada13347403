"""Numbers, identities and names of the network control plane."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from protos.net.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.net.v1alpha1.network_pb2 import Network
from services.apimachinery.client.objects import Key
from services.net.model.origin import Origin
from services.net.model.partition import Partition
from services.net.model.provider_id import ProviderId, uid_in, vni_in
from services.net.model.vni import PUBLIC, free_vni

ORIGIN = Origin("test.ferrite/network")


@pytest.mark.parametrize(
    ("taken", "low", "high", "start", "wanted"),
    [
        pytest.param(set(), 200, 300, 250, 250, id="the start itself"),
        pytest.param({250, 251}, 200, 300, 250, 252, id="the next free one"),
        pytest.param({299, 300}, 200, 300, 299, 200, id="around the end"),
        pytest.param(set(), 100, 101, 100, 101, id="never the public network"),
        pytest.param({101}, 100, 101, 101, None, id="nothing but the public network is left"),
        pytest.param({200, 201}, 200, 201, 200, None, id="all taken"),
        pytest.param({1, 2, 3}, 200, 201, 201, 201, id="numbers outside don't count"),
    ],
)
def test_free_vni(taken: set[int], low: int, high: int, start: int, wanted: int | None) -> None:
    assert free_vni(taken, low, high, start) == wanted


@given(st.sets(st.integers(85, 125)), st.integers(90, 120), st.integers(0, 10), st.integers(0, 30))
def test_free_vni_gives_each_free_number_once(taken: set[int], low: int, size: int, offset: int) -> None:
    high = low + size
    given_out = set()
    while (vni := free_vni(taken | given_out, low, high, low + offset % (size + 1))) is not None:
        assert vni not in taken | given_out
        given_out.add(vni)
    assert given_out == set(range(low, high + 1)) - taken - {PUBLIC}


PARTS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-.", min_size=1)


@given(PARTS, PARTS, PARTS, PARTS)
def test_provider_id_round_trip(namespace: str, name: str, detail: str, uid: str) -> None:
    identity = ProviderId(namespace, name, detail, uid)
    assert ProviderId.parse(str(identity)) == identity
    assert (uid_in(str(identity)), vni_in(str(identity))) == (uid, detail)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("ironcore-net://default/net-1/4711", id="a part is missing"),
        pytest.param("ironcore-net://default/net-1/4711/u/x", id="a part too many"),
        pytest.param("ironcore-net://default//4711/u", id="an empty part"),
        pytest.param("default/net-1/4711/u", id="no scheme"),
        pytest.param("other://default/net-1/4711/u", id="another scheme"),
    ],
)
def test_what_is_no_provider_id(text: str) -> None:
    with pytest.raises(ValueError, match="is not ironcore-net://namespace/name/detail/uid"):
        ProviderId.parse(text)
    assert uid_in(text) == vni_in(text) == ""


def test_provider_id_of_a_network() -> None:
    parsed = ProviderId.parse("ironcore-net://default/net-1/4711/u-1")
    assert parsed == ProviderId("default", "net-1", "4711", "u-1")


def marked() -> NetworkInterface:
    projected = NetworkInterface()
    ORIGIN.mark(projected, Network(metadata=ObjectMeta(namespace="ns", name="n" * 200, uid="u")))
    return projected


def test_origin_round_trip() -> None:
    projected = marked()
    assert (ORIGIN.uid(projected), ORIGIN.key(projected)) == ("u", Key("ns", "n" * 200))
    assert ORIGIN.keys(projected) == [Key("ns", "n" * 200)]
    assert ORIGIN.index(projected) == ["ns/" + "n" * 200]
    assert Origin("other").keys(projected) == []


@pytest.mark.parametrize("lost", ["uid", "namespace", "name"])
def test_an_origin_needs_all_its_parts(lost: str) -> None:
    projected = marked()
    metadata = projected.metadata
    (metadata.annotations if lost == "name" else metadata.labels).pop(f"test.ferrite/network-{lost}")
    assert ORIGIN.key(projected) is None
    assert ORIGIN.keys(projected) == ORIGIN.index(projected) == []


@pytest.mark.parametrize(
    ("partition", "node", "local"),
    [
        pytest.param("p1", "p1.hv1", "hv1", id="ours"),
        pytest.param("p1", "p1.hv1.example", "hv1.example", id="a node with dots"),
        pytest.param("p1", "p2.hv1", None, id="another partition's"),
        pytest.param("p1", "p10.hv1", None, id="a longer name"),
        pytest.param("p1", "", None, id="none"),
    ],
)
def test_nodes_of_a_partition(partition: str, node: str, local: str | None) -> None:
    assert Partition(partition).local_node(node) == local
    if local is not None:
        assert Partition(partition).node_name(local) == node
