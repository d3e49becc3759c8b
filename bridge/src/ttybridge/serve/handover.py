"""A restart or an upgrade: what one process leaves to the next, and how that goes on.

Open descriptors stay in systemd's file-descriptor store: listeners, clients, ttys. This is what
goes with them, as JSON: the records of state.py. A reader takes what it knows and fills in what is
missing, so that either side may be of another version.

First no client is read any more (`settle`), then no device (`freeze`), then all is recorded in one
moment (`leave`). The next process begins each port with its record (`resume`), connects its
clients, and lets the bytes flow (`resumed`).
"""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
import os
import types
import typing
from collections.abc import Hashable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from ttybridge.line.capture import Capture
from ttybridge.line.device import DeviceError
from ttybridge.model.ports import Port
from ttybridge.serve.client import Client
from ttybridge.serve.port import BLOCKED_SECONDS, DRAIN_SECONDS, ServedPort, wait_while
from ttybridge.serve.state import PortState

log = logging.getLogger(__name__)


async def settle(served: ServedPort) -> None:
    """Take nothing more from clients; what they have said is done and written first.

    The device is still read: it does not wait for a line that is slow, or a client. A client
    with TLS is closed, and so is one that has not replaced another yet: it connects again.
    """
    served.clients.close_waiting()
    served.clients.abort_refused()
    for client in tuple(served.clients.inside):
        if client.can_resume:
            client.connection.pause_reading("restart")
        else:
            client.close()

    def is_busy() -> bool:
        return (
            served.queue.breaking
            or served.queue.is_moving(BLOCKED_SECONDS)
            or any(one.has_to_do or not one.can_resume for one in served.clients.inside)
        )

    await wait_while(is_busy, DRAIN_SECONDS)


async def freeze(served: ServedPort) -> None:
    """Read the device no more, for as short a time as can be: what it says has little room.

    Nothing is waited for but the disk: a client is left with what it has not taken.
    """
    served.is_still = True
    served.congestion_changed()
    for client in tuple(served.clients.inside):
        if client.has_to_do or not client.can_resume:
            log.warning("%s: client %s closed by a restart", served.port.name, client.name)
            client.abort()
    if served.capture:
        await served.capture.leave()


def leave(served: ServedPort, place: int) -> tuple[PortState, dict[str, int]]:
    """Return a port's record, and the descriptors by the names in it.

    The names are short, by the port's place: all of them come in one variable of the
    environment, and one of more than 128 KiB would keep the next process from being started.

    Nothing is written to the device any more: the next process does that.
    """
    served.stop_timers()
    served.queue.leave()
    served.com_port.leave_all()
    clients = [client for client in served.clients.inside if client.can_resume]
    places: dict[Hashable, int] = {client: n for n, client in enumerate(clients)}
    descriptors = {}
    for client, number in places.items():
        assert isinstance(client, Client)
        client.state.connection = f"{place}.client{number}"
        client.state.unsent = client.connection.unsent()
        descriptors[client.state.connection] = client.connection.fileno()
    state = served.state
    state.entry = plain(served.port)
    state.clients = [client.state for client in clients]
    state.queue = [
        (places.get(sender), None if data is None else bytes(data))
        for sender, data in served.queue.items()
    ]
    state.log = served.capture.state if served.capture else None
    state.tty = f"{place}.tty" if served.device.is_open else None
    if state.tty:
        descriptors[state.tty] = served.device.fileno()
    return state, descriptors


class Resumption:
    """One port that goes on where an earlier process was.

    The device is not read before `finish`: no client that is still to come misses anything.
    """

    def __init__(
        self, served: ServedPort, left: PortState, tty: int | None, clients: Sequence[Client]
    ) -> None:
        self._served = served
        self._had_device = left.tty is not None
        self._writer = next((one for one in clients if not one.state.finished), None)
        served.is_still = True
        _take_over(served, left)
        senders = dict(enumerate(clients))
        served.queue.resume(
            (None if place is None else senders.get(place), data) for place, data in left.queue
        )
        if served.port.log:
            served.capture = Capture(served.port.log, served.port.name, left.log)
        try:
            if tty is None:
                raise DeviceError("it was not open")
            served.device.adopt(tty)
        except DeviceError:
            served.open_device()
        else:
            log.info("%s: device %s is still open", served.port.name, served.port.path)

    def finish(self) -> None:
        """All clients are connected again, but those that left meanwhile."""
        served = self._served
        served.is_still = False
        if not served.device.is_open:
            served.device_is_away()
            served.forget_departed_input()
        served.departed.look_later()
        self._tell_what_has_changed()
        served.changed()  # before `resumed`, which restores the line to what is then configured
        served.com_port.resumed()
        served.queue.write()

    def _tell_what_has_changed(self) -> None:
        """Clients know what the process before has told them."""
        served = self._served
        if served.device.is_open and not self._had_device:
            served.tell_all(f"{served.port.name}: the device is here")
        elif self._had_device and not served.device.is_open:
            served.tell_all(f"{served.port.name}: the device has gone")
        if self._writer and self._writer is not served.clients.writer:
            served.clients.tell_writer()


def _take_over(served: ServedPort, left: PortState) -> None:
    state = served.state
    settings = served.device.line.settings | left.line.settings
    served.device.line = state.line = dataclasses.replace(left.line, settings=settings)
    for each in dataclasses.fields(left.counters):
        setattr(state.counters, each.name, getattr(left.counters, each.name))
    state.replay += left.replay
    state.written, state.dropped = left.written, left.dropped
    state.opened = left.opened


def is_of(left: PortState, port: Port) -> bool:
    """Whether a record is of a port with the same entry, as far as both know its keys."""
    return _agree(_as_today(left.entry), plain(port))


def _as_today(entry: dict[str, Any]) -> dict[str, Any]:
    """An earlier version knew one listener, or none."""
    listen = entry.get("listen")
    if isinstance(listen, dict):
        return {**entry, "listen": [{"at": listen, "own": []}]}
    return entry if listen else {**entry, "listen": []}


class Inheritance:
    """What the process before has left: records of ports, and descriptors."""

    def __init__(self, ports: dict[str, PortState], descriptors: dict[str, int]) -> None:
        self._ports = ports
        self._descriptors = descriptors

    def share_out(self, ports: Iterable[Port]) -> dict[str, tuple[PortState, dict[str, int]]]:
        """Return the record of each port whose entry is the same, with its descriptors.

        All others are closed, so that their TCP ports are free.
        """
        shares = {}
        for port in ports:
            left = self._ports.get(port.name)
            if left and is_of(left, port):
                shares[port.name] = left, self._take(left)
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        return shares

    def _take(self, left: PortState) -> dict[str, int]:
        clients = (client.connection for client in left.clients)
        names = (left.listener, left.tty, *left.listeners, *clients)
        return {name: self._descriptors.pop(name) for name in names if name in self._descriptors}


def dump(ports: Mapping[str, PortState]) -> bytes:
    """The ports, by name, as bytes."""
    return json.dumps({name: plain(port) for name, port in ports.items()}).encode()


def load(data: bytes) -> dict[str, PortState]:
    """The ports again; `ValueError` where the bytes are of something else."""
    try:
        return {name: _build(PortState, port) for name, port in json.loads(data).items()}
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
