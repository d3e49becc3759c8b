"""Clients of the ports of one Pi, as a program: each checks a stream, and some send one.

    python3 sessions.py JSON

with a list of what `Session` takes. A session that ends is counted, and connects again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
import sys
from typing import Any

from ends import INTERVAL_SECONDS, answer, to_client, to_device
from stream import Receipt, piece

# RFC 854, 856, 857, 858 and 2217.
DONT, DO, WONT, WILL = 254, 253, 252, 251
BINARY, ECHO, SGA, COM_PORT = 0, 1, 3, 44
SET_BAUDRATE, BAUDRATE_IS = 1, 101

# What an RFC 2217 client sets at its start; no port of the inventory has it.
BAUDRATE = 57600

_TOKEN = re.compile(
    rb"\xff\xfa(?P<option>.)(?P<payload>(?:[^\xff]|\xff\xff)*)\xff\xf0"
    rb"|\xff(?P<verb>[\xfb-\xfe])(?P<about>.)"
    rb"|\xff[\xf0-\xf9]"
    rb"|(?P<data>\xff\xff|[^\xff]+)",
    re.DOTALL,
)


class Plain:
    """A client that speaks no protocol."""

    @property
    def agreed(self) -> bool:
        """Whether the server has agreed to all that is wanted."""
        return True

    def start(self) -> bytes:
        """What is sent first."""
        return b""

    def encode(self, data: bytes) -> bytes:
        """Bytes as they travel."""
        return data

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the device's bytes in what was received, and what to answer."""
        return data, b""


class Telnet(Plain):
    """A client that speaks telnet, in binary both ways once it is `agreed`; also RFC 2217."""

    def __init__(self, com_port: bool) -> None:
        self._ours = {BINARY, SGA} | ({COM_PORT} if com_port else set())
        self._wanted = {(WILL, BINARY), (DO, BINARY)} | ({(DO, COM_PORT)} if com_port else set())
        self._said: set[tuple[int, int]] = set()
        self._unread = b""
        self.baudrates: list[int] = []
        """What the server has said of the line's baudrate."""

    @property
    def agreed(self) -> bool:
        """Whether the server has agreed to all that is wanted."""
        return not self._wanted

    def start(self) -> bytes:
        """Ask for all that is wanted."""
        return b"".join(
            self._say(DO if verb == WILL else WILL, option) for verb, option in self._wanted
        )

    def encode(self, data: bytes) -> bytes:
        """With 255 twice."""
        return data.replace(b"\xff", b"\xff\xff")

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the device's bytes in what was received, and what to answer."""
        self._unread += data
        plain, reply, position = b"", b"", 0
        while token := _TOKEN.match(self._unread, position):
            position = token.end()
            if token["data"]:
                plain += token["data"].replace(b"\xff\xff", b"\xff")
            elif token["verb"]:
                reply += self._answer(token["verb"][0], token["about"][0])
            elif token["option"] == bytes([COM_PORT]):
                self._note(token["payload"].replace(b"\xff\xff", b"\xff"))
        self._unread = self._unread[position:]
        return plain, reply

    def set_baudrate(self, value: int) -> bytes:
        """The request for a baudrate; 0 asks which it is."""
        payload = self.encode(bytes([SET_BAUDRATE, *value.to_bytes(4, "big")]))
        return b"\xff\xfa" + bytes([COM_PORT]) + payload + b"\xff\xf0"

    def _answer(self, verb: int, option: int) -> bytes:
        self._wanted.discard((verb, option))
        reply = b""
        if verb == WILL:
            reply = self._say(DO if option in (BINARY, ECHO, SGA) else DONT, option)
        elif verb == DO:
            reply = self._say(WILL if option in self._ours else WONT, option)
        if (verb, option) == (DO, COM_PORT):
            reply += self.set_baudrate(BAUDRATE)
        return reply

    def _say(self, verb: int, option: int) -> bytes:
        if (verb, option) in self._said:  # an agreed option is not answered again (RFC 1143)
            return b""
        self._said.add((verb, option))
        return bytes([255, verb, option])

    def _note(self, payload: bytes) -> None:
        if payload[0] == BAUDRATE_IS:
            self.baudrates.append(int.from_bytes(payload[1:5], "big"))


