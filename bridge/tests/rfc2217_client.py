"""A client that speaks telnet and RFC 2217, with a parser of its own."""

from __future__ import annotations

import re
from collections.abc import Callable

from conftest import TcpClient, in_time

DONT, DO, WONT, WILL = 254, 253, 252, 251
BINARY, ECHO, SGA, COM_PORT = 0, 1, 3, 44
NOP, BRK, AYT = b"\xff\xf1", b"\xff\xf3", b"\xff\xf6"

SIGNATURE, BAUDRATE, DATASIZE, PARITY, STOPSIZE, CONTROL = range(6)
LINESTATE, MODEMSTATE, SUSPEND, RESUME, LINESTATE_MASK, MODEMSTATE_MASK, PURGE = range(6, 13)

_TOKEN = re.compile(
    rb"\xff\xfa,(?P<payload>(?:[^\xff]|\xff\xff)*)\xff\xf0"
    rb"|\xff(?P<verb>[\xfb-\xfe])(?P<option>.)"
    rb"|(?P<command>\xff[\xf1-\xf9])"
    rb"|(?P<data>\xff\xff|[^\xff]+)",
    re.DOTALL,
)


def com_port(*payload: int) -> bytes:
    """A subnegotiation of COM-PORT-OPTION."""
    return b"\xff\xfa," + bytes(payload).replace(b"\xff", b"\xff\xff") + b"\xff\xf0"


def baudrate(value: int) -> tuple[int, ...]:
    """The payload that sets a baudrate, 0 asks for it."""
    return BAUDRATE, *value.to_bytes(4, "big")


class Rfc2217Client:
    """A client of a port, in BINARY both ways once `agree` has returned."""

    def __init__(self, client: TcpClient) -> None:
        self.tcp = client
        self.said: list[tuple[int, int]] = []
        """Verbs and options that the server sent."""
        self.commands: list[bytes] = []
        self.payloads: list[bytes] = []
        """What the server said of the serial port and nobody has asked `answer` for."""
        self.data = bytearray()
        self._unread = b""

    async def agree(self, modemstate: bool = True) -> None:
        """Agree on BINARY and COM-PORT-OPTION, and take the first NOTIFY-MODEMSTATE."""
        await self.negotiate((WILL, BINARY), (DO, BINARY), (DO, ECHO), (DO, SGA), (WILL, COM_PORT))
        await self.until(lambda: (DO, COM_PORT) in self.said, "both agree on COM-PORT-OPTION")
        if modemstate:
            await self.answer(MODEMSTATE)

    async def negotiate(self, *pairs: tuple[int, int]) -> None:
        """Send verbs with their options."""
        await self.tcp.send(b"".join(bytes((255, *pair)) for pair in pairs))

    async def send(self, data: bytes) -> None:
        """Send bytes for the device."""
        await self.tcp.send(data.replace(b"\xff", b"\xff\xff"))

    async def tell(self, *payload: int) -> None:
        """Send a command."""
        await self.tcp.send(com_port(*payload))

    async def ask(self, *payload: int) -> bytes:
        """Send a command, and return the value of its answer."""
        await self.tell(*payload)
        return await self.answer(payload[0])

    async def answer(self, code: int) -> bytes:
        """Return the value of the next answer to a command."""
        found: list[bytes] = []

        def arrived() -> bool:
            found.extend(payload for payload in self.payloads if payload[0] == code + 100)
            return bool(found)

        await self.until(arrived, f"an answer to command {code}")
        self.payloads.remove(found[0])
        return found[0][1:]

    async def receive(self, size: int) -> bytes:
        """Return the next `size` bytes of the device."""
        await self.until(lambda: len(self.data) >= size, f"{size} bytes for a client")
        data = bytes(self.data[:size])
        del self.data[:size]
        return data

    async def catch_up(self) -> None:
        """Return when the server has done all that was sent, and its answers are here."""
        await self.ask(SIGNATURE)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Read on until a condition holds; AssertionError that says what did not happen."""
        async with in_time(what):
            while not condition():
                data = await self.tcp.reader.read(65536)
                assert data, "the server closed the connection"
                self._parse(data)

    def _parse(self, data: bytes) -> None:
        self._unread += data
        position = 0
        while token := _TOKEN.match(self._unread, position):
            position = token.end()
            if token["verb"]:
                self.said.append((token["verb"][0], token["option"][0]))
            elif token["command"]:
                self.commands.append(token["command"])
            elif token["data"]:
                self.data += token["data"].replace(b"\xff\xff", b"\xff")
            else:
                self.payloads.append(token["payload"].replace(b"\xff\xff", b"\xff"))
        self._unread = self._unread[position:]
