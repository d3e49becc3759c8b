"""How clients reach a port: its listener, or a connection to a listener elsewhere."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import logging
import socket
import ssl
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from ttybridge.model.ports import Port
from ttybridge.model.values import Listen, Remote
from ttybridge.net.handshakes import MOST_OF_HELLO, Handshakes, size_of_hello
from ttybridge.net.sockets import (
    CONNECT_SECONDS,
    RETRY_SECONDS,
    connect_words,
    listen_words,
    open_connection,
    open_listener,
    tune,
)
from ttybridge.net.tls import Certificate, CertificateError
from ttybridge.net.trueport import FullModeWatch
from ttybridge.serve.client import GOODBYE_SECONDS, Client
from ttybridge.serve.handover import ClientLeft, PortLeft
from ttybridge.serve.port import REFUSED_AT_ONCE, ServedPort

log = logging.getLogger(__name__)

# The longest pause between connections to a listener elsewhere that end soon, in seconds.
MOST_RETRY_SECONDS = 16.0

# Connections that are accepted at a time.
ACCEPT_AT_ONCE = 16


class Link(abc.ABC):
    """How one port and its clients find together."""

    def __init__(self, port: Port, urgent: FullModeWatch) -> None:
        self.served = ServedPort(port)
        self.problem: str | None = None
        """Why clients cannot come, in words, or None."""
        self._urgent = urgent
        self._task: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether clients can come."""
        return self.problem is None

    @abc.abstractmethod
    async def start(self, kept: socket.socket | None = None) -> None:
        """Let clients come, or begin to try again; with the listener that a predecessor had."""

    @abc.abstractmethod
    def _client(self, left: ClientLeft | None = None) -> Client:
        """A client that comes, or one that a predecessor had."""

    async def settle(self) -> None:
        """Let nobody come any more; bring to an end what is under way."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.served.settle()

    def left(self, place: int) -> tuple[PortLeft, dict[str, int]]:
        """What a successor needs, with descriptors by name; `place` tells ports apart."""
        return self.served.left(place)

    async def resume(self, left: PortLeft, descriptors: dict[str, int]) -> None:
        """Go on where a predecessor was; descriptors that are taken are removed."""
        clients = [self._client(each) for each in left.clients]
        self.served.resume(left, descriptors.pop(left.tty or "", None), clients)
        for client, each in zip(clients, left.clients, strict=True):
            if each.connection in descriptors:
                await self._connect_again(
                    client, socket.socket(fileno=descriptors.pop(each.connection))
                )
        self.served.resumed()
        listener = descriptors.pop(left.listener or "", None)
        await self.start(None if listener is None else socket.socket(fileno=listener))

    async def _connect_again(self, client: Client, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._tune(sock)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: client, sock)
        except OSError as error:
            sock.close()
            log.info("%s: client left in a restart: %s", self.served.port.name, error)

    async def stop(self) -> None:
        """Close clients and device."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.served.stop()

    def status(self) -> dict[str, Any]:
        """The port as `ttybridge status --json` shows it."""
        port = self.served.port
        listen = {
            "listen": port.endpoint if port.listen else None,
            "connect": str(port.connect) if port.connect else None,
            "listening": self.is_open,
            "listen_problem": self.problem,
        }
        status = {**self.served.status(), **listen}
        if self.served.device.is_another():
            status["device"]["problem"] = (
                f"{port.path} is another device now than the one that is open: "
                "sudo systemctl reload ttybridge takes the other"
            )
        return status

    def _tune(self, sock: socket.socket) -> None:
        port = self.served.port
        raw = port.protocol == "raw"
        with contextlib.suppress(OSError):  # reset already: what follows says so
            tune(sock, port.keepalive, raw)
            if raw:
                self._urgent.watch(sock.fileno(), port.name)

    def _set_problem(self, words: str) -> None:
        if words != self.problem:
            log.error("%s: %s", self.served.port.name, words)
        self.problem = words


