"""What all ports together hold in memory is bounded: a few dozen clients could fill a Pi's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ttybridge.line.write_queue import Waiting

# Bytes that all clients may be behind together. One alone may be LAG_LIMIT behind (client.py).
MOST_BEHIND = 64 * 1024 * 1024

# A client says so each time that it is so many bytes further behind.
STEP = 65536


class Laggard(Protocol):
    """Who can be behind."""

    @property
    def backlog(self) -> int:
        """Bytes that it has not taken yet."""

    def close_as_last(self, together: int) -> None:
        """Close, because all are `together` bytes behind and this one most of all."""


class Backlogs:
    """The clients that are behind, with what each has said last. A figure may be too high."""

    def __init__(self) -> None:
        self._behind: dict[Laggard, int] = {}
        self._together = 0

    def note(self, client: Laggard, behind: int) -> None:
        """A client is so many bytes behind now; 0 also if it has left."""
        self._together += behind - self._behind.pop(client, 0)
        if behind:
            self._behind[client] = behind
        if self._together > MOST_BEHIND:
            self._relieve()

    def _relieve(self) -> None:
        """Bring the figures up to date; close who is furthest behind until the rest fits."""
        self._behind = {one: one.backlog for one in self._behind}
        self._together = sum(self._behind.values())
        while self._together > MOST_BEHIND:
            last = max(self._behind, key=self._behind.__getitem__)
            together = self._together
            self._together -= self._behind.pop(last)
            last.close_as_last(together)


@dataclass
class Bounds:
    """What all ports share: what waits for clients, and what waits for devices."""

    behind: Backlogs = field(default_factory=Backlogs)
    waiting: Waiting = field(default_factory=Waiting)
