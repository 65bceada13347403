"""One etcd for all tests, a partition for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.metalnet.cluster import Partition, running_partition
from tests.support.etcd import running_etcd
from tests.support.processes import directory


@pytest.fixture(scope="session")
def etcd() -> Iterator[str]:
    with running_etcd() as address:
        yield address


@pytest.fixture
async def partition(etcd: str) -> AsyncIterator[Partition]:
    with directory("metalnet") as place:
        async with running_partition(etcd, place) as made:
            yield made
