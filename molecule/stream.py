"""Bytes that say where they belong, so that their receiver counts what is lost or repeated.

A stream has a name and no end, and is the same each time: cells of 64 bytes, each with its number
and a checksum of name and number.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

CELL = 64
_NUMBER = 4

# Wherever a stream goes on, its first whole cell begins and ends in so many bytes.
_WINDOW = 2 * CELL - 1


def piece(name: str, start: int, size: int) -> bytes:
    """Return `size` bytes of a stream, from the position `start` on."""
    first = start // CELL
    cells = b"".join(_cell(name, first + i) for i in range((start % CELL + size) // CELL + 1))
    return cells[start % CELL :][:size]


def _cell(name: str, number: int) -> bytes:
    digits = number.to_bytes(_NUMBER, "big")
    check = hashlib.blake2b(digits, digest_size=CELL - _NUMBER, key=name.encode())
    return digits + check.digest()


class Checker:
    """Compares what arrives of a stream with the stream.

    Bytes are `lost` that it goes on behind, `repeated` that it goes back to, and `wrong` that are
    not of the stream.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.position = 0
        """Of the next byte."""
        self.lost = 0
        self.repeated = 0
        self.wrong = 0
        self._unread = b""
        self._astray = False

    def receive(self, data: bytes) -> None:
        """Take the next bytes that have arrived."""
        self._unread += data
        while self._unread:
            if self._astray and not self._finds_its_way():
                return
            self._follow()

    def _follow(self) -> None:
        """Take what is right, up to the first byte that is not."""
        right = piece(self.name, self.position, len(self._unread))
        self._astray = right != self._unread
        same = _first_difference(right, self._unread) if self._astray else len(right)
        self.position += same
        self._unread = self._unread[same:]

    def _finds_its_way(self) -> bool:
        """Find where the stream goes on; False where more bytes must arrive for that."""
        for place in range(len(self._unread) - CELL + 1):
            number = int.from_bytes(self._unread[place : place + _NUMBER], "big")
            if self._unread[place : place + CELL] == _cell(self.name, number):
                self._go_on(place, number * CELL)
                return True
        excess = max(0, len(self._unread) - _WINDOW)
        self.wrong += excess
        self._unread = self._unread[excess:]
        return False

    def _go_on(self, place: int, position: int) -> None:
        """A whole cell of a certain position is at a place of what is unread."""
        before = min(place, position)
        head = piece(self.name, position - before, before)
        while before and self._unread[place - before : place] != head[-before:]:
            before -= 1
        self.wrong += place - before
        start = position - before
        self.lost += max(0, start - self.position)
        self.repeated += max(0, self.position - start)
        self.position = start
        self._unread = self._unread[place - before :]


def _first_difference(one: bytes, other: bytes) -> int:
    pairs = zip(one, other, strict=True)
    return next(place for place, (mine, its) in enumerate(pairs) if mine != its)


class Receipt:
    """What has arrived of a stream, and the longest pause between two arrivals, in seconds."""

    def __init__(self, name: str) -> None:
        self._checker = Checker(name)
        self._last = time.monotonic()
        self._longest = 0.0

    def receive(self, data: bytes) -> None:
        """Take the next bytes that have arrived."""
        self._note()
        self._checker.receive(data)

    def begin(self) -> None:
        """Measure pauses from now on."""
        self._last, self._longest = time.monotonic(), 0.0

    def report(self) -> dict[str, Any]:
        """Everything that is known, as JSON has it."""
        checker = self._checker
        return {
            "position": checker.position,
            "lost": checker.lost,
            "repeated": checker.repeated,
            "wrong": checker.wrong,
            "pause": max(self._longest, time.monotonic() - self._last),
        }

    def _note(self) -> None:
        now = time.monotonic()
        self._longest, self._last = max(self._longest, now - self._last), now
