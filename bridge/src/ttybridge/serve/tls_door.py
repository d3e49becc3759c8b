"""The TLS handshakes of one listener: many may wait, and none keeps others out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from ttybridge.net.connection import Connection
from ttybridge.net.handshakes import MOST_OF_HELLO, Handshakes, size_of_hello
from ttybridge.net.sockets import CONNECT_SECONDS
from ttybridge.net.tls import Certificate, CertificateError, handshake_words


@dataclass(eq=False)
class _Newcomer:
    """A connection that has not finished its TLS handshake."""

    sock: socket.socket
    until: float
    """When its handshake must be finished, by the event loop's clock."""
    timer: asyncio.TimerHandle | None = None
    awaits: int = 0
    """How many bytes the event loop waits for, where that is known."""

    def said(self) -> bytes | None:
        """Return its first bytes and leave them unread; None while there are none."""
        try:
            return self.sock.recv(MOST_OF_HELLO, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        except OSError:
            return b""


class TlsDoor:
    """Connections that have not finished their handshake.

    `connection` makes the asyncio protocol for one that does. `begin` runs a coroutine that ends
    soon. `refuse` counts and logs one that fails.
    """

    def __init__(
        self,
        certificate: Certificate,
        connection: Callable[[], Connection],
        begin: Callable[[Coroutine[None, None, None]], None],
        refuse: Callable[[str], None],
    ) -> None:
        self._certificate = certificate
        self._connection = connection
        self._begin = begin
        self._refuse = refuse
        self._handshakes: Handshakes[_Newcomer] = Handshakes()

    def close(self) -> None:
        """Close all that have not finished."""
        for newcomer in self._handshakes:
            self._drop(newcomer)

    def receive(self, sock: socket.socket, address: str) -> None:
        """Wait for a connection's first bytes: one that is silent costs little."""
        self._make_place(address)
        loop = asyncio.get_running_loop()
        newcomer = _Newcomer(sock, loop.time() + CONNECT_SECONDS)
        self._handshakes.add(newcomer, address)
        newcomer.timer = loop.call_at(newcomer.until, self._give_up, newcomer)
        loop.add_reader(sock.fileno(), self._speaks, newcomer)

    def _make_place(self, address: str) -> None:
        while (who := self._handshakes.who_must_go(address)) is not None:
            said = who.said() if self._handshakes.is_silent(who) else None
            if said is not None and len(said) >= size_of_hello(said):
                self._begin_handshake(who)  # the event loop has not got to it yet
                continue
            self._drop(who)
            self._refuse("dropped for a newcomer: too many handshakes at once")

    def _give_up(self, newcomer: _Newcomer) -> None:
        self._drop(newcomer)
        self._refuse(f"nothing came in {CONNECT_SECONDS:g} s")

    def _drop(self, newcomer: _Newcomer) -> None:
        """Close a connection that has not finished its handshake."""
        if self._handshakes.is_silent(newcomer):
            self._stop_watching(newcomer)
            newcomer.sock.close()
        else:
            # Not cancelled: asyncio may then leave the connection open. To asyncio this looks as if
            # the other side had closed.
            with contextlib.suppress(OSError):
                newcomer.sock.shutdown(socket.SHUT_RDWR)
        self._handshakes.remove(newcomer)

    def _stop_watching(self, newcomer: _Newcomer) -> None:
        asyncio.get_running_loop().remove_reader(newcomer.sock.fileno())
        if newcomer.timer:
            newcomer.timer.cancel()

    def _speaks(self, newcomer: _Newcomer) -> None:
        """Begin the handshake once its first TLS record is complete; until then it is silent."""
        said = newcomer.said()
        if said is None:
            return
        wanted = size_of_hello(said)
        if len(said) < wanted != newcomer.awaits:
            newcomer.awaits = wanted
            _wake_at(newcomer.sock, wanted)
        else:  # it is complete, or no more will come
            self._begin_handshake(newcomer)

    def _begin_handshake(self, newcomer: _Newcomer) -> None:
        _wake_at(newcomer.sock, 1)
        self._handshakes.has_spoken(newcomer)
        self._stop_watching(newcomer)
        self._begin(self._shake_hands(newcomer))

    async def _shake_hands(self, newcomer: _Newcomer) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                self._connection,
                newcomer.sock,
                ssl=self._certificate.context(),
                ssl_handshake_timeout=max(newcomer.until - loop.time(), 0.001),
            )
        except (OSError, ssl.SSLError, CertificateError) as error:
            newcomer.sock.close()
            if newcomer in self._handshakes:
                self._refuse(handshake_words(error))
        finally:
            self._handshakes.remove(newcomer)


def _wake_at(sock: socket.socket, size: int) -> None:
    """Make a connection readable once `size` bytes are there, or its end."""
    with contextlib.suppress(OSError):  # it may have been reset
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
