"""Line control: what RFC 2217 clients do to the line of a port, and what they are told about it."""

from __future__ import annotations

import asyncio
import logging
import termios
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from ttybridge.line.device import Device, Line
from ttybridge.line.write_queue import WriteQueue
from ttybridge.model.ports import Port
from ttybridge.protocol import rfc2217

log = logging.getLogger(__name__)

# Seconds between two looks at modem lines and line errors, while a client wants to know.
LINE_POLL_SECONDS = 0.1

# Seconds without progress before giving up on draining.
BLOCKED_SECONDS = 2.0

SIGNATURE = "ttybridge"

_MODEM_LINES = {
    termios.TIOCM_CTS: rfc2217.CTS,
    termios.TIOCM_DSR: rfc2217.DSR,
    termios.TIOCM_RI: rfc2217.RI,
    termios.TIOCM_CD: rfc2217.CD,
}
_LINE_ERRORS = {
    "overrun": rfc2217.OVERRUN,
    "buffer_overrun": rfc2217.OVERRUN,
    "parity": rfc2217.PARITY_ERROR,
    "frame": rfc2217.FRAMING_ERROR,
    "break": rfc2217.BREAK_DETECT,
}

# A tty without modem lines (a pty) seems ready: a client would wait for them for ever.
_ALWAYS_READY = rfc2217.CTS | rfc2217.DSR | rfc2217.CD


@dataclass
class ComPortState:
    """What a client has asked to be told, and the modem lines that it was last told."""

    signature: str = ""
    modemstate_mask: int = 255
    linestate_mask: int = 0
    modem_lines: int = 0


class Member(Protocol):
    """A client that has agreed to COM-PORT-OPTION; the write queue knows it as a sender."""

    def __hash__(self) -> int: ...

    @property
    def com_port(self) -> ComPortState:
        """What it has asked to be told."""

    @property
    def only_watches(self) -> bool:
        """Whether it can never set the line."""

    @property
    def forbids(self) -> Collection[str]:
        """Which of `FORBIDDABLE` of the port map it may not do."""

    def was_kept_from(self, what: str) -> None:
        """The client may not change this: it gets the current value as its answer."""

    def may_write(self) -> bool:
        """Whether the device takes what it sends."""

    def say(self, payload: bytes) -> None:
        """Send it a subnegotiation."""

    def suspend(self, on: bool) -> None:
        """Send it nothing of the device for now, or go on."""

    def hold(self, on: bool) -> None:
        """Handle nothing more of what it sends for now, or go on."""


