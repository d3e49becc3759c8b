"""One port: its device, which may come and go, and the path of the bytes."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from ttybridge.line.capture import Capture
from ttybridge.line.comport import ComPort
from ttybridge.line.departed import Departed, is_blocked, is_on_its_way
from ttybridge.line.device import Device, DeviceError, DeviceLost
from ttybridge.line.packer import Packer
from ttybridge.line.write_queue import WriteQueue
from ttybridge.model.ports import LINE_SETTINGS, SINGLE_CLIENT_SHARING, Log, Port
from ttybridge.net.connection import GOODBYE_SECONDS
from ttybridge.protocol import console
from ttybridge.protocol.terminal import without_questions
from ttybridge.serve.bounds import Bounds
from ttybridge.serve.client import Client
from ttybridge.serve.clients import Clients
from ttybridge.serve.keeper import Keeper
from ttybridge.serve.monitor import Monitor
from ttybridge.serve.presence import Presence
from ttybridge.serve.replay import Replay
from ttybridge.serve.state import PortState, Release

log = logging.getLogger(__name__)

# Seconds between two looks for an absent device: it is in use again within a second.
DEVICE_POLL_SECONDS = 0.5

# Seconds that a start, a reload, a stop and a command wait until a device is opened, set or closed.
DEVICE_SECONDS = 1.0

# Seconds that a stop waits for the device to take what clients have sent: in all, and without any
# progress.
DRAIN_SECONDS = 5.0
BLOCKED_SECONDS = 2.0


class ServedPort:
    """The device of a port and its clients.

    Device to clients: every client gets every byte. The device is read at the pace of the fastest
    client, so a slow client never holds up the others. A client that lags too far behind is closed.
    Clients to device: in the order of arrival. While the device takes nothing, clients wait.
    """

    def __init__(
        self, port: Port, bounds: Bounds | None = None, keeper: Keeper | None = None
    ) -> None:
        self.port = port
        self._bounds = bounds or Bounds()
        self.keeper = keeper or Keeper()
        self.device = Device(port)
        self.device.on_ready = self._device_is_ready
        self.state = PortState(line=self.device.line, configured=self.device.configured)
        self.queue = WriteQueue(
            self.device,
            self._lost,
            self._queue_full,
            port.sharing == "shared",
            self.state,
            self._hold_back,
            self._bounds.waiting,
        )
        self.queue.drops_while_away = port.away == "drop"
        self.replay: Replay | None = None
        """The last bytes that the device has sent, where the entry asks for a replay."""
        self._keep_replay()
        self.com_port = ComPort(self.device, self.queue, self._purge)
        self.capture = Capture(port.log, port.name) if port.log else None
        self.monitor: Monitor | None = None
        """Reads along, where the entry asks for it."""
        self._read_along()
        self.packer: Packer | None = None
        """Gathers what the device says, where the entry asks for that."""
        self._take: Callable[[bytes], None] = self._deliver
        """What becomes of what the device says."""
        self._change_packer()
        self.departed = Departed(port.name, self.device, self.queue)
        self.presence = Presence(
            port, self.state, self.device, self.queue, self.com_port, self.departed
        )
        self.clients = Clients(port, self.state.counters, self)
        self.acceptors: list[Callable[[], None]] = []
        """One for each listener: accepts the clients that have connected so far."""
        self.problem: str | None = None
        """Why the device is not open, in words, or None."""
        self._closing: set[asyncio.Task[None]] = set()
        """They write the rest of logs that are no more."""
        self.is_still = False
        """Whether the device is not read, because a restart hands it over."""
        self._loop = asyncio.get_running_loop()
        self._look: asyncio.TimerHandle | None = None
        self._opening: object | None = None
        """The attempt to open the device that is under way."""
        self._reading = False
        self._away_since = -math.inf
        """When the device went away, by the loop's clock; -inf if it was never there."""
        self._dropped_before = 0
        """Bytes that had been dropped when it went away."""

    # The device comes and goes.

    def begin(self) -> None:
        """Open the device, or begin to look for it, unless that is done already."""
        if not self.device.is_open and self._look is None and not self._opening:
            self.open_device()

    def release_device(self, why: str) -> None:
        """Leave the device to other programs until `begin`."""
        if self._look:
            self._look.cancel()
            self._look = None
        self._close_device()
        self.problem = f"{self.port.path} is not opened: {why}"

    def open_device(self) -> None:
        """Begin to open the device, or to look for it; do nothing while that is under way."""
        if self._opening:
            return
        self._look = None
        try:
            self._keep_away_while_released()
            if not self.device.exists():
                raise DeviceError(f"{self.port.path} does not exist")
        except DeviceError as error:
            self._not_opened(error)
            return
        self._opening = this = object()

        def opened(error: Exception | None) -> None:
            # Else the device is no longer wanted: it is closed next.
            if self._opening is this:
                self._opening = None
                if error:
                    self._not_opened(error)
                else:
                    self._opened()

        self.device.worker.do(self.device.acquire, opened)

    def _not_opened(self, error: Exception) -> None:
        """Look for the device again, soon."""
        is_first = self.problem is None
        if str(error) != self.problem:
            self.problem = str(error)
            expected = isinstance(error, DeviceError)
            log.warning(
                "%s: no device: %s", self.port.name, error, exc_info=None if expected else error
            )
        self._look = self._loop.call_later(DEVICE_POLL_SECONDS, self.open_device)
        self._close_departed()
        if is_first:
            self._apply_away()

    def _opened(self) -> None:
        self.device.use()
        log.info("%s: device %s is open", self.port.name, self.port.path)
        self.state.tty = self.keeper.put("tty", self.device.fileno())
        self.state.counters.reconnects += self.state.opened
        self.state.opened = True
        for setting in self.device.refused_settings():
            log.warning("%s: the device refuses %s", self.port.name, setting)
        self.tell_lock_problem()
        self._tell_what_was_dropped()
        self.problem = None
        self.tell_all(f"{self.port.name}: the device is here")
        self.com_port.device_changed()
        self.congestion_changed()
        self._hold_back()
        self.presence.device_is_here()
        self.queue.write()

    def _tell_what_was_dropped(self) -> None:
        dropped = self.state.dropped - self._dropped_before
        if self.port.away == "drop" and dropped:
            log.warning(
                "%s: %d bytes came while the device was away: dropped", self.port.name, dropped
            )

    def tell_lock_problem(self) -> None:
        """Say so if other programs cannot see that the device is in use."""
        if problem := self.device.lock_problem:
            log.warning("%s: no lock file of ours: %s", self.port.name, problem)

    def _lost(self, reason: DeviceLost) -> None:
        problem = f"{self.port.path} went away: {reason}"
        log.warning("%s: device lost: %s", self.port.name, problem)
        self._goes_away(problem, "the device has gone")
        if self.port.carrier == "follow":
            # The kernel hangs a tty up when its carrier goes: the next call finds no old client.
            self.clients.dismiss_all(f"port {self.port.name}: {problem}")

    def _goes_away(self, problem: str, notice: str) -> None:
        """Close the device, tell the clients, and look for it from now on."""
        self._close_device()
        self.forget_departed_input()
        self.problem = problem
        self.device_is_away()
        self.tell_all(f"{self.port.name}: {notice}")
        self.com_port.device_changed()
        self._look = self._loop.call_later(DEVICE_POLL_SECONDS, self.open_device)

    # Another program has the device for a while.

    def release(self, seconds: float, by: str) -> Release:
        """Close the device for so many seconds; the clients stay."""
        now = self._loop.time()
        released = self.state.released = Release(now + seconds, time.time() + seconds, by)
        self.keeper.note()
        log.warning("%s: device %s", self.port.name, released)
        if self.device.is_open:
            lost = self.device.unsent()  # close() discards it
            self.state.dropped += lost
            if lost:
                log.warning("%s: %d bytes in the tty are dropped", self.port.name, lost)
            self._goes_away(self._released_words(released), f"the device is {released}")
        else:
            self.problem = self._released_words(released)
            if self._opening:
                self._close_device()
                self._look = self._loop.call_later(DEVICE_POLL_SECONDS, self.open_device)
        return released

    def reclaim(self, by: str) -> bool:
        """Take the device back, at once if nobody uses it; return whether it was released."""
        if not self.state.released:
            return False
        log.warning("%s: device taken back by %s", self.port.name, by)
        self.state.released = None
        self.keeper.note()
        if self._look:
            self._look.cancel()
        self.open_device()
        return True

    def _keep_away_while_released(self) -> None:
        released = self.state.released
        if not released:
            return
        if self._loop.time() < released.until:
            raise DeviceError(self._released_words(released))
        log.info("%s: device taken back: its time is over", self.port.name)
        self.state.released = None

    def _released_words(self, released: Release) -> str:
        return f"{self.port.path} is {released}: ttybridge reclaim {self.port.name} takes it back"

    def device_is_away(self) -> None:
        """The device is away from now on."""
        self._away_since = self._loop.time() if self.state.opened else -math.inf
        self._dropped_before = self.state.dropped
        self._apply_away()

    def _apply_away(self) -> None:
        """Do with clients and their input what `away` says, as the device is away."""
        if self.port.away == "drop":
            self.queue.keep_only(set())
        if words := self.refusal():
            self.clients.dismiss_all(words)

    def _close_device(self) -> None:
        """Use the device no more, and begin to close it; also one that is just being opened."""
        if self.device.is_open:
            self._read_no_more()
            self.send_gathered()
            self.queue.device_closed()
            self.device.disuse()
            self.keeper.drop(self.state.tty)
            self.state.tty = None
        elif not self._opening:
            return
        self._opening = None
        self.device.worker.do(self.device.close)

    def _device_is_ready(self, ready: bool) -> None:
        """The line is about to be set, or is set."""
        if ready:
            self.congestion_changed()
            self.queue.write()
        else:
            self._read_no_more()
            self.queue.hold()

    def _read_no_more(self) -> None:
        if self._reading:
            self._loop.remove_reader(self.device.fileno())
            self._reading = False

    async def device_settled(self) -> None:
        """Return once the device is opened, set or closed as asked for, or does not answer."""
        await wait_while(lambda: self.device.worker.is_busy, DEVICE_SECONDS)

    def tell_all(self, words: str) -> None:
        """Tell all clients that a person may be using."""
        for client in self.clients.all:
            client.notice(words)

    async def stop(self) -> None:
        """Let the device and the clients take what was sent to them, then close all."""
        self.clients.refuse_all()
        self.presence.end()
        await wait_while(self._is_moving, DRAIN_SECONDS)
        lost = self.queue.keep_only(set())
        if lost:
            log.warning("%s: %d bytes for the device are lost", self.port.name, lost)
        self._close_device()
        self._drop_replay(self.replay)
        self.replay = None
        self.stop_timers()
        self.clients.close()
        # A client aborts its connection after GOODBYE_SECONDS: the longer time is never reached.
        await wait_while(lambda: bool(self.clients.inside), 2 * GOODBYE_SECONDS)
        await self.device_settled()
        if self.monitor:
            self.monitor.close()
        if self.capture:
            await self.capture.close()
        await self.finish_logs()

    def _is_moving(self) -> bool:
        return self.queue.is_moving(BLOCKED_SECONDS) and not self.device.worker.is_stuck

    async def finish_logs(self) -> None:
        """Return once the logs that are no more are written."""
        await asyncio.gather(*self._closing)

    # Another entry.

    def change(self, port: Port) -> None:
        """Go on with another entry whose device is the same: it disconnects nobody.

        But for `allow`, which is there to do so.
        """
        before, self.port = self.port, port
        self.device.worker.do(partial(self.device.change, port), holds=True)
        self.queue.take_turns(port.sharing == "shared")
        self.presence.change(port)
        self._keep_replay()
        if port.pack != before.pack:
            self._change_packer()
        if port.log != before.log:
            self._change_log(port.log)
        if (port.log, port.watch) != (before.log, before.watch):
            self._read_along()
        self.queue.drops_while_away = port.away == "drop"
        self.clients.change(port)  # sets the line, too
        if port.away != before.away and not self.device.is_open:
            self._apply_away()
        for client in self.clients.all:
            if port.keepalive != before.keepalive:
                client.keepalive_changed()
            if _timeouts(port) != _timeouts(before):
                client.timeouts_changed()

    def _read_along(self) -> None:
        """Have the lines read as the entry says."""
        if self.monitor:
            self.monitor.leave()
        wanted = Monitor.is_wanted(self.port)
        self.monitor = Monitor(self.port, self.state) if wanted else None
        if not wanted:
            self.state.matches.clear()

    def _change_packer(self) -> None:
        """Gather what the device says, or pass it on as it comes."""
        self.send_gathered()
        pack = self.port.pack
        self.packer = Packer(pack, self.device, self._deliver, self._read_more) if pack else None
        self._take = self.packer.add if self.packer else self._deliver

    def send_gathered(self) -> None:
        """Send what waits for the end of a piece."""
        if self.packer:
            self.packer.flush()

    def _keep_replay(self) -> None:
        """Keep as much as is shown."""
        old, size = self.replay, self.port.replay
        if (old.size if old else 0) == size:
            return
        self.replay = Replay(size) if size else None
        if old and self.replay:
            self.replay.add(old.last(size))
        self._drop_replay(old)
        if self.replay:
            self.state.replay_in = self.keeper.put("history", self.replay.fileno())

    def adopt_replay(self, kept: Replay, name: str) -> None:
        """Go on with what an earlier process has kept, by its name in the store."""
        self._drop_replay(self.replay)
        self.replay, self.state.replay_in = kept, name
        self._keep_replay()

    def _drop_replay(self, replay: Replay | None) -> None:
        if replay:
            self.keeper.drop(self.state.replay_in)
            self.state.replay_in = None
            replay.close()

    def _change_log(self, settings: Log | None) -> None:
        old = self.capture
        if old and settings and old.file == settings.file:
            old.change(settings)
            self.congestion_changed()
            return
        self.capture = Capture(settings, self.port.name) if settings else None
        self.congestion_changed()
        if old:
            task = asyncio.create_task(old.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def stop_timers(self) -> None:
        """Stop looking for the device, and checking what clients that have left have sent."""
        if self._look:
            self._look.cancel()
        self.departed.stop()
        self.presence.stop()

    # Clients come and go (`client.Host`, `clients.ClientsHost`).

    def enter(self, client: Client) -> bool:
        """Let a new client in; return False if it is refused."""
        stays = self.clients.enter(client)
        if stays and not client.connection.has_tls:  # its keys end with this process
            client.state.connection = self.keeper.put("client", client.connection.fileno())
        return stays

    def readmit(self, client: Client) -> None:
        """Let a client in that was there before a restart."""
        self.clients.readmit(client)

    def noted(self) -> None:
        """A client has agreed on something, or set the line."""
        self.keeper.note()

    def about_to_answer(self) -> None:
        """A client is about to be told so."""
        self.keeper.write_noted()

    def heard(self, client: Client, first: bytes) -> bool:
        """Return whether a client's first bytes are meant for a device."""
        self.keeper.note()
        return self.clients.heard(client, first)

    def finished(self, client: Client) -> bool:
        """A client will send no more; return whether it stays for the answers."""
        return self.clients.finished(client)

    def left(self, client: Client, error: Exception | None) -> None:
        """A client's connection has ended."""
        self.clients.left(client, error)
        self.keeper.drop(client.state.connection)

    def greet(self, client: Client) -> None:
        """Show a new client the banner, what the device said before, and what is wrong."""
        wanted = client.visit.replay if client.visit else None
        client.greet(self._recent(self.port.replay if wanted is None else wanted))
        if self.problem:
            client.notice(f"{self.port.name}: no device: {self.problem}")

    def _recent(self, size: int) -> bytes:
        """The last bytes that the device has sent, at most `replay` of them."""
        size = min(size, self.port.replay)
        return without_questions(self.replay.last(size)) if self.replay and size else b""

    def changed(self) -> None:
        """The clients that are in have changed."""
        self.keeper.note()
        self.congestion_changed()
        self._hold_back()
        if self.is_still:  # clients are still being reattached
            return
        alone = self.clients.alone
        self.com_port.configure(alone.entrance.line if alone else self._line())

    def first_comes(self, client: Client) -> None:
        """A client comes that may write; nobody was there, or all have left."""
        if not self.is_still:  # else it was there before a restart
            self.presence.comes(client)

    def last_leaves(self, client: Client) -> None:
        """All have left that might write."""
        if not self.is_still:  # else the next process sees whether somebody is there
            self.presence.leaves(client)

    def _line(self) -> dict[str, Any]:
        """The port's own line settings."""
        return {name: getattr(self.port, name) for name in LINE_SETTINGS}

    def leaves_input(self, client: Client) -> None:
        """A client has left; some of what it has sent still goes out."""
        self.departed.leave(client, client.state.received)

    def takes_back_input(self, client: Client) -> None:
        """A client only watches from now on: nothing more of what it has sent goes out."""
        if dropped := self.queue.keep_first(client, 0):
            log.warning(
                "%s: %d bytes of client %s are dropped: it watches now",
                self.port.name,
                dropped,
                client.name,
            )

    def drops_input(self, client: Client) -> None:
        """A client was replaced or kicked: nothing more of what it has sent goes out."""
        self.departed.drop({client}, "it was replaced or kicked")

    def refusal(self) -> str | None:
        """Return why nobody may come in now, in words, or None."""
        if self.port.away != "refuse" or self.device.is_open or self.problem is None:
            return None
        return f"port {self.port.name} has no device now: {self.problem}"

    def is_blocked(self) -> bool:
        """Whether the device has taken nothing for so long that dead clients are not noticed."""
        return is_blocked(self.queue)

    def idle(self, client: Client, words: str) -> None:
        """A client was silent for too long, as `words` say."""
        log.info("%s: client %s %s", self.port.name, client.name, words)

    def is_behind(self, client: Client, size: int) -> None:
        """A client is so many bytes behind, or no more."""
        self._bounds.behind.note(client, size)

    def asks(self, client: Client, request: bytes) -> None:
        """A person asks for something; what a later version may ask is ignored."""
        match request:
            case console.TAKE_OVER:
                self.clients.take_over(client)
            case console.WATCH:
                self.clients.only_watch(client)
            case console.WRITE:
                self.clients.ask_to_write(client)
            case console.AGAIN:
                client.send(self._recent(self.port.replay), self._loop.time())

    def babbles(self, client: Client, words: str) -> None:
        """A client does not speak its protocol."""
        log.warning("%s: client %s closed: it sent %s", self.port.name, client.name, words)
        client.abort()

    def too_slow(self, client: Client, words: str) -> None:
        """A client is too far behind, as `words` say."""
        self.state.counters.closed_slow_clients += 1
        log.warning("%s: client %s closed: %s", self.port.name, client.name, words)
        client.abort()

    def kick(self, address: str | None, by: str) -> list[str]:
        """Close the client with an address, or all; return their addresses."""
        kicked = self.clients.kick(address, by)
        if address is None:
            self.departed.drop(self.queue.departed(), "ttybridge kick")
        return kicked

    # Device to clients.

    def congestion_changed(self) -> None:
        """Read the device unless no client can take more and no log wants its bytes."""
        if not self.device.is_ready:
            return
        clients = self.clients.inside
        all_congested = clients and all(client.congested for client in clients)
        reads_along = self._logs_output or self.monitor is not None
        wanted = not self.is_still and (not all_congested or reads_along)
        if wanted and not self._reading:
            self._loop.add_reader(self.device.fileno(), self._readable)
        elif self._reading and not wanted:
            self._loop.remove_reader(self.device.fileno())
        self._reading = wanted

    @property
    def _logs_output(self) -> bool:
        return self.capture is not None and self.capture.wants_output

    def _readable(self) -> None:
        if self.clients.vacant:  # who has connected already gets what the device says now
            for accept in self.acceptors:
                accept()
            if not self.device.is_ready:  # one of them wants other line settings
                return
        try:
            data = self.device.read()
        except DeviceLost as reason:
            self._lost(reason)
            return
        if not data:
            return
        self.state.counters.from_device += len(data)
        self._take(data)

    def _read_more(self) -> None:
        """Read what the device has said meanwhile."""
        if self._reading:
            self._readable()

    def _deliver(self, data: bytes) -> None:
        """Give everyone what the device has said."""
        now = self._loop.time()
        if self.replay:  # first: a kill must not take from it what a client has seen
            self.replay.add(data)
        for client in self.clients.all:
            client.send(data, now)
        if self.capture:
            self.capture.device_sent(data)
        if self.monitor:
            self.monitor.device_sent(data)

    # Clients to device.

    def from_client(self, client: Client, data: bytes) -> None:
        """Give the device what a client has sent, now or when it takes more."""
        if not client.writes:
            return
        if self.capture:
            self.capture.client_sent(data, self._name_in_log(client))
        if self.monitor:
            self.monitor.client_sent(client, data)
        self.queue.add(client, data)
        if client.has_left:  # its inbox is not empty yet
            self.departed.add(client)

    def _name_in_log(self, client: Client) -> str:
        """What the log calls a client: nothing where the journal says who the only writer was."""
        is_one_of_many = client.state.person or self.port.sharing not in SINGLE_CLIENT_SHARING
        return client.name if is_one_of_many else ""

    def send_break(self, client: Client) -> None:
        """Break the line, after what was sent before."""
        if client.writes:
            self.queue.add_break(client)

    def still_writes(self, client: Client) -> bool:
        """Whether a client's bytes are still on their way; a stuck device gets STUCK_SECONDS."""
        return is_on_its_way(self.queue, client, self._away_since)

    def _queue_full(self, sender: Hashable, full: bool) -> None:
        for client in self.clients.inside:
            if client is sender and full:
                client.connection.pause_reading("queue")
            elif client is sender:
                client.connection.resume_reading("queue")

    def _purge(self, received: bool, unsent: bool) -> None:
        """Discard what waits for clients that have asked for silence, or for the device."""
        if received:
            if self.packer:
                self.packer.discard()
            for client in self.clients.inside:
                client.discard_held()
        if unsent:
            self.queue.keep_only(set())
        self.device.purge(received, unsent)

    def _hold_back(self) -> None:
        """Read no client that writes while as much waits for an absent device as may wait."""
        full = self.queue.is_full_while_away
        for client in self.clients.inside:
            if full and client.writes:
                client.connection.pause_reading("away")
            else:
                client.connection.resume_reading("away")

    def _close_departed(self) -> None:
        """Close clients that have left while they were not read, as the device is away.

        Else they would hold the port until it is back, and then it would get what they sent.
        """
        if not self.is_blocked():
            return
        for client in self.clients.inside:
            if client.writes and client.connection.is_dead(blocked=True):
                client.abort()

    def forget_departed_input(self) -> None:
        """Drop what departed clients have sent: a device that comes back must not get it."""
        if self.is_still:  # clients are still being reattached
            return
        here: set[Hashable] = set(self.clients.inside)
        dropped = self.queue.keep_only(here)
        if dropped:
            log.warning(
                "%s: %d bytes are dropped: their client left while the device was away",
                self.port.name,
                dropped,
            )

    def status(self) -> dict[str, Any]:
        """The port as `ttybridge status --json` shows it; times in seconds."""
        counters = dataclasses.asdict(self.state.counters)
        capture, released, holder = self.capture, self.state.released, self.device.holder
        return {
            "name": self.port.name,
            "protocol": self.port.protocol,
            "description": self.port.description,
            "location": self.port.location,
            "tags": list(self.port.tags),
            "sharing": self.port.sharing,
            "users": list(self.port.users),
            "device": {
                "path": self.port.path,
                "present": self.device.is_open,
                "problem": self.device_problem,
                "refused_settings": self.device.refused_settings(),
                "released": dataclasses.asdict(released) if released else None,
                "holder": dataclasses.asdict(holder) if holder else None,
            },
            "line_settings": self.device.line_settings(),
            "line_errors": self.device.line_errors(),
            "clients": self.clients.status(),
            "counters": {
                **counters,
                "to_device": self.state.written,
                "dropped": self.state.dropped,
            },
            "log": capture.status() if capture else None,
            "watch": dict(self.state.matches),
            "not_in_journal": self.state.not_in_journal,
        }

    @property
    def device_problem(self) -> str | None:
        """Why the device cannot be used now, in words, or None."""
        seconds = self.device.worker.busy_for
        if seconds < DEVICE_SECONDS:
            return self.problem
        return (
            f"{self.port.path}: its driver has not answered for {seconds:.0f} s: "
            "if it stays so, plug the adapter in again"
        )


def _timeouts(port: Port) -> tuple[int, str, int]:
    return port.idle_timeout, port.idle, port.half_close_timeout


async def wait_while(busy: Callable[[], bool], seconds: float) -> None:
    """Return once `busy` returns False, at the latest after `seconds`."""
    for _ in range(round(seconds / 0.02)):
        if not busy():
            return
        await asyncio.sleep(0.02)
