"""The client's side of each protocol: connect, negotiate, and what bytes look like on the wire."""

from __future__ import annotations

import re
import socket
import ssl
from pathlib import Path
from typing import Literal

Protocol = Literal["raw", "telnet", "rfc2217", "tls"]

# RFC 854, 856, 857, 858 and 2217.
IAC, DONT, DO, WONT, WILL, SB, SE = 255, 254, 253, 252, 251, 250, 240
BINARY, ECHO, SGA, COM_PORT = 0, 1, 3, 44
SET_BAUDRATE, BAUDRATE_IS = 1, 101

# A doubled 255, an option, a suboption, any other command; at the end an incomplete one.
_COMMAND = re.compile(
    rb"\xff(?:\xff|[\xfb-\xfe].|\xfa(?:[^\xff]|\xff\xff)*\xff\xf0|[\xf0-\xf9]|(?:\xfa[^\xff]*|.?)\Z)",
    re.DOTALL,
)


# How long a server may take to agree.
NEGOTIATION_SECONDS = 10


class WireError(Exception):
    """The server does not speak the protocol as it should; the message says how."""


class Client:
    """A TCP client of a served line. Reads and writes block."""

    def __init__(
        self, protocol: Protocol, tcp_port: int, certificate: Path, address: str = "127.0.0.1"
    ) -> None:
        self._telnet = protocol in ("telnet", "rfc2217")
        self.sock = socket.create_connection((address, tcp_port), NEGOTIATION_SECONDS)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if protocol == "tls":
            context = ssl.create_default_context(cafile=str(certificate))
            self.sock = context.wrap_socket(self.sock, server_hostname="127.0.0.1")
        elif self._telnet:
            negotiate(self.sock, rfc2217=protocol == "rfc2217")
        self.sock.settimeout(None)

    def encode(self, data: bytes) -> bytes:
        """`data` as it travels: with telnet, 255 twice."""
        return data.replace(b"\xff", b"\xff\xff") if self._telnet else data

    def receive(self, count: int) -> bytearray:
        """The next `count` bytes as they travel."""
        received = bytearray(count)
        view = memoryview(received)
        while view:
            view = view[self._receive_into(view) :]
        return received

    def is_right(self, received: bytearray, data: bytes) -> bool:
        """Whether what was received, as many bytes as `encode` gives, is `data`."""
        wire = self.encode(data)
        if received == wire or not self._telnet:
            return received == wire
        # Commands between the data have taken the place of some data.
        while len(plain := decode(received)) < len(data):
            received += self.receive(1)
        return plain == data

    def receive_byte(self) -> bytes:
        """The next byte."""
        return self.sock.recv(1)

    def _receive_into(self, view: memoryview) -> int:
        count = self.sock.recv_into(view)
        if not count:
            raise WireError("the server has closed the connection")
        return count

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()


def decode(received: bytes | bytearray) -> bytes:
    """Telnet without its commands: the data in it."""
    return _COMMAND.sub(lambda m: b"\xff" if m[0] == b"\xff\xff" else b"", received)


def negotiate(sock: socket.socket, *, rfc2217: bool) -> None:
    """Agree on binary both ways and, with RFC 2217, on a baudrate; `WireError` where that fails.

    On return everything that the server has sent so far has been read, also a banner.
    """
    ours = {BINARY, SGA} | ({COM_PORT} if rfc2217 else set())
    wanted = {(WILL, BINARY), (DO, BINARY)} | ({(DO, COM_PORT)} if rfc2217 else set())
    said: set[tuple[int, int]] = set()

    def say(verb: int, option: int) -> None:
        if (verb, option) not in said:  # an agreed option is not answered again (RFC 1143)
            said.add((verb, option))
            sock.sendall(bytes([IAC, verb, option]))

    for verb, option in sorted(wanted):
        say(DO if verb == WILL else WILL, option)
    heard: set[tuple[int, int]] = set()
    received = b""
    while not wanted <= heard:
        received += _more(sock)
        for verb, option in re.findall(rb"\xff([\xfb-\xfe])(.)", received, re.DOTALL):
            heard.add((verb[0], option[0]))
        for verb, option in heard:
            if verb == WILL:
                say(DO if option in (BINARY, ECHO, SGA) else DONT, option)
            elif verb == DO:
                say(WILL if option in ours else WONT, option)
            elif (WILL if verb == WONT else DO, option) in wanted:
                raise WireError(f"the server refuses telnet option {option}")
    if rfc2217:
        baudrate = (115200).to_bytes(4, "big")
        sock.sendall(bytes([IAC, SB, COM_PORT, SET_BAUDRATE, *baudrate, IAC, SE]))
        answer = bytes([IAC, SB, COM_PORT, BAUDRATE_IS, *baudrate, IAC, SE])
        while answer not in received:
            received += _more(sock)


def _more(sock: socket.socket) -> bytes:
    data = sock.recv(4096)
    if not data:
        raise WireError("the server has closed the connection during negotiation")
    return data
