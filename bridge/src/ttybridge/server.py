"""The listeners of all ports: start, reload, stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Sequence
from typing import Any

from ttybridge.client import Client
from ttybridge.port import ServedPort
from ttybridge.portmap import Port
from ttybridge.values import Listen

log = logging.getLogger(__name__)

# How often a listener that another program holds is tried again, in seconds.
RETRY_SECONDS = 1.0

# Connections that the kernel holds for a listener until they are accepted.
BACKLOG = 128

_IP_FREEBIND = 15  # linux/in.h
_IPV6_FREEBIND = 78  # linux/in6.h


class ListenError(Exception):
    """No port can be served; the message says why for each."""


class Listener:
    """A port and its TCP listener, open or being tried again."""

    def __init__(self, port: Port) -> None:
        self.served = ServedPort(port)
        self.problem: str | None = None
        """Why there is no listener, in words, or None."""
        self._server: asyncio.Server | None = None
        self._retry: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._server is not None

    async def start(self) -> None:
        """Listen, or begin to try again where another program holds the TCP port."""
        await self._listen()
        if not self.is_open:
            self._retry = asyncio.create_task(self._try_again())

    async def stop(self) -> None:
        """Close listener, clients and device."""
        if self._retry:
            self._retry.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._retry
        if self._server:
            self._server.close()
        await self.served.stop()

    def status(self) -> dict[str, Any]:
        """The port as `ttybridge status --json` shows it."""
        listen = {
            "listen": str(self.served.port.listen),
            "listening": self.is_open,
            "listen_problem": self.problem,
        }
        return {**self.served.status(), **listen}

    async def _listen(self) -> None:
        port = self.served.port
        loop = asyncio.get_running_loop()
        try:
            sock = open_listener(port.listen)
        except OSError as error:
            words = _listen_words(port.listen, error)
            if words != self.problem:
                log.error("%s: %s", port.name, words)
            self.problem = words
            return
        # asyncio accepts `backlog` connections at a time. Where no descriptor is left, it logs each
        # failure among them and tries each again by a timer of its own: they would multiply.
        self._server = await loop.create_server(lambda: Client(self.served), sock=sock, backlog=1)
        sock.listen(BACKLOG)
        self.problem = None
        log.info("%s: listening on %s", port.name, port.listen)

    async def _try_again(self) -> None:
        while not self.is_open:
            await asyncio.sleep(RETRY_SECONDS)
            await self._listen()


class Server:
    """All ports of the daemon."""

    def __init__(self) -> None:
        self._listeners: dict[str, Listener] = {}

    async def start(self, ports: Sequence[Port]) -> None:
        """Serve `ports`; on return each listens, or its fault is logged and it is tried again.

        Raises `ListenError` where there are ports and not one of them can listen.
        """
        await self.apply(ports)
        listeners = self._listeners.values()
        if listeners and not any(listener.is_open for listener in listeners):
            problems = "\n".join(f"{name}: {one.problem}" for name, one in self._listeners.items())
            await self.stop()
            raise ListenError(problems)

    async def apply(self, ports: Sequence[Port]) -> None:
        """Serve `ports` from now on; a port whose entry is the same is not touched."""
        wanted = {port.name: port for port in ports}
        stale = [
            listener
            for name, listener in self._listeners.items()
            if listener.served.port != wanted.get(name)
        ]
        await asyncio.gather(*(self._stop(listener) for listener in stale))
        for name, port in wanted.items():
            if name not in self._listeners:
                self._listeners[name] = Listener(port)
                await self._listeners[name].start()
                self._listeners[name].served.open_device()

    async def stop(self) -> None:
        """Stop serving all ports."""
        await self.apply([])

    async def _stop(self, listener: Listener) -> None:
        await listener.stop()
        self._listeners.pop(listener.served.port.name, None)  # a stop overtakes a reload
        log.info("%s: no longer served", listener.served.port.name)

    def summary(self) -> str:
        """One line for `systemctl status`."""
        listeners = self._listeners.values()
        present = sum(listener.served.device.is_open for listener in listeners)
        clients = sum(len(listener.served.clients) for listener in listeners)
        return f"{len(listeners)} ports, {present} devices present, {clients} clients"

    def status(self) -> dict[str, Any]:
        """Everything that `ttybridge status --json` shows."""
        return {"pid": os.getpid(), "ports": [one.status() for one in self._listeners.values()]}


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
