"""How clients reach a port: a listener, or a connection that the port dials."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Coroutine
from typing import Any

from ttybridge.model import ports as model
from ttybridge.model.values import Remote
from ttybridge.net.connection import GOODBYE_SECONDS, Connection
from ttybridge.net.sockets import (
    CONNECT_SECONDS,
    RETRY_SECONDS,
    connect_words,
    is_reserved,
    listen_words,
    open_connection,
    open_listener,
    stop_listening,
    tune,
    zoned,
)
from ttybridge.net.tls import Certificate, CertificateError, dialling, handshake_words
from ttybridge.net.trueport import FullModeWatch
from ttybridge.serve.client import Client
from ttybridge.serve.clients import REFUSED_AT_ONCE
from ttybridge.serve.entrance import Entrance
from ttybridge.serve.port import ServedPort
from ttybridge.serve.state import ClientState
from ttybridge.serve.tls_door import TlsDoor

log = logging.getLogger(__name__)

# The longest pause in seconds before dialling again, where connections end soon.
MOST_RETRY_SECONDS = 16.0

# Connections that are accepted in one turn of the event loop.
ACCEPT_AT_ONCE = 16


class Endpoint(abc.ABC):
    """A port's TCP side: listens or dials."""

    def __init__(self, served: ServedPort, entrance: Entrance, urgent: FullModeWatch) -> None:
        self.served = served
        self.entrance = entrance
        self.problem: str | None = None
        """Why clients cannot connect, in words, or None."""
        self._urgent = urgent
        self._task: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether clients can connect."""
        return self.problem is None

    @abc.abstractmethod
    async def start(self, kept: socket.socket | None = None, kept_as: str = "") -> None:
        """Let clients connect, or keep trying to.

        `kept` is a listener of an earlier process, `kept_as` its name in the store.
        """

    @abc.abstractmethod
    def change(self, port: model.Port) -> None:
        """Go on with another entry of the port, which leaves this endpoint open."""

    @abc.abstractmethod
    def client(self, state: ClientState | None = None) -> Client:
        """Return a new client, or with `state` one from before a restart."""

    async def settle(self) -> None:
        """Let no more clients connect; finish what is under way."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def stop(self) -> None:
        """Close."""
        await self.settle()

    @property
    def kept_as(self) -> str:
        """The name of an open listener in the store, "" where there is none."""
        return ""

    async def connect_again(self, client: Client, sock: socket.socket) -> None:
        """Go on with the connection of a client from before a restart."""
        sock.setblocking(False)
        self._tune(sock)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: client.connection, sock
            )
        except OSError as error:
            self.served.keeper.drop(client.state.connection)
            sock.close()
            log.info("%s: client left in a restart: %s", self.served.port.name, error)

    def status(self) -> dict[str, Any]:
        """The listener as `ttybridge status --json` shows it."""
        return {
            "at": self.entrance.at,
            "protocol": self.entrance.protocol,
            "access": "watch" if self.entrance.watches else "write",
            "listening": self.is_open,
            "problem": self.problem,
        }

    def _tune(self, sock: socket.socket) -> None:
        port = self.served.port
        raw = self.entrance.protocol == "raw"
        with contextlib.suppress(OSError):  # reset already: asyncio says so next
            tune(sock, port.keepalive, raw)
            if raw:
                self._urgent.watch(sock.fileno(), port.name)

    def _set_problem(self, words: str) -> None:
        if words != self.problem:
            log.error("%s: %s", self.served.port.name, words)
        self.problem = words


