"""The hand-over: what one process leaves to the next, and how the next one goes on.

The descriptors of listeners, clients and ttys stay open in systemd's file-descriptor store. The
records of state.py go with them, as JSON. A reader takes the keys that it knows and fills in what
is missing, so the two processes may be of different versions.

In a restart the earlier process stops reading clients (`settle`), then devices (`freeze`); then it
records everything in one moment (`leave`). A process that is killed leaves what `small` has
recorded of each port while it ran (keeper.py): everything but the bytes that were in its memory.

The next process begins each port with its record (`Resumption`), reattaches its clients, and lets
the bytes flow (`Resumption.finish`).
"""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
import os
import socket
import stat
import types
import typing
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from ttybridge.line.capture import Capture, CaptureState
from ttybridge.line.device import DeviceError, unlock
from ttybridge.model.changes import closed
from ttybridge.model.check import check_portmap
from ttybridge.model.ports import Port
from ttybridge.net.sockets import stop_listening
from ttybridge.serve.client import Client
from ttybridge.serve.keeper import Store
from ttybridge.serve.port import BLOCKED_SECONDS, DRAIN_SECONDS, ServedPort, wait_while
from ttybridge.serve.replay import Replay
from ttybridge.serve.state import ClientState, PortState

log = logging.getLogger(__name__)

# Bytes of a replay that a version gets that does not know where all of it is.
EARLIER_REPLAY = 1024 * 1024


def is_busy(served: ServedPort) -> bool:
    """Whether `settle` would wait for something of a port."""
    if served.device.worker.is_stuck:  # what waits for it is handed over
        return any(not one.can_resume for one in served.clients.inside)
    return (
        served.queue.breaking
        or served.queue.is_moving(BLOCKED_SECONDS)
        or any(one.has_to_do or not one.can_resume for one in served.clients.inside)
    )


async def settle(served: ServedPort) -> None:
    """Stop reading clients; return once what they have sent is handled and written.

    The device is still read: a slow line or a slow client does not hold it up. Clients with TLS and
    candidates are closed, and have to connect again.
    """
    served.clients.close_waiting()
    served.clients.abort_refused()
    for client in tuple(served.clients.inside):
        if client.can_resume:
            client.connection.pause_reading("restart")
        else:
            client.close()

    await wait_while(lambda: is_busy(served), DRAIN_SECONDS)
    served.com_port.give_up()
    await served.finish_logs()


async def freeze(served: ServedPort) -> None:
    """Stop reading the device. This pause must be short: what the device says has little room.

    It waits only for the disk: what a client has not taken is handed over.
    """
    served.is_still = True
    served.congestion_changed()
    served.send_gathered()
    for client in tuple(served.clients.inside):
        if client.has_to_do or not client.can_resume:
            log.warning("%s: client %s closed by a restart", served.port.name, client.name)
            client.abort()
    if served.capture:
        await served.capture.leave()


def leave(served: ServedPort) -> PortState:
    """Return a port's record, with all that its memory holds.

    From now on nothing is written to the device: the next process does that.
    """
    served.stop_timers()
    served.queue.leave()
    served.com_port.leave_all()
    served.device.worker.forget()
    clients = [client for client in served.clients.inside if client.can_resume]
    places: dict[Hashable, int] = {client: n for n, client in enumerate(clients)}
    for client in clients:
        client.state.unsent = client.connection.unsent()
    state = served.state
    state.clients = [client.state for client in clients]
    state.queue = [
        (places.get(sender), None if data is None else bytes(data))
        for sender, data in served.queue.items()
    ]
    state.log = served.capture.state if served.capture else None
    state.replay = served.replay.last(EARLIER_REPLAY) if served.replay else b""
    if served.monitor:
        served.monitor.leave()
    served.keeper.leave()
    if served.device.is_open:
        served.device.hand_over()
    return state


def small(served: ServedPort) -> PortState:
    """Return a port's record without the bytes that its memory holds."""
    capture = served.capture
    return dataclasses.replace(
        served.state,
        clients=[_small(one.state) for one in served.clients.inside if one.state.connection],
        log=CaptureState(foreign=True, lost=capture.lost) if capture else None,
        unended=b"",
        unended_input=b"",
    )


def _small(state: ClientState) -> ClientState:
    agreed = state.telnet.agreed() if state.telnet else None
    return dataclasses.replace(state, held=bytearray(), telnet=agreed, frames=None)


class Resumption:
    """One port that goes on from an earlier process.

    The device is not read before `finish`, so clients that are reattached later miss nothing.
    """

    def __init__(
        self,
        served: ServedPort,
        record: PortState,
        tty: int | None,
        replay: int | None,
        clients: Sequence[Client],
    ) -> None:
        self._served = served
        self._had_device = record.tty is not None
        self._writer = next((one for one in clients if not one.state.finished), None)
        served.is_still = True
        _take_over(served, record)
        _take_replay(served, record, replay)
        senders = dict(enumerate(clients))
        served.queue.resume(
            (None if place is None else senders.get(place), data) for place, data in record.queue
        )
        if served.port.log:
            served.capture = Capture(served.port.log, served.port.name, record.log)
        if tty is None:
            return
        try:
            served.device.adopt(tty)
        except DeviceError:  # `finish` opens what has its name now
            served.keeper.drop(record.tty)
            return
        served.state.tty = record.tty
        log.info("%s: device %s is still open", served.port.name, served.port.path)
        served.tell_lock_problem()

    def finish(self) -> None:
        """Called once all clients are reattached, except those that have left."""
        served = self._served
        served.is_still = False
        if served.device.is_open:
            served.device.worker.do(served.device.complete, holds=True)
        else:
            served.device_is_away()
            served.forget_departed_input()
        served.departed.look_later()
        self._tell_what_has_changed()
        served.changed()  # before `resumed`, which restores the line to what is then configured
        served.com_port.resumed()
        served.presence.resume(served.clients.a_user)
        served.queue.write()
        if not served.device.is_open:
            served.open_device()

    def _tell_what_has_changed(self) -> None:
        """Tell clients only what differs from what the earlier process has told them."""
        served = self._served
        if self._had_device and not served.device.is_open:
            served.tell_all(f"{served.port.name}: the device has gone")
        if self._writer and self._writer is not served.clients.writer:
            served.clients.tell_writer()


