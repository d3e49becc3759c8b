"""Waiting for what a test needs to see. No test sleeps: each waits until something is so."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import Protocol

TIMEOUT = 20.0
"""Seconds after which a test says that something hangs; none depends on how fast it is."""

EVERY_BYTE = bytes(range(256))


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return when the condition holds; `AssertionError` where it never does."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)


class Stream:
    """What comes out of a file descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._unread = bytearray()

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, or fewer where no more come."""
        self._fill(lambda: len(self._unread) >= size)
        return self._take(size)

    def read_until(self, end: bytes) -> bytes:
        """Return everything up to and with `end`; `AssertionError` where it never comes."""
        self._fill(lambda: end in self._unread)
        assert end in self._unread, f"no {end!r} in {bytes(self._unread)!r}"
        return self._take(self._unread.index(end) + len(end))

    def has(self, words: bytes, seconds: float = 0) -> bool:
        """Whether words are in what has come until now, or come before nothing does for a time."""
        while words not in self._unread and (data := self._some(seconds)):
            self._unread += data
        return words in self._unread

    def unread(self) -> bytes:
        """Return what has come and was not read, and leave it."""
        return bytes(self._unread)

    def heard(self, seconds: float) -> bytes:
        """Return what has come, or the first of what comes within a time."""
        return self._take(len(self._unread)) or self._some(seconds)

    def _some(self, seconds: float) -> bytes:
        """The next bytes; none if none come in time, or the other side has closed."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return b""
        try:
            return os.read(self._fd, 65536)
        except OSError:  # how a terminal says that its other side has closed
            return b""

    def _take(self, size: int) -> bytes:
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    def _fill(self, enough: Callable[[], bool]) -> None:
        """Read until there is enough, or no more comes."""
        deadline = time.monotonic() + TIMEOUT
        while not enough():
            data = self._some(max(0, deadline - time.monotonic()))
            if not data:
                return
            self._unread += data


class Speaker(Protocol):
    """One end of a conversation."""

    def write(self, data: bytes, /) -> object:
        """Send all of it."""

    def read(self, size: int, /) -> bytes:
        """Return the next `size` bytes, or fewer where no more come."""


def assert_carries(
    sender: Speaker, receiver: Speaker, data: bytes = EVERY_BYTE, becomes: bytes | None = None
) -> None:
    """Assert that what one end sends arrives at the other, as it is or as what it becomes."""
    expected = data if becomes is None else becomes
    sender.write(data)
    assert receiver.read(len(expected)) == expected
