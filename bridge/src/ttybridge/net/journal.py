"""Lines for the journal of the host, by journald's native protocol.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL: a datagram has one entry, a line for each field. A
datagram is sent at once or not at all, so a journald that is dead or slow holds nobody up.
"""

from __future__ import annotations

import socket

SOCKET = "/run/systemd/journal/socket"


class Journal:
    """A way to the journal; it may come, go, and be slow."""

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._sock.setblocking(False)

    def send(self, fields: dict[str, str]) -> None:
        """Send an entry; no value may hold a line feed. Raises `OSError` if it is lost."""
        lines = "".join(f"{name}={value}\n" for name, value in fields.items())
        self._sock.sendto(lines.encode("utf-8", "backslashreplace"), self._path)

    def close(self) -> None:
        """Send nothing more."""
        self._sock.close()
