"""What a client and its port speak: raw, telnet or RFC 2217, behind one interface.

A session knows no connection and no port: bytes in, bytes and events out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ttybridge.protocol import rfc2217, telnet
from ttybridge.protocol.telnet import AreYouThere, Break, Data

# A slice to parse has at most SLICE_SIZE bytes, or more if at most FEW_COMMANDS of them are IAC.
SLICE_SIZE, FEW_COMMANDS = 256, 64


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


Event = Data | Break | AreYouThere | Reply | ComPortOn | ComPortOff | rfc2217.Request


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

    @property
    def shows_text(self) -> bool:
        """Whether a person may read what the daemon says; a program takes it for device output."""

    def start(self) -> bytes:
        """Return what a new client is sent first."""

    def encode(self, data: bytes) -> bytes:
        """Return bytes of the device as this client gets them."""

    def receive(self, data: bytes) -> list[Event]:
        """Return what the client's bytes say, in their order."""

    def slice_size(self, data: bytes, start: int) -> int:
        """Return how many bytes from `start` to receive at once: a short piece of work."""


class Raw:
    """Bytes as they are."""

    state = None
    is_plain = True
    has_com_port = shows_text = False

    def start(self) -> bytes:
        """Return nothing."""
        return b""

    def encode(self, data: bytes) -> bytes:
        """Return the bytes themselves."""
        return data

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

    @property
    def shows_text(self) -> bool:
        """Whether a person may be at the other end."""
        return not self.has_com_port

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


def session(protocol: str, state: telnet.TelnetState | None = None) -> Session:
    """Return a session of a protocol of the port map; `state` is that of an earlier session."""
    return Raw() if protocol == "raw" else Telnet(protocol == "rfc2217", state)


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
