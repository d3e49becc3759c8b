"""How clients and ports find together: listeners, connections to listeners elsewhere; reload."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import errno
import functools
import logging
import os
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from ttybridge.client import GOODBYE_SECONDS, Client, tune
from ttybridge.handover import ClientLeft, PortLeft, Predecessor
from ttybridge.handshakes import MOST_OF_HELLO, Handshakes, size_of_hello
from ttybridge.port import REFUSED_AT_ONCE, ServedPort
from ttybridge.portmap import Port
from ttybridge.tls import Certificate, CertificateError
from ttybridge.trueport import FullModeWatch
from ttybridge.values import Listen, Remote

log = logging.getLogger(__name__)

# How often what does not work is tried again, in seconds: a listener that another program holds, a
# connection to a listener elsewhere, accepting without free file descriptors.
RETRY_SECONDS = 1.0

# The longest pause between connections to a listener elsewhere that end soon, in seconds.
MOST_RETRY_SECONDS = 16.0

# How long a connection to a listener elsewhere, and a TLS handshake, may take.
CONNECT_SECONDS = 10.0

# Connections that the kernel holds for a listener until they are accepted, and that are accepted
# at a time.
BACKLOG = 128
ACCEPT_AT_ONCE = 16

_IP_FREEBIND = 15  # linux/in.h
_IPV6_FREEBIND = 78  # linux/in6.h


class ListenError(Exception):
    """No port can be served; the message says why for each."""


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
            "listen": str(port.listen) if port.listen else None,
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
            self._set_problem(_listen_words(self._listen, error))
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
            self._set_problem(f"cannot connect to {self._remote}: {_connect_words(error)}")
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


class Server:
    """All ports of the daemon."""

    def __init__(self, predecessor: Predecessor | None = None) -> None:
        self._predecessor = predecessor
        self._links: dict[str, Link] = {}
        self._urgent = FullModeWatch()

    async def start(self, ports: Sequence[Port]) -> None:
        """Serve `ports`; on return each listens, or its fault is logged and it is tried again.

        Raises `ListenError` where there are ports and not one of them can listen.
        """
        await self.apply(ports)
        links = self._links.values()
        if links and not any(link.is_open or link.served.port.connect for link in links):
            problems = "\n".join(f"{name}: {one.problem}" for name, one in self._links.items())
            await self.stop()
            raise ListenError(problems)

    async def apply(self, ports: Sequence[Port]) -> None:
        """Serve `ports` from now on; a port whose entry and device are the same is not touched."""
        wanted = {port.name: port for port in ports}
        stale = [
            link
            for name, link in self._links.items()
            if link.served.port != wanted.get(name) or link.served.device.is_another()
        ]
        await asyncio.gather(*(self._stop(link) for link in stale))
        left = self._predecessor.share_out(ports) if self._predecessor else {}
        self._predecessor = None
        for name, port in wanted.items():
            if name not in self._links:
                link = self._links[name] = self._link(port)
                if name not in left:
                    await link.start()
                    link.served.open_device()
                elif not await self._resume(link, *left[name]):
                    link = self._links[name] = self._link(port)
                    await link.start()
                    link.served.open_device()

    async def _resume(self, link: Link, left: PortLeft, descriptors: dict[str, int]) -> bool:
        """Return whether a port could go on where a predecessor was."""
        try:
            await link.resume(left, descriptors)
        except Exception:  # what one port cannot take up must not cost the others
            log.exception("%s: clients are not kept", link.served.port.name)
            await link.stop()
            return False
        finally:
            for descriptor in descriptors.values():
                os.close(descriptor)
        return True

    async def leave(self) -> tuple[dict[str, PortLeft], dict[str, int]]:
        """Stop, with all open: what a successor needs of each port, and the descriptors by name."""
        links = self._links.values()
        await asyncio.gather(*(link.settle() for link in links))
        # Devices are not read from here on: for all of them at once, however slow one port is.
        await asyncio.gather(*(link.served.freeze() for link in links))
        # All in one moment: what a port did after it, a successor would do again.
        left = [link.left(place) for place, link in enumerate(links)]
        descriptors = {name: number for _, each in left for name, number in each.items()}
        return dict(zip(self._links, (port for port, _ in left), strict=True)), descriptors

    def abandon(self) -> None:
        """What `leave` returned is a successor's now: send nothing more that it sends, too."""
        for link in self._links.values():
            link.served.abandon()

    async def stop(self) -> None:
        """Stop serving all ports."""
        await self.apply([])
        self._urgent.close()

    def _link(self, port: Port) -> Link:
        if port.listen:
            return Listener(port, port.listen, self._urgent)
        assert port.connect  # the port map has one of the two
        return Dialer(port, port.connect, self._urgent)

    async def _stop(self, link: Link) -> None:
        await link.stop()
        self._links.pop(link.served.port.name, None)  # a stop overtakes a reload
        log.info("%s: no longer served", link.served.port.name)

    def kick(self, port: str, client: str | None) -> list[str]:
        """Close a client of a port, or all of them; return whom. `KeyError` for an unknown port."""
        return self._links[port].served.kick(client)

    def summary(self) -> str:
        """One line for `systemctl status`."""
        ports = [link.served for link in self._links.values()]
        present = sum(port.device.is_open for port in ports)
        clients = sum(len(port.clients) for port in ports)
        return f"{len(ports)} ports, {present} devices present, {clients} clients"

    def status(self) -> dict[str, Any]:
        """Everything that `ttybridge status --json` shows."""
        return {"pid": os.getpid(), "ports": [link.status() for link in self._links.values()]}


