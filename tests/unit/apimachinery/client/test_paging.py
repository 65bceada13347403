from __future__ import annotations

import pytest

from protos.k8s.core.v1.secret_pb2 import Secret
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.client.paging import PAGE_SIZE, all_pages
from services.apimachinery.errors import Gone

Page = tuple[list[Secret], str, str]


def secrets(*names: str) -> list[Secret]:
    return [Secret(metadata=ObjectMeta(name=name)) for name in names]


class Pages:
    def __init__(self, **pages: Page | Gone) -> None:
        self.pages = pages
        self.asked: list[tuple[int, str]] = []

    async def fetch(self, limit: int, token: str) -> Page:
        self.asked.append((limit, token))
        page = self.pages[token or ("first" if limit else "all")]
        if isinstance(page, Gone):
            raise page
        return page


async def test_pages_are_followed_to_the_last() -> None:
    pages = Pages(first=(secrets("a", "b"), "7", "next"), next=(secrets("c"), "7", ""))
    page = await all_pages(pages.fetch)
    assert ([obj.metadata.name for obj in page.items], page.resource_version) == (["a", "b", "c"], "7")
    assert pages.asked == [(PAGE_SIZE, ""), (PAGE_SIZE, "next")]


async def test_a_list_that_expires_on_the_way_is_fetched_in_one_piece() -> None:
    pages = Pages(first=(secrets("a"), "7", "next"), next=Gone("compacted"), all=(secrets("a", "b"), "9", ""))
    page = await all_pages(pages.fetch)
    assert ([obj.metadata.name for obj in page.items], page.resource_version) == (["a", "b"], "9")


async def test_a_list_that_is_gone_from_the_start_is_an_error() -> None:
    with pytest.raises(Gone):
        await all_pages(Pages(first=Gone("compacted")).fetch)
