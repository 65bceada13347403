"""Reading: one object, lists with Kubernetes' resourceVersion and paging rules, watches.

| resourceVersion | list                                               | watch                                  |
|-----------------|----------------------------------------------------|----------------------------------------|
| absent          | everything written before the call                 | as list, as ADDED events, then changes |
| "0"             | what the cache has                                 | what the cache has, then changes       |
| N               | at least N (`Exact`, or with a limit: exactly N)   | changes after N                        |

A page's continue token holds the version of the first page and the last name; later pages are read from etcd at that
version, and `Gone` says that it has been compacted.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import orjson

from services.apimachinery.errors import BadRequest, Gone, NotFound, Timeout
from services.apimachinery.selectors import parse_fields, parse_labels
from services.apimachinery.server.call import Call
from services.apimachinery.server.resource import Resource
from services.apimachinery.server.storage import Storage
from services.apimachinery.store.etcd import Compacted
from services.apimachinery.store.watch_cache import ADDED, Event, Item, Match, Watcher

BOOKMARK_SECONDS = 60.0
EXPIRED = "The provided continue parameter is too old to display a consistent list result. List again from the start."


@dataclass(frozen=True)
class ListQuery:
    """What to list or watch; the fields are those of Kubernetes' ListOptions."""

    labels: str = ""
    fields: str = ""
    limit: int = 0
    continue_token: str = ""
    resource_version: str = ""
    match: str = ""  # resourceVersionMatch: "", "Exact" or "NotOlderThan"
    bookmarks: bool = False
    initial_events: bool = False
    timeout: float = 0.0


@dataclass(frozen=True)
class Listing:
    """A page; `remaining` is None where counting would mean reading everything."""

    items: list[Item]
    resource_version: int
    continue_token: str = ""
    remaining: int | None = None


@dataclass(frozen=True)
class Batch:
    """Events of a watch that came at the same time; `bookmark` is a version to tell, `initial_end` marks the first."""

    events: list[Event]
    bookmark: int = 0
    initial_end: bool = False


async def get(call: Call, resource_version: str = "") -> Item:
    """One object; NotFound. The cache answers when any version will do."""
    storage = call.resource.stored
    item = None
    if resource_version:
        wanted = parse_version(resource_version)
        await storage.cache.wait(wanted)
        item = storage.cache.get(storage.item_name(call.namespace, call.name))
    item = item or await storage.read(call.namespace, call.name)
    if item is None:
        raise not_found(call)
    return item


async def list_objects(call: Call, query: ListQuery) -> Listing:
    """A page of objects. Raises BadRequest, Gone, Timeout."""
    storage, match = call.resource.stored, matcher(call, query)
    prefix = f"{call.namespace}/" if call.namespace else ""
    exact = _check_versions(query)
    if query.continue_token:
        revision, start = _read_token(query.continue_token)
        return await _page(storage, prefix, match, query.limit, revision, start)
    if exact:
        return await _page(storage, prefix, match, query.limit, parse_version(query.resource_version), "")
    cache = storage.cache
    if not query.resource_version:
        revision = await cache.fresh()
    else:
        await cache.wait(parse_version(query.resource_version))
        revision = cache.revision
    items: list[Item] = []
    for item in cache.select(prefix, match):
        if query.limit and len(items) == query.limit:
            token = _write_token(revision, items[-1].name)
            remaining = sum(1 for _ in cache.select(prefix, None, items[-1].name)) - 1 if match is None else None
            return Listing(items, revision, token, remaining)
        items.append(item)
    return Listing(items, revision)


async def _page(storage: Storage, prefix: str, match: Match | None, limit: int, revision: int, after: str) -> Listing:
    """A page at an old version, from etcd."""
    below = storage.prefix + prefix.encode()
    start = storage.prefix + after.encode() + b"\0" if after else below
    items: list[Item] = []
    try:
        while True:
            found = await storage.etcd.range(below, start=start, limit=limit, revision=revision)
            for kv in found.items:
                item = storage.item(kv)
                if match is None or match(item):
                    items.append(item)
                    if limit and len(items) == limit and (found.more or kv is not found.items[-1]):
                        remaining = found.count - limit if match is None else None
                        return Listing(items, revision, _write_token(revision, item.name), remaining)
            if not found.more:
                return Listing(items, revision)
            start = found.items[-1].key + b"\0"
    except Compacted:
        raise Gone(EXPIRED) from None


