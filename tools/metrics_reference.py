"""Writes docs/metrics.md: every metric of every process, from the objects that count.

python tools/metrics_reference.py          rewrites the page
python tools/metrics_reference.py --check  exit code 1 when the committed page is not current
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

from prometheus_client.metrics import MetricWrapperBase

from ferrite.cli.main import COMMANDS, PROCESSES
from services.common.telemetry_metrics import Family

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"

HEAD: Final = """\
# Metrics

<!-- Made by tools/metrics_reference.py (make docs). Do not edit. -->

Every process serves `/metrics` (Prometheus and OpenMetrics text), `/healthz` (it lives) and `/readyz` (it does its
work) at `--ops-listen HOST:PORT`; without that flag it serves none of them. The endpoint has neither TLS nor accounts:
bind it to the management network. `ferrite dev` gives each service a port of its own from 9101 on
(`ferrite/dev/services.py`).

Beside the metrics below each process has `process_*` (CPU, memory, files) and `python_*` of its runtime. A histogram's
samples end in `_bucket`, `_sum` and `_count`. Labels have few values: resources, verbs, codes, names of reconcilers,
devices of a host. Names of objects and addresses are never labels, but for a host's interfaces as dpservice's original
has them; look for them in logs and [traces](tracing.md).
"""

# What a command line imports only for the process that needs it.
BEHIND_COMMANDS: Final = (
    "services.dpservice.serve",
    "services.metalbond.client_metrics",
    "services.metalbond.installer.install",
    "services.metalbond.server.metrics",
)

# Where a metric is defined -> who has it. The first prefix that fits counts.
SECTIONS: Final = (
    ("services.apimachinery.server", "API servers", "`core apiserver`, `net apiserver`, `metalnet apiserver`"),
    ("services.apimachinery.store", "API servers", ""),
    (
        "services.apimachinery.runtime",
        "Controllers",
        "whatever reconciles: `core controllers`, poollets, netlets, `metalnet agent`, providers",
    ),
    ("services.core.controllers", "Core controllers", "`core controllers`"),
    ("services.core.scheduler", "Core controllers", "`core controllers`"),
    ("services.core.poollets", "Poollets", "`core machinepoollet`, `core volumepoollet`"),
    ("services.net", "Netlets", "`net apinetlet`, `net metalnetlet`"),
    ("services.metalnet", "metalnet agent", "`metalnet agent`"),
    ("services.dpservice", "dpservice", "`dpservice serve`"),
    ("services.metalbond.client_metrics", "metalbond client", "`metalbond client`"),
    ("services.metalbond.installer", "metalbond client", ""),
    ("services.metalbond", "metalbond", "`metalbond server`"),
    ("services.libvirt_provider", "libvirt provider", "`libvirt-provider serve`"),
    ("services.ceph_provider", "Ceph provider", "`ceph-provider serve`"),
)


@dataclass(frozen=True)
class Row:
    """One metric as the page shows it."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str

    def __str__(self) -> str:
        labels = ", ".join(f"`{label}`" for label in self.labels)
        return f"| `{self.name}` | {self.type} | {labels} | {self.help} |"


def rows() -> dict[str, list[Row]]:
    """The metrics by the module that defines them."""
    for service in [*PROCESSES.values(), *COMMANDS.values(), *BEHIND_COMMANDS]:
        import_module(service)
    found: dict[str, list[Row]] = {}
    for name, module in sorted(sys.modules.items()):
        if not name.startswith("services."):
            continue
        metrics = [row for value in vars(module).values() if (row := _row(value)) is not None]
        if metrics:
            found[name] = metrics
    return found


def _row(value: object) -> Row | None:
    if isinstance(value, Family):
        name = value.name + ("_total" if value.type == "counter" else "")
        return Row(name, value.type, value.labels, value.help)
    if isinstance(value, MetricWrapperBase):
        [described] = value.describe()
        name = described.name + ("_total" if described.type == "counter" else "")
        return Row(name, described.type, tuple(value._labelnames), described.documentation)
    return None


def page() -> str:
    """The page's text. Raises ValueError for a metric that has no place on it."""
    sections: dict[str, tuple[str, set[Row]]] = {}
    seen: set[str] = set()
    for module, metrics in rows().items():
        try:
            title, processes = next((title, who) for prefix, title, who in SECTIONS if module.startswith(prefix))
        except StopIteration:
            raise ValueError(f"{module} has metrics but no section") from None
        who, listed = sections.get(title, ("", set()))
        # A module may use what another one has defined.
        listed |= {row for row in metrics if row.name not in seen}
        seen |= {row.name for row in metrics}
        sections[title] = (who or processes, listed)
    parts = [HEAD]
    for title in dict.fromkeys(title for _, title, _ in SECTIONS):
        if title in sections:
            who, listed = sections[title]
            lines = [str(row) for row in sorted(listed, key=lambda row: row.name)]
            table = ["| metric | type | labels | meaning |", "|---|---|---|---|", *lines]
            parts.append("\n".join([f"## {title}", "", f"Of {who}.", "", *table, ""]))
    return "\n".join(parts)


def main(arguments: list[str]) -> int:
    """Exit code."""
    text = page()
    if "--check" in arguments:
        return 0 if PAGE.exists() and PAGE.read_text() == text else 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
