"""What a client and its port speak: raw, telnet, RFC 2217, or frames; behind one interface.

A session knows no connection and no port: bytes in, bytes and events out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from ttybridge.protocol import console, rfc2217, telnet
from ttybridge.protocol.telnet import AreYouThere, Break, Data

# A slice to parse has at most SLICE_SIZE bytes, or more if at most FEW_COMMANDS of them are IAC.
SLICE_SIZE, FEW_COMMANDS = 256, 64

# Bytes of frames to parse at once.
FRAMES_SIZE = 4096


@dataclass(frozen=True)
class Reply:
    """Bytes that the protocol itself sends to the client."""

    data: bytes


@dataclass(frozen=True)
class ComPortOn:
    """The client speaks COM-PORT-OPTION from now on."""


@dataclass(frozen=True)
class ComPortOff:
    """The client no longer speaks COM-PORT-OPTION."""


@dataclass(frozen=True)
class Ask:
    """A person asks its port for something; `kind` is one of the requests of `console`."""

    kind: bytes


@dataclass(frozen=True)
class Nonsense:
    """The client does not speak the protocol; `words` say how that was seen."""

    words: str


Event = (
    Ask | Nonsense | Data | Break | AreYouThere | Reply | ComPortOn | ComPortOff | rfc2217.Request
)


class Session(Protocol):
    """The protocol between the daemon and one client."""

    @property
    def state(self) -> telnet.TelnetState | None:
        """What both sides have agreed on and half received; None where there is nothing."""

    @property
    def is_plain(self) -> bool:
        """Whether every byte of the client is meant for the device."""

    @property
    def has_com_port(self) -> bool:
        """Whether a program that speaks COM-PORT-OPTION is at the other end."""

    def start(self) -> bytes:
        """Return what a new client is sent first."""

    def encode(self, data: bytes) -> bytes:
        """Return bytes of the device as this client gets them."""

    def banner(self, text: str) -> bytes:
        """Return the port's banner as this client gets it."""

    def notice(self, words: str) -> bytes:
        """Return the daemon's words for a person; nothing if a program takes them for output."""

    def farewell(self, words: str) -> bytes:
        """Return why the client cannot stay, as the last that it gets."""

    def receive(self, data: bytes) -> list[Event]:
        """Return what the client's bytes say, in their order."""

    def slice_size(self, data: bytes, start: int) -> int:
        """Return how many bytes from `start` to receive at once: a short piece of work."""


class Raw:
    """Bytes as they are."""

    state = None
    is_plain = True
    has_com_port = False

    def start(self) -> bytes:
        """Return nothing."""
        return b""

    def encode(self, data: bytes) -> bytes:
        """Return the bytes themselves."""
        return data

    def banner(self, text: str) -> bytes:
        """Return it as it is."""
        return text.encode()

    def notice(self, words: str) -> bytes:
        """Return nothing: the client would take it for output of the device."""
        return b""

    def farewell(self, words: str) -> bytes:
        """Return a line."""
        return _line(words)

    def receive(self, data: bytes) -> list[Event]:
        """Return the bytes, for the device."""
        return [Data(data)]

    def slice_size(self, data: bytes, start: int) -> int:
        """Return the number of all bytes."""
        return len(data) - start


