"""How a client comes to a port: by one of its listeners, or because the port dials it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from ttybridge.model.ports import LINE_SETTINGS, Listener, Port
from ttybridge.net.sockets import plain_address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Entrance:
    """What holds for all clients that come this way; every value is filled in.

    `at` is the listener's address, "" if the port dials. With `guarded`, a client that begins like
    a web browser is closed.
    """

    at: str
    protocol: str
    greeting: str
    line: dict[str, Any] = field(hash=False)
    watches: bool = False
    guarded: bool = False
    max_clients: int = 1
    networks: tuple[Network, ...] = ()

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
            networks=tuple(ipaddress.ip_network(each) for each in listener.allow),
        )

    @classmethod
    def dialled(cls, port: Port) -> Entrance:
        """Return the entrance of a port that dials: it chooses its client itself."""
        line = {name: getattr(port, name) for name in LINE_SETTINGS}
        return cls("", port.protocol, port.greeting, line, max_clients=port.max_clients)

    def lets_in(self, address: str) -> bool:
        """Whether a client may connect from an address."""
        if not self.networks:
            return True
        ip = ipaddress.ip_address(plain_address(address).partition("%")[0])
        return any(ip in network for network in self.networks)
