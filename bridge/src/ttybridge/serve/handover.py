"""What the daemon leaves to the one that comes after it, when it is restarted or upgraded.

Open descriptors stay in systemd's file-descriptor store: listeners, clients, ttys. This is what
goes with them, as JSON: all that a port and a client know beyond the port map. A reader takes what
it knows and fills in what is missing, so that either side may be of another version.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ttybridge.line import capture, comport
from ttybridge.line.device import Line
from ttybridge.model.ports import Port
from ttybridge.protocol import telnet


@dataclass
class ClientLeft:
    """A client: the name of its connection's descriptor, and what it was in the midst of.

    `name` is its address. Times are those of CLOCK_MONOTONIC. `unsent` is on its way to it; `held`
    is what it was not sent since it has asked for silence (`suspended`). `telnet` is None for a raw
    client.
    """

    connection: str
    connected_at: float
    active_at: float
    name: str = "?"
    received: int = 0
    sent: int = 0
    finished: bool = False
    suspended: bool = False
    unsent: bytes = b""
    held: bytes = b""
    telnet: telnet.State | None = None
    com_port: comport.State | None = None


@dataclass
class PortLeft:
    """A port: its entry in the port map, the names of its descriptors, what it had to do.

    `opened` says whether its device has been there, now or before.
    `queue` is what clients have sent and the device has not taken: the client's place in `clients`
    (None where it has left), and the bytes (None for a break).
    """

    entry: dict[str, Any]
    line: Line
    listener: str | None = None
    tty: str | None = None
    opened: bool = False
    counters: dict[str, int] = field(default_factory=dict)
    written: int = 0
    dropped: int = 0
    replay: bytes = b""
    queue: list[tuple[int | None, bytes | None]] = field(default_factory=list)
    clients: list[ClientLeft] = field(default_factory=list)
    log: capture.State | None = None

    def is_of(self, port: Port) -> bool:
        """Whether a port's entry is the same, as far as both know its keys."""
        return _agree(self.entry, plain(port))


class Predecessor:
    """What was left by the daemon before: its ports, and the descriptors."""

    def __init__(self, ports: dict[str, PortLeft], descriptors: dict[str, int]) -> None:
        self._ports = ports
        self._descriptors = descriptors

    def share_out(self, ports: Iterable[Port]) -> dict[str, tuple[PortLeft, dict[str, int]]]:
        """Return what was left of each port whose entry is the same, with its descriptors.

        All others are closed, so that their TCP ports are free.
        """
        shares = {}
        for port in ports:
            left = self._ports.get(port.name)
            if left and left.is_of(port):
                shares[port.name] = left, self._take(left)
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        return shares

    def _take(self, left: PortLeft) -> dict[str, int]:
        names = (left.listener, left.tty, *(client.connection for client in left.clients))
        return {name: self._descriptors.pop(name) for name in names if name in self._descriptors}


def dump(ports: Mapping[str, PortLeft]) -> bytes:
    """The ports, by name, as bytes."""
    return json.dumps({name: plain(port) for name, port in ports.items()}).encode()


def load(data: bytes) -> dict[str, PortLeft]:
    """The ports again; `ValueError` where the bytes are of something else."""
    try:
        return {name: _build(PortLeft, port) for name, port in json.loads(data).items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not what a ttybridge leaves behind: {error}") from error


def plain(value: Any) -> Any:
    """As JSON has it: a dataclass is an object, bytes are base64."""
    if dataclasses.is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    return value


def _agree(one: Any, other: Any) -> bool:
    """Whether two values are equal, as far as both have the same keys."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_agree(one[key], other[key]) for key in one.keys() & other.keys())
    return bool(one == other)


def _build(kind: Any, value: Any) -> Any:
    """The opposite of `plain`, for a value of a type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:  # X | None is all that is used here
        return None if value is None else _build(arguments[0], value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        known = [each.name for each in dataclasses.fields(kind) if each.name in value]
        return kind(**{name: _build(hints[name], value[name]) for name in known})
    if kind in (bytes, bytearray):
        return kind(base64.b64decode(value, validate=True))
    if origin is dict:
        return {arguments[0](key): _build(arguments[1], each) for key, each in value.items()}
    if origin is list:
        return [_build(arguments[0], each) for each in value]
    if origin is tuple:
        return tuple(_build(*each) for each in zip(arguments, value, strict=True))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if kind in (bool, int, str) and type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return float(value) if kind is float else value
