"""The networks that this host is in (`allow: [local]`), asked of the kernel: rtnetlink(7).

The kernel is asked when a client comes, at most once a second. So the answer follows when an
address changes, and costs nothing while nobody comes.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ttybridge.model.values import CONTAINERS, Network

log = logging.getLogger(__name__)

# Seconds for which an answer of the kernel is used.
FRESH_SECONDS = 1.0

# The kernel answers at once; an answer that does not come must not hold up the ports.
ANSWER_SECONDS = 0.2

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h
_HEADER = struct.Struct("=IHHII")
_ADDRESS_HEADER = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_IFA_ADDRESS, _IFA_LOCAL = 1, 2


@dataclass(frozen=True)
class Interface:
    """One address of a network interface: `own` is the host's, `network` where its peers are."""

    name: str
    own: Address
    network: Network


@dataclass
class _Here:
    """What `local` is now: addresses of the host itself, and networks of its neighbours."""

    own: frozenset[Address] = frozenset()
    networks: tuple[Network, ...] = ()


def read_interfaces() -> list[Interface]:
    """Return every address of the host. Raises `OSError` if the kernel does not answer."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(ANSWER_SECONDS)
        request = _ADDRESS_HEADER.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        kind = (_RTM_GETADDR, _NLM_F_REQUEST | _NLM_F_DUMP)
        kernel.send(_HEADER.pack(_HEADER.size + len(request), *kind, 1, 0) + request)
        return [
            found
            for kind, message in _messages(kernel)
            if kind == _RTM_NEWADDR and (found := _interface(message))
        ]


def _messages(kernel: socket.socket) -> Iterator[tuple[int, bytes]]:
    """The kind and the body of each message of an answer."""
    while True:
        data = kernel.recv(65536)
        while data:
            size, kind, *_ = _HEADER.unpack_from(data)
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                code = -int.from_bytes(data[16:20], "little", signed=True)
                raise OSError(code, "the kernel does not say which addresses it has")
            yield kind, data[_HEADER.size : size]
            data = data[_aligned(size) :]


def _interface(message: bytes) -> Interface | None:
    family, prefix, _, _, index = _ADDRESS_HEADER.unpack_from(message)
    found = dict(_attributes(message[_ADDRESS_HEADER.size :]))
    if family not in (socket.AF_INET, socket.AF_INET6) or _IFA_ADDRESS not in found:
        return None
    try:
        name = socket.if_indextoname(index)
    except OSError:  # it has gone meanwhile
        return None
    # On a point-to-point link IFA_ADDRESS is the peer's.
    peers = ipaddress.ip_network((found[_IFA_ADDRESS], prefix), strict=False)
    return Interface(name, ipaddress.ip_address(found.get(_IFA_LOCAL, found[_IFA_ADDRESS])), peers)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        if size < _ATTRIBUTE.size:
            return
        yield kind, data[_ATTRIBUTE.size : size]
        data = data[_aligned(size) :]


def _aligned(size: int) -> int:
    return (size + 3) & ~3


@dataclass
class LocalNetworks:
    """The host's own addresses and networks, without those of containers and virtual machines."""

    read: Callable[[], list[Interface]] = read_interfaces
    clock: Callable[[], float] = time.monotonic
    _here: _Here = field(default_factory=_Here)
    _asked_at: float | None = None

    def hold(self, address: str) -> bool:
        """Whether an address is the host's own, or in a network that it is in.

        `address` may have a zone (`fe80::1%eth0`): every link has the same link-local network, so
        there the interface decides.
        """
        plain, _, zone = address.partition("%")
        ip, here = ipaddress.ip_address(plain), self._now()
        if ip.is_loopback or ip in here.own:
            return True
        return not _is_of_containers(zone) and any(ip in network for network in here.networks)

    def _now(self) -> _Here:
        now = self.clock()
        if self._asked_at is None or now - self._asked_at >= FRESH_SECONDS:
            self._asked_at = now
            try:
                self._here = _here(self.read())
            except OSError as error:  # what was so a moment ago may still be so: it is no guess
                words = "allow: local: cannot read the addresses of this host: %s"
                log.error(words, error.strerror or error, extra={"most_a_minute": 1})
        return self._here


def _here(interfaces: list[Interface]) -> _Here:
    networks = {
        one.network
        for one in interfaces
        # A network of all addresses is a default route in disguise.
        if one.network.prefixlen and not _is_of_containers(one.name)
    }
    return _Here(frozenset(one.own for one in interfaces), tuple(networks))


def _is_of_containers(interface: str) -> bool:
    return re.fullmatch(CONTAINERS, interface) is not None
