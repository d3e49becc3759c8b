"""All that a port and a client know beyond the port map: plain data, one record for each.

A restart hands the records over as they are (handover.py). Some fields are filled in only then.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from ttybridge.line import capture, comport, write_queue
from ttybridge.line.device import Line
from ttybridge.model.people import Person, called
from ttybridge.model.values import duration
from ttybridge.protocol import console, telnet


@dataclass
class ClientState:
    """A client; times are those of CLOCK_MONOTONIC, in seconds.

    For a hand-over: `connection` names the connection's descriptor, `unsent` is what was written
    and has not reached the kernel.
    """

    connection: str = ""
    entrance: str = ""
    """The listener that it has connected to, "" if the port has dialled."""
    connected_at: float = 0.0
    active_at: float = 0.0
    input_at: float = 0.0
    """When a person last typed, or asked for something; 0 where an earlier version wrote this."""
    name: str = "?"
    """Its address; of a person's session the account and a number, such as `jane:1`."""
    person: Person | None = None
    """Who has come by `ttybridge console`."""
    names: list[str] = field(default_factory=list)
    """Who it is by its TLS certificate."""
    received: int = 0
    sent: int = 0
    watches: bool | None = None
    """Whether it only watches: it keeps the `access` with which it came."""
    finished: bool = False
    """Whether it has closed its sending side."""
    suspended: bool = False
    """Whether it has asked for silence (RFC 2217)."""
    unsent: bytes = b""
    held: bytearray = field(default_factory=bytearray)
    """What the device said since then: it waits."""
    telnet: telnet.TelnetState | None = None
    com_port: comport.ComPortState | None = None
    frames: console.FrameState | None = None

    @property
    def called(self) -> str:
        """What people call it: its name, after that of its certificate."""
        return called(self.name, self.names)

    def presence(self, now: float) -> str:
        """Who it is and for how long it has been there, for people; `now` is CLOCK_MONOTONIC."""
        lasts = f"for {duration(now - self.connected_at)}"
        way = self.person.way if self.person else ""
        return f"{self.called} ({way}, {lasts})" if way else f"{self.called} ({lasts})"


@dataclass
class Counters:
    """What has happened on a port since the daemon started."""

    from_device: int = 0
    reconnects: int = 0
    refused_clients: int = 0
    closed_slow_clients: int = 0


@dataclass
class Release:
    """The device is another program's for a while."""

    until: float
    """By CLOCK_MONOTONIC, in seconds."""
    at: float
    """The same moment in seconds since the epoch, for people."""
    by: str
    """Who has asked for it."""

    def __str__(self) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(self.at))
        return f"released until {clock} by {self.by}"


@dataclass
class PortState(write_queue.QueueCounters):
    """A port, with what its write queue counts.

    For a hand-over: `entry` is its entry in the port map with every key, and `shortest` the
    shortest way to write it. `listener` and `tty` name descriptors. `queue` is what clients have
    sent and the device has not taken: the client's place in `clients` (None where it has left), and
    the bytes (None for a break).
    """

    line: Line = field(kw_only=True)
    configured: Line | None = field(default=None, kw_only=True)
    """The line without RFC 2217 clients. Its DTR and RTS are those of the last opening."""
    counters: Counters = field(default_factory=Counters)
    replay: bytes = b""
    """The last bytes that the device has sent, for an earlier version; `replay_in` has all."""
    replay_in: str | None = None
    """The descriptor of the ring with them (replay.py)."""
    matches: dict[str, int] = field(default_factory=dict)
    """Lines that have matched, by the names in `watch`."""
    not_in_journal: int = 0
    """Lines that journald did not take."""
    unended: bytes = b""
    """A line of the device that has not ended, where something reads along."""
    unended_input: bytes = b""
    """The same of a client, `unended_by`."""
    unended_by: str = ""
    opened: bool = False
    """Whether its device has ever been open."""
    in_use: bool | None = None
    """Whether a client that may write is there; None where an earlier version did not note it."""
    owes_words: bool = False
    """Whether the device has missed the last words, as it was away."""
    released: Release | None = None
    entry: dict[str, Any] = field(default_factory=dict)
    shortest: dict[str, Any] = field(default_factory=dict)
    listener: str | None = None
    listeners: list[str] = field(default_factory=list)
    """The descriptors of all listeners; an earlier version wrote its only one as `listener`."""
    tty: str | None = None
    queue: list[tuple[int | None, bytes | None]] = field(default_factory=list)
    clients: list[ClientState] = field(default_factory=list)
    log: capture.CaptureState | None = None