class Telnet:
    """Telnet; with `com_port` also RFC 2217, if the client offers it."""

    is_plain = False

    def __init__(self, com_port: bool, state: telnet.TelnetState | None = None) -> None:
        self._telnet = telnet.Telnet(accept=(telnet.COM_PORT,) if com_port else (), state=state)
        self.encode = self._telnet.encode

    @property
    def state(self) -> telnet.TelnetState:
        """What both sides have agreed on and half received."""
        return self._telnet.state

    @property
    def has_com_port(self) -> bool:
        """Whether the client has agreed to COM-PORT-OPTION."""
        return self._telnet.client_does(telnet.COM_PORT)

    def banner(self, text: str) -> bytes:
        """Return it with what telnet escapes."""
        return self.encode(text.encode())

    def notice(self, words: str) -> bytes:
        """Return a line in brackets, if a person may be at the other end."""
        if self.has_com_port:
            return b""
        return self.encode(f"\r\n[ttybridge: {words}]\r\n".encode())

    def farewell(self, words: str) -> bytes:
        """Return a line."""
        return _line(words)

    def start(self) -> bytes:
        """Return the first offers and requests."""
        self._telnet.start()
        return self._telnet.data_to_send()

    def receive(self, data: bytes) -> list[Event]:
        """Return what the client's bytes say; answers of telnet itself come first."""
        said = self._telnet.receive(data)
        answers = self._telnet.data_to_send()
        events: list[Event] = [Reply(answers)] if answers else []
        for each in said:
            event = each if isinstance(each, Data) else _event(each)
            if event:
                events.append(event)
        return events

    def slice_size(self, data: bytes, start: int) -> int:
        """Return a size that holds much text or few commands."""
        size = len(data) - start
        while size > SLICE_SIZE and data.count(telnet.IAC, start, start + size) > FEW_COMMANDS:
            size //= 2
        return size


class Console:
    """Frames: a person's `ttybridge console`, whatever the port speaks."""

    state = None
    is_plain = has_com_port = False

    def __init__(self, frames: console.FrameState | None = None) -> None:
        self._frames = console.Frames(console.MOST, frames)

    def start(self) -> bytes:
        """Return nothing."""
        return b""

    def encode(self, data: bytes) -> bytes:
        """Return the bytes in a frame."""
        return console.frame(console.DATA, data)

    def banner(self, text: str) -> bytes:
        """Return it as words of the daemon: it is not from the device."""
        return console.frame(console.NOTICE, text.encode())

    def notice(self, words: str) -> bytes:
        """Return the words."""
        return console.frame(console.NOTICE, words.encode())

    def farewell(self, words: str) -> bytes:
        """Return the words as the end."""
        return console.frame(console.END, words.encode())

    def receive(self, data: bytes) -> list[Event]:
        """Return what the frames say that are complete."""
        try:
            return [_event_of_frame(*each) for each in self._frames.receive(data)]
        except console.FrameError as error:
            return [Nonsense(str(error))]

    def slice_size(self, data: bytes, start: int) -> int:
        """Return a size that holds few frames, however small they are."""
        return min(len(data) - start, FRAMES_SIZE)


def _event_of_frame(kind: bytes, content: bytes) -> Event:
    if kind == console.DATA:
        return Data(content)
    return Break() if kind == console.BREAK else Ask(kind)


def session(
    protocol: str, state: telnet.TelnetState | None = None, frames: console.FrameState | None = None
) -> Session:
    """Return a session of a protocol of the port map, or of `console`.

    `state` and `frames` are those of an earlier session.
    """
    if protocol == "console":
        return Console(frames)
    return Raw() if protocol == "raw" else Telnet(protocol == "rfc2217", state)


def status_words(status: dict[str, Any]) -> bytes:
    """Return what a person is told who asks for the status of its port."""
    return console.frame(console.STATUS, json.dumps(status).encode())


def _line(words: str) -> bytes:
    return f"ttybridge: {words}\r\n".encode()


def com_port_words(payload: bytes) -> bytes:
    """Return an answer or a notification of RFC 2217 as it is sent."""
    return telnet.subnegotiation(telnet.COM_PORT, payload)


def _event(said: telnet.Event) -> Event | None:
    match said:
        case Break() | AreYouThere():
            return said
        case telnet.Enabled(telnet.COM_PORT):
            return ComPortOn()
        case telnet.Disabled(telnet.COM_PORT):
            return ComPortOff()
        case telnet.Subnegotiation(telnet.COM_PORT, payload):
            return rfc2217.parse(payload)
    return None
