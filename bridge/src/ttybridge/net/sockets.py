"""Sockets of listeners and clients: made, set up, asked how they are."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import select
import socket
import struct
from typing import Any, NamedTuple

from ttybridge.model.values import Listen, Remote
from ttybridge.net.threads import in_thread

# Seconds between two attempts: to open a listener while another program holds its TCP port, to
# connect to a listener elsewhere, to accept clients without free file descriptors.
RETRY_SECONDS = 1.0

# How long a connection to a listener elsewhere, and a TLS handshake, may take.
CONNECT_SECONDS = 10.0

# Connections that the kernel holds for a listener until they are accepted.
BACKLOG = 128

# File descriptors that no client gets: a restart needs some to hand over, `status` to answer, and
# an adapter that comes back to be opened. Of a low limit it is an eighth.
RESERVED = 64

_IP_FREEBIND = 15  # linux/in.h
_IPV6_FREEBIND = 78  # linux/in6.h

# Of struct tcp_info (linux/tcp.h).
_TCP_INFO_SIZE = 104
TCP_ESTABLISHED, TCP_CLOSE = 1, 7


def open_listener(listen: Listen) -> socket.socket:
    """Return a listening socket; without an address it takes IPv4 and IPv6.

    The address need not be on the host yet (IP_FREEBIND), so the boot order does not matter.
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


def stop_listening(sock: socket.socket) -> None:
    """Free the TCP port of a listener now, though the service manager may keep its descriptor."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


async def open_connection(remote: Remote) -> socket.socket:
    """Return a socket that is connected to a listener elsewhere; `OSError` where none answers."""
    failure: OSError = socket.gaierror(socket.EAI_NONAME, "no such host")
    for family, kind, protocol, _, address in await _resolve(remote):
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(sock, address)
            # Where no program listens on this machine, the kernel sooner or later picks that TCP
            # port for our own side, and so connects the socket to itself.
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
    """Return what getaddrinfo(3) says of a host."""

    def look_up() -> list[Any]:
        try:
            return socket.getaddrinfo(remote.host, remote.port, type=socket.SOCK_STREAM)
        except UnicodeError:
            raise socket.gaierror(socket.EAI_NONAME, "this is not a valid host name") from None

    return await in_thread(look_up)


def connect_words(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)


def _dual(listen: Listen) -> bool:
    return not listen.address and socket.has_dualstack_ipv6()


def is_reserved(descriptor: int) -> bool:
    """Whether a descriptor is one of the last: the kernel gives the lowest that is free."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return descriptor >= limit - min(RESERVED, limit // 8)


def listen_words(listen: Listen, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"cannot listen on {listen}: another program holds TCP port {listen.port} "
            f"(ss -ltnp 'sport = :{listen.port}' shows it): end it or choose another port"
        )
    if error.errno == errno.EACCES:
        return f"cannot listen on {listen}: ports below 1024 need CAP_NET_BIND_SERVICE"
    return f"cannot listen on {listen}: {error.strerror}"


class TcpInfo(NamedTuple):
    """What the kernel knows of a connection (TCP_INFO, tcp(7))."""

    state: int
    in_flight: bool
    """Whether the other side has something to acknowledge."""
    silent_for: float
    """Seconds since it last acknowledged something."""


def tcp_info(sock: socket.socket) -> TcpInfo:
    """Return what the kernel knows of a connection."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
    state, probes = info[0], info[3]
    (unacknowledged,) = struct.unpack_from("I", info, 24)
    (silent_for,) = struct.unpack_from("I", info, 56)  # in milliseconds
    # One unanswered window probe is normal; two mean that the peer is gone.
    return TcpInfo(state, unacknowledged > 0 or probes > 1, silent_for / 1000)


def is_local(sock: Any) -> bool:
    """Whether it is a Unix socket, not TCP."""
    return getattr(sock, "family", None) == socket.AF_UNIX


def has_hung_up(sock: Any) -> bool:
    """Whether the program at the other end of a Unix socket sends no more, or has left."""
    return bool(_polled(sock, select.POLLRDHUP))


def has_left(sock: Any) -> bool:
    """Whether the program at the other end of a Unix socket has closed it, or has ended."""
    return bool(_polled(sock, 0) & select.POLLHUP)


def _polled(sock: Any, events: int) -> int:
    asked = select.poll()
    asked.register(sock.fileno(), events)
    return next((said for _, said in asked.poll(0)), 0)


def peer_name(address: str, tcp_port: int) -> str:
    """A client's address as people write it: IPv4 without ::ffff:, IPv6 in brackets."""
    address = plain_address(address)
    return f"[{address}]:{tcp_port}" if ":" in address else f"{address}:{tcp_port}"


def address_of(name: str) -> str:
    """The address in a name that `peer_name` has made."""
    return name.rpartition(":")[0].strip("[]")


def plain_address(address: str) -> str:
    """192.0.2.1 for ::ffff:192.0.2.1, which is how a listener for both families sees it."""
    return address.removeprefix("::ffff:") if "." in address else address


def zoned(address: str, interface: int) -> str:
    """fe80::1%eth0 for the address fe80::1 at an interface (its number, 0 = none)."""
    try:
        return f"{address}%{socket.if_indextoname(interface)}" if interface else address
    except OSError:  # it has gone meanwhile
        return address


def tune(sock: socket.socket, keepalive: int, raw: bool) -> None:
    """Set up the connection of a client; `keepalive` in seconds."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Keep urgent bytes in the stream: telnet marks some of its bytes as urgent (RFC 854, Synch).
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, int(not raw))
    if keepalive:
        set_keepalive(sock, keepalive)


_KEEPALIVE = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)


def set_keepalive(sock: socket.socket, seconds: int) -> None:
    """Set when TCP keepalive asks; with 0 as a new connection has it."""
    values = (seconds, max(1, seconds // 4), 4) if seconds else _kernel_keepalive()
    for option, value in zip(_KEEPALIVE, values, strict=True):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _kernel_keepalive() -> tuple[int, ...]:
    # The kernel does not take 0 for its own values (EINVAL).
    with socket.socket() as new:
        return tuple(new.getsockopt(socket.IPPROTO_TCP, option) for option in _KEEPALIVE)
