"""One connection: it reads, writes and closes, and notices when its peer is dead.

A connection knows no port. It tells its owner what happens. Nearly all are TCP; a local program
comes by a Unix socket, where the kernel says at once that it has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Protocol, cast

from ttybridge.net.doorstep import Doorstep
from ttybridge.net.sockets import (
    TCP_CLOSE,
    TCP_ESTABLISHED,
    has_hung_up,
    has_left,
    is_local,
    peer_name,
    set_keepalive,
    tcp_info,
)
from ttybridge.net.tls import names_in

# The transport reports "full" above the first and "takes more" below the second, in bytes.
HIGH_WATER, LOW_WATER = 65536, 16384

# After a read of this many bytes, a client waits for the next turn of the event loop.
MUCH = 65536

# How long a connection that is being closed may take to accept what it was sent, in seconds.
GOODBYE_SECONDS = 5.0

# A tail longer than this many bytes is cut to what the kernel has not taken.
TAIL_SIZE = 65536


class PeerDeadError(ConnectionError):
    """The peer does not answer any more, though the connection has not ended."""

    def __str__(self) -> str:
        return "it does not answer"


class Owner(Protocol):
    """What a connection asks of its owner."""

    def arrived(self, connection: Connection) -> None:
        """It has a name and can be written to."""

    def received(self, connection: Connection, data: bytes) -> None:
        """The other side has sent bytes."""

    def writable(self, connection: Connection) -> None:
        """`full` has changed."""

    def finished(self, connection: Connection) -> bool:
        """The other side will send no more; return whether it still gets answers."""

    def gone(self, connection: Connection, error: Exception | None) -> None:
        """It has ended, or its peer is dead. Called once."""


class Connection(asyncio.Protocol):
    """The asyncio protocol of one connection; `keepalive` in seconds, 0 for none.

    `name` is given for a connection of an earlier process (if the peer has left since, the kernel
    does not know its address any more), and for one on a Unix socket, which has no address.
    """

    def __init__(self, owner: Owner, keepalive: int, name: str = "") -> None:
        self._owner = owner
        self._keepalive = keepalive
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._send: Callable[[bytes], object] = bytes
        self._goodbye: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._tail = bytearray()
        """Tail of what was written; its last get_write_buffer_size() bytes are still here."""
        self._paused_for: set[str] = set()
        self._is_gone = False
        self._is_local = False
        """Whether it is a Unix socket."""
        self.name = name
        """Address and TCP port of the other side, as people write them."""
        self.names: tuple[str, ...] = ()
        """Who the other side is by its TLS certificate, which was verified; () without one."""
        self.is_open = False
        """Whether it can be written to."""
        self.full = False
        """Whether it takes no more for now."""

    @property
    def transport(self) -> asyncio.Transport:
        """asyncio's transport; a `Doorstep` until asyncio has made it."""
        assert self._transport is not None
        return self._transport

    @property
    def has_tls(self) -> bool:
        """Whether it is encrypted."""
        return self.transport.get_extra_info("ssl_object") is not None

    @property
    def backlog(self) -> int:
        """Bytes that were written and that the kernel has not taken."""
        return self.transport.get_write_buffer_size()

    def fileno(self) -> int:
        """The connection's descriptor."""
        return int(self.transport.get_extra_info("socket").fileno())

    def unsent(self) -> bytes:
        """Return the bytes that were written and that the kernel has not taken."""
        self._cut_tail()
        return bytes(self._tail)

    # Opening.

    def arrive(self, sock: socket.socket, address: str, tcp_port: int) -> None:
        """Begin with an accepted socket; its transport comes some turns of the loop later."""
        self._transport = Doorstep(sock)
        self._send = self._transport.write
        self.name = peer_name(address, tcp_port)
        self._arrive()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is there."""
        before, self._transport = self._transport, cast("asyncio.Transport", transport)
        self._send = self._transport.write
        self._transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        if isinstance(before, Doorstep):
            before.replay_to(self._transport)
            return
        sock = transport.get_extra_info("socket")
        self._is_local = is_local(sock)
        peer = None if self._is_local else transport.get_extra_info("peername")
        if not peer and not self.name:  # reset before it was admitted
            self._transport.abort()
            return
        if peer:
            self.name = peer_name(peer[0], peer[1])
        self.names = names_in(transport.get_extra_info("peercert"))
        self._arrive()

    def _arrive(self) -> None:
        self.is_open = True
        self._owner.arrived(self)

    # Reading.

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._owner.received(self, data)
        if len(data) >= MUCH:
            # uvloop reads on within one turn of the loop, for as long as a client sends.
            self.pause_reading("turn")
            self._loop.call_soon(self.resume_reading, "turn")
        if self._paused_for:
            # uvloop starts to read when the client is admitted, even after pause_reading().
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """The other side has closed its sending side, or, at a Unix socket, maybe has left."""
        is_gone = self._is_local and has_left(self.transport.get_extra_info("socket"))
        # TLS has no half-closed connections in asyncio.
        stays = self._owner.finished(self) and not self.has_tls and not is_gone
        self.is_open = self.is_open and stays  # else the transport closes
        return stays

    def pause_reading(self, why: str) -> None:
        """Stop reading until `resume_reading` has been called for every reason."""
        if not self._paused_for:
            self.transport.pause_reading()
        self._paused_for.add(why)

    def resume_reading(self, why: str) -> None:
        """Drop a reason to pause; read again if it was the last one."""
        if why in self._paused_for:
            self._paused_for.remove(why)
            if not self._paused_for and not self.transport.is_closing():
                self.transport.resume_reading()

    # Writing.

    def write(self, data: bytes) -> None:
        """Send bytes, now or when the other side takes more; nothing once it is closed."""
        if not self.is_open:
            return
        self._send(data)
        self._tail += data
        if len(self._tail) > TAIL_SIZE:
            self._cut_tail()
        if self._keepalive and not self._watch and not self._is_local:
            self._check_later(2 * self._keepalive)

    def _cut_tail(self) -> None:
        del self._tail[: len(self._tail) - self.backlog]

    def pause_writing(self) -> None:
        """The transport holds more than HIGH_WATER bytes."""
        self.full = True
        self._owner.writable(self)

    def resume_writing(self) -> None:
        """The transport holds less than LOW_WATER bytes."""
        self.full = False
        self._owner.writable(self)

    # Liveness.

    def is_dead(self, blocked: bool) -> bool:
        """Whether the peer is dead, though the connection has not ended.

        The kernel sends no keepalive while something is on its way. With `blocked` the peer has not
        been read for long, so its FIN has not been seen: then a FIN is enough.
        """
        sock = self.transport.get_extra_info("socket")
        if sock is None:  # TLS: it has ended, and `connection_lost` comes in the next turn
            return True
        if self._is_local:
            return blocked and has_hung_up(sock)
        tcp = tcp_info(sock)
        if tcp.state != TCP_ESTABLISHED:
            return tcp.state == TCP_CLOSE or blocked
        return bool(tcp.in_flight and self._keepalive and tcp.silent_for > 2 * self._keepalive)

    def change_keepalive(self, seconds: int) -> None:
        """Ask after so many seconds of silence from now on whether the peer is there; 0 = never."""
        if self._is_local:
            return
        self._keepalive = seconds
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):  # reset already: asyncio says so next
                set_keepalive(sock, seconds)
        if self._watch:
            self._watch.cancel()
            self._watch = None
        if seconds:
            self._check_later(2 * seconds)

    def _check_later(self, seconds: float) -> None:
        """Check after `seconds` whether the peer has acknowledged what was sent."""
        self._watch = self._loop.call_later(seconds, self._check_peer)

    def _check_peer(self) -> None:
        self._watch = None
        if self.transport.is_closing():
            return
        if self.is_dead(blocked=False):
            self.give_up()
        elif self.backlog or tcp_info(self.transport.get_extra_info("socket")).in_flight:
            self._check_later(self._keepalive)

    # Closing.

    def refuse(self, farewell: bytes) -> None:
        """Send the reason why the other side cannot stay, and close."""
        self.is_open = False
        self.transport.write(farewell)
        if not self.transport.can_write_eof():  # TLS
            self.close()
            return
        # close() with unread input would reset the connection, and the words would be lost.
        with contextlib.suppress(OSError):  # it may have left already
            self.transport.write_eof()
        self._goodbye = self._loop.call_later(GOODBYE_SECONDS, self.abort)

    def close(self) -> None:
        """Close once everything is sent, at the latest after GOODBYE_SECONDS."""
        self.is_open = False
        self.transport.close()
        if self._goodbye:
            self._goodbye.cancel()
        self._goodbye = self._loop.call_later(GOODBYE_SECONDS, self.abort)

    def give_up(self) -> None:
        """Close now, because the peer is dead, and tell the owner at once."""
        self._tell_gone(PeerDeadError())
        self.abort()

    def abort(self) -> None:
        """Close now; unsent bytes are lost."""
        self.is_open = False
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended; either side may have ended it."""
        self.is_open = False
        self._tail.clear()
        # Free the transport now, even if other objects still refer to this connection.
        self._transport = Doorstep()
        self._transport.abort()
        self._send = self._transport.write
        for timer in (self._goodbye, self._watch):
            if timer:
                timer.cancel()
        self._tell_gone(exc)

    def _tell_gone(self, error: Exception | None) -> None:
        if not self._is_gone:
            self._is_gone = True
            self._owner.gone(self, error)
