"""What the tests of all scenarios do as clients of a port."""

from __future__ import annotations

import socket


def receive(connection: socket.socket, size: int) -> bytes:
    """The next `size` bytes."""
    data = bytearray()
    while len(data) < size:
        try:
            chunk = connection.recv(65536)
        except TimeoutError:
            raise AssertionError(f"no more came after {len(data)} of {size} bytes") from None
        assert chunk, f"closed after {len(data)} of {size} bytes"
        data += chunk
    return bytes(data)
