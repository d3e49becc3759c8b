"""Which connections of a port have a place for their TLS handshake; no sockets.

Connections that say nothing keep no client out: a newcomer always gets a place, and the oldest
silent connection of the address with the most places loses its own.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from ttybridge.net.sockets import plain_address

# Places in all, and for one address.
PLACES = 64
PLACES_OF_ONE = 32

# A TLS record: its type, version and length, and at most so many bytes (RFC 8446, 5.1).
_HANDSHAKE = b"\x16"
_RECORD_HEADER = 5
MOST_OF_HELLO = _RECORD_HEADER + 16384

# A host can use as many addresses of its IPv6 network as it likes.
_IPV6_HOST_BITS = 64

Who = TypeVar("Who")


@dataclass
class _Place:
    network: str
    talks: bool = False


class Handshakes(Generic[Who]):
    """Connections that have not finished their handshake, in the order in which they came."""

    def __init__(self) -> None:
        self._places: dict[Who, _Place] = {}

    def __iter__(self) -> Iterator[Who]:
        return iter(tuple(self._places))

    def __contains__(self, who: Who) -> bool:
        return who in self._places

    def add(self, who: Who, address: str) -> None:
        """Give a newcomer a place. Ask `who_must_go` first."""
        self._places[who] = _Place(network_of(address))

    def remove(self, who: Who) -> None:
        """Free a place, if the connection still has it."""
        self._places.pop(who, None)

    def has_spoken(self, who: Who) -> None:
        """A connection has sent its whole first TLS record."""
        self._places[who].talks = True

    def is_silent(self, who: Who) -> bool:
        """Whether a connection has a place and has not begun its handshake."""
        return who in self._places and not self._places[who].talks

    def who_must_go(self, address: str) -> Who | None:
        """Return who loses its place to a newcomer from an address; None while one is free."""
        taken = Counter(place.network for place in self._places.values())
        network = network_of(address)
        if taken[network] < PLACES_OF_ONE:
            if len(self._places) < PLACES:
                return None
            network = taken.most_common(1)[0][0]  # of equals the first to come
        theirs = [who for who, place in self._places.items() if place.network == network]
        return next((who for who in theirs if self.is_silent(who)), theirs[0])


def size_of_hello(said: bytes) -> int:
    """Return the size of a client's first TLS record, judged by its first bytes.

    For bytes that are not TLS, return their number: they are enough to make a handshake fail.
    """
    if not said.startswith(_HANDSHAKE):
        return len(said)
    if len(said) < _RECORD_HEADER:
        return _RECORD_HEADER
    size = _RECORD_HEADER + int.from_bytes(said[3:_RECORD_HEADER])
    return size if size <= MOST_OF_HELLO else len(said)


def network_of(address: str) -> str:
    """Return what counts as one address: an IPv4 address, or an IPv6 address's /64 network."""
    address = plain_address(address).partition("%")[0]
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address, _IPV6_HOST_BITS), strict=False))