class Session:
    """A client of a port, for as long as the program runs."""

    def __init__(
        self, port: str, address: str, tcp_port: int, protocol: str, tls: bool, size: int
    ) -> None:
        """Sends pieces of so many bytes; with 0 it only watches."""
        self.held = False
        """Whether it is silent for now."""
        self._at = address, tcp_port
        self._protocol, self._tls = protocol, tls
        self._sends, self._size = to_device(port), size
        self._sent = 0
        self._received = Receipt(to_client(port))
        self._dropped = 0
        self._writer: asyncio.StreamWriter | None = None
        self._telnet: Plain = Plain()

    async def run(self) -> None:
        """Connect, and again each time that the session ends."""
        while True:
            with contextlib.suppress(OSError):  # also of TLS, and a connection that is refused
                await self._live()
            self._writer = None
            await asyncio.sleep(INTERVAL_SECONDS)

    def begin(self) -> None:
        """Measure pauses from now on."""
        self._received.begin()

    def report(self) -> dict[str, Any]:
        """How far both streams are, and what became of the one to the client."""
        return {
            "dropped": self._dropped,
            "tls": self._tls,
            "agreed": self._writer is not None and self._telnet.agreed,
            "sent": self._sent,
            "received": self._received.report(),
            "baudrates": self._telnet.baudrates if isinstance(self._telnet, Telnet) else [],
        }

    def ask_baudrate(self) -> None:
        """Forget what was said of the baudrate, and ask for it."""
        if isinstance(self._telnet, Telnet) and self._writer:
            self._telnet.baudrates.clear()
            self._writer.write(self._telnet.set_baudrate(0))

    async def _live(self) -> None:
        """Connect, and go on until the connection ends."""
        reader, writer = await asyncio.open_connection(*self._at, ssl=_context(self._tls))
        plain = self._protocol == "raw"
        self._telnet = Plain() if plain else Telnet(self._protocol == "rfc2217")
        writer.write(self._telnet.start())
        self._writer = writer
        speaking = asyncio.create_task(self._speak(writer))
        try:
            while data := await reader.read(65536):
                data, reply = self._telnet.receive(data)
                writer.write(reply)
                if data:
                    self._received.receive(data)
        finally:
            self._dropped += 1
            speaking.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await speaking
            writer.close()

    async def _speak(self, writer: asyncio.StreamWriter) -> None:
        while self._size:
            if self._telnet.agreed and not self.held:
                data = piece(self._sends, self._sent, self._size)
                self._sent += self._size
                writer.write(self._telnet.encode(data))
                await writer.drain()
            await asyncio.sleep(INTERVAL_SECONDS)


def _context(tls: bool) -> ssl.SSLContext | None:
    if not tls:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # that of the lab is its own
    return context


class Sessions:
    """All sessions with a Pi, as commands; each has a name."""

    def __init__(self, wanted: dict[str, dict[str, Any]]) -> None:
        self._sessions = {name: Session(**keys) for name, keys in wanted.items()}
        self._running: list[asyncio.Task[None]] = []

    async def start(self, name: str) -> dict[str, Any]:
        """Let a session begin."""
        self._running.append(asyncio.create_task(self._sessions[name].run()))
        return {}

    async def report(self) -> dict[str, Any]:
        """The report of each session, by name."""
        return {name: session.report() for name, session in self._sessions.items()}

    async def begin(self) -> dict[str, Any]:
        """Measure pauses from now on."""
        for session in self._sessions.values():
            session.begin()
        return {}

    async def hold(self, name: str, held: bool) -> dict[str, Any]:
        """Make a session silent, or let it go on."""
        self._sessions[name].held = held
        return {}

    async def ask_baudrate(self) -> dict[str, Any]:
        """Ask for the baudrate on each RFC 2217 session; a later report has the answer."""
        for session in self._sessions.values():
            session.ask_baudrate()
        return {}

    async def run(self) -> None:
        """Do commands until there are no more."""
        await answer(
            {
                "start": self.start,
                "report": self.report,
                "begin": self.begin,
                "hold": self.hold,
                "ask_baudrate": self.ask_baudrate,
            }
        )
        for task in self._running:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(Sessions(json.loads(sys.argv[1])).run())