class ComPort:
    """The line of a port as its RFC 2217 clients share it.

    The first of them that may write owns the settings; the others are told the current ones. When
    the last one has left, the line goes back to what the port map says.

    What may block is a job for the device's worker. The member that has asked for it is held until
    it is done and answered; the others go on.
    """

    def __init__(
        self,
        device: Device,
        queue: WriteQueue,
        purge: Callable[[bool, bool], None],
    ) -> None:
        self._device = device
        self._queue = queue
        self._purge = purge
        self._members: list[Member] = []
        self._errors: dict[str, int] | None = None
        self._bits: int | None = None
        """What the device has last said of its modem lines."""
        self._is_asked = False
        """Whether `_look` has asked and waits for the answer."""
        self._asked: dict[Member, Callable[[], None]] = {}
        """For each member that is held: what answers it."""
        self.gives_up = False
        """Whether nothing is asked of the device any more."""
        self._timer: asyncio.TimerHandle | None = None
        self._restore: asyncio.TimerHandle | None = None

    def join(self, member: Member) -> None:
        """A client speaks RFC 2217 from now on."""
        if member in self._members:
            return

        def begin() -> None:
            self._members.append(member)
            member.com_port.modem_lines = lines = self._modem_lines()
            member.say(rfc2217.notify("modemstate", lines & member.com_port.modemstate_mask))
            self._begin_to_watch()

        self._after_asking(member, begin)

    def rejoin(self, member: Member) -> None:
        """A client already spoke RFC 2217 with an earlier process."""
        self._members.append(member)

    def resumed(self) -> None:
        """All members of the earlier process have rejoined, except those that have left."""
        self.device_changed()
        # The line may still be as the last of them wanted it.
        if not self._is_set() and not self._restore:
            self._restore_when_sent(self._queue.senders())

    def configure(self, settings: dict[str, Any]) -> None:
        """Configure other line settings, once what was sent before is out.

        While RFC 2217 clients are connected, the line stays as they have set it.
        """
        if settings == self._device.configured.settings:
            return
        self._device.configured.settings = {**settings}
        if not self._is_set() and not self._restore:
            self._restore_when_sent(self._queue.senders())

    def hang_up(self, port: Port, down: bool) -> None:
        """Drop DTR and RTS once what was sent before is out, or raise them.

        Who comes before they were dropped finds a device that has seen them down all the same.
        """
        device = self._device
        if down == device.hung_up:
            return
        device.hung_up = down
        now = Line.of(port, down)
        device.configured.dtr, device.configured.rts = now.dtr, now.rts
        if not down:
            device.worker.do(device.pick_up, holds=True)
            return
        if self._restore:
            self._restore.cancel()
        # Later: an adapter may hold bytes of which the kernel knows nothing more.
        loop, senders = asyncio.get_running_loop(), self._queue.senders()
        self._restore = loop.call_later(LINE_POLL_SECONDS, self._restore_when_sent, senders)

    def leave_all(self) -> None:
        """Stop, and leave the line to the next process."""
        for timer in (self._timer, self._restore):
            if timer:
                timer.cancel()
        self._asked.clear()
        self._members.clear()

    def leave(self, member: Member) -> None:
        """A client has gone."""
        self._asked.pop(member, None)
        if member in self._members:
            self._members.remove(member)
            if not member.only_watches and not self._is_set() and not self._restore:
                self._restore_when_sent({member, *self._queue.departed()})

    def device_changed(self) -> None:
        """The device came or went; without it no modem line is up."""
        self._errors = self._device.line_errors()
        self._look()

    def answer(self, member: Member, request: rfc2217.Request) -> None:
        """Do what a client asks for, where it may, and answer it."""
        owns = self._owner() is member
        kind = _kind_of(request)
        may_change = owns and kind not in member.forbids
        if owns and not may_change and not self._is_so(request):
            member.was_kept_from(kind)
        if may_change and self._restore and isinstance(request, rfc2217.CHANGES_THE_LINE):
            self._restore_now()
        match request:
            case rfc2217.Signature(text):
                self._signature(member, text)
            case rfc2217.SetLine(name, value):
                wanted = value if may_change else None
                self._set_line(
                    member,
                    name,
                    wanted,
                    lambda: rfc2217.line_setting(name, self._device.setting(name)),
                )
            case rfc2217.SetFlow(words, inbound):
                # A tty has one setting for both directions: the outbound one sets it.
                wanted = words if may_change and not inbound else None
                self._set_line(
                    member,
                    "flow",
                    wanted,
                    lambda: rfc2217.flow(self._device.setting("flow"), inbound),
                )
            case rfc2217.SetControl(line, on):
                self._set_control(member, line, on if may_change else None)
            case rfc2217.Poll(of):
                self._poll(member, of)
            case rfc2217.SetMask(of, mask):
                self._set_mask(member, of, mask)
            # No answer: from the server the same code asks the client to be silent (section 5).
            case rfc2217.Suspend():
                member.suspend(True)
            case rfc2217.Resume():
                member.suspend(False)
            case rfc2217.Purge(code):
                if owns:
                    self._purge(request.received, request.unsent)
                member.say(rfc2217.purged(code))

    def _is_set(self) -> bool:
        """Whether a client is there that may have set the line."""
        return not all(member.only_watches for member in self._members)

    def _is_so(self, request: rfc2217.Request) -> bool:
        """Whether the port already has what a request asks for."""
        match request:
            case rfc2217.SetLine(name, value):
                return bool(self._device.setting(name) == value)
            case rfc2217.SetFlow(value):
                return bool(self._device.setting("flow") == value)
            case rfc2217.SetControl(line, on):
                return self._control(line) == on
        return True

    def _owner(self) -> Member | None:
        return next((member for member in self._members if member.may_write()), None)

    def _restore_when_sent(self, senders: Collection[Hashable]) -> None:
        """Restore the configured line once the bytes of departed clients are out."""
        if self._queue.is_moving(BLOCKED_SECONDS, senders):
            loop = asyncio.get_running_loop()
            self._restore = loop.call_later(LINE_POLL_SECONDS, self._restore_when_sent, senders)
        else:
            self._restore_now()

    def _restore_now(self) -> None:
        if self._restore:
            self._restore.cancel()
            self._restore = None
        self._device.worker.do(self._device.restore, holds=True)

    # What may block.

    def _do(
        self, member: Member, job: Callable[[], None], then: Callable[[], None], holds: bool = False
    ) -> None:
        """Do a job, then `then`; hold the member until that is done."""
        if self.gives_up:
            then()
            return

        def done(error: Exception | None) -> None:
            if error:
                log.error("the line cannot be set: %s", error, exc_info=error)
            if self._asked.get(member) is then:
                self._answer(member)

        self._asked[member] = then
        member.hold(True)
        self._device.worker.do(job, done, holds)

    def _answer(self, member: Member) -> None:
        self._asked.pop(member)()
        member.hold(False)

    def give_up(self) -> None:
        """Ask nothing more of a device that may hang: answer with what is known, now and later."""
        self.gives_up = True
        for member in tuple(self._asked):
            self._answer(member)

    def _set_line(self, member: Member, name: str, value: Any, answer: Callable[[], bytes]) -> None:
        """Set a line setting unless it is so already, or `value` is None; then answer."""
        if value is None or (not self._device.worker.is_busy and self._device.has(name, value)):
            member.say(answer())
            return
        job = partial(self._device.set, name, value)
        self._do(member, job, lambda: member.say(answer()), holds=True)

    def _after_asking(self, member: Member, then: Callable[[], None]) -> None:
        """Ask the device for its modem lines, then call `then`."""
        if self._device.is_open:
            self._do(member, self._ask, then)
        else:
            self._bits = None
            then()

    def _ask(self) -> None:
        self._bits = self._device.modem_lines()

    def _signature(self, member: Member, text: bytes) -> None:
        if text:
            member.com_port.signature = text.decode("ascii", "replace")
        else:
            member.say(rfc2217.signature(SIGNATURE))

    def _set_control(self, member: Member, line: rfc2217.ControlLine, on: bool | None) -> None:
        def answer() -> None:
            member.say(rfc2217.control(line, self._control(line)))

        if on is None or (not self._device.worker.is_busy and self._control(line) == on):
            answer()
        elif line == "break":
            self._do(member, partial(self._device.set_break, on), answer)
        else:
            self._do(member, partial(self._device.set_modem_line, line, on), answer)

    def _control(self, line: rfc2217.ControlLine) -> bool:
        state = self._device.line
        return {"break": state.break_on, "dtr": state.dtr, "rts": state.rts}[line]

    def _set_mask(self, member: Member, of: rfc2217.Kind, mask: int | None) -> None:
        state = member.com_port
        if mask is not None and of == "linestate":
            state.linestate_mask = mask
        elif mask is not None:
            state.modemstate_mask = mask
        current = state.linestate_mask if of == "linestate" else state.modemstate_mask
        member.say(rfc2217.mask(of, current))
        self._begin_to_watch()

    def _poll(self, member: Member, of: rfc2217.Kind) -> None:
        state = member.com_port
        if of == "linestate":
            member.say(rfc2217.notify("linestate", 0))  # errors are reported when they happen
            return

        def answer() -> None:
            lines = self._modem_lines()
            bits = rfc2217.modemstate(lines, state.modem_lines) & state.modemstate_mask
            state.modem_lines = lines
            member.say(rfc2217.notify("modemstate", bits))

        self._after_asking(member, answer)

    def _modem_lines(self) -> int:
        """What the device has last said, in the bits of RFC 2217."""
        if not self._device.is_open:
            return 0
        if self._bits is None:
            return _ALWAYS_READY
        return sum(line for bit, line in _MODEM_LINES.items() if self._bits & bit)

    def _begin_to_watch(self) -> None:
        """Begin, with the current counters as the baseline: older errors are not reported."""
        if not self._timer and not self._is_asked:
            self._errors = self._device.line_errors()
        self._watch()

    def _look_again(self) -> None:
        self._timer = None
        self._look()

    def _look(self) -> None:
        """Ask the device, and tell each client the changes that it wants to know."""
        if not self._device.is_open:
            self._bits = None
            self._tell()
        elif not self._is_asked:
            self._is_asked = True
            self._device.worker.do(self._ask, lambda error: self._has_looked())

    def _has_looked(self) -> None:
        self._is_asked = False
        self._tell()

    def _tell(self) -> None:
        lines, errors = self._modem_lines(), self._new_errors()
        for member in tuple(self._members):
            state = member.com_port
            bits = rfc2217.modemstate(lines, state.modem_lines)
            if (lines ^ state.modem_lines | bits & ~rfc2217.MODEM_LINES) & state.modemstate_mask:
                member.say(rfc2217.notify("modemstate", bits & state.modemstate_mask))
            state.modem_lines = lines
            if errors & state.linestate_mask:
                member.say(rfc2217.notify("linestate", errors & state.linestate_mask))
        self._watch()

    def _new_errors(self) -> int:
        """Bits of the line state for the errors since the last look."""
        before, self._errors = self._errors, self._device.line_errors()
        if before is None or self._errors is None:
            return 0
        bits = 0
        for name, bit in _LINE_ERRORS.items():
            if self._errors[name] != before[name]:
                bits |= bit
        return bits

    def _watch(self) -> None:
        """Look again soon, while a client wants changes that the device can show."""
        states = [member.com_port for member in self._members]
        wanted = any(
            (state.modemstate_mask and self._bits is not None)
            or (state.linestate_mask and self._errors is not None)
            for state in states
        )
        if wanted and not self._timer and not self._is_asked:
            self._timer = asyncio.get_running_loop().call_later(LINE_POLL_SECONDS, self._look_again)
        elif self._timer and not wanted:
            self._timer.cancel()
            self._timer = None


def _kind_of(request: rfc2217.Request) -> str:
    """Return which of `FORBIDDABLE` of the port map a request asks for, "" for none of it."""
    match request:
        case rfc2217.SetLine(_, value) if value is not None:
            return "line_settings"
        case rfc2217.SetFlow(value) if value is not None:
            return "line_settings"
        # A break that is on, as from before a reload, may always end.
        case rfc2217.SetControl("break", True):
            return "break"
        case rfc2217.SetControl("dtr" | "rts", bool()):
            return "modem_lines"
    return ""
