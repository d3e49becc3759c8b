"""One TCP connection to a port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from ttybridge.port import ServedPort

# The transport asks for a pause above the first and for more below the second.
HIGH_WATER, LOW_WATER = 65536, 16384

# After a client has said that it will send no more, it is closed once the device has been silent
# this long: `echo reboot | nc -N` sees its answer, and no port is held by a client that has left.
FAREWELL_SECONDS = 1.0

# How long a client that is being closed may take to accept what it was sent.
GOODBYE_SECONDS = 5.0


class Client(asyncio.Protocol):
    """The TCP side of a port for one client. The port decides; this keeps the connection."""

    def __init__(self, port: ServedPort) -> None:
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._admitted = False
        self.name = "?"
        self.congested = False
        self.finished = False
        """Whether the client has closed its sending side."""
        self.connected_at = self.active_at = self._loop.time()
        self.received = self.sent = 0

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    @property
    def backlog(self) -> int:
        """Bytes for the client that its connection has not taken yet."""
        return self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected: admit it, or tell it why not."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        peer = transport.get_extra_info("peername")
        if not peer:  # reset before it was accepted
            self.abort()
            return
        self.name = peer_name(peer[0], peer[1])
        _tune(transport.get_extra_info("socket"), self._port.port.keepalive)
        self._admitted = self._port.admit(self, peer[0])
        if self._admitted and self._port.port.idle_timeout:
            self._wait(self._port.port.idle_timeout)

    def data_received(self, data: bytes) -> None:
        """Bytes for the device."""
        if self._admitted:
            self.active_at = self._loop.time()
            self.received += len(data)
            self._port.from_client(self, data)

    def send(self, data: bytes) -> None:
        """Bytes from the device."""
        self.active_at = self._loop.time()
        self.sent += len(data)
        self.transport.write(data)

    def eof_received(self) -> bool:
        """The client will send no more; it still gets what the device answers."""
        if not self._admitted:
            return False
        self.finished = True
        self.active_at = self._loop.time()
        self._wait(FAREWELL_SECONDS)
        return True

    def pause_writing(self) -> None:
        """The connection takes no more for now."""
        self.congested = True
        self._port.congestion_changed()

    def resume_writing(self) -> None:
        """The connection takes more again."""
        self.congested = False
        self._port.congestion_changed()

    def refuse(self, words: str) -> None:
        """Tell a client that is not admitted why, and close."""
        self.transport.write(f"ttybridge: {words}\r\n".encode())
        # Closing with unread input would reset the connection and take the words back.
        with contextlib.suppress(OSError):  # it may have left already
            self.transport.write_eof()
        self._timer = self._loop.call_later(GOODBYE_SECONDS, self.abort)

    def close(self) -> None:
        """Close when all that was sent to the client has gone out, or soon."""
        self.transport.close()
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(GOODBYE_SECONDS, self.abort)

    def abort(self) -> None:
        """Close now."""
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, by whichever side."""
        if self._timer:
            self._timer.cancel()
        if self._admitted:
            self._port.client_left(self, exc)
        self._port.refused.discard(self)

    def _wait(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._check_activity)

    def _check_activity(self) -> None:
        """Close after silence; one timer a client, however busy the client is."""
        limit = FAREWELL_SECONDS if self.finished else self._port.port.idle_timeout
        left = self.active_at + limit - self._loop.time()
        if left > 0 or (self.finished and self._port.will_write_for(self)):
            self._wait(left if left > 0 else FAREWELL_SECONDS)
            return
        if not self.finished:
            self._port.client_idle(self)
        self.close()


def peer_name(address: str, port: int) -> str:
    """A client's address as people write it: IPv4 without its IPv6 clothes, IPv6 in brackets."""
    address = plain_address(address)
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def plain_address(address: str) -> str:
    """192.0.2.1 for ::ffff:192.0.2.1, which is how a listener for both families sees it."""
    return address.removeprefix("::ffff:") if "." in address else address


def _tune(sock: socket.socket, keepalive: int) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if keepalive:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, keepalive // 4))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