def _wake_at(sock: socket.socket, size: int) -> None:
    """Let a connection be readable when so many bytes are there, or its end."""
    with contextlib.suppress(OSError):  # it may have been reset
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)


def open_listener(listen: Listen) -> socket.socket:
    """Return a listening socket; without an address it takes IPv4 and IPv6.

    The address need not be on the host yet (IP_FREEBIND), so no boot order is wrong.
    """
    family = socket.AF_INET6 if ":" in listen.address or _dual(listen) else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not _dual(listen)))
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        address = listen.address or ("::" if family == socket.AF_INET6 else "0.0.0.0")
        # Also turns the scope of a link-local address (fe80::1%eth0) into a number.
        ((*_, place),) = socket.getaddrinfo(address, listen.port, family, socket.SOCK_STREAM)
        sock.bind(place)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


async def open_connection(remote: Remote) -> socket.socket:
    """Return a socket that is connected to a listener elsewhere; `OSError` where none answers."""
    failure: OSError = socket.gaierror(socket.EAI_NONAME, "no such host")
    for family, kind, protocol, _, address in await _resolve(remote):
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(sock, address)
            # Where nobody listens on this machine, the kernel at last takes that very TCP port for
            # this side and connects the socket to itself.
            if sock.getsockname() == sock.getpeername():
                raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
            return sock
        except OSError as error:  # TimeoutError is one
            sock.close()
            failure = error
        except asyncio.CancelledError:
            sock.close()
            raise
    raise failure


async def _resolve(remote: Remote) -> list[Any]:
    """Return what getaddrinfo(3) says of a host.

    A thread of its own: the event loop's own would keep a stop waiting for a silent name server.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[Any]] = loop.create_future()

    def look_up() -> None:
        settle: Callable[[], None]
        try:
            places = socket.getaddrinfo(remote.host, remote.port, type=socket.SOCK_STREAM)
            settle = functools.partial(found.set_result, places)
        except OSError as error:
            settle = functools.partial(found.set_exception, error)
        except UnicodeError:
            unknown = socket.gaierror(socket.EAI_NONAME, "this can be no host's name")
            settle = functools.partial(found.set_exception, unknown)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(lambda: None if found.done() else settle())

    threading.Thread(target=look_up, daemon=True).start()
    return await found


def _connect_words(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)


def _dual(listen: Listen) -> bool:
    return not listen.address and socket.has_dualstack_ipv6()


def _listen_words(listen: Listen, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"cannot listen on {listen}: another program holds TCP port {listen.port} "
            f"(ss -ltnp 'sport = :{listen.port}' shows it): end it or choose another port"
        )
    if error.errno == errno.EACCES:
        return f"cannot listen on {listen}: ports below 1024 need CAP_NET_BIND_SERVICE"
    return f"cannot listen on {listen}: {error.strerror}"
