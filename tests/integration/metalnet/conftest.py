"""One partition for all tests; each finds and leaves it empty."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.metalnet.cluster import Partition, running_partition
from tests.support.etcd import running_etcd
from tests.support.processes import directory


@pytest.fixture(scope="session")
def processes() -> Iterator[Partition]:
    with running_etcd() as etcd, directory("metalnet") as place, running_partition(etcd, place) as made:
        yield made


@pytest.fixture
async def partition(processes: Partition) -> AsyncIterator[Partition]:
    await processes.connect()
    yield processes
    try:
        await processes.clean()
    finally:
        processes.print_logs()
