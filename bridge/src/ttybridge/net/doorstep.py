"""What a client has until asyncio has made its transport, some turns of the event loop later.

A client belongs to its port from the moment it is accepted: what the device says from then on is
for it, too.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any


class Doorstep(asyncio.Transport):
    """Keeps what is written and asked for, and gives it to the transport that comes."""

    def __init__(self, sock: socket.socket | None = None) -> None:
        super().__init__({"socket": sock})
        self._unsent = bytearray()
        self._reads = True
        self._closing = self._aborted = False

    def hand_over(self, transport: asyncio.Transport) -> None:
        """Do with a transport all that was asked of this one, in the same order."""
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
        """Take nothing from the client."""
        self._reads = False

    def resume_reading(self) -> None:
        """Take again what the client sends."""
        self._reads = True

    def is_closing(self) -> bool:
        """Whether the connection is to be closed."""
        return self._closing or self._aborted

    def close(self) -> None:
        """Close after what is kept."""
        self._closing = True

    def abort(self) -> None:
        """Close, and forget what is kept."""
        self._unsent.clear()
        self._aborted = True
