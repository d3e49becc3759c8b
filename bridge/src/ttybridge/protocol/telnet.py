"""The server's side of telnet: bytes in, events and bytes out; no sockets.

RFC 854 (protocol), 855 (options), 856 (binary), 860 (timing mark), 1143 (negotiation that cannot
loop), 1123 (what the end of a line is), 1184 (keys that have a command of their own).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

IAC, DONT, DO, WONT, WILL, SB = 255, 254, 253, 252, 251, 250
AYT, BRK, NOP, SE = 246, 243, 241, 240
EL, EC, IP, ABORT, SUSP, EOF = 248, 247, 244, 238, 237, 236

BINARY, ECHO, SGA, TIMING_MARK, COM_PORT = 0, 1, 3, 6, 44

# In line mode a telnet client sends a command instead of one of these keys. The device gets the
# key: its character is that of a Linux terminal, where the erase key is DEL. AO and DM are no keys:
# the client itself discards what it does not want to show, until its timing mark.
_KEYS = {IP: b"\x03", EOF: b"\x04", EL: b"\x15", SUSP: b"\x1a", ABORT: b"\x1c", EC: b"\x7f"}

# Subnegotiations are short; a longer one would only fill memory.
MOST_SUBNEGOTIATION = 256

_IAC = b"\xff"
_TWO = b"\xff\xff"
_END_OF_LINE = re.compile(rb"\r[\n\0]")


@dataclass(frozen=True)
class Data:
    """Bytes for the device."""

    data: bytes


@dataclass(frozen=True)
class Break:
    """The client asks for a line break (IAC BRK)."""


@dataclass(frozen=True)
class AreYouThere:
    """The client asks for a sign of life (IAC AYT)."""


@dataclass(frozen=True)
class Subnegotiation:
    """The payload of an agreed option, without the escapes."""

    option: int
    payload: bytes


@dataclass(frozen=True)
class Enabled:
    """The client will now do an option."""

    option: int


@dataclass(frozen=True)
class Disabled:
    """The client will not do an option any more."""

    option: int


Event = Data | Break | AreYouThere | Subnegotiation | Enabled | Disabled


class _Option(Enum):
    """RFC 1143's states, but those of a side that withdraws a request: the server never does."""

    NO = "no"
    YES = "yes"
    ASKED = "asked"

    @classmethod
    def _missing_(cls, value: object) -> _Option:
        """A state that only another version knows, such as "refused", counts as NO."""
        return cls.NO


class _At(Enum):
    """What the next byte of the client's stream belongs to."""

    DATA = "data"
    COMMAND = "command"
    OPTION = "option"
    SB = "sb"
    SB_COMMAND = "sb command"


@dataclass
class TelnetState:
    """What both sides have agreed on, and what is half received."""

    ours: dict[int, _Option] = field(default_factory=dict)
    theirs: dict[int, _Option] = field(default_factory=dict)
    at: _At = _At.DATA
    verb: int = 0
    subnegotiation: bytearray = field(default_factory=bytearray)
    received_cr: bool = False
    """Whether the last byte received was CR, outside of BINARY."""
    sent_cr: bool = False
    """Whether the last byte sent was CR, outside of BINARY."""

    def agreed(self) -> TelnetState:
        """Return what both sides have agreed on, with nothing half received."""
        return TelnetState(self.ours, self.theirs)


