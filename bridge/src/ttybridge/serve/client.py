"""One client of a port: it joins a connection, a session and the port."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from ttybridge.line import comport
from ttybridge.line.comport import ComPort
from ttybridge.line.write_queue import WriteQueue
from ttybridge.model.people import Person
from ttybridge.model.ports import FORBIDDABLE, Port
from ttybridge.net.connection import Connection, PeerDeadError
from ttybridge.protocol import console, rfc2217, telnet
from ttybridge.serve.bounds import STEP
from ttybridge.serve.entrance import Entrance
from ttybridge.serve.inbox import Inbox
from ttybridge.serve.session import (
    Ask,
    ComPortOff,
    ComPortOn,
    Event,
    Nonsense,
    Reply,
    com_port_words,
    session,
    status_words,
)
from ttybridge.serve.state import ClientState

log = logging.getLogger(__name__)

# Bytes that a client may be behind before it is closed: a busy machine is not a slow client.
LAG_LIMIT = 8 * 1024 * 1024

# Seconds between two checks of a client that has closed its sending side: whether what it has sent
# before is out.
HALF_CLOSED_POLL_SECONDS = 0.2

# Seconds before the end at which a person is warned that silence counts.
WARNING_SECONDS = 60

# What a person does, or a program in its place. What telnet says by itself is not among it.
_INPUT = (telnet.Data, telnet.Break, telnet.AreYouThere, Ask)

# Seconds after a restart before a client can count as idle: what it sent during the restart is read
# first.
RESUMED_SECONDS = 0.5


class Host(Protocol):
    """What a client asks of its port."""

    port: Port
    queue: WriteQueue
    com_port: ComPort
    problem: str | None

    def enter(self, client: Client) -> bool:
        """Let a new client in; return False if it is refused."""

    def readmit(self, client: Client) -> None:
        """Let a client in that was there before a restart."""

    def noted(self) -> None:
        """A client has agreed on something, or set the line."""

    def about_to_answer(self) -> None:
        """A client is about to be told so."""

    def heard(self, client: Client, first: bytes) -> bool:
        """Return whether a client's first bytes are meant for a device."""

    def from_client(self, client: Client, data: bytes) -> None:
        """Give the device what a client has sent."""

    def send_break(self, client: Client) -> None:
        """Break the line after what was sent before."""

    def congestion_changed(self) -> None:
        """A client takes more again, or no more."""

    def still_writes(self, client: Client) -> bool:
        """Whether a client's bytes are still on their way to the device."""

    def finished(self, client: Client) -> bool:
        """A client will send no more; return whether it stays for the answers."""

    def left(self, client: Client, error: Exception | None) -> None:
        """A client's connection has ended."""

    def asks(self, client: Client, request: bytes) -> None:
        """A person asks for something else than to write: a request of protocol/console.py."""

    def status(self) -> dict[str, Any]:
        """The port as `ttybridge status --json` shows it."""

    def babbles(self, client: Client, words: str) -> None:
        """A client does not speak its protocol, as `words` say."""

    def idle(self, client: Client, words: str) -> None:
        """A client was silent for too long, as `words` say."""

    def is_behind(self, client: Client, size: int) -> None:
        """A client is so many bytes behind, or no more."""

    def too_slow(self, client: Client, words: str) -> None:
        """A client is too far behind, as `words` say."""


@dataclass(frozen=True)
class Visit:
    """A person comes by `ttybridge console`: to write, only to watch, or to write at once.

    `name` is the name of the client; `replay` is how many bytes of recent output to show, None for
    as many as the port shows.
    """

    name: str
    person: Person
    watch: bool = False
    take: bool = False
    replay: int | None = None


