"""One port: its device, its clients, and what flows between them."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ttybridge.client import GOODBYE_SECONDS, Client, plain_address
from ttybridge.device import Device, DeviceError, DeviceLost
from ttybridge.portmap import Port

log = logging.getLogger(__name__)

# How often an absent device is looked for, in seconds: it is in use again within a second.
LOOK_SECONDS = 0.5

# Bytes from clients that wait for the device before clients are asked to wait, and when to go on.
HIGH_WATER, LOW_WATER = 65536, 16384

# Bytes that one client may lag behind the fastest before it is closed.
LAG_LIMIT = 2 * 1024 * 1024

# How long input waits for an absent device, in seconds, if it fills the queue or its client has
# left.
STUCK_SECONDS = 10.0

# How long a stop waits for the device to take what clients have sent.
DRAIN_SECONDS = 2.0

# Clients that are being told why they are refused, at once; more are closed without a word, so that
# a flood of them does not use up the file descriptors.
REFUSED_AT_ONCE = 32


@dataclass
class Counters:
    """What has happened on a port since the daemon started."""

    from_device: int = 0
    to_device: int = 0
    reconnects: int = 0
    refused_clients: int = 0
    closed_slow_clients: int = 0


class ServedPort:
    """The device of a port and its clients.

    Device to clients: every client gets every byte. The device is read at the pace of the fastest
    client, so one that is slow never holds up the others; one that lags too far behind is closed.
    Clients to device: in the order of arrival; while the device takes nothing, clients wait.
    """

    def __init__(self, port: Port) -> None:
        self.port = port
        self.device = Device(port)
        self.clients: list[Client] = []
        self.refused: set[Client] = set()
        """Clients that were not admitted and are being told so."""
        self.counters = Counters()
        self.problem: str | None = None
        """Why the device is not open, in words, or None."""
        self._loop = asyncio.get_running_loop()
        self._look: asyncio.TimerHandle | None = None
        self._queue: deque[tuple[Client, memoryview]] = deque()
        self._queued = 0
        self._reading = False
        self._clients_wait = False
        self._stopping = False
        self._stuck_since = self._loop.time()
        """Since when, at the earliest, no client's input has gone anywhere."""
        self._opened_before = False
        self._away_since = -math.inf
        """Since when the device is away, where it was there before."""
        self._networks = [ipaddress.ip_network(network) for network in port.allow]

    # The device comes and goes.

    def open_device(self) -> None:
        """Open the device, or begin to look for it."""
        self._look = None
        try:
            if not self.device.exists():
                raise DeviceError(f"{self.port.path} does not exist")
            self.device.open()
        except DeviceError as error:
            if str(error) != self.problem:
                self.problem = str(error)
                log.warning("%s: no device: %s", self.port.name, error)
            self._look = self._loop.call_later(LOOK_SECONDS, self.open_device)
            self._close_stuck()
            return
        log.info("%s: device %s is open", self.port.name, self.port.path)
        self.counters.reconnects += self._opened_before
        self._opened_before = True
        for setting in self.device.refused_settings():
            log.warning("%s: the device refuses %s", self.port.name, setting)
        self.problem = None
        self.congestion_changed()
        self._write_queue()

    async def stop(self) -> None:
        """Let the device and the clients take what was sent to them, then close all."""
        self._stopping = True
        await _wait_while(self._has_unsent, DRAIN_SECONDS)
        if self._queued:
            log.warning("%s: %d bytes for the device are lost", self.port.name, self._queued)
            self._queue.clear()
            self._queued = 0
        self._close_device()
        if self._look:  # set anew where the device was lost while this waited
            self._look.cancel()
        for client in tuple(self.clients):
            client.close()
        for client in tuple(self.refused):
            client.abort()
        # A client aborts its connection after GOODBYE_SECONDS: the longer time is never reached.
        await _wait_while(lambda: bool(self.clients), 2 * GOODBYE_SECONDS)

    def _has_unsent(self) -> bool:
        return self.device.is_open and bool(self._queue or self.device.unsent())

    def _lost(self, reason: DeviceLost) -> None:
        self._close_device()
        self._drop_input_of_departed()
        self._stuck_since = self._away_since = self._loop.time()
        self.problem = f"{self.port.path} went away: {reason}"
        log.warning("%s: device lost: %s", self.port.name, self.problem)
        self._look = self._loop.call_later(LOOK_SECONDS, self.open_device)

    def _close_device(self) -> None:
        if self.device.is_open:
            self._loop.remove_reader(self.device.fileno())
            self._loop.remove_writer(self.device.fileno())
            self._reading = False
            self.device.close()

    # Clients come and go.

    def admit(self, client: Client, address: str) -> bool:
        """Take a client in, or tell it in words why not."""
        if self._stopping:
            return self._refuse(client, f"port {self.port.name} is no longer served")
        if not self._may_connect(address):
            return self._refuse(
                client, f"{plain_address(address)} may not connect to port {self.port.name}"
            )
        active = [other for other in self.clients if not other.finished]
        if len(active) >= self.port.max_clients:
            held = " and ".join(self._held_since(other) for other in active)
            return self._refuse(client, f"port {self.port.name} is in use by {held}")
        self._make_room()
        self.clients.append(client)
        if self._clients_wait:
            client.transport.pause_reading()
        self.congestion_changed()
        log.info("%s: client %s connected", self.port.name, client.name)
        return True

    def client_left(self, client: Client, error: Exception | None) -> None:
        """A connection has ended."""
        log.info("%s: client %s left%s", self.port.name, client.name, f": {error}" if error else "")
        self._forget(client)

    def _forget(self, client: Client) -> None:
        """Without a client; what it sent to a device that is there still goes out."""
        if client in self.clients:
            self.clients.remove(client)
        if not self.device.is_open:
            self._drop_input_of_departed()
        self.congestion_changed()

    def client_idle(self, client: Client) -> None:
        """Say that a client is closed because nothing was sent or received."""
        log.info(
            "%s: client %s closed after %d idle seconds",
            self.port.name,
            client.name,
            self.port.idle_timeout,
        )

    def _may_connect(self, address: str) -> bool:
        if not self._networks:
            return True
        ip = ipaddress.ip_address(plain_address(address).partition("%")[0])
        return any(ip in network for network in self._networks)

    def _refuse(self, client: Client, words: str) -> bool:
        self.counters.refused_clients += 1
        log.warning("%s: client %s refused: %s", self.port.name, client.name, words)
        if len(self.refused) < REFUSED_AT_ONCE:
            self.refused.add(client)
            client.refuse(words)
        else:
            client.abort()
        return False

    def _held_since(self, client: Client) -> str:
        return f"{client.name} (for {self._loop.time() - client.connected_at:.0f} s)"

    def _make_room(self) -> None:
        """A client that will send no more does not hold the port."""
        while len(self.clients) >= self.port.max_clients:
            client = next(other for other in self.clients if other.finished)
            self._forget(client)
            client.close()

    # Device to clients.

    def congestion_changed(self) -> None:
        """Read the device unless no client can take more."""
        if not self.device.is_open:
            return
        wanted = not self.clients or not all(client.congested for client in self.clients)
        if wanted and not self._reading:
            self._loop.add_reader(self.device.fileno(), self._readable)
        elif self._reading and not wanted:
            self._loop.remove_reader(self.device.fileno())
        self._reading = wanted

    def _readable(self) -> None:
        try:
            data = self.device.read()
        except DeviceLost as reason:
            self._lost(reason)
            return
        if not data:
            return
        self.counters.from_device += len(data)
        for client in tuple(self.clients):
            client.send(data)
            if client.congested and client.backlog > LAG_LIMIT:
                self._close_slow(client)

    def _close_slow(self, client: Client) -> None:
        self.counters.closed_slow_clients += 1
        log.warning(
            "%s: client %s closed: it is %d bytes behind the others",
            self.port.name,
            client.name,
            client.backlog,
        )
        client.abort()

    # Clients to device.

    def from_client(self, client: Client, data: bytes) -> None:
        """Give the device what a client has sent, now or when it takes more."""
        self.counters.to_device += len(data)
        rest = memoryview(data)
        if self.device.is_open and not self._queue:
            rest = self._write(rest)
        if rest:
            self._queue.append((client, rest))
            self._queued += len(rest)
            self._watch_queue()
        if self._clients_wait:
            # It came while the others waited: uvloop begins to read a client after it was admitted.
            client.transport.pause_reading()

    def holds_input_of(self, client: Client) -> bool:
        """Whether the device has yet to take something that this client sent."""
        return any(sender is client for sender, _ in self._queue)

    def will_write_for(self, client: Client) -> bool:
        """Whether what this client sent is still on its way: not for ever to an absent device."""
        away = 0.0 if self.device.is_open else self._loop.time() - self._away_since
        unsent = self.holds_input_of(client) or (self.device.is_open and self.device.unsent() > 0)
        return away <= STUCK_SECONDS and unsent

    def _write(self, data: memoryview) -> memoryview:
        """Return what the device did not take."""
        try:
            return data[self.device.write(data) :]
        except DeviceLost as reason:
            self._lost(reason)
            return data

    def _write_queue(self) -> None:
        while self._queue and self.device.is_open:
            client, data = self._queue[0]
            rest = self._write(data)
            if not self.device.is_open:  # lost: what may stay in the queue has been decided
                break
            self._queued -= len(data) - len(rest)
            if rest:
                self._queue[0] = client, rest
                break
            self._queue.popleft()
        self._watch_queue()

    def _watch_queue(self) -> None:
        if self.device.is_open:
            if self._queue:
                self._loop.add_writer(self.device.fileno(), self._write_queue)
            else:
                self._loop.remove_writer(self.device.fileno())
        if self._queued > HIGH_WATER and not self._clients_wait:
            self._clients_wait = True
            self._stuck_since = self._loop.time()
            for client in self.clients:
                client.transport.pause_reading()
        elif self._queued < LOW_WATER and self._clients_wait:
            self._clients_wait = False
            for client in self.clients:
                client.transport.resume_reading()

    def _close_stuck(self) -> None:
        """Close clients that have sent an absent device more than can wait for it.

        They are not read any more, so nobody would notice that they have left, and a port that
        they hold would stay held until the device comes back.
        """
        if self._clients_wait and self._loop.time() - self._stuck_since > STUCK_SECONDS:
            for client in [client for client in self.clients if self.holds_input_of(client)]:
                log.warning(
                    "%s: client %s closed: the device is away and its input cannot wait longer",
                    self.port.name,
                    client.name,
                )
                client.abort()

    def _drop_input_of_departed(self) -> None:
        """A device that comes back must not get what somebody typed who has long gone."""
        kept = deque(item for item in self._queue if item[0] in self.clients)
        dropped = self._queued - sum(len(data) for _, data in kept)
        if dropped:
            log.warning(
                "%s: %d bytes are dropped: their client left while the device was away",
                self.port.name,
                dropped,
            )
        self._queue, self._queued = kept, self._queued - dropped
        self._watch_queue()

    def status(self) -> dict[str, Any]:
        """The port as `ttybridge status --json` shows it; times in seconds."""
        now = self._loop.time()
        return {
            "name": self.port.name,
            "protocol": self.port.protocol,
            "sharing": self.port.sharing,
            "device": {
                "path": self.port.path,
                "present": self.device.is_open,
                "problem": self.problem,
                "refused_settings": self.device.refused_settings(),
            },
            "line_settings": self.device.line_settings(),
            "clients": [
                {
                    "address": client.name,
                    "connected_for": round(now - client.connected_at, 1),
                    "idle_for": round(now - client.active_at, 1),
                    "received": client.received,
                    "sent": client.sent,
                }
                for client in self.clients
            ],
            "counters": dataclasses.asdict(self.counters),
        }


async def _wait_while(busy: Callable[[], bool], seconds: float) -> None:
    """Return when it is no longer busy, or after so many seconds."""
    for _ in range(round(seconds / 0.02)):
        if not busy():
            return
        await asyncio.sleep(0.02)
