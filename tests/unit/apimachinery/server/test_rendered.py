from __future__ import annotations

from services.apimachinery.server.rendered import Rendered
from services.apimachinery.store.watch_cache import Item


def test_the_oldest_form_is_forgotten_when_the_budget_is_used_up() -> None:
    rendered, items = Rendered(budget=25), [Item(str(n), b"", n, n) for n in range(3)]
    for item in items:
        rendered.keep(item, "json", b"0123456789")
    assert [sorted(item.rendered) for item in items] == [[], ["json"], ["json"]]
