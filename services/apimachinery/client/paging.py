"""Fetching a list page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from services.apimachinery.client.interface import Page
from services.apimachinery.client.objects import M
from services.apimachinery.errors import Gone

PAGE_SIZE: Final = 500
"""Objects asked for at a time, as Kubernetes' own clients do."""

FetchPage = Callable[[int, str], Awaitable[tuple[list[M], str, str]]]
"""(limit, continue token) to (items, resource version, next token)."""


async def all_pages(fetch: FetchPage[M]) -> Page[M]:
    """All items and the version of the list.

    When the version that the pages belong to is compacted on the way, everything is fetched again in one piece.
    """
    items: list[M] = []
    token = ""
    try:
        while True:
            page, version, token = await fetch(PAGE_SIZE, token)
            items += page
            if not token:
                return Page(items, version)
    except Gone:
        if not token:
            raise
    items, version, _ = await fetch(0, "")
    return Page(items, version)
