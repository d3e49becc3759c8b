"""A table for a terminal: columns as wide as their widest cell, two spaces apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def table(rows: Sequence[Sequence[str]], optional: Collection[str] = ()) -> str:
    """Return rows of equally many cells as lines, none of which ends in spaces.

    The first row is the head. A column whose head is in `optional` is left out if it has no text.
    """
    columns = [
        column for column in zip(*rows, strict=True) if column[0] not in optional or any(column[1:])
    ]
    widths = [max(map(len, column)) for column in columns]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in zip(*columns, strict=True)
    )
    return "\n".join(line.rstrip() for line in lines)
