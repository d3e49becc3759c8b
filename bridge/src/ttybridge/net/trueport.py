"""Recognizes Perle TruePort in Full mode, which no server but Perle's can serve.

Such a client sends one urgent byte 0x02 and waits for an urgent answer (Perle's Linux driver), so
it seems connected but passes no data. ttybridge does not answer; the journal says what to choose
instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import socket

log = logging.getLogger(__name__)

PACKET_MODE = b"\x02"


class FullModeWatch:
    """Waits for urgent bytes on the connections of raw ports, without waking up for anything else.

    asyncio cannot wait for urgent bytes, but it can wait for an epoll instance (epoll(7)).
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._port_names: dict[int, str] = {}
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._ready)

    def watch(self, fd: int, port_name: str) -> None:
        """Look for an urgent byte on a connection to a port, once."""
        self._port_names[fd] = port_name  # a closed one has left the epoll instance by itself
        # Urgent bytes only; an error or hang-up, which epoll always reports, only once.
        self._epoll.register(fd, select.EPOLLPRI | select.EPOLLONESHOT)

    def close(self) -> None:
        """Stop watching."""
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _ready(self) -> None:
        for fd, _ in self._epoll.poll(0):
            if _urgent_byte(fd) == PACKET_MODE:
                log.warning(
                    "%s: this client is Perle TruePort in Full mode, which works with Perle's own "
                    "servers only: in TruePort choose Lite (in newer versions Automatic)",
                    self._port_names[fd],
                )


def _urgent_byte(fd: int) -> bytes:
    # The event loop's own socket object cannot receive.
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as sock:
        return sock.recv(1, socket.MSG_OOB | socket.MSG_DONTWAIT)
    return b""
