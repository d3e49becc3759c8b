"""Keeps a port for the next process while it runs, so that a kill disconnects nobody.

Listeners, clients and the tty go into the store when they come. A small record says what they are:
written again in the turn of the event loop in which something happens, and once a second for what
only counts. What is in the memory of the process is not in it: a kill loses those bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ttybridge.serve.record import MemoryFile


class Store(Protocol):
    """What keeps descriptors when this process ends, however it ends."""

    def put(self, kind: str, descriptor: int) -> str:
        """Keep a descriptor from now on; return the name that it has there.

        The name begins with the first letter of the kind.
        """

    def drop(self, name: str) -> None:
        """Keep it no more. Called before the descriptor is closed here."""


class Keeper:
    """Keeps one port; without a store it does nothing."""

    def __init__(self, store: Store | None = None) -> None:
        self._store = store
        self._make: Callable[[], bytes] = bytes
        self._file: MemoryFile | None = None
        self._name = ""
        self._is_due = False
        self._counted: object = None

    def begin(self, make: Callable[[], bytes]) -> None:
        """Have a record from now on: `make` returns it."""
        self._make = make
        if self._store:
            self._file = MemoryFile()
            self.write()
            self._name = self._store.put("record", self._file.fileno())

    def put(self, kind: str, descriptor: int) -> str:
        """Keep a descriptor; return its name for the record, "" without a store."""
        if not self._store:
            return ""
        self.note()
        return self._store.put(kind, descriptor)

    def drop(self, name: str | None) -> None:
        """Keep a descriptor no more that is about to be closed."""
        if self._store and name:
            self._store.drop(name)
            self.note()

    def note(self) -> None:
        """Something that is in the record has changed: write it at the end of this turn."""
        if self._file and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self.write_noted)

    def count(self, counted: object) -> None:
        """Write the record if what it counts is not as it was when this was last called."""
        if counted != self._counted:
            self._counted = counted
            self.note()

    def write_noted(self) -> None:
        """Write the record now, if something was noted: before a client is told that it is so."""
        if self._is_due:
            self.write()

    def write(self) -> None:
        """Write the record now."""
        self._is_due = False
        if self._file:
            self._file.write(self._make())

    def leave(self) -> None:
        """The next process goes on with all that is kept: leave it as it is."""
        self._store = None
        self._close()

    def end(self) -> None:
        """The port is no longer served."""
        self.drop(self._name)
        self._store = None
        self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file:
            file.close()