class Telnet:
    """One connection, seen from the server.

    It offers character mode (ECHO, SGA) and eight clear bits both ways (BINARY); `accept` are
    further options that the client may do.
    """

    def __init__(self, accept: tuple[int, ...] = (), state: TelnetState | None = None) -> None:
        self.state = state or TelnetState()
        self._we_may = (BINARY, ECHO, SGA)
        self._they_may = (BINARY, SGA, *accept)
        self._to_send = bytearray()

    def start(self) -> None:
        """Offer and ask for everything that the server wants."""
        for option in reversed(self._we_may):
            self.state.ours[option] = _Option.ASKED
            self._say(WILL, option)
        # Not COM-PORT-OPTION: a client that is asked for it (pyserial, now and then) may take the
        # request for the answer to its own offer, and then never make the offer.
        for option in (SGA, BINARY):
            self.state.theirs[option] = _Option.ASKED
            self._say(DO, option)

    def data_to_send(self) -> bytes:
        """Return what the protocol itself has to send now."""
        if not self._to_send:
            return b""
        data = bytes(self._to_send)
        self._to_send.clear()
        return data

    def client_does(self, option: int) -> bool:
        """Whether the client has agreed to do an option."""
        return self.state.theirs.get(option) is _Option.YES

    def encode(self, data: bytes) -> bytes:
        """Return bytes of the device as they are sent."""
        if self.state.ours.get(BINARY) is _Option.YES or self.client_does(COM_PORT):
            self.state.sent_cr = False
        else:
            data = self._end_cr(data)
        return data.replace(_IAC, _TWO) if _IAC in data else data

    def _end_cr(self, data: bytes) -> bytes:
        """Put a NUL after each CR without LF (RFC 854, page 11)."""
        if not data:
            return data
        if self.state.sent_cr and data[0] != 0x0A:
            data = b"\0" + data
        self.state.sent_cr = data.endswith(b"\r")
        return re.sub(rb"\r(?=[^\n])", b"\r\0", data) if b"\r" in data else data

    def receive(self, data: bytes) -> list[Event]:
        """Return what the client's bytes say, in their order."""
        if self.state.at is _At.DATA:
            pieces = data.split(_IAC)
            if len(pieces) % 2 and not any(pieces[1::2]):
                # Every IAC is doubled, so there is no command. This is by far the most common case,
                # and a split is much faster than a search for two bytes.
                data = self._text(_IAC.join(pieces[::2]))
                return [Data(data)] if data else []
        return self._parse(data)

    def _parse(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        text: list[bytes] = []
        position = 0
        while position < len(data):
            if self.state.at is _At.DATA:
                end = _next_iac(data, position)
                text.append(self._text(data[position:end]))
                position = end + 1
                if end < len(data):
                    self.state.at = _At.COMMAND
                continue
            if self.state.at is _At.SB:
                end = _next_iac(data, position)
                self._collect(data[position:end])
                position = end + 1
                if end < len(data):
                    self.state.at = _At.SB_COMMAND
                continue
            byte = data[position]
            position += 1
            if self.state.at is _At.COMMAND and byte == IAC:
                self.state.at = _At.DATA
                text.append(self._text(_IAC))
                continue
            event = self._command(byte)
            if isinstance(event, Data):
                text.append(event.data)
            elif event:
                _add_text(events, text)
                events.append(event)
        _add_text(events, text)
        return events

    def _text(self, data: bytes) -> bytes:
        """Return bytes for the device: outside of BINARY the end of a line is one CR.

        A client sends CR LF or CR NUL for the key Return, and a server treats both alike (RFC 1123,
        section 3.3.1). A client of COM-PORT-OPTION is different: it sends the line's own bytes,
        even if it has refused BINARY (microcom).
        """
        if self.client_does(BINARY) or self.client_does(COM_PORT):
            self.state.received_cr = False
            return data
        if not data:
            return data
        if self.state.received_cr and data[0] in b"\n\0":
            data = data[1:]
        self.state.received_cr = data.endswith(b"\r")
        return _END_OF_LINE.sub(b"\r", data) if b"\r" in data else data

    def _collect(self, data: bytes) -> None:
        room = MOST_SUBNEGOTIATION + 1 - len(self.state.subnegotiation)
        self.state.subnegotiation += data[:room]

    def _command(self, byte: int) -> Event | None:
        """Handle a byte that follows an IAC or a verb."""
        at, self.state.at = self.state.at, _At.DATA
        if at is _At.OPTION:
            return self._negotiate(self.state.verb, byte)
        if at is _At.SB_COMMAND:
            if byte == IAC:
                self.state.at = _At.SB
                self._collect(_IAC)
                return None
            if byte == SE:
                return self._end_subnegotiation()
            # A command instead of SE: the subnegotiation was cut off, and the command counts.
        if byte in (WILL, WONT, DO, DONT):
            self.state.at, self.state.verb = _At.OPTION, byte
        elif byte == SB:
            self.state.at = _At.SB
            self.state.subnegotiation.clear()
        elif byte == BRK:
            return Break()
        elif byte == AYT:
            return AreYouThere()
        elif byte in _KEYS:
            return Data(_KEYS[byte])
        return None

    def _end_subnegotiation(self) -> Event | None:
        whole = bytes(self.state.subnegotiation)
        self.state.subnegotiation.clear()
        if whole and len(whole) <= MOST_SUBNEGOTIATION and self.client_does(whole[0]):
            return Subnegotiation(whole[0], whole[1:])
        return None

    def _negotiate(self, verb: int, option: int) -> Event | None:
        """Refuse every time; else answer only what changes something (RFC 1143)."""
        if (verb, option) == (DO, TIMING_MARK):
            # Nothing is agreed on: the answer says that all bytes before it have been handled.
            self._say(WILL, TIMING_MARK)
            return None
        by_client = verb in (WILL, WONT)
        states = self.state.theirs if by_client else self.state.ours
        before = states.get(option, _Option.NO)
        may = option in (self._they_may if by_client else self._we_may)
        yes, no = (DO, DONT) if by_client else (WILL, WONT)
        if verb in (WONT, DONT):
            if before is _Option.YES:
                self._say(no, option)
            states[option] = _Option.NO
            return Disabled(option) if by_client and before is _Option.YES else None
        if not may:
            self._say(no, option)
            return None
        if before is _Option.NO:
            self._say(yes, option)
        states[option] = _Option.YES
        return Enabled(option) if by_client and before is not _Option.YES else None

    def _say(self, verb: int, option: int) -> None:
        self._to_send += bytes((IAC, verb, option))


def subnegotiation(option: int, payload: bytes) -> bytes:
    """Return a subnegotiation as it is sent."""
    body = payload.replace(_IAC, _TWO)
    return bytes((IAC, SB, option)) + body + bytes((IAC, SE))


def _next_iac(data: bytes, position: int) -> int:
    end = data.find(_IAC, position)
    return len(data) if end < 0 else end


def _add_text(events: list[Event], text: list[bytes]) -> None:
    data = b"".join(text)
    text.clear()
    if data:
        events.append(Data(data))
