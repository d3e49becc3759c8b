"""A telnet or RFC 2217 client: what it says is done, what it is told is put in its words."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from ttybridge import comport, rfc2217, telnet

if TYPE_CHECKING:
    from ttybridge.client import Client
    from ttybridge.port import ServedPort

# A change of the line waits until what the client sent before has left the tty: how often that is
# looked at, in seconds.
LOOK_SECONDS = 0.005


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
        self._later: deque[telnet.Event] = deque()
        """What the client has said and has to wait for what it said before."""
        self._timer: asyncio.TimerHandle | None = None
        self._finished = False
        self._sent = 0
        """Where what this client has sent ends in the queue of the port."""
        self.com_port = com_port or comport.State()

    @property
    def state(self) -> telnet.State:
        """What was agreed on and half received."""
        return self._telnet.state

    @property
    def busy(self) -> bool:
        """Whether something that the client has said is still to be done."""
        return bool(self._later)

    @property
    def speaks_rfc2217(self) -> bool:
        """Whether a program that knows COM-PORT-OPTION is at the other end."""
        return self._telnet.client_does(telnet.COM_PORT)

    def start(self) -> None:
        """Begin to negotiate."""
        self._telnet.start()
        self._flush()

    def resume(self) -> None:
        """Go on where a predecessor was."""
        self._sent = self._port.queue.end
        if self.speaks_rfc2217:
            self._port.com_port.rejoin(self)

    def encode(self, data: bytes) -> bytes:
        """Return bytes of the device as they are sent to this client."""
        return self._telnet.encode(data)

    def receive(self, data: bytes) -> None:
        """Do what the client says."""
        self._later.extend(self._telnet.receive(data))
        self._flush()
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
        self._port.com_port.leave(self)

    # What comport.py asks of a client.

    def may_write(self) -> bool:
        """Whether the device takes what this client sends."""
        return self._port.may_write(self._client) and not self._client.finished

    def say(self, payload: bytes) -> None:
        """Send a subnegotiation."""
        self._client.put(telnet.subnegotiation(telnet.COM_PORT, payload))

    def suspend(self, on: bool) -> None:
        """Hold back what the device sends, or go on."""
        if not self._client.transport.is_closing():
            self._client.suspend(on)

    def _go_on(self) -> None:
        self._timer = None
        while self._later:
            if self._must_wait(self._later[0]):
                self._client.pause_reading("order")
                self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._go_on)
                return
            self._do(self._later.popleft())
        self._client.resume_reading("order")
        if self._finished:
            self._port.com_port.leave(self)

    def _must_wait(self, event: telnet.Event) -> bool:
        """Whether an event changes the line under bytes that have not left yet."""
        match event:
            case telnet.Subnegotiation(telnet.COM_PORT, payload) if self.may_write():
                request = rfc2217.parse(payload)
            case _:
                return False
        return isinstance(request, rfc2217.CHANGES_THE_LINE) and self._port.queue.is_moving(
            comport.BLOCKED_SECONDS, self._sent
        )

    def _do(self, event: telnet.Event) -> None:
        match event:
            case telnet.Data(data):
                self._port.from_client(self._client, data)
                self._sent = self._port.queue.end
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
            self._client.put(bytes((telnet.IAC, telnet.NOP)))
        elif not self._client.transport.is_closing():
            self._client.notice(f"{self._port.port.name}: {self._port.problem or 'here'}")

    def _flush(self) -> None:
        data = self._telnet.data_to_send()
        if data:
            self._client.put(data)
