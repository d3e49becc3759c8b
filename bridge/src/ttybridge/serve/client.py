"""One TCP connection to a port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from ttybridge.net.doorstep import Doorstep
from ttybridge.net.sockets import TCP_CLOSE, TCP_ESTABLISHED, peer_name, tcp_info
from ttybridge.serve.handover import ClientLeft
from ttybridge.serve.session import Session

if TYPE_CHECKING:
    from ttybridge.serve.port import ServedPort

# The transport asks for a pause above the first and for more below the second.
HIGH_WATER, LOW_WATER = 65536, 16384

# Bytes that are enough of one client for one turn of the event loop.
MUCH = 65536

# Bytes that a client may be behind before it is closed: a busy machine is not a slow client.
LAG_LIMIT = 8 * 1024 * 1024

# How often is looked at whether what a client has sent before its half-close is out, in seconds.
LOOK_SECONDS = 0.2

# How long a client of a predecessor has at least before it counts as idle: what came meanwhile is
# read first.
RESUMED_SECONDS = 0.5

# How long a client that is being closed may take to accept what it was sent.
GOODBYE_SECONDS = 5.0


class Client(asyncio.Protocol):
    """The TCP side of a port for one client. The port decides; this keeps the connection."""

    def __init__(
        self,
        port: ServedPort,
        on_lost: Callable[[], None] | None = None,
        left: ClientLeft | None = None,
    ) -> None:
        self._port = port
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._left = left
        now = self._loop.time()
        left = left or ClientLeft("", connected_at=now, active_at=now)
        self._session = (
            None if port.port.protocol == "raw" else Session(self, port, left.telnet, left.com_port)
        )
        self._admitted = self._full = False
        self._suspended = left.suspended
        self._unsent = bytearray()
        """The last that was sent: what the transport has of it is what the kernel has not."""
        self._held = bytearray(left.held)
        """What a client that has asked for silence (RFC 2217) will get later."""
        self._paused_for: set[str] = set()
        self.name = left.name
        self.finished = left.finished
        """Whether the client has closed its sending side."""
        self.connected_at, self.active_at = left.connected_at, left.active_at
        self.received, self.sent = left.received, left.sent

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    @property
    def backlog(self) -> int:
        """Bytes for the client that its connection has not taken yet."""
        return self.transport.get_write_buffer_size() + len(self._held)

    @property
    def congested(self) -> bool:
        """Whether the client takes no more for now."""
        return self._full or self._suspended

    def is_dead(self, blocked: bool) -> bool:
        """Whether nobody is at the other end, though the connection has not ended.

        A connection is not asked for keepalive while something is on its way, and a client that
        the port does not read (`blocked`: for long) cannot be seen to leave.
        """
        tcp = tcp_info(self.transport.get_extra_info("socket"))
        if tcp.state != TCP_ESTABLISHED:
            return tcp.state == TCP_CLOSE or blocked
        keepalive = self._port.port.keepalive
        return bool(tcp.in_flight and keepalive and tcp.silent_for > 2 * keepalive)

    def _look_after(self, seconds: float) -> None:
        """See in so many seconds whether what was sent to the client has arrived."""
        if seconds and not self._watch:
            self._watch = self._loop.call_later(seconds, self._see_whether_it_lives)

    def _see_whether_it_lives(self) -> None:
        self._watch = None
        if self.transport.is_closing():
            return
        if self.is_dead(blocked=False):
            self._port.client_dead(self)
        elif self.backlog or tcp_info(self.transport.get_extra_info("socket")).in_flight:
            self._look_after(self._port.port.keepalive)

    def arrive(self, sock: socket.socket, address: str, number: int) -> None:
        """A client was accepted and there is room for it. Its transport comes later."""
        self._transport = Doorstep(sock)
        self.name = peer_name(address, number)
        self._enter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client's transport is there: admit it, or tell it why not, if it is not in yet."""
        before, self._transport = self._transport, cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        if isinstance(before, Doorstep):
            before.hand_over(self._transport)
            return
        peer = transport.get_extra_info("peername")
        if not peer and not self._left:  # reset before it was admitted
            self.abort()
            return
        if peer:
            self.name = peer_name(peer[0], peer[1])
        self._enter()

    def _enter(self) -> None:
        if self._left:
            self._admitted = True
            self._port.readmit(self)
            self.put(self._left.unsent)
            if self._session:
                self._session.resume()
        else:
            self._admitted = self._port.admit(self)
        if self._left and self.finished:  # it waits for an answer that nobody has read meanwhile
            self.active_at = self._loop.time()
        if self._admitted and (self.finished or self._silence):
            due = self.active_at + self._silence - self._loop.time()
            self._wait(max(RESUMED_SECONDS if self._left else 0.0, due))

    @property
    def may_be_left(self) -> bool:
        """Whether a successor can go on with the connection: TLS has its keys in this process."""
        tls = self.transport.get_extra_info("ssl_object")
        return self._admitted and not tls and not self.transport.is_closing()

    @property
    def has_to_do(self) -> bool:
        """Whether something that it has said is still to be done."""
        return bool(self._session and self._session.busy)

    def fileno(self) -> int:
        """The connection's descriptor."""
        return int(self.transport.get_extra_info("socket").fileno())

    def leave(self, connection: str) -> ClientLeft:
        """What a successor needs to go on, with the connection's descriptor by this name."""
        self._trim_unsent()
        return ClientLeft(
            connection,
            connected_at=self.connected_at,
            active_at=self.active_at,
            name=self.name,
            received=self.received,
            sent=self.sent,
            finished=self.finished,
            suspended=self._suspended,
            unsent=bytes(self._unsent),
            held=bytes(self._held),
            telnet=self._session.state if self._session else None,
            com_port=self._session.com_port if self._session else None,
        )

    def greet(self, words: str, replay: bytes) -> None:
        """Begin with a new client: negotiate, show it words and what the device said before."""
        if self._session:
            self._session.start()
            if words:
                self.put(self._session.encode(words.encode()))
        if replay:
            self.send(replay)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        if not self._admitted or (not self.received and not self._port.hear(self, data)):
            return
        self.active_at = self._loop.time()
        self.received += len(data)
        if self._session:
            self._session.receive(data)
        else:
            self._port.from_client(self, data)
        if len(data) >= MUCH:
            # uvloop reads on within one turn of the loop, for as long as a client sends.
            self.pause_reading("turn")
            self._loop.call_soon(self.resume_reading, "turn")
        if self._paused_for:
            # It came all the same: uvloop begins to read a client after it was admitted.
            self.transport.pause_reading()

    def send(self, data: bytes) -> None:
        """Bytes from the device."""
        self.active_at = self._loop.time()
        self.sent += len(data)
        if self._session:
            data = self._session.encode(data)
        if self._suspended:
            self._held += data
            self._see_that_it_keeps_up()
        else:
            self.put(data)

    def put(self, data: bytes) -> None:
        """Bytes as they are sent."""
        if not self.transport.is_closing():
            self.transport.write(data)
            self._unsent += data
            self._trim_unsent()
            if self._full:
                self._see_that_it_keeps_up()
            if not self._watch:
                self._look_after(2 * self._port.port.keepalive)

    def _trim_unsent(self) -> None:
        del self._unsent[: len(self._unsent) - self.transport.get_write_buffer_size()]

    def _see_that_it_keeps_up(self) -> None:
        if self.backlog > LAG_LIMIT + self._port.port.replay:
            self._port.close_slow(self)

    def notice(self, words: str) -> None:
        """Tell a person what happens; raw clients and programs would take it for the device's."""
        if self._session and not self._session.speaks_rfc2217:
            self.put(self._session.encode(f"\r\n[ttybridge: {words}]\r\n".encode()))

    def suspend(self, on: bool) -> None:
        """Send nothing of the device for now, or go on with what was held back."""
        self._suspended = on
        if not on and self._held:
            self.put(bytes(self._held))
            self._held.clear()
        self._port.congestion_changed()

    def discard_held(self) -> None:
        """Forget what a suspended client has not been sent."""
        self._held.clear()

    def pause_reading(self, why: str) -> None:
        """Take nothing more from the client, until every reason for that has gone."""
        if not self._paused_for:
            self.transport.pause_reading()
        self._paused_for.add(why)

    def resume_reading(self, why: str) -> None:
        """A reason to take nothing has gone."""
        if why in self._paused_for:
            self._paused_for.remove(why)
            if not self._paused_for and not self.transport.is_closing():
                self.transport.resume_reading()

    def eof_received(self) -> bool:
        """The client will send no more; it still gets what the device answers."""
        if not self._admitted or self._port.gives_up(self):
            return False
        if not self.finished:  # a predecessor has met the end, too
            self.finished = True
            self.active_at = self._loop.time()
            self._wait(LOOK_SECONDS)
            self._port.client_finished()
        # TLS has no half-closed connections in asyncio.
        return self.transport.get_extra_info("ssl_object") is None

    def pause_writing(self) -> None:
        """The connection takes no more for now."""
        self._full = True
        self._port.congestion_changed()

    def resume_writing(self) -> None:
        """The connection takes more again."""
        self._full = False
        self._port.congestion_changed()

    def refuse(self, words: str) -> None:
        """Tell a client that is not admitted why, and close."""
        self.transport.write(f"ttybridge: {words}\r\n".encode())
        if not self.transport.can_write_eof():  # TLS
            self.close()
            return
        # Closing with unread input would reset the connection and take the words back.
        with contextlib.suppress(OSError):  # it may have left already
            self.transport.write_eof()
        self._timer = self._loop.call_later(GOODBYE_SECONDS, self.abort)

    def close(self) -> None:
        """Take nothing more; close when all that was sent has gone out, or soon."""
        self._admitted = False
        self.transport.close()
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(GOODBYE_SECONDS, self.abort)

    def displace(self) -> None:
        """Close: another takes its place."""
        if self._session:
            self._session.drop()
        self.close()

    def abort(self) -> None:
        """Close now."""
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, by whichever side."""
        for timer in (self._timer, self._watch):
            if timer:
                timer.cancel()
        if self._session:
            self._session.finish()
        self._port.client_left(self, exc)
        if self._on_lost:
            self._on_lost()

    def _wait(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._check_activity)

    @property
    def _silence(self) -> float:
        """Seconds without a byte after which the client is closed; 0 = never.

        A client that will send no more sees the answer to its last command: `echo reboot | nc -N`.
        """
        port = self._port.port
        return port.half_close_timeout if self.finished else port.idle_timeout

    def _check_activity(self) -> None:
        """Close after silence; one timer a client, however busy the client is."""
        now = self._loop.time()
        if self.finished and self._port.will_write_for(self):
            self.active_at = now
            self._wait(LOOK_SECONDS)
            return
        left = self.active_at + self._silence - now
        if left > 0:
            self._wait(left)
            return
        if not self.finished:
            self._port.client_idle(self)
            self.notice(f"closed after {self._silence} s without a byte")
        self.close()
