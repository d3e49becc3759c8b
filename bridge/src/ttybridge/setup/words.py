"""Words that several messages need."""

from __future__ import annotations

from collections.abc import Sequence

# Ports that are named as open to everybody; the others are counted.
MOST_PORTS = 10


def count(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 host" and "2 hosts"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def open_to_everyone(ports: Sequence[str]) -> str:
    """Return a line that names ports (`Port.open_to_all`), with what to write."""
    more = len(ports) - MOST_PORTS
    named = [*ports[:MOST_PORTS], *([f"{more} more"] if more > 0 else [])]
    return (
        f"open to everyone who reaches them: {count(len(ports), 'port')} ({', '.join(named)}): "
        "write allow: [local], the networks, or allow: [any] if that is meant"
    )