@dataclass(eq=False)
class _Newcomer:
    """A connection that is to speak TLS."""

    sock: socket.socket
    until: float
    """When its handshake must be done, by the event loop's clock."""
    timer: asyncio.TimerHandle | None = None
    awaits: int = 0
    """How many bytes the event loop waits for, where that is known."""

    def said(self) -> bytes | None:
        """What it has said until now, as far as that matters; None while it says nothing."""
        try:
            return self.sock.recv(MOST_OF_HELLO, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        except OSError:
            return b""


class Listener(Link):
    """A port and its TCP listener, open or being tried again."""

    def __init__(self, port: Port, listen: Listen, urgent: FullModeWatch) -> None:
        super().__init__(port, urgent)
        self._listen = listen
        self._certificate = Certificate(port.tls, port.name) if port.tls else None
        self._sock: socket.socket | None = None
        self._accepts = False
        self._rest: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        """What brings connections to their clients: each ends soon."""
        self._handshakes: Handshakes[_Newcomer] = Handshakes()
        self._turned_away: deque[tuple[socket.socket, asyncio.TimerHandle]] = deque()
        """Connections that were told why they are refused."""
        self.served.let_in = self._let_in

    @property
    def is_open(self) -> bool:
        return self._sock is not None

    async def start(self, kept: socket.socket | None = None) -> None:
        """Listen, or begin to try again where another program holds the TCP port."""
        self._open(kept)
        if not self.is_open:
            self._task = asyncio.create_task(self._try_again())

    async def stop(self) -> None:
        """Close listener, clients and device."""
        self._pause()
        if self._sock:
            self._sock.close()
            self._sock = None  # a stop overtakes a reload
        await self._accept_no_more()
        await super().stop()

    async def settle(self) -> None:
        """Let nobody come any more; bring to an end what is under way."""
        self._pause()
        await self._accept_no_more()
        await super().settle()

    def left(self, place: int) -> tuple[PortLeft, dict[str, int]]:
        """What a successor needs, with descriptors by name; `place` tells ports apart."""
        left, descriptors = super().left(place)
        if self._sock:
            left.listener = f"{place}.listener"
            descriptors[left.listener] = self._sock.fileno()
        return left, descriptors

    def _client(self, left: ClientLeft | None = None) -> Client:
        return Client(self.served, left=left)

    async def _accept_no_more(self) -> None:
        """Who was accepted just now is a client like the others; a handshake is given up."""
        if self._rest:
            self._rest.cancel()
        for newcomer in self._handshakes:
            self._drop(newcomer)
        for sock, timer in self._turned_away:
            timer.cancel()
            sock.close()
        self._turned_away.clear()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _open(self, kept: socket.socket | None = None) -> None:
        try:
            if self._certificate:
                self._certificate.context()
            self._sock = kept or open_listener(self._listen)
        except CertificateError as error:
            self._set_problem(str(error))
            return
        except OSError as error:
            self._set_problem(listen_words(self._listen, error))
            return
        self.problem = None
        log.info("%s: listening on %s", self.served.port.name, self._listen)
        self._go_on()

    async def _try_again(self) -> None:
        while not self.is_open:
            await asyncio.sleep(RETRY_SECONDS)
            self._open()

    def _go_on(self) -> None:
        self._rest = None
        if self._sock:
            self._accepts = True
            asyncio.get_running_loop().add_reader(self._sock.fileno(), self._accept, self._sock)

    def _pause(self) -> None:
        self._accepts = False
        if self._sock:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())

    def _let_in(self) -> None:
        """Take in who has connected until now, before the event loop comes to it."""
        if self._sock and self._accepts:
            self._accept(self._sock)

    def _accept(self, listener: socket.socket) -> None:
        # Not asyncio's own server: where no descriptor is left, that logs every failure and tries
        # each again by a timer of its own, and its certificate cannot be changed.
        for _ in range(ACCEPT_AT_ONCE):
            try:
                sock, (address, number, *_) = listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue
            except OSError as error:
                log.error("%s: cannot accept clients: %s", self.served.port.name, error.strerror)
                self._pause()
                self._rest = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._go_on)
                return
            sock.setblocking(False)
            # Before anything is made for it: a flood from there costs next to nothing.
            refusal = self.served.turn_away(address, number)
            if refusal:
                self._turn_away(sock, refusal)
                continue
            self._tune(sock)
            if self._certificate:
                self._await_handshake(sock, address)
            else:
                self._connect(sock, address, number)

    def _turn_away(self, sock: socket.socket, words: str) -> None:
        """Close a connection that may not be; one without TLS is told why."""
        if self._certificate:
            sock.close()
            return
        if len(self._turned_away) == REFUSED_AT_ONCE:  # the oldest has had time to read
            oldest, timer = self._turned_away.popleft()
            timer.cancel()
            oldest.close()
        with contextlib.suppress(OSError):  # it may have left already
            sock.send(f"ttybridge: {words}\r\n".encode())
            # Closing with unread input would reset the connection and take the words back.
            sock.shutdown(socket.SHUT_WR)
        timer = asyncio.get_running_loop().call_later(GOODBYE_SECONDS, self._close_turned_away)
        self._turned_away.append((sock, timer))

    def _close_turned_away(self) -> None:
        sock, _ = self._turned_away.popleft()  # all wait equally long
        sock.close()

    def _connect(self, sock: socket.socket, address: str, number: int) -> None:
        """Give an accepted connection to the port: what the device says from now on is for it.

        Who finds the port full waits for its transport: until then another may have left.
        """
        client = self._client()
        if self.served.has_room:
            client.arrive(sock, address, number)
        self._begin(self._attach(client, sock))

    def _begin(self, coming: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(coming)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attach(self, client: Client, sock: socket.socket) -> None:
        """Give a client asyncio's transport."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: client, sock)
        except OSError as error:
            sock.close()
            client.connection_lost(error)

    def _await_handshake(self, sock: socket.socket, address: str) -> None:
        """Wait for the first that a connection says: one that is silent costs little."""
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
                self._begin_handshake(who)  # the event loop had not come to it
                continue
            self._drop(who)
            self.served.refused_handshake("dropped for a newcomer: too many are in their handshake")

    def _give_up(self, newcomer: _Newcomer) -> None:
        self._drop(newcomer)
        self.served.refused_handshake(f"nothing came in {CONNECT_SECONDS:g} s")

    def _drop(self, newcomer: _Newcomer) -> None:
        """Close a connection that has not finished its handshake."""
        if self._handshakes.is_silent(newcomer):
            self._listen_no_more(newcomer)
            newcomer.sock.close()
        else:
            # Not cancelled: asyncio then may leave the connection open. This is an end to it as if
            # it came from the other side.
            with contextlib.suppress(OSError):
                newcomer.sock.shutdown(socket.SHUT_RDWR)
        self._handshakes.remove(newcomer)

    def _listen_no_more(self, newcomer: _Newcomer) -> None:
        asyncio.get_running_loop().remove_reader(newcomer.sock.fileno())
        if newcomer.timer:
            newcomer.timer.cancel()

    def _speaks(self, newcomer: _Newcomer) -> None:
        """Begin the handshake once all is there that it begins with: the rest is silence, too."""
        said = newcomer.said()
        if said is None:
            return
        wanted = size_of_hello(said)
        if len(said) < wanted != newcomer.awaits:
            newcomer.awaits = wanted
            _wake_at(newcomer.sock, wanted)
        else:  # all is there, or no more will come
            self._begin_handshake(newcomer)

    def _begin_handshake(self, newcomer: _Newcomer) -> None:
        _wake_at(newcomer.sock, 1)
        self._handshakes.has_spoken(newcomer)
        self._listen_no_more(newcomer)
        self._begin(self._shake_hands(newcomer))

    async def _shake_hands(self, newcomer: _Newcomer) -> None:
        loop = asyncio.get_running_loop()
        assert self._certificate
        try:
            await loop.connect_accepted_socket(
                self._client,
                newcomer.sock,
                ssl=self._certificate.context(),
                ssl_handshake_timeout=max(newcomer.until - loop.time(), 0.001),
            )
        except (OSError, ssl.SSLError, CertificateError) as error:
            newcomer.sock.close()
            if newcomer in self._handshakes:
                self.served.refused_handshake(str(error) or type(error).__name__)
        finally:
            self._handshakes.remove(newcomer)


class Dialer(Link):
    """A port that connects to a listener elsewhere, and does so again when the connection ends."""

    def __init__(self, port: Port, remote: Remote, urgent: FullModeWatch) -> None:
        super().__init__(port, urgent)
        self._remote = remote
        self._lost = asyncio.Event()
        self._arrival: asyncio.Task[None] | None = None

    async def start(self, kept: socket.socket | None = None) -> None:
        """Begin to connect, once no connection is there."""
        if not self.served.clients:
            self.problem = f"not yet connected to {self._remote}"
        self._task = asyncio.create_task(self._keep_connected())

    async def settle(self) -> None:
        """Connect no more; bring to an end what is under way."""
        if self._arrival:
            await asyncio.gather(self._arrival, return_exceptions=True)
        await super().settle()

    def _client(self, left: ClientLeft | None = None) -> Client:
        return Client(self.served, on_lost=self._lost.set, left=left)

    async def _keep_connected(self) -> None:
        pause = RETRY_SECONDS
        if self.served.clients:
            await self._ended()
        while True:
            lasted = await self._connect()
            await asyncio.sleep(pause)
            # One that accepts and closes at once does not fill the log.
            short = lasted is not None and lasted < MOST_RETRY_SECONDS
            pause = min(2 * pause, MOST_RETRY_SECONDS) if short else RETRY_SECONDS

    async def _connect(self) -> float | None:
        """Return how long the connection lasted, in seconds, or None where there was none."""
        loop = asyncio.get_running_loop()
        try:
            sock = await open_connection(self._remote)
        except OSError as error:
            self._set_problem(f"cannot connect to {self._remote}: {connect_words(error)}")
            return None
        self._tune(sock)
        self._lost.clear()
        # Shielded: a restart does not cut off who has just been reached.
        self._arrival = asyncio.create_task(self._arrive(sock))
        await asyncio.shield(self._arrival)
        self.problem, since = None, loop.time()
        await self._ended()
        return loop.time() - since

    async def _arrive(self, sock: socket.socket) -> None:
        await asyncio.get_running_loop().create_connection(self._client, sock=sock)

    async def _ended(self) -> None:
        await self._lost.wait()
        self.problem = f"connection to {self._remote} ended"


def _wake_at(sock: socket.socket, size: int) -> None:
    """Let a connection be readable when so many bytes are there, or its end."""
    with contextlib.suppress(OSError):  # it may have been reset
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
