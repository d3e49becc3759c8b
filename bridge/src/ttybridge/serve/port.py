"""One port: its device, its clients, and what flows between them."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import logging
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ttybridge.line import write_queue
from ttybridge.line.capture import Capture
from ttybridge.line.comport import ComPort
from ttybridge.line.device import Device, DeviceError, DeviceLost, Line
from ttybridge.line.write_queue import WriteQueue
from ttybridge.model.ports import Port
from ttybridge.net.sockets import peer_name, plain_address
from ttybridge.protocol.guard import stranger
from ttybridge.protocol.terminal import without_questions
from ttybridge.serve.client import GOODBYE_SECONDS, Client
from ttybridge.serve.handover import PortLeft, plain

log = logging.getLogger(__name__)

# How often an absent device is looked for, in seconds: it is in use again within a second.
LOOK_SECONDS = 0.5

# How long input waits for a device that takes nothing, in seconds, if it fills the queue or its
# client has left; and how often that is looked at.
STUCK_SECONDS = 10.0
STUCK_LOOK_SECONDS = 1.0

# Bytes of a client that has left which the device is still given.
DEPARTED_SIZE = 65536

# How long a stop waits for the device to take what clients have sent, and for one byte of it.
DRAIN_SECONDS = 5.0
BLOCKED_SECONDS = 2.0

# Clients that are being told why they are refused, at once; more are closed without a word, so that
# a flood of them does not use up the file descriptors.
REFUSED_AT_ONCE = 32

# How long a silent newcomer stays before it replaces the client of a port: a health check, a port
# scan (`nc -z`) has left by then. And how many of them wait at once.
CANDIDATE_SECONDS = 2.0
MOST_CANDIDATES = 8

# At most one line of the log for refused clients in so many seconds.
REFUSALS_LOGGED_SECONDS = 1.0


@dataclass
class Counters:
    """What has happened on a port since the daemon started."""

    from_device: int = 0
    reconnects: int = 0
    refused_clients: int = 0
    closed_slow_clients: int = 0


@dataclass
class State:
    """What a port knows that is not in the port map: plain data, in this one place."""

    line: Line
    queue: write_queue.State
    counters: Counters = field(default_factory=Counters)
    replay: bytearray = field(default_factory=bytearray)
    """The last that the device said."""


class ServedPort:
    """The device of a port and its clients.

    Device to clients: every client gets every byte. The device is read at the pace of the fastest
    client, so one that is slow never holds up the others; one that lags too far behind is closed.
    Clients to device: in the order of arrival; while the device takes nothing, clients wait.
    """

    def __init__(self, port: Port) -> None:
        self.port = port
        self.device = Device(port)
        self.queue = WriteQueue(
            self.device, self._lost, self._queue_full, fair=port.sharing == "shared"
        )
        self.com_port = ComPort(self.device, self.queue, self._purge)
        self.capture = Capture(port.log, port.name) if port.log else None
        self.state = State(self.device.line, self.queue.state)
        self.clients: list[Client] = []
        """In the order in which they came: of those that watch one another the first writes."""
        self.candidates: dict[Client, asyncio.TimerHandle] = {}
        """Newcomers that are still to replace the client that there is, in the order in which they
        came; each takes over when its timer ends."""
        self.let_in: Callable[[], None] = lambda: None
        """Takes in who has connected until now."""
        self.refused: set[Client] = set()
        """Clients that were not admitted and are being told so."""
        self.problem: str | None = None
        """Why the device is not open, in words, or None."""
        self._loop = asyncio.get_running_loop()
        self._look: asyncio.TimerHandle | None = None
        self._departed_look: asyncio.TimerHandle | None = None
        self._reading = False
        self._stopping = self._still = False
        self._opened_before = False
        self._before: tuple[bool, Client | None] | None = None
        """In a restart: whether the predecessor had the device, and who wrote to it."""
        self._away_since = -math.inf
        """Since when the device is away, where it was there before."""
        # A port that connects has chosen its client itself.
        self._networks = [ipaddress.ip_network(each) for each in port.allow if port.listen]
        self._refusal_logged_at = -math.inf
        self._refusals_not_logged = 0

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
        self.state.counters.reconnects += self._opened_before
        self._opened_before = True
        for setting in self.device.refused_settings():
            log.warning("%s: the device refuses %s", self.port.name, setting)
        self.problem = None
        self._tell_all(f"{self.port.name}: the device is here")
        self.com_port.device_changed()
        self.congestion_changed()
        self.queue.write()

    async def stop(self) -> None:
        """Let the device and the clients take what was sent to them, then close all."""
        self._stopping = True
        self.queue.write()  # where it could not be left to a successor
        await _wait_while(lambda: self.queue.is_moving(BLOCKED_SECONDS), DRAIN_SECONDS)
        lost = self.queue.keep_only(set())
        if lost:
            log.warning("%s: %d bytes for the device are lost", self.port.name, lost)
        self._close_device()
        for timer in (self._look, self._departed_look):  # the device may have been lost meanwhile
            if timer:
                timer.cancel()
        self._close_candidates()
        for client in tuple(self.clients):
            client.close()
        for client in tuple(self.refused):
            client.abort()
        # A client aborts its connection after GOODBYE_SECONDS: the longer time is never reached.
        await _wait_while(lambda: bool(self.clients), 2 * GOODBYE_SECONDS)
        if self.capture:
            await self.capture.close()

    async def settle(self) -> None:
        """Take nothing more from clients; what they have said is done and written first.

        The device is still read: it does not wait for a line that is slow, or a client. A client
        with TLS is closed, and so is one that has not replaced another yet: it connects again.
        """
        self._close_candidates()
        for client in tuple(self.refused):
            client.abort()
        for client in tuple(self.clients):
            if client.may_be_left:
                client.pause_reading("restart")
            else:
                client.close()
        await _wait_while(
            lambda: (
                self.queue.breaking
                or self.queue.is_moving(BLOCKED_SECONDS)
                or any(client.has_to_do or not client.may_be_left for client in self.clients)
            ),
            DRAIN_SECONDS,
        )

    async def freeze(self) -> None:
        """Read the device no more, for as short a time as can be: what it says has little room.

        Nothing is waited for but the disk: a client is left with what it has not taken.
        """
        self._still = True
        self.congestion_changed()
        for client in tuple(self.clients):
            if client.has_to_do or not client.may_be_left:
                log.warning("%s: client %s closed by a restart", self.port.name, client.name)
                client.abort()
        if self.capture:
            await self.capture.leave()

    def left(self, place: int) -> tuple[PortLeft, dict[str, int]]:
        """What a successor needs to go on, and the descriptors by the names in it.

        The names are short, by the port's place: all of them come in one variable of the
        environment, and one of more than 128 KiB would keep the successor from being started.

        Nothing is written to the device any more: a successor does that.
        """
        for timer in (self._look, self._departed_look):
            if timer:
                timer.cancel()
        self.queue.leave()
        self.com_port.leave_all()
        clients = [client for client in self.clients if client.may_be_left]
        names = {client: f"{place}.client{n}" for n, client in enumerate(clients)}
        places: dict[Hashable, int] = {client: n for n, client in enumerate(clients)}
        tty = f"{place}.tty" if self.device.is_open else None
        left = PortLeft(
            plain(self.port),
            line=self.state.line,
            tty=tty,
            opened=self._opened_before,
            counters=dataclasses.asdict(self.state.counters),
            written=self.state.queue.written,
            dropped=self.state.queue.dropped,
            replay=bytes(self.state.replay),
            queue=[
                (places.get(sender), None if data is None else bytes(data))
                for sender, data in self.queue.items()
            ],
            clients=[client.leave(names[client]) for client in clients],
            log=self.capture.state if self.capture else None,
        )
        descriptors = {name: client.fileno() for client, name in names.items()}
        return left, descriptors | ({tty: self.device.fileno()} if tty else {})

    def resume(self, left: PortLeft, tty: int | None, clients: Sequence[Client]) -> None:
        """Go on where a predecessor was, with the descriptor of its tty, if any.

        The device is not read before `resumed`: no client that is still to come misses anything.
        """
        self._still = True
        settings = self.device.line.settings | left.line.settings
        self.device.line = self.state.line = dataclasses.replace(left.line, settings=settings)
        for name in dataclasses.asdict(self.state.counters).keys() & left.counters.keys():
            setattr(self.state.counters, name, left.counters[name])
        self.state.replay += left.replay
        self.queue.state.written, self.queue.state.dropped = left.written, left.dropped
        senders = dict(enumerate(clients))
        self.queue.resume(
            (None if place is None else senders.get(place), data) for place, data in left.queue
        )
        if self.port.log:
            self.capture = Capture(self.port.log, self.port.name, left.log)
        self._opened_before = left.opened
        self._before = left.tty is not None, next((c for c in clients if not c.finished), None)
        try:
            if tty is None:
                raise DeviceError("it was not open")
            self.device.adopt(tty)
        except DeviceError:
            self.open_device()
        else:
            log.info("%s: device %s is still open", self.port.name, self.port.path)

    def resumed(self) -> None:
        """All clients of the predecessor are here again, but those that left meanwhile."""
        self._still = False
        if not self.device.is_open:
            self._away_since = self._loop.time() if self._opened_before else -math.inf
            self._drop_input_of_departed()
        self._look_after_departed_later()
        self._tell_what_has_changed()
        self.com_port.resumed()
        self.queue.write()
        self.congestion_changed()

    def _tell_what_has_changed(self) -> None:
        """Clients of a predecessor know what it has told them."""
        assert self._before
        had_device, writer = self._before
        if self.device.is_open and not had_device:
            self._tell_all(f"{self.port.name}: the device is here")
        elif had_device and not self.device.is_open:
            self._tell_all(f"{self.port.name}: the device has gone")
        if writer and writer not in self._active():
            self._tell_new_writer()
        self._before = None

    def readmit(self, client: Client) -> None:
        """Take in a client of the predecessor's."""
        self.clients.append(client)
        log.info("%s: client %s is still connected", self.port.name, client.name)

    def abandon(self) -> None:
        """A successor has all: send nothing more that it sends, too."""
        clients, self.clients = self.clients, []
        for client in clients:
            client.abort()

    def _lost(self, reason: DeviceLost) -> None:
        self._close_device()
        self._drop_input_of_departed()
        self._away_since = self._loop.time()
        self.problem = f"{self.port.path} went away: {reason}"
        log.warning("%s: device lost: %s", self.port.name, self.problem)
        self._tell_all(f"{self.port.name}: the device has gone")
        self.com_port.device_changed()
        self._look = self._loop.call_later(LOOK_SECONDS, self.open_device)

    def _close_device(self) -> None:
        if self.device.is_open:
            self._loop.remove_reader(self.device.fileno())
            self._reading = False
            self.queue.device_closed()
            self.device.close()

    def _tell_all(self, words: str) -> None:
        for client in (*self.clients, *self.candidates):
            client.notice(words)

    # Clients come and go.

    def turn_away(self, address: str, number: int) -> str | None:
        """Why no client may connect from an address, in words; None where it may."""
        if self._may_connect(address):
            return None
        words = f"{plain_address(address)} may not connect to port {self.port.name}"
        self.state.counters.refused_clients += 1
        self._log_refusal(f"client {peer_name(address, number)}", words)
        return words

    @property
    def has_room(self) -> bool:
        """Whether a client would be taken in now, as one that waits at least."""
        replaces = self.port.sharing == "replace"
        return not self._stopping and (replaces or len(self._active()) < self.port.max_clients)

    def admit(self, client: Client) -> bool:
        """Take a client in, or tell it in words why not."""
        if self._stopping:
            return self._refuse(client, f"port {self.port.name} is no longer served")
        active = self._active()
        if len(active) >= self.port.max_clients:
            self._abort_dead(active)
            active = self._active()
        if active and self.port.sharing == "replace":
            self._take_as_candidate(client)
            return True
        if len(active) >= self.port.max_clients:
            held = " and ".join(self._held_since(other) for other in active)
            return self._refuse(client, f"port {self.port.name} is in use by {held}")
        self._make_room()
        log.info("%s: client %s connected", self.port.name, client.name)
        self._begin_to_serve(client)
        self._greet(client)
        if not self.may_write(client):
            client.notice(f"{self.port.name}: you watch {active[0].name}, who writes")
        return True

    def _begin_to_serve(self, client: Client) -> None:
        self.clients.append(client)
        self.congestion_changed()

    def _greet(self, client: Client) -> None:
        replay = without_questions(bytes(self.state.replay[-self.port.replay :]))
        client.greet(self.port.greeting, replay)
        if self.problem:
            client.notice(f"{self.port.name}: no device: {self.problem}")

    def hear(self, client: Client, first: bytes) -> bool:
        """A client has sent its first bytes; return whether they are meant for a device."""
        if self.port.listen and self.port.guard and not self.port.tls:
            seems = stranger(first)
            if seems:
                self._turn_out(client, seems)
                return False
        if client in self.candidates:
            self._take_over(client)
        return True

    def _turn_out(self, client: Client, seems: str) -> None:
        self.state.counters.refused_clients += 1
        words = (
            f"it begins like {seems}, which is not for a serial device: "
            f"guard: off of port {self.port.name} lets it through"
        )
        self._log_refusal(f"client {client.name}", words)
        self._forget(client)
        client.displace()

    # Of clients that replace one another the newest wins, but not one that only looks who is there.

    def _take_as_candidate(self, client: Client) -> None:
        """Let a newcomer wait until it sends something or has stayed; it sees what there is."""
        if len(self.candidates) >= MOST_CANDIDATES:
            oldest = next(iter(self.candidates))
            log.info("%s: client %s closed: newer ones wait", self.port.name, oldest.name)
            self._forget(oldest)
            oldest.displace()
        held = self.clients[0].name
        log.info("%s: client %s waits to replace %s", self.port.name, client.name, held)
        timer = self._loop.call_later(CANDIDATE_SECONDS, self._has_stayed, client)
        self.candidates[client] = timer
        self._greet(client)

    def _has_stayed(self, client: Client) -> None:
        if client in self._waiting():
            self._take_over(client)

    def _waiting(self) -> list[Client]:
        return [client for client in self.candidates if not client.transport.is_closing()]

    def _take_over(self, client: Client) -> None:
        """Let a candidate replace the client that there is, and candidates older than itself."""
        candidates = list(self.candidates)
        others = [*self.clients, *candidates[: candidates.index(client)]]
        self.candidates.pop(client).cancel()
        self._begin_to_serve(client)
        for other in others:
            log.info("%s: client %s replaced by %s", self.port.name, other.name, client.name)
            other.notice(f"{self.port.name}: replaced by {client.name}")
            other.displace()
            self._forget(other, keep=0)

    def _close_candidates(self) -> None:
        while self.candidates:
            client, timer = self.candidates.popitem()
            timer.cancel()
            client.close()

    def gives_up(self, client: Client) -> bool:
        """Whether a client that will send no more is one that only looked who is there."""
        if client not in self.candidates:
            return False
        log.info("%s: client %s left", self.port.name, client.name)
        self._forget(client)
        return True

    def may_write(self, client: Client) -> bool:
        """Whether the device takes what a client sends: of observers only the first one's."""
        if client in self.candidates:
            return False
        return self.port.sharing != "observed" or self._active()[:1] == [client]

    def client_finished(self) -> None:
        """A client will send no more."""
        if self._waiting() and not self._active():  # as for one that came only now
            self._make_room()
        self._tell_new_writer()

    def client_left(self, client: Client, error: Exception | None) -> None:
        """A connection has ended."""
        self.refused.discard(client)
        if client in self.clients or client in self.candidates:
            reason = f": {error}" if error else ""
            log.info("%s: client %s left%s", self.port.name, client.name, reason)
            self._forget(client)

    def client_idle(self, client: Client) -> None:
        """Say that a client is closed because nothing was sent or received."""
        log.info(
            "%s: client %s closed after %d idle seconds",
            self.port.name,
            client.name,
            self.port.idle_timeout,
        )

    def client_dead(self, client: Client) -> None:
        """Nobody is at the other end of a connection."""
        log.warning("%s: client %s closed: it does not answer", self.port.name, client.name)
        self._forget(client)
        client.displace()
        client.abort()

    def kick(self, address: str | None) -> list[str]:
        """Close the client with an address, or all; return whom."""
        here = (*self.candidates, *self.clients)  # a candidate first: else it takes over
        kicked = [client for client in here if address in (None, client.name)]
        for client in kicked:
            log.warning("%s: client %s closed by ttybridge kick", self.port.name, client.name)
            client.notice(f"{self.port.name}: closed by the administrator")
            client.displace()
            self._forget(client, keep=0)
        if address is None:
            self._drop_input(self.queue.departed(), "ttybridge kick")
        return [client.name for client in kicked]

    def _active(self) -> list[Client]:
        return [client for client in self.clients if not client.finished]

    def _forget(self, client: Client, keep: int = DEPARTED_SIZE) -> None:
        """Go on without a client; a device that is there still gets so many bytes of it.

        Where another waits for its place, that one has it now.
        """
        if client in self.candidates:
            self.candidates.pop(client).cancel()
            return
        if client not in self.clients:
            return
        writes = self.may_write(client)
        self.clients.remove(client)
        if keep and self.device.is_open:
            in_tty = min(self.queue.most_in_tty(), client.received - self.queue.holds(client))
            self._drop_input({client}, "they are too many", keep - in_tty)
        else:
            self._drop_input({client}, "they did not go out before")
        self._look_after_departed_later()
        waiting = self._waiting()
        if waiting and not self.clients:
            log.info("%s: client %s need not wait any more", self.port.name, waiting[-1].name)
            self._take_over(waiting[-1])
        if writes:
            self._tell_new_writer()
        self.congestion_changed()

    def _look_after_departed_later(self) -> None:
        if self.queue.departed() and not self._departed_look:
            self._departed_look = self._loop.call_later(
                STUCK_LOOK_SECONDS, self._look_after_departed
            )

    def _look_after_departed(self) -> None:
        """Drop what departed clients sent where the device has taken nothing for long.

        A device that wakes up must not get what somebody typed who has long gone.
        """
        self._departed_look = None
        departed = self.queue.departed()
        if departed and not self.queue.is_moving(STUCK_SECONDS):
            self._drop_input(departed, f"the device has taken nothing for {STUCK_SECONDS:.0f} s")
        self._look_after_departed_later()

    def _drop_input(self, senders: set[Hashable], why: str, keep: int | None = None) -> None:
        """Drop what senders that have left sent, but for the first bytes of each, if any."""
        purged = self._purge_tty_of(senders) if keep is None else 0
        dropped = purged + sum(self.queue.depart(sender, keep or 0) for sender in senders)
        if dropped:
            log.warning(
                "%s: %d bytes of a client that has left are dropped: %s",
                self.port.name,
                dropped,
                why,
            )

    def _purge_tty_of(self, senders: set[Hashable]) -> int:
        """Empty the tty's own queue, unless it holds a byte of somebody else; return the count."""
        there = self.queue.in_tty()
        if not there or not there <= senders:
            return 0
        unsent = self.device.unsent()
        self.device.purge(received=False, unsent=True)
        self.state.queue.dropped += unsent
        return unsent

    def _tell_new_writer(self) -> None:
        writer = next(iter(self._active()), None)
        if self.port.sharing == "observed" and writer:
            log.info("%s: client %s writes now", self.port.name, writer.name)
            writer.notice(f"{self.port.name}: you write now")

    def _may_connect(self, address: str) -> bool:
        if not self._networks:
            return True
        ip = ipaddress.ip_address(plain_address(address).partition("%")[0])
        return any(ip in network for network in self._networks)

    def _refuse(self, client: Client, words: str) -> bool:
        self.state.counters.refused_clients += 1
        self._log_refusal(f"client {client.name}", words)
        if len(self.refused) < REFUSED_AT_ONCE:
            self.refused.add(client)
            client.refuse(words)
        else:
            client.abort()
        return False

    def refused_handshake(self, words: str) -> None:
        """A connection did not come as far as being a client's."""
        self.state.counters.refused_clients += 1
        self._log_refusal("connection", f"TLS: {words}")

    def _log_refusal(self, who: str, words: str) -> None:
        """A client that tries again and again does not fill the log."""
        now = self._loop.time()
        if now - self._refusal_logged_at < REFUSALS_LOGGED_SECONDS:
            self._refusals_not_logged += 1
            return
        more = f" (and {self._refusals_not_logged} before)" if self._refusals_not_logged else ""
        log.warning("%s: %s refused%s: %s", self.port.name, who, more, words)
        self._refusal_logged_at, self._refusals_not_logged = now, 0

    def _held_since(self, client: Client) -> str:
        return f"{client.name} (for {self._loop.time() - client.connected_at:.0f} s)"

    def _abort_dead(self, clients: list[Client]) -> None:
        """A client that is no more does not hold the port."""
        blocked = self.queue.full and self._loop.time() - self.queue.moved_at > STUCK_SECONDS
        for client in clients:
            if client.is_dead(blocked):
                self.client_dead(client)

    def _make_room(self) -> None:
        """A client that will send no more does not hold the port."""
        too_many = max(0, len(self.clients) + 1 - self.port.max_clients)
        for client in [other for other in self.clients if other.finished][:too_many]:
            log.info("%s: client %s left", self.port.name, client.name)
            self._forget(client)  # who waits for its place has it now
            client.close()

    # Device to clients.

    def congestion_changed(self) -> None:
        """Read the device unless no client can take more, and nobody else wants to know."""
        if not self.device.is_open:
            return
        all_congested = self.clients and all(client.congested for client in self.clients)
        wanted = not self._still and (not all_congested or self.capture is not None)
        if wanted and not self._reading:
            self._loop.add_reader(self.device.fileno(), self._readable)
        elif self._reading and not wanted:
            self._loop.remove_reader(self.device.fileno())
        self._reading = wanted

    def _readable(self) -> None:
        if not self.clients:  # what a device says is for who has connected before it
            self.let_in()
        try:
            data = self.device.read()
        except DeviceLost as reason:
            self._lost(reason)
            return
        if not data:
            return
        self.state.counters.from_device += len(data)
        for client in (*self.clients, *self.candidates):
            client.send(data)
        if self.port.replay:
            self.state.replay += data
            if len(self.state.replay) > 2 * self.port.replay:
                del self.state.replay[: -self.port.replay]
        if self.capture:
            self.capture.device_sent(data)

    def close_slow(self, client: Client) -> None:
        """Close a client that is too far behind."""
        self.state.counters.closed_slow_clients += 1
        log.warning(
            "%s: client %s closed: it is %d bytes behind",
            self.port.name,
            client.name,
            client.backlog,
        )
        client.abort()

    # Clients to device.

    def from_client(self, client: Client, data: bytes) -> None:
        """Give the device what a client has sent, now or when it takes more."""
        if not self.may_write(client):
            return
        if self.capture:
            self.capture.client_sent(data)
        self.queue.add(client, data)
        if client not in self.clients:  # what it said before it left is still being done
            self.queue.depart(client, DEPARTED_SIZE)
            self._look_after_departed_later()

    def send_break(self, client: Client) -> None:
        """Break the line, after what was sent before."""
        if self.may_write(client):
            self.queue.add_break(client)

    def will_write_for(self, client: Client) -> bool:
        """Whether what this client sent is still on its way: not for ever to a stuck device."""
        if self.device.is_open:
            return self.queue.is_moving(STUCK_SECONDS, {client})
        away = self._loop.time() - self._away_since
        return away <= STUCK_SECONDS and self.queue.holds(client) > 0

    def _queue_full(self, sender: Hashable, full: bool) -> None:
        for client in self.clients:
            if client is sender and full:
                client.pause_reading("queue")
            elif client is sender:
                client.resume_reading("queue")

    def _purge(self, received: bool, unsent: bool) -> None:
        """Discard what waits for clients that have asked for silence, or for the device."""
        if received:
            for client in self.clients:
                client.discard_held()
        if unsent:
            self.queue.keep_only(set())
        self.device.purge(received, unsent)

    def _close_stuck(self) -> None:
        """Close clients that have sent an absent device more than can wait for it.

        They are not read any more, so nobody would notice that they have left, and a port that
        they hold would stay held until the device comes back.
        """
        if self.queue.full and self._loop.time() - self.queue.moved_at > STUCK_SECONDS:
            for client in [client for client in self.clients if self.queue.holds(client)]:
                log.warning(
                    "%s: client %s closed: the device is away and its input cannot wait longer",
                    self.port.name,
                    client.name,
                )
                client.abort()

    def _drop_input_of_departed(self) -> None:
        """A device that comes back must not get what somebody typed who has long gone."""
        if self._still:  # in a restart: clients may be still to come; `resumed` does this
            return
        here: set[Hashable] = set(self.clients)
        dropped = self.queue.keep_only(here)
        if dropped:
            log.warning(
                "%s: %d bytes are dropped: their client left while the device was away",
                self.port.name,
                dropped,
            )

    def status(self) -> dict[str, Any]:
        """The port as `ttybridge status --json` shows it; times in seconds."""
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
            "line_errors": self.device.line_errors(),
            "clients": [
                self._client_status(client) for client in (*self.clients, *self.candidates)
            ],
            "counters": {
                **dataclasses.asdict(self.state.counters),
                "to_device": self.queue.state.written,
                "dropped": self.queue.state.dropped,
            },
            "log": self._log_status(),
        }

    def _client_status(self, client: Client) -> dict[str, Any]:
        now = self._loop.time()
        return {
            "address": client.name,
            "connected_for": round(now - client.connected_at, 1),
            "idle_for": round(now - client.active_at, 1),
            "received": client.received,
            "sent": client.sent,
            "writes": self.may_write(client),
            "waits": client in self.candidates,
        }

    def _log_status(self) -> dict[str, Any] | None:
        if not self.capture or not self.port.log:
            return None
        capture = self.capture
        return {"file": self.port.log.file, "problem": capture.problem, "lost": capture.lost}


async def _wait_while(busy: Callable[[], bool], seconds: float) -> None:
    """Return when it is no longer busy, or after so many seconds."""
    for _ in range(round(seconds / 0.02)):
        if not busy():
            return
        await asyncio.sleep(0.02)
