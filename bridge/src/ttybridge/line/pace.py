"""How many bytes a tty holds ahead of its line, where several senders take turns."""

from __future__ import annotations

import sys
from time import monotonic
from typing import Protocol

# Line time of what the tty may hold, in seconds: enough to keep the line busy between two looks.
AHEAD_SECONDS = 0.25

# How many times a pty is asked what it holds, and the seconds between two times, before it is clear
# that it does not say so. Only a simulated tty does.
PROBES, PROBE_SECONDS = 3, 0.01


class Tty(Protocol):
    """What `Pace` needs of a tty."""

    @property
    def bytes_per_second(self) -> float:
        """What its line carries."""

    @property
    def tells_unsent(self) -> bool:
        """Whether it is certain to say what it holds."""

    def unsent(self) -> int:
        """Bytes that it holds."""


class Pace:
    """Keeps what one tty holds below `AHEAD_SECONDS` of its line's time.

    A simulated tty may report late, so written bytes are also counted against the clock. A pty that
    says nothing has no line: it is filled without limit.
    """

    def __init__(self, tty: Tty) -> None:
        self._tty = tty
        self._tells: bool | None = None
        self._probes = PROBES
        self._probed_at = 0.0
        self._held = 0.0
        self._held_at = 0.0

    def begin(self) -> None:
        """Forget what is known: the device will be opened again."""
        self._tells, self._probes, self._held = None, PROBES, 0.0

    @property
    def pause(self) -> float:
        """Seconds until it is worth asking for room again."""
        return AHEAD_SECONDS / 2 if self._tells else PROBE_SECONDS

    def room(self) -> int:
        """Return how many bytes may be written now."""
        now, unsent = monotonic(), self._tty.unsent()
        per_second = self._tty.bytes_per_second
        most = 1 + round(AHEAD_SECONDS * per_second)
        if self._tells is None and (unsent or self._tty.tells_unsent):
            self._tells = True
        if self._tells:
            self._held = max(0.0, self._held - (now - self._held_at) * per_second)
            self._held_at = now
            return max(0, most - max(unsent, round(self._held)))
        if not self._probes:
            return sys.maxsize
        if now - self._probed_at < PROBE_SECONDS:
            return 0
        self._probes -= 1
        self._probed_at = now
        return most

    def wrote(self, count: int) -> None:
        """`count` bytes were written."""
        self._held += count
