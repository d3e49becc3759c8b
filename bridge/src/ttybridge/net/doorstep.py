"""Takes the place of a transport until asyncio has made it, some turns of the event loop later.

A client belongs to its port from the moment it is accepted: it also gets what the device says
before its transport exists.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any


class Doorstep(asyncio.Transport):
    """Keeps writes and requests until asyncio's transport can take them."""

    def __init__(self, sock: socket.socket | None = None) -> None:
        super().__init__({"socket": sock})
        self._unsent = bytearray()
        self._reads = True
        self._closing = self._aborted = False

    def replay_to(self, transport: asyncio.Transport) -> None:
        """Ask asyncio's transport for everything that was asked of this one, in the same order."""
        if self._aborted:
            transport.abort()
            return
        if not self._reads:
            transport.pause_reading()
        if self._unsent:
            transport.write(bytes(self._unsent))
        if self._closing:
            transport.close()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Keep bytes for the client."""
        self._unsent += data

    def get_write_buffer_size(self) -> int:
        """How many bytes are kept."""
        return len(self._unsent)

    def pause_reading(self) -> None:
        """Do not read the client."""
        self._reads = False

    def resume_reading(self) -> None:
        """Read the client again."""
        self._reads = True

    def is_closing(self) -> bool:
        """Whether the connection will be closed."""
        return self._closing or self._aborted

    def close(self) -> None:
        """Close once the kept bytes are written."""
        self._closing = True

    def abort(self) -> None:
        """Close, and drop the kept bytes."""
        self._unsent.clear()
        self._aborted = True
