"""A telnet or RFC 2217 client: what it says is done, what it is told is put in its words."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from ttybridge.line import comport
from ttybridge.protocol import rfc2217, telnet

if TYPE_CHECKING:
    from ttybridge.serve.client import Client
    from ttybridge.serve.port import ServedPort

# A change of the line waits until what the client sent before has left the tty: how often that is
# looked at, in seconds.
LOOK_SECONDS = 0.005

# How long one client's commands may take in one turn of the event loop, in seconds, before all
# other clients and devices have theirs.
TURN_SECONDS = 0.0003

# What is parsed at once: so many bytes, or more where so few of them are IAC.
SLICE_SIZE, FEW_COMMANDS = 256, 64


class Session:
    """The protocol between one client and its port."""

    def __init__(
        self,
        client: Client,
        port: ServedPort,
        state: telnet.State | None = None,
        com_port: comport.State | None = None,
    ) -> None:
        self._client = client
        self._port = port
        self._telnet = telnet.Telnet(
            accept=(telnet.COM_PORT,) if port.port.protocol == "rfc2217" else (), state=state
        )
        self._loop = asyncio.get_running_loop()
        self._input: deque[bytes] = deque()
        """What has arrived and is not parsed yet; of the first, what is behind `_parsed`."""
        self._parsed = 0
        self._later: deque[telnet.Event] = deque()
        """What the client has said and is not done yet."""
        self._output = bytearray()
        """What it is told at the end of the turn."""
        self._in_turn = False
        self._timer: asyncio.Handle | None = None
        """Until the next turn."""
        self._finished = False
        self.com_port = com_port or comport.State()

    @property
    def state(self) -> telnet.State:
        """What was agreed on and half received."""
        return self._telnet.state

    @property
    def busy(self) -> bool:
        """Whether something that the client has said is still to be done."""
        return bool(self._later or self._input)

    @property
    def sender(self) -> Client:
        """By what the write queue knows the client."""
        return self._client

    @property
    def speaks_rfc2217(self) -> bool:
        """Whether a program that knows COM-PORT-OPTION is at the other end."""
        return self._telnet.client_does(telnet.COM_PORT)

    def start(self) -> None:
        """Begin to negotiate."""
        self._telnet.start()
        self._output += self._telnet.data_to_send()
        self._flush()

    def resume(self) -> None:
        """Go on where a predecessor was."""
        if self.speaks_rfc2217:
            self._port.com_port.rejoin(self)

    def encode(self, data: bytes) -> bytes:
        """Return bytes of the device as they are sent to this client."""
        return self._telnet.encode(data)

    def receive(self, data: bytes) -> None:
        """Do what the client says, now or in later turns."""
        self._input.append(data)
        if not self._timer:
            self._go_on()

    def finish(self) -> None:
        """The client will say no more; what it has said is still done."""
        self._finished = True
        if not self._timer:
            self._port.com_port.leave(self)

    def drop(self) -> None:
        """Another client takes its place: what it has said is not done any more."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._later.clear()
        self._input.clear()
        self._parsed = 0
        self._port.com_port.leave(self)

    # What comport.py asks of a client.

    def may_write(self) -> bool:
        """Whether the device takes what this client sends."""
        return self._port.may_write(self._client) and not self._client.finished

    def say(self, payload: bytes) -> None:
        """Send a subnegotiation."""
        self._output += telnet.subnegotiation(telnet.COM_PORT, payload)
        if not self._in_turn:
            self._flush()

    def suspend(self, on: bool) -> None:
        """Hold back what the device sends, or go on."""
        self._flush()
        if not self._client.transport.is_closing():
            self._client.suspend(on)

    def _go_on(self) -> None:
        """Work through what the client has said, for one turn of the event loop."""
        self._timer, self._in_turn = None, True
        pause = self._work()
        self._in_turn = False
        self._flush()
        if pause is not None:
            self._client.pause_reading("order")
            # No timer for the very next turn: those of uvloop count milliseconds.
            self._timer = (
                self._loop.call_later(pause, self._go_on)
                if pause
                else self._loop.call_soon(self._go_on)
            )
            return
        self._client.resume_reading("order")
        if self._finished:
            self._port.com_port.leave(self)

    def _work(self) -> float | None:
        """Return how many seconds to pause before the next turn, None where all is done."""
        began = time.monotonic()  # uvloop's own time moves only between turns
        while self.busy:
            if not self._later:
                self._later.extend(self._telnet.receive(self._next_input()))
                self._output += self._telnet.data_to_send()
            elif self._must_wait(self._later[0]):
                return LOOK_SECONDS
            else:
                self._do(self._later.popleft())
            spent = time.monotonic() - began
            if spent > TURN_SECONDS and self.busy:
                # What takes long (a driver that sets up its adapter) pauses for as long.
                return spent if spent > 2 * TURN_SECONDS else 0.0
        return None

    def _next_input(self) -> bytes:
        """Take what is parsed next: much text, or few commands."""
        data, start = self._input[0], self._parsed
        size = len(data) - start
        while size > SLICE_SIZE and data.count(telnet.IAC, start, start + size) > FEW_COMMANDS:
            size //= 2
        self._parsed += size
        if self._parsed == len(data):
            self._input.popleft()
            self._parsed = 0
        return data if size == len(data) else data[start : start + size]

    def _must_wait(self, event: telnet.Event) -> bool:
        """Whether an event changes the line under bytes that have not left yet."""
        match event:
            case telnet.Subnegotiation(telnet.COM_PORT, payload) if self.may_write():
                request = rfc2217.parse(payload)
            case _:
                return False
        return isinstance(request, rfc2217.CHANGES_THE_LINE) and self._port.queue.is_moving(
            comport.BLOCKED_SECONDS, {self._client}
        )

    def _do(self, event: telnet.Event) -> None:
        match event:
            case telnet.Data(data):
                self._port.from_client(self._client, data)
            case telnet.Break():
                self._port.send_break(self._client)
            case telnet.AreYouThere():
                self._show_life()
            case telnet.Enabled(telnet.COM_PORT):
                self._port.com_port.join(self)
            case telnet.Disabled(telnet.COM_PORT):
                self.suspend(False)
                self._port.com_port.leave(self)
            case telnet.Subnegotiation(telnet.COM_PORT, payload):
                request = rfc2217.parse(payload)
                if request:
                    self._port.com_port.answer(self, request)

    def _show_life(self) -> None:
        # A program would take words for something that the device said.
        if self.speaks_rfc2217:
            self._output += bytes((telnet.IAC, telnet.NOP))
        elif not self._client.transport.is_closing():
            self._flush()
            self._client.notice(f"{self._port.port.name}: {self._port.problem or 'here'}")

    def _flush(self) -> None:
        if self._output:
            self._client.put(bytes(self._output))
            self._output.clear()
