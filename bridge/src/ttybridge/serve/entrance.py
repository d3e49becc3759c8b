"""How a client comes to a port: by a listener, by a dialled connection, or from the host itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ttybridge.model.ports import (
    CONSOLE,
    LINE_SETTINGS,
    PEOPLE_IDLE_SECONDS,
    SEVERAL_CLIENTS,
    Listener,
    Port,
)
from ttybridge.model.values import Allowed
from ttybridge.net.local_networks import LocalNetworks
from ttybridge.net.sockets import plain_address


@dataclass(eq=False)
class Entrance:
    """What holds for all clients that come this way; every value is filled in.

    `at` is the listener's address, "" if the port dials, or CONSOLE. With `guarded`, a client that
    begins like a web browser is closed. A reload changes the values for those who are there, too.
    """

    at: str
    protocol: str
    greeting: str
    line: dict[str, Any]
    watches: bool = False
    guarded: bool = False
    max_clients: int = 1
    allowed: Allowed = Allowed()
    local: LocalNetworks = field(default_factory=LocalNetworks)
    names: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()
    """Which of `FORBIDDABLE` its clients may not do."""
    idle_seconds: int = 0
    """After so many, a client is closed that is silent; 0 = never."""
    counts_input: bool = False
    """Whether only what a client sends for the device is no silence."""

    @classmethod
    def of(cls, port: Port, listener: Listener) -> Entrance:
        """Return the entrance for a listener of a port."""
        return cls(
            at=str(listener.at),
            protocol=listener.protocol,
            greeting=listener.greeting,
            line={name: getattr(listener, name) for name in LINE_SETTINGS},
            watches=listener.access == "watch",
            guarded=port.guard and not listener.tls,
            max_clients=listener.max_clients,
            allowed=Allowed.of(listener.allow),
            names=listener.allow_names,
            forbids=listener.forbid,
            idle_seconds=port.idle_timeout,
            counts_input=port.idle == "input",
        )

    @classmethod
    def dialled(cls, port: Port) -> Entrance:
        """Return the entrance of a port that dials: it chooses its client itself."""
        return cls(
            at="",
            protocol=port.protocol,
            greeting=port.greeting,
            line={name: getattr(port, name) for name in LINE_SETTINGS},
            max_clients=port.max_clients,
            forbids=port.forbid,
            idle_seconds=port.idle_timeout,
            counts_input=port.idle == "input",
        )

    @classmethod
    def of_people(cls, port: Port) -> Entrance:
        """Return the entrance of `ttybridge console`: some write, some watch."""
        return cls(
            at=CONSOLE,
            protocol="console",
            greeting=port.greeting,
            line={name: getattr(port, name) for name in LINE_SETTINGS},
            max_clients=port.max_clients + SEVERAL_CLIENTS,
            forbids=port.forbid,
            idle_seconds=port.idle_timeout or PEOPLE_IDLE_SECONDS,
            counts_input=port.idle == "input" or not port.idle_timeout,
        )

    def become(self, other: Entrance) -> None:
        """Take over all values of another."""
        for each in dataclasses.fields(self):
            setattr(self, each.name, getattr(other, each.name))

    def lets_in(self, address: str) -> bool:
        """Whether a client may connect from an address."""
        return self.allowed.lets_in(plain_address(address), self.local.hold)

    def knows(self, names: Sequence[str]) -> bool:
        """Whether a client may connect whose certificate has these names."""
        return not self.names or not set(self.names).isdisjoint(names)
