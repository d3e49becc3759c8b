"""Gathers what a device says without a pause, so that clients get it in one piece.

A tty hands over what it has received in lumps: 8 bytes of a UART's FIFO, or what an adapter has
collected for a USB packet. The time between two reads says nothing of the line before the next lump
is due. So a pause counts from then on, and the largest lump so far says when that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ttybridge.model.ports import Pack

# uvloop counts milliseconds: a shorter wait would be none.
_TICK_SECONDS = 0.001


class Line(Protocol):
    """What the packer asks of the device."""

    @property
    def character_seconds(self) -> float:
        """How long the line takes for a character, in seconds."""


class Packer:
    """Pieces of at most `pack.max` bytes for `deliver`.

    `look` is called before a piece ends for a pause: it may bring more, which a busy process has
    not read yet.
    """

    def __init__(
        self,
        pack: Pack,
        line: Line,
        deliver: Callable[[bytes], None],
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._pack = pack
        self._line = line
        self._deliver = deliver
        self._look = look
        self._loop = asyncio.get_running_loop()
        self._waiting = bytearray()
        self._lump = 0
        """Bytes of the largest lump of this piece, and in `_lump_before` of the one before it."""
        self._lump_before = 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, lump: bytes) -> None:
        """The device has said something."""
        most = self._pack.max
        self._waiting += lump
        while len(self._waiting) >= most:
            self._send(most)
        self._lump = max(self._lump, min(len(lump), most))
        if self._waiting:
            lump_bytes = max(self._lump, self._lump_before)
            pause = (lump_bytes + self._pack.idle) * self._line.character_seconds
            self._due = self._loop.time() + pause
            self._wait()

    def flush(self) -> None:
        """Deliver what waits, now."""
        self._send(len(self._waiting))
        self._lump_before, self._lump = self._lump, 0
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def discard(self) -> None:
        """Drop what waits."""
        self._waiting.clear()

    def _send(self, size: int) -> None:
        piece = bytes(self._waiting[:size])
        del self._waiting[:size]
        if piece:
            self._deliver(piece)

    def _wait(self) -> None:
        """Check when it is due; one timer is enough, however many lumps come."""
        if self._waiting and not self._timer:
            seconds = max(_TICK_SECONDS, self._due - self._loop.time())
            self._timer = self._loop.call_later(seconds, self._check)

    def _check(self) -> None:
        self._timer = None
        if self._is_due():
            self._look()
            if self._is_due():
                self.flush()
        self._wait()

    def _is_due(self) -> bool:
        return self._loop.time() >= self._due