def _take_over(served: ServedPort, record: PortState) -> None:
    state, configured = served.state, served.device.configured
    settings = served.device.line.settings | record.line.settings
    served.device.line = state.line = dataclasses.replace(record.line, settings=settings)
    if record.configured:
        configured.dtr, configured.rts = record.configured.dtr, record.configured.rts
    for each in dataclasses.fields(record.counters):
        setattr(state.counters, each.name, getattr(record.counters, each.name))
    state.written, state.dropped = record.written, record.dropped
    state.opened, state.released = record.opened, record.released
    counted = {name: record.matches.get(name, 0) for name in state.matches}
    state.matches.update(counted)
    state.not_in_journal = record.not_in_journal
    state.unended, state.unended_by = record.unended, record.unended_by
    state.unended_input = record.unended_input
    state.in_use, state.owes_words = record.in_use, record.owes_words


def _take_replay(served: ServedPort, record: PortState, descriptor: int | None) -> None:
    kept: Replay | None = None
    if descriptor is not None:
        try:
            kept = Replay.of(descriptor)
        except ValueError as error:
            log.warning("%s: no replay of an earlier process: %s", served.port.name, error)
            served.keeper.drop(record.replay_in)
            os.close(descriptor)
    if kept and record.replay_in:
        served.adopt_replay(kept, record.replay_in)
    elif served.replay:
        served.replay.add(record.replay)


def earlier_entry(record: PortState, port: Port) -> Port | None:
    """Return the entry with which a record's port goes on; None if `port` closes it as a whole."""
    if is_of(record, port):
        return port
    found, _ = check_portmap([record.shortest])
    return found[0] if found and not closed(found[0], port).port else None


def is_of(record: PortState, port: Port) -> bool:
    """Whether a record is of a port with the same entry, by the keys that both versions know."""
    return _agree(_as_today(record.entry), plain(port))


def _as_today(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry in today's form: earlier versions knew one listener, or none."""
    listen = entry.get("listen")
    if isinstance(listen, dict):
        return {**entry, "listen": [{"at": listen, "own": []}]}
    return entry if listen else {**entry, "listen": []}


class Inheritance:
    """What an earlier process has left: records of ports, and descriptors by their names.

    They stay in the `store`, but for those that nobody takes.
    """

    def __init__(
        self,
        records: dict[str, PortState],
        descriptors: dict[str, int],
        store: Store | None = None,
    ) -> None:
        self._records = records
        self._descriptors = descriptors
        self._store = store

    def share_out(self, ports: Iterable[Port]) -> list[tuple[Port, PortState, dict[str, int]]]:
        """Return the ports that go on: earlier entries, with their records and descriptors.

        All other descriptors are closed, so that their TCP ports are free.
        """
        shares = []
        for port in ports:
            record = self._records.get(port.name)
            earlier = earlier_entry(record, port) if record else None
            if record and earlier:
                shares.append((earlier, record, self._take(record)))
        self.close(self._descriptors)
        return shares

    def close(self, descriptors: dict[str, int]) -> None:
        """Close descriptors, here and in the store."""
        for name, descriptor in descriptors.items():
            if self._store:
                self._store.drop(name)
            _free(descriptor)
            os.close(descriptor)
        descriptors.clear()

    def _take(self, record: PortState) -> dict[str, int]:
        clients = (client.connection for client in record.clients)
        names = (record.listener, record.tty, record.replay_in, *record.listeners, *clients)
        return {name: self._descriptors.pop(name) for name in names if name in self._descriptors}


def _free(descriptor: int) -> None:
    """Let others use a TCP port or tty now: the store closes its descriptor a moment later."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        unlock(descriptor)
        return
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            stop_listening(sock)


def dump(records: Mapping[str, PortState]) -> Iterator[bytes]:
    """Yield the records of ports, by name, as bytes.

    Port by port: each takes several times its size while it is made.
    """
    before = "{"
    for name, record in records.items():
        yield f"{before}{json.dumps(name)}: {json.dumps(plain(record))}".encode()
        before = ", "
    yield b"}" if records else b"{}"


def load(data: bytes) -> dict[str, PortState]:
    """Return what `dump` has made bytes of; `ValueError` for any other bytes."""
    try:
        return {name: _build(PortState, record) for name, record in json.loads(data).items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a record of ttybridge: {error}") from error


def plain(value: Any) -> Any:
    """Return a value in JSON's types: a dataclass becomes an object, bytes become base64."""
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
    """Whether two values are equal, compared by the keys that both have."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_agree(one[key], other[key]) for key in one.keys() & other.keys())
    return bool(one == other)


def _build(kind: Any, value: Any) -> Any:
    """Return a value of type `kind` from its form in JSON: the opposite of `plain`."""
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
