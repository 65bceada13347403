"""Objects from files, folders and URLs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import yaml

from services.dpservice.client.kinds import Kind, Object
from services.dpservice.client.values import BadValue

SECONDS: Final = 10.0
SUFFIXES: Final = (".json", ".yaml", ".yml")


def objects(sources: Sequence[str], kinds: Sequence[Kind]) -> list[tuple[Kind, Object]]:
    """What the sources contain, in their order; a list's items are objects of their own.

    Raises BadValue that names the source.
    """
    by_name = {kind.name: kind for kind in kinds}
    found = []
    for name, content in _contents(sources):
        try:
            # JSON is YAML.
            for document in yaml.safe_load_all(content):
                found += [(kind, kind.from_file(each)) for kind, each in _of_document(document, by_name)]
        except (yaml.YAMLError, BadValue) as error:
            raise BadValue(f"{name}: {' '.join(str(error).split())}") from error
    return found


def _of_document(document: Any, by_name: Mapping[str, Kind]) -> Iterator[tuple[Kind, Mapping[str, Any]]]:
    if document is None:
        return
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise BadValue("an object needs a kind")
    if isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _of_document(item, by_name)
        return
    kind = by_name.get(document["kind"])
    if kind is None:
        raise BadValue(f"{document['kind']}: is not one of {', '.join(by_name)}")
    yield kind, document


def _contents(sources: Sequence[str]) -> Iterator[tuple[str, str]]:
    for source in sources:
        try:
            if source == "-":
                yield source, sys.stdin.read()
            elif urlsplit(source).scheme in ("http", "https"):
                with urlopen(source, timeout=SECONDS) as response:
                    yield source, response.read().decode()
            else:
                path = Path(source.removeprefix("file://"))
                files = sorted(path.iterdir()) if path.is_dir() else [path]
                for file in files:
                    if file == path or file.suffix in SUFFIXES:
                        yield str(file), file.read_text()
        except (OSError, URLError, UnicodeDecodeError) as error:
            raise BadValue(f"{source}: {error}") from error
