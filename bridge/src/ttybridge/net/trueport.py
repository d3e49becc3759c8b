"""Recognizes Perle TruePort in Full mode, which no server but Perle's can serve.

Such a client sends one urgent byte 0x02 and waits for an urgent answer (Perle's Linux driver): it
seems connected and is dead. It is not answered, but the log says what to choose instead.
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

    asyncio waits for no urgent bytes, but an epoll instance can itself be waited for (epoll(7)).
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ports: dict[int, str] = {}
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._ready)

    def watch(self, fd: int, port: str) -> None:
        """Look for an urgent byte on a connection to a port, once."""
        self._ports[fd] = port  # one that was closed has left the epoll instance by itself
        # Urgent bytes only; an error or hang-up, which epoll always reports, only once.
        self._epoll.register(fd, select.EPOLLPRI | select.EPOLLONESHOT)

    def close(self) -> None:
        """Watch nothing more."""
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _ready(self) -> None:
        for fd, _ in self._epoll.poll(0):
            if _urgent_byte(fd) == PACKET_MODE:
                log.warning(
                    "%s: this client is Perle TruePort in Full mode, which works with Perle's own "
                    "servers only: in TruePort choose Lite (in newer versions Automatic)",
                    self._ports[fd],
                )


def _urgent_byte(fd: int) -> bytes:
    # The event loop's own object for the connection cannot receive.
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as sock:
        return sock.recv(1, socket.MSG_OOB | socket.MSG_DONTWAIT)
    return b""
