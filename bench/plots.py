"""`make bench-plots`: pictures of build/bench/*.json for docs/performance.md, as plain SVG."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from bench.apply import GOAL_SECONDS, HOPS
from bench.packets import PACKET_GOALS, STREAM_GOALS
from bench.report import OUT

IMAGES: Final = Path(__file__).resolve().parents[1] / "docs" / "images"
WIDTH, LEFT, ROW, TOP = 760, 220, 30, 44
MET, MISSED, INK, PAPER = "#2a7f62", "#c0643c", "#1f2933", "#ffffff"


@dataclass(frozen=True)
class Bar:
    """From `start` to `start + length`; a goal is drawn as a line across."""

    label: str
    text: str
    length: float
    start: float = 0.0
    goal: float | None = None
    is_met: bool = True


def drawing(title: str, bars: list[Bar], unit: str) -> str:
    """Horizontal bars on one scale."""
    reach = max(max(bar.start + bar.length, bar.goal or 0) for bar in bars) * 1.12
    scale = (WIDTH - LEFT - 60) / reach
    height = TOP + ROW * len(bars) + 30
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
        f' font-size="13" fill="{INK}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
        f'<text x="12" y="26" font-size="16" font-weight="bold">{escape(title)}</text>',
    ]
    for index, bar in enumerate(bars):
        y, x, length = TOP + ROW * index, LEFT + bar.start * scale, max(bar.length * scale, 1)
        colour = MET if bar.is_met else MISSED
        lines.append(f'<text x="{LEFT - 10}" y="{y + 18}" text-anchor="end">{escape(bar.label)}</text>')
        lines.append(f'<rect x="{x:.1f}" y="{y + 4}" width="{length:.1f}" height="{ROW - 10}" fill="{colour}"/>')
        end = x + length
        if bar.goal is not None:
            at = LEFT + bar.goal * scale
            lines.append(f'<path d="M{at:.1f} {y}v{ROW - 2}" stroke="{INK}" stroke-width="2" stroke-dasharray="4 2"/>')
            end = max(end, at)
        lines.append(f'<text x="{end + 6:.1f}" y="{y + 18}">{escape(bar.text)}</text>')
    lines.append(f'<text x="{LEFT}" y="{height - 10}" font-size="12">{escape(unit)}</text></svg>')
    return "\n".join(lines) + "\n"


def curve(title: str, series: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str) -> str:
    """Lines through measured points, by their names. On both scales, logarithmic, a straight slope is a power law.

    All lines have points at the same places.
    """
    logs = [(math.log10(x), math.log10(y)) for points in series.values() for x, y in points]
    left, bottom = min(x for x, _ in logs), math.floor(min(y for _, y in logs))
    width, height = max(x for x, _ in logs) - left or 1, math.ceil(max(y for _, y in logs)) - bottom or 1

    def place(x: float, y: float) -> tuple[float, float]:
        return 90 + (x - left) / width * (WIDTH - 190), TOP + 220 - (y - bottom) / height * 200

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {TOP + 280}" font-family="sans-serif"'
        f' font-size="13" fill="{INK}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{TOP + 280}" fill="{PAPER}"/>',
        f'<text x="12" y="26" font-size="16" font-weight="bold">{escape(title)}</text>',
    ]
    for power in range(height + 1):
        y = place(left, bottom + power)[1]
        lines.append(f'<path d="M90 {y:.1f}H{WIDTH - 100}" stroke="#d8dde3"/>')
        lines.append(f'<text x="82" y="{y + 4:.1f}" text-anchor="end">{_short(10.0 ** (bottom + power))}</text>')
    for (name, points), colour in zip(series.items(), (MET, MISSED), strict=False):
        places = [place(math.log10(x), math.log10(y)) for x, y in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        lines.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (x, y), (_, value) in zip(places, points, strict=True):
            lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
            lines.append(f'<text x="{x:.1f}" y="{y - 10:.1f}" text-anchor="middle">{_short(value)}</text>')
        x, y = places[-1]
        lines.append(f'<text x="{x + 24:.1f}" y="{y + 4:.1f}" fill="{colour}">{escape(name)}</text>')
    for label, _ in next(iter(series.values())):
        x = place(math.log10(label), bottom)[0]
        lines.append(f'<text x="{x:.1f}" y="{TOP + 242}" text-anchor="middle">{_short(label)}</text>')
    lines.append(f'<text x="12" y="{TOP + 266}" font-size="12">{escape(f"across: {across}; up: {up}")}</text></svg>')
    return "\n".join(lines) + "\n"


def _short(value: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


CURVES: Final = {
    "peers": ("metalbond: deliveries a second, by subscribers", "subscribers", "deliveries a second, all together"),
    "routes": ("metalbond: a whole table to a new gRPC subscriber", "routes in the table", "seconds"),
    "vnis": ("metalbond: routes a second, taken in and reflected to one, by VNIs", "VNIs in turn", "routes a second"),
}


PACKET_CURVES: Final = {
    "routes": ("A packet in the sending host's program, by routes", "routes in the table"),
    "flows": ("A packet in both hosts' programs, by flows", "flows in the table"),
    "interfaces": ("A packet in both hosts' programs, by interfaces", "interfaces of the receiving host"),
    "rules": ("A packet in both hosts' programs, by firewall rules", "rules of each guest and direction"),
}


def packets(figures: dict[str, float]) -> str:
    """Ratios beside their goals."""
    goals = {row[0]: row[3] for row in (*PACKET_GOALS, *STREAM_GOALS)}
    bars = [
        Bar(name.replace("_", " "), f"{figures[name]:.2f} (goal {wanted:g})", figures[name], goal=wanted,
            is_met=figures[name] >= wanted)
        for name, wanted in goals.items()
    ]  # fmt: skip
    return drawing("Packets of the overlay against the kernel's own ways", bars, "ratio; dashed: the goal")


def apply(figures: dict[str, float]) -> str:
    """The hops one after the other. Medians of hops need not add up to the median of the whole."""
    bars, start = [], 0.0
    for key, state, _ in HOPS:
        bars.append(Bar(state, f"{figures[key]:.2f} s", figures[key], start))
        start += figures[key]
    whole = figures["apply_to_running_s"]
    text = f"{whole:.2f} s (goal {GOAL_SECONDS:g})"
    bars.append(Bar("kubectl apply to running", text, whole, goal=GOAL_SECONDS, is_met=whole <= GOAL_SECONDS))
    return drawing("One machine, from kubectl apply to its running domain", bars, "seconds; dashed: the goal")


def main() -> None:
    """Draws what has been measured."""
    for name, draw in (("packets", packets), ("apply", apply)):
        source = OUT / f"{name}.json"
        if source.exists():
            target = IMAGES / f"performance-{name}.svg"
            target.write_text(draw(json.loads(source.read_text())))
            print(f"{source} drawn as {target.relative_to(IMAGES.parents[1])}")
    source = OUT / "metalbond-curves.json"
    if source.exists():
        for name, points in json.loads(source.read_text()).items():
            target = IMAGES / f"performance-metalbond-{name}.svg"
            target.write_text(curve(CURVES[name][0], {"": points}, *CURVES[name][1:]))
            print(f"{source} drawn as {target.relative_to(IMAGES.parents[1])}")
    source = OUT / "packets-curves.json"
    if source.exists():
        found = json.loads(source.read_text())
        for name, (title, across) in PACKET_CURVES.items():
            target = IMAGES / f"performance-packets-{name}.svg"
            series = {"later": found[name], "first": found[f"{name}-first"]}
            target.write_text(curve(title, series, across, "nanoseconds of a flow's first packet, and of later ones"))
            print(f"{source} drawn as {target.relative_to(IMAGES.parents[1])}")


if __name__ == "__main__":
    main()