class Listener(Endpoint):
    """A TCP listener, open or being tried again."""

    def __init__(self, served: ServedPort, listener: model.Listener, urgent: FullModeWatch) -> None:
        super().__init__(served, Entrance.of(served.port, listener), urgent)
        self._listen = listener.at
        self._certificate = Certificate(listener.tls, served.port.name) if listener.tls else None
        self._door: TlsDoor | None = None
        if self._certificate:
            refuse = served.clients.refuse_handshake
            make = self._new_connection
            self._door = TlsDoor(self._certificate, make, self._begin, refuse)
        self._sock: socket.socket | None = None
        self._kept_as = ""
        self._accepts = False
        self._retry: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        """They give connections to clients; each ends soon."""
        self._turned_away: deque[tuple[socket.socket, asyncio.TimerHandle]] = deque()
        """Connections that were told why they are refused."""
        served.acceptors.append(self._accept_now)

    def change(self, port: model.Port) -> None:
        """Go on with another entry of the port, which leaves this listener open."""
        listener = next(one for one in port.listeners if one.at == self._listen)
        self.entrance.become(Entrance.of(port, listener))
        if self._certificate and listener.tls:
            self._certificate.change(listener.tls)
            with contextlib.suppress(CertificateError):  # not open yet: it says so at the next try
                self._certificate.context()

    def _new_connection(self) -> Connection:
        return self.client().connection

    @property
    def is_open(self) -> bool:
        return self._sock is not None

    async def start(self, kept: socket.socket | None = None, kept_as: str = "") -> None:
        """Listen, or begin to try again where another program holds the TCP port."""
        self._open(kept, kept_as)
        if not self.is_open:
            self._task = asyncio.create_task(self._try_again())

    async def stop(self) -> None:
        """Close the listener."""
        if self._accept_now in self.served.acceptors:
            self.served.acceptors.remove(self._accept_now)
        self._pause()
        if self._sock:
            self.served.keeper.drop(self._kept_as)
            stop_listening(self._sock)
            self._sock.close()
            self._sock = None  # a stop may overtake a reload
        await self._accept_no_more()
        await super().stop()

    async def settle(self) -> None:
        """Let no more clients connect; finish what is under way."""
        self._pause()
        await self._accept_no_more()
        await super().settle()

    @property
    def kept_as(self) -> str:
        """The name of an open listener in the store, "" where there is none."""
        return self._kept_as if self._sock else ""

    def client(self, state: ClientState | None = None) -> Client:
        """Return a new client, or with `state` one from before a restart."""
        return Client(self.served, self.entrance, state=state)

    async def _accept_no_more(self) -> None:
        """Give up handshakes; connections that are accepted already become clients."""
        if self._retry:
            self._retry.cancel()
        if self._door:
            self._door.close()
        for sock, timer in self._turned_away:
            timer.cancel()
            sock.close()
        self._turned_away.clear()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _open(self, kept: socket.socket | None = None, kept_as: str = "") -> None:
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
        self._kept_as = kept_as or self.served.keeper.put("listener", self._sock.fileno())
        log.info("%s: listening on %s", self.served.port.name, self._listen)
        self._go_on()
        self.served.begin()

    async def _try_again(self) -> None:
        while not self.is_open:
            await asyncio.sleep(RETRY_SECONDS)
            self._open()

    def _go_on(self) -> None:
        self._retry = None
        if self._sock:
            self._accepts = True
            asyncio.get_running_loop().add_reader(self._sock.fileno(), self._accept, self._sock)

    def _pause(self) -> None:
        self._accepts = False
        if self._sock:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())

    def _accept_now(self) -> None:
        """Accept the clients that have connected so far, before the event loop gets to it."""
        if self._sock and self._accepts:
            self._accept(self._sock)

    def _accept(self, listener: socket.socket) -> None:
        # Not asyncio's own server: without a free descriptor it logs every failure and sets a timer
        # for each to try again, and its certificate cannot be changed.
        for _ in range(ACCEPT_AT_ONCE):
            try:
                sock, (address, tcp_port, *ipv6) = listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue
            except OSError as error:
                name, once = self.served.port.name, {"most_a_minute": 1}
                log.error("%s: cannot accept clients: %s", name, error.strerror, extra=once)
                self._pause()
                self._retry = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._go_on)
                return
            sock.setblocking(False)
            if is_reserved(sock.fileno()):
                self._turn_away_at_once(sock, self.served.clients.no_descriptor(address, tcp_port))
                continue
            # First of all: then a flood from a forbidden address costs next to nothing.
            from_where = zoned(address, ipv6[1]) if ipv6 else address
            refusal = self.served.clients.turn_away(self.entrance, from_where, tcp_port)
            if refusal:
                self._turn_away(sock, refusal)
                continue
            self._tune(sock)
            if self._door:
                self._door.receive(sock, address)
            else:
                self._connect(sock, address, tcp_port)

    def _turn_away(self, sock: socket.socket, words: str) -> None:
        """Close a connection from a forbidden address; without TLS it is told why."""
        if self._certificate:
            sock.close()
            return
        if len(self._turned_away) == REFUSED_AT_ONCE:  # the oldest has had time to read
            oldest, timer = self._turned_away.popleft()
            timer.cancel()
            oldest.close()
        with contextlib.suppress(OSError):  # it may have left already
            sock.send(f"ttybridge: {words}\r\n".encode())
            # close() with unread input would reset the connection, and the words would be lost.
            sock.shutdown(socket.SHUT_WR)
        timer = asyncio.get_running_loop().call_later(GOODBYE_SECONDS, self._close_turned_away)
        self._turned_away.append((sock, timer))

    def _turn_away_at_once(self, sock: socket.socket, words: str) -> None:
        """The same without time to read, so that no descriptor is used."""
        with sock, contextlib.suppress(OSError):
            if not self._certificate:
                sock.send(f"ttybridge: {words}\r\n".encode())

    def _close_turned_away(self) -> None:
        sock, _ = self._turned_away.popleft()  # all wait equally long
        sock.close()

    def _connect(self, sock: socket.socket, address: str, tcp_port: int) -> None:
        """Give an accepted connection to the port: it gets what the device says from now on.

        If the port is full, it enters only with its transport: until then another may leave.
        """
        client = self.client()
        if self.served.clients.has_room(self.entrance):
            client.connection.arrive(sock, address, tcp_port)
        self._begin(self._attach(client, sock))

    def _begin(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attach(self, client: Client, sock: socket.socket) -> None:
        """Give a client asyncio's transport."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: client.connection, sock
            )
        except OSError as error:
            sock.close()
            client.connection.connection_lost(error)


class Dialer(Endpoint):
    """A port that connects to a listener elsewhere, and does so again when the connection ends."""

    def __init__(self, served: ServedPort, remote: Remote, urgent: FullModeWatch) -> None:
        super().__init__(served, Entrance.dialled(served.port), urgent)
        self._remote = remote
        self._lost = asyncio.Event()
        self._arrival: asyncio.Task[str] | None = None
        self._shaking_hands: socket.socket | None = None
        """A connection whose TLS handshake is under way."""

    async def start(self, kept: socket.socket | None = None, kept_as: str = "") -> None:
        """Dial, or first wait for the end of the connection from before a restart."""
        if not self.served.clients.inside:
            self.problem = f"not yet connected to {self._remote}"
        self.served.begin()
        self._task = asyncio.create_task(self._keep_connected())

    def change(self, port: model.Port) -> None:
        """Go on with another entry of the port, which leaves this connection open."""
        self.entrance.become(Entrance.dialled(port))

    async def settle(self) -> None:
        """Dial no more; finish what is under way."""
        if self._shaking_hands:
            # Its session could not outlive a restart, and the other side may never answer.
            with contextlib.suppress(OSError):
                self._shaking_hands.shutdown(socket.SHUT_RDWR)
        if self._arrival:
            await asyncio.gather(self._arrival, return_exceptions=True)
        await super().settle()

    def client(self, state: ClientState | None = None) -> Client:
        """Return a new client, or with `state` the one from before a restart."""
        return Client(self.served, self.entrance, self._lost.set, state)

    async def _keep_connected(self) -> None:
        pause = RETRY_SECONDS
        if self.served.clients.inside:
            await self._ended()
        while True:
            lasted = await self._connect()
            await asyncio.sleep(pause)
            # A listener that accepts and closes at once does not fill the journal.
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
        # Shielded: a restart does not cut off a client that has just been reached.
        self._arrival = asyncio.create_task(self._arrive(sock))
        if words := await asyncio.shield(self._arrival):
            self._set_problem(f"cannot connect to {self._remote}: {words}")
            return None
        self.problem, since = None, loop.time()
        await self._ended()
        return loop.time() - since

    async def _arrive(self, sock: socket.socket) -> str:
        """Make a client of the connection; return why that fails, in words, or ""."""
        keys: dict[str, Any] = {}
        try:
            if tls := self._remote.tls:
                name = tls.server_name or self._remote.host
                keys = {"ssl": dialling(tls), "server_hostname": name}
                keys["ssl_handshake_timeout"] = CONNECT_SECONDS
                self._shaking_hands = sock
            await asyncio.get_running_loop().create_connection(
                lambda: self.client().connection, sock=sock, **keys
            )
        except CertificateError as error:
            sock.close()
            return str(error)
        except OSError as error:  # SSLError is one
            sock.close()
            return f"TLS: {handshake_words(error)}" if keys else connect_words(error)
        finally:
            self._shaking_hands = None
        return ""

    async def _ended(self) -> None:
        await self._lost.wait()
        self.problem = f"connection to {self._remote} ended"