async def watch(call: Call, query: ListQuery) -> AsyncGenerator[Batch, None]:
    """Events until the query's timeout. Raises Gone at once when the version is too old, BadRequest."""
    storage, match = call.resource.stored, matcher(call, query)
    cache, prefix = storage.cache, f"{call.namespace}/" if call.namespace else ""
    await cache.ready()
    first: list[Item] | None = None
    if query.initial_events or query.resource_version in ("", "0"):
        if not query.resource_version:
            await cache.fresh()
        else:
            await cache.wait(parse_version(query.resource_version))
        first, revision = list(cache.select(prefix, match)), cache.revision
    else:
        revision = parse_version(query.resource_version)
        try:
            await cache.wait(revision)
        except Timeout as error:  # a version that this store never had, say after a restored backup: list again
            raise Gone(error.message) from None
    return _events(cache.watch(prefix, match, revision), call.resource, query, first, revision)


async def _events(
    watcher: Watcher, resource: Resource, query: ListQuery, first: list[Item] | None, revision: int
) -> AsyncGenerator[Batch, None]:
    loop = asyncio.get_running_loop()
    end = loop.time() + query.timeout if query.timeout else float("inf")
    next_bookmark = loop.time() + BOOKMARK_SECONDS
    try:
        if first is not None:
            yield Batch([Event(ADDED, item) for item in first])
            if query.initial_events and query.bookmarks:
                yield Batch([], revision, initial_end=True)
        while not watcher.lost and (left := end - loop.time()) > 0:
            events, revision = await watcher.take(min(left, max(0.01, next_bookmark - loop.time())))
            bookmark = 0
            if loop.time() >= next_bookmark or (not events and end <= loop.time()):
                next_bookmark = loop.time() + BOOKMARK_SECONDS
                bookmark = revision if query.bookmarks else 0
            if events or bookmark:
                yield Batch(events, bookmark)
    finally:
        watcher.close()


def matcher(call: Call, query: ListQuery) -> Match | None:
    """The selectors of a query as a test of items; None when everything matches. Raises BadRequest."""
    resource, labels, fields = call.resource, parse_labels(query.labels), parse_fields(query.fields, call.kind)
    name = call.name or fields.exact("metadata.name")
    if labels.everything and fields.everything and name is None:
        return None

    def match(item: Item) -> bool:
        if name is not None and item.name.rpartition("/")[2] != name:
            return False
        tree = resource.facts(item)
        return labels.matches(tree["metadata"].get("labels", {})) and fields.matches(tree)

    return match


def parse_version(text: str) -> int:
    """A resourceVersion. Raises BadRequest."""
    if not text.isascii() or not text.isdigit():
        raise BadRequest(f"Invalid value: {text!r}: resourceVersion must be a decimal number")
    return int(text)


def not_found(call: Call) -> NotFound:
    """The refusal for a missing object."""
    return NotFound(
        f'{call.kind.resource} "{call.name}" not found', kind=call.kind.plural, group=call.kind.group, name=call.name
    )


def _check_versions(query: ListQuery) -> bool:
    """Whether exactly one version is asked for; refuses combinations that Kubernetes refuses."""
    if query.match not in ("", "Exact", "NotOlderThan"):
        raise BadRequest(f'resourceVersionMatch: Unsupported value: "{query.match}": want "Exact" or "NotOlderThan"')
    if query.match and not query.resource_version:
        raise BadRequest("resourceVersionMatch is forbidden unless resourceVersion is provided")
    if query.match == "Exact" and query.resource_version == "0":
        raise BadRequest('resourceVersionMatch "Exact" is forbidden for resourceVersion "0"')
    if query.continue_token and query.resource_version not in ("", "0"):
        raise BadRequest("specifying resource version is not allowed when using continue")
    if query.limit < 0:
        raise BadRequest("limit must not be negative")
    if query.resource_version in ("", "0"):
        return False
    return query.match == "Exact" or (query.limit > 0 and not query.match)


def _write_token(revision: int, name: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps({"v": 1, "rv": revision, "after": name})).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, str]:
    try:
        tree = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        revision, after = int(tree["rv"]), str(tree["after"])
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise BadRequest("continue key is not valid: it is not one that this server has given") from None
    if revision <= 0 or not after:
        raise BadRequest("continue key is not valid: it is not one that this server has given")
    return revision, after
