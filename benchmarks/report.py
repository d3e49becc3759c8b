"""The numbers as text: a table, ratios to the peers that matter, and the project's goals."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.measure import MANY_PORTS, Row

OURS, TUNED, SOCAT = "ttybridge", "ser2net-tuned", "socat"

LEGEND = """\
1 byte: from a client to the device and back, on processors that are kept awake. up: device to
client, down: client to device; MB are 10^6 bytes, ms/MB is processor time of the server. ports:
memory (PSS) with a client on each. start: until it listens. bare pty: the harness alone.
All are medians, and every byte was checked."""


@dataclass(frozen=True)
class Column:
    """One thing that is measured, and what a measured value is multiplied by to show it."""

    key: str
    head: str
    unit: str
    scale: float = 1.0


COLUMNS = [
    Column("p50", "1 byte", "p50 us"),
    Column("p99", "1 byte", "p99 us"),
    Column("up", "up", "MB/s"),
    Column("cpu_up", "up", "ms/MB"),
    Column("down", "down", "MB/s"),
    Column("cpu_down", "down", "ms/MB"),
    Column("memory_1", "1 port", "MiB", 2**-20),
    Column("memory_many", f"{MANY_PORTS} ports", "MiB", 2**-20),
    Column("start", "start", "ms"),
]
WIDTH = 10

Round = Mapping[str, Row]
"""What one round found of each server; memory is in the first round only."""


def medians(rounds: Sequence[Round]) -> dict[str, Row]:
    """For each server the median of each number."""
    return _over_rounds(rounds, lambda _, row: row)


def ratios(rounds: Sequence[Round], peer: str) -> dict[str, Row]:
    """For each server the median of each number as a multiple of a peer's in the same round.

    A moment in which the machine was busy, and slow for both, does not change a ratio.
    """
    return _over_rounds(
        rounds,
        lambda one, row: {
            key: value / one[peer][key] for key, value in row.items() if key in one[peer]
        },
    )


def _over_rounds(rounds: Sequence[Round], numbers: Callable[[Round, Row], Row]) -> dict[str, Row]:
    values: dict[str, dict[str, list[float]]] = {}
    for one in rounds:
        for name, row in one.items():
            for key, value in numbers(one, row).items():
                values.setdefault(name, {}).setdefault(key, []).append(value)
    return {
        name: {key: statistics.median(found) for key, found in row.items()}
        for name, row in values.items()
    }


def text(rounds: Sequence[Round], about: Mapping[str, str]) -> str:
    """The whole report."""
    parts = ["\n".join(f"{name}: {words}" for name, words in about.items())]
    parts += [LEGEND, _table("measured", medians(rounds), _number)]
    for peer in (TUNED, SOCAT):
        if peer in about:
            table = _table(f"as multiples of {peer}", ratios(rounds, peer), lambda _, x: f"{x:.2f}")
            parts.append(table)
    parts.append(_bars(rounds))
    return "\n\n".join(parts)


def _number(column: Column, value: float) -> str:
    value *= column.scale
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _table(title: str, results: Round, form: Callable[[Column, float], str]) -> str:
    first = max(map(len, results))
    lines = [
        title,
        _line(first, "", (column.head for column in COLUMNS)),
        _line(first, "", (column.unit for column in COLUMNS)),
    ]
    for name, row in results.items():
        cells = (form(c, row[c.key]) if c.key in row else "-" for c in COLUMNS)
        lines.append(_line(first, name, cells))
    return "\n".join(lines)


def _line(first: int, name: str, cells: Iterable[str]) -> str:
    return f"{name:{first}}" + "".join(f"{cell:>{WIDTH}}" for cell in cells)


@dataclass(frozen=True)
class Bar:
    """A goal: one of our numbers as a multiple of a peer's."""

    about: str
    key: str
    ours: str
    peer: str
    wanted: str


BARS = [
    Bar("1 byte there and back", "p50", OURS, TUNED, "at most 1.00"),
    Bar("1 byte there and back", "p50", OURS, "ser2net", "below 0.05"),
    Bar("device to client, MB/s", "up", OURS, TUNED, "at least 2.00"),
    Bar("device to client, MB/s", "up", OURS, SOCAT, "at least 0.95"),
    Bar("device to client, CPU per MB", "cpu_up", OURS, TUNED, "at most 0.50"),
    Bar("device to client, MB/s", "up", "ttybridge-rfc2217", OURS, "at least 0.50"),
    Bar("client to device, MB/s", "down", "ttybridge-rfc2217", OURS, "at least 0.50"),
]


def _bars(rounds: Sequence[Round]) -> str:
    """The goals for the servers that were measured."""
    lines = ["bar: wanted, measured"]
    for bar in BARS:
        if bar.ours in rounds[0] and bar.peer in rounds[0]:
            measured = ratios(rounds, bar.peer)[bar.ours][bar.key]
            lines.append(f"{bar.ours} to {bar.peer}, {bar.about}: {bar.wanted}, {measured:.3g}")
    if OURS in rounds[0]:
        row = rounds[0][OURS]
        growth = row["memory_many"] / row["memory_1"]
        lines.append(f"{OURS}, memory of {MANY_PORTS} ports to 1: below 1.30, {growth:.3g}")
    return "\n".join(lines)
