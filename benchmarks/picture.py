"""The numbers as one picture for the README: SVG, readable on a light and on a dark page."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape

from benchmarks.measure import BARE, MANY_PORTS, Row

# In user units, which are pixels at the picture's own size.
PANEL, GAP, LABEL, ROW, TOP = 410, 24, 128, 19, 34
BAR = PANEL - LABEL - 46  # the longest bar; its value is on its right

# The longest bar, as a multiple of the median: a longer one would make the others too short to
# compare, so it is cut.
LONGEST = 4.0

STYLE = """\
  text { font-family: system-ui, sans-serif; font-size: 12px; fill: #1f2328 }
  .title { font-weight: 600 } .small { font-size: 11px; fill: #59636e }
  .page { fill: #ffffff; stroke: #d1d9e0 } .peer { fill: #a3adb8 } .ours { fill: #0969da }
  .cut { stroke: #ffffff; stroke-width: 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .small { fill: #9198a1 }
    .page { fill: #0d1117; stroke: #3d444d } .peer { fill: #656c76 } .ours { fill: #4493f8 }
    .cut { stroke: #0d1117 }
  }"""


@dataclass(frozen=True)
class Panel:
    """One group of bars: a column of the report."""

    key: str
    title: str
    scale: float = 1.0


PANELS = [
    Panel("p50", "1 byte there and back, µs: less is better"),
    Panel("up", "device to client, MB/s: more is better"),
    Panel("cpu_up", "processor time, ms per MB to the client: less is better"),
    Panel("memory_many", f"memory with {MANY_PORTS} ports, MiB: less is better", 2**-20),
]


def svg(results: Mapping[str, Row], machine: str) -> str:
    """The picture: a bar for each server in each panel."""
    rows = len(results.keys() - {BARE})
    width, height = 2 * PANEL + 3 * GAP, 2 * (TOP + rows * ROW + GAP) + TOP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="ttybridge beside its peers">',
        f"<style>\n{STYLE}\n</style>",
        f'<rect class="page" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
    ]
    for index, panel in enumerate(PANELS):
        x = GAP + index % 2 * (PANEL + GAP)
        y = GAP + index // 2 * (TOP + rows * ROW + GAP)
        parts += [f'<g transform="translate({x} {y})">', *_panel(panel, results), "</g>"]
    parts.append(_text(GAP, height - 14, machine, "small"))
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, results: Mapping[str, Row]) -> list[str]:
    values = {
        name: row[panel.key] * panel.scale
        for name, row in results.items()
        if panel.key in row and name != BARE
    }
    if not values:
        return []
    longest = min(max(values.values()), LONGEST * statistics.median(values.values()))
    parts = [_text(0, 10, panel.title, "title")]
    for index, (name, value) in enumerate(values.items()):
        y = TOP - 8 + index * ROW
        length = BAR * min(1.0, value / longest)
        kind = "ours" if name.startswith("ttybridge") else "peer"
        parts.append(_text(LABEL - 8, y + 11, name, "label", "end"))
        size = f'width="{length:.1f}" height="{ROW - 5}"'
        parts.append(f'<rect class="{kind}" x="{LABEL}" y="{y}" {size} rx="2"/>')
        if value > longest:
            cut = LABEL + length - 24
            parts.append(f'<path class="cut" d="M{cut:.1f} {y + ROW} l8 -{ROW + 4}"/>')
        shown = f"{value:.0f}" if value >= 100 else f"{value:.1f}"
        parts.append(_text(LABEL + length + 6, y + 11, shown, "value"))
    return parts


def _text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )
