from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from services.apimachinery.store.etcd import Etcd, EtcdSettings
from tests.support.etcd import running_etcd


@pytest.fixture(scope="session")
def store_etcd() -> Iterator[str]:
    with running_etcd() as address:
        yield address


@pytest.fixture
async def etcd(store_etcd: str) -> AsyncIterator[Etcd]:
    """A connection with a prefix of its own."""
    made = Etcd(f"/ft-{secrets.token_hex(6)}", EtcdSettings((store_etcd,)))
    yield made
    await made.close()