class Client:
    """One client: the owner of its connection (`Owner`), and a member of line control (`Member`).

    `state` is given for a client that was there before a restart; `on_gone` is called when its
    connection has ended. `visit` is given for a person who comes now.
    """

    def __init__(
        self,
        host: Host,
        entrance: Entrance,
        on_gone: Callable[[], None] = lambda: None,
        state: ClientState | None = None,
        visit: Visit | None = None,
    ) -> None:
        self._host = host
        self.entrance = entrance
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._resumes = state is not None
        now = self._loop.time()
        self.state = state or ClientState(connected_at=now, active_at=now)
        self.state.input_at = self.state.input_at or now
        self.state.entrance = entrance.at
        self.visit = visit
        """How a person wants to enter, None for every other client."""
        if visit:
            self.state.name, self.state.person = visit.name, visit.person
            self.state.watches = visit.watch
        if self.state.watches is None:
            self.state.watches = entrance.watches
        if entrance.protocol == "console":
            self.state.frames = self.state.frames or console.FrameState()
        name = self.state.name if self._resumes or visit else ""
        self.connection = Connection(self, host.port.keepalive, name)
        self.session = session(entrance.protocol, self.state.telnet, self.state.frames)
        self._is_plain = self.session.is_plain
        self.state.telnet = self.session.state
        self.state.com_port = self.state.com_port or comport.ComPortState()
        self._inbox = Inbox(self.session, self._do, self._must_wait, self._after_turn)
        self._output = bytearray()
        """Replies that go out at the end of the turn."""
        self._timer: asyncio.TimerHandle | None = None
        self._counts_from = 0.0
        """From when on silence counts, by the loop's clock."""
        self._warned_of = 0.0
        """The time of the input after which a person was last warned."""
        self._is_in = self._will_leave = False
        self._told_behind = 0
        """How far behind it was when it last said so."""
        self.writes = False
        """Whether the device takes what this client sends. The port sets it."""
        self.has_left = False
        """Whether the port has removed it. The port sets it."""

    @property
    def name(self) -> str:
        """What people call the client: its address, after the name of its certificate."""
        return self.state.called

    @property
    def backlog(self) -> int:
        """Bytes for the client that its connection has not taken yet."""
        return self.connection.backlog + len(self.state.held)

    @property
    def congested(self) -> bool:
        """Whether the client takes no more for now."""
        return self.connection.full or self.state.suspended

    @property
    def has_to_do(self) -> bool:
        """Whether its inbox is not empty yet."""
        return self._inbox.busy

    @property
    def can_resume(self) -> bool:
        """Whether the next process can go on: not with TLS, as the keys stay in this process."""
        transport = self.connection.transport
        return self._is_in and not self.connection.has_tls and not transport.is_closing()

    # Called by its connection (`Owner`).

    def arrived(self, connection: Connection) -> None:
        """The connection is there: enter the port, or go on from an earlier process."""
        self.state.name = connection.name
        self.state.names = list(connection.names)
        if self._resumes:
            self._resume()
        else:
            self._is_in = self._host.enter(self)
        if self._is_in and (self.state.finished or self._silence):
            due = max(RESUMED_SECONDS if self._resumes else 0.0, self._remaining())
            self._wait_for_silence(due)

    def _resume(self) -> None:
        self._is_in = True
        self._host.readmit(self)
        self.put(self.state.unsent)
        self.state.unsent = b""
        if self.session.has_com_port:
            self._host.com_port.rejoin(self)
        if self.state.finished:  # its answer may have come during the restart
            self.state.active_at = self._loop.time()

    def received(self, connection: Connection, data: bytes) -> None:
        """The client has sent bytes."""
        state = self.state
        if not self._is_in or (not state.received and not self._host.heard(self, data)):
            return
        state.active_at = self._loop.time()
        state.received += len(data)
        if self._is_plain:
            state.input_at = state.active_at
            self._host.from_client(self, data)
        else:
            self._inbox.add(data)

    def writable(self, connection: Connection) -> None:
        """The connection takes more again, or no more."""
        self._catch_up()
        self._host.congestion_changed()

    def finished(self, connection: Connection) -> bool:
        """The client will send no more; it still gets what the device answers."""
        if not self._is_in or not self._host.finished(self):
            return False
        if not self.state.finished:  # an earlier process may have seen the end already
            self.state.finished = True
            self.state.active_at = self._loop.time()
            self._wait(HALF_CLOSED_POLL_SECONDS)
        return True

    def gone(self, connection: Connection, error: Exception | None) -> None:
        """The connection has ended."""
        self._catch_up()
        if self._timer:
            self._timer.cancel()
        if isinstance(error, PeerDeadError):
            self._drop_input()
        else:
            self._will_leave = True
            if not self._inbox.busy:
                self._host.com_port.leave(self)
        self._host.left(self, error)
        self._on_gone()

    # To the client.

    def greet(self, replay: bytes) -> None:
        """Greet a new client: negotiate, show the banner and what the device said before."""
        self.put(self.session.start())
        if self.entrance.greeting:
            self.put(self.session.banner(self.entrance.greeting))
        if replay:
            self.send(replay, self._loop.time())

    def send(self, data: bytes, now: float) -> None:
        """Send bytes of the device; `now` is the loop's time."""
        state = self.state
        state.active_at = now
        state.sent += len(data)
        if state.suspended:
            state.held += self.session.encode(data)
            self._close_if_too_slow()
            return
        self.connection.write(data if self._is_plain else self.session.encode(data))
        if self.connection.full:
            self._close_if_too_slow()

    def put(self, data: bytes) -> None:
        """Send bytes as they are."""
        if data:
            self.connection.write(data)
            if self.connection.full:
                self._close_if_too_slow()

    def notice(self, words: str) -> None:
        """Tell a person what happens; raw clients and programs would take it for device output."""
        self.put(self.session.notice(words))

    def _close_if_too_slow(self) -> None:
        if not self.connection.is_open:
            return
        behind = self.backlog
        if behind > LAG_LIMIT + self._host.port.replay:
            self._host.too_slow(self, f"it is {behind} bytes behind")
        elif behind >= self._told_behind + STEP:
            self._told_behind = behind
            self._host.is_behind(self, behind)

    def _catch_up(self) -> None:
        if self._told_behind:
            self._told_behind = 0
            self._host.is_behind(self, 0)

    def close_as_last(self, together: int) -> None:
        """Close, because all clients are `together` bytes behind, and this one most of all."""
        words = f"all clients are {together} bytes behind, and this one most: {self.backlog}"
        self._host.too_slow(self, words)

    def _flush(self) -> None:
        if self._output:
            self._host.about_to_answer()
            self.put(bytes(self._output))
            self._output.clear()

    # From the client.

    def _do(self, event: Event) -> None:
        if isinstance(event, _INPUT):
            self.state.input_at = self._loop.time()
        match event:
            case telnet.Data(data):
                self._host.from_client(self, data)
            case Reply(data):
                self._output += data
                self._host.noted()
            case telnet.Break() if self.writes and "break" in self.forbids:
                self._flush()
                self.was_kept_from("break")
            case telnet.Break():
                self._host.send_break(self)
            case telnet.AreYouThere():
                self._show_life()
            case Ask(console.WHO):
                self.put(status_words(self._host.status()))
            case Ask(request):
                self._host.asks(self, request)
            case Nonsense(words):
                self._host.babbles(self, words)
            case ComPortOn():
                self._host.com_port.join(self)
                self._host.noted()
            case ComPortOff():
                self.suspend(False)
                self._host.com_port.leave(self)
            case _:
                self._host.com_port.answer(self, event)
                self._host.noted()

    def _must_wait(self, event: Event) -> bool:
        """Whether an event changes the line and bytes before it have not left yet."""
        return (
            isinstance(event, rfc2217.CHANGES_THE_LINE)
            and self.may_write()
            and not self._host.com_port.gives_up
            and self._host.queue.is_moving(comport.BLOCKED_SECONDS, {self})
        )

    def _after_turn(self, more: bool) -> None:
        self._flush()
        if more:
            self.connection.pause_reading("order")
            return
        self.connection.resume_reading("order")
        if self._will_leave:
            self._host.com_port.leave(self)

    def _show_life(self) -> None:
        # A program would take words for device output.
        if self.session.has_com_port:
            self._output += bytes((telnet.IAC, telnet.NOP))
        else:
            self._flush()
            self.notice(f"{self._host.port.name}: {self._host.problem or 'here'}")

    def _drop_input(self) -> None:
        self._inbox.clear()
        self._host.com_port.leave(self)

    def watch(self, on: bool) -> None:
        """Only watch from now on, or no more."""
        self.state.watches = on

    # Called by line control (`comport.Member`).

    @property
    def com_port(self) -> comport.ComPortState:
        """What it has asked to be told about the line."""
        assert self.state.com_port
        return self.state.com_port

    @property
    def only_watches(self) -> bool:
        """Whether the device never takes what it sends."""
        return bool(self.state.watches)

    @property
    def forbids(self) -> Collection[str]:
        """Which of `FORBIDDABLE` it may not do."""
        return self.entrance.forbids

    def was_kept_from(self, what: str) -> None:
        """Say that it may not do something: to a person there, else in the log alone."""
        name, words = self._host.port.name, f"may not {FORBIDDABLE[what]}: the port map forbids it"
        log.warning("%s: client %s %s", name, self.name, words)
        self.notice(f"{name}: you {words}")

    def may_write(self) -> bool:
        """Whether the device takes what it sends, and it may still send something."""
        return self.writes and not self.state.finished

    def say(self, payload: bytes) -> None:
        """Send an answer or a notification of RFC 2217."""
        self._output += com_port_words(payload)
        if not self._inbox.in_turn:
            self._flush()

    def suspend(self, on: bool) -> None:
        """Hold back what the device says, or send what was held back and go on."""
        self._flush()
        if not self.connection.is_open:
            return
        self.state.suspended = on
        if not on and self.state.held:
            self.put(bytes(self.state.held))
            self.state.held.clear()
        self._host.congestion_changed()

    def hold(self, on: bool) -> None:
        """Handle nothing more of what it sends until its request is done, or go on."""
        self._inbox.hold(on)

    def discard_held(self) -> None:
        """Drop what was held back."""
        self.state.held.clear()

    # Closing.

    def refuse(self, words: str) -> None:
        """Tell a client that is not let in why, and close."""
        self.connection.refuse(self.session.farewell(words))

    def dismiss(self, words: str) -> None:
        """Tell a client that was in why it cannot stay, and close; drop what is in its inbox."""
        self._drop_input()
        self._is_in = False
        if self._timer:
            self._timer.cancel()
        self.connection.refuse(self.session.farewell(words))

    def close(self) -> None:
        """Take nothing more; close once everything is sent, or after GOODBYE_SECONDS."""
        self._is_in = False
        if self._timer:
            self._timer.cancel()
        self.connection.close()

    def displace(self) -> None:
        """Close; drop what is left in its inbox."""
        self._drop_input()
        self.close()

    def abort(self) -> None:
        """Close now."""
        self.connection.abort()

    @property
    def _silence(self) -> float:
        """Seconds without a byte, or without input, after which the client is closed; 0 = never.

        A client that will send no more still gets the answer to its last command, such as
        `echo reboot | nc -N`.
        """
        if self.state.finished:
            return self._host.port.half_close_timeout
        return self.entrance.idle_seconds

    @property
    def _counts_input(self) -> bool:
        return self.entrance.counts_input and not self.state.finished

    def _remaining(self) -> float:
        """Seconds that are left of the silence."""
        since = self.state.input_at if self._counts_input else self.state.active_at
        return max(since, self._counts_from) + self._silence - self._loop.time()

    def keepalive_changed(self) -> None:
        """Use the keepalive that the port has now."""
        self.connection.change_keepalive(self._host.port.keepalive)

    def timeouts_changed(self) -> None:
        """Use the timeouts that the port has now; silence counts from now on."""
        if not self._is_in:
            return
        self._counts_from = self._loop.time()
        if self.state.finished:
            self._wait(HALF_CLOSED_POLL_SECONDS)
        elif self._silence:
            self._wait_for_silence(self._silence)
        elif self._timer:
            self._timer.cancel()

    def _wait(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._check_activity)

    def _wait_for_silence(self, seconds: float) -> None:
        """Look in so many seconds, or sooner if a person is to be warned."""
        sooner = seconds - WARNING_SECONDS
        self._wait(sooner if self._warns and sooner > 0 else seconds)

    @property
    def _warns(self) -> bool:
        return self._counts_input and self._silence >= 2 * WARNING_SECONDS

    def _warn(self, seconds: float) -> None:
        """Tell a person, once, that silence closes the session in so many seconds."""
        if self._warns and self._warned_of != self.state.input_at:
            self._warned_of = self.state.input_at
            self.notice(f"closes in {seconds:.0f} s without input")

    def _check_activity(self) -> None:
        """Close after silence. One timer per client is enough, however busy the client is."""
        if self.state.finished and self._host.still_writes(self):
            self.state.active_at = self._loop.time()
            self._wait(HALF_CLOSED_POLL_SECONDS)
            return
        remaining = self._remaining()
        if remaining > 0:
            self._wait_for_silence(remaining)
            if remaining <= WARNING_SECONDS:
                self._warn(remaining)
            return
        if not self.state.finished:
            what = "input" if self._counts_input else "a byte"
            words = f"closed after {self._silence} s without {what}"
            self._host.idle(self, words)
            self.notice(words)
        self.close()
