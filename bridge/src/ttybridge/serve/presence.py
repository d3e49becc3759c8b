"""What a device is told when its first client comes, and when its last one leaves.

Clients that only watch do not count. A client that takes over from another one goes on with what
that one began, so nothing is said then.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from ttybridge.line.comport import ComPort
from ttybridge.line.departed import Departed
from ttybridge.line.device import Device
from ttybridge.line.write_queue import WriteQueue
from ttybridge.model.ports import Port
from ttybridge.serve.state import PortState

# Seconds between two looks whether what the last client has sent is in the write queue.
LOOK_SECONDS = 0.05


class User(Protocol):
    """A client; the write queue knows it as a sender."""

    def __hash__(self) -> int: ...

    @property
    def has_to_do(self) -> bool:
        """Whether the write queue has not got all yet that it has sent."""


class Presence:
    """Whether somebody uses the device of a port: `first_words`, `last_words` and `hangup`.

    `state` survives this process, so a restart is no client that leaves.
    """

    def __init__(
        self,
        port: Port,
        state: PortState,
        device: Device,
        queue: WriteQueue,
        com_port: ComPort,
        departed: Departed,
    ) -> None:
        self._port = port
        self._state = state
        self._device = device
        self._queue = queue
        self._com_port = com_port
        self._departed = departed
        self._leaving: asyncio.TimerHandle | None = None
        """Looks whether all is in the write queue that the last client has sent."""
        self._is_over = False
        state.in_use = False
        device.hung_up = port.hangup

    def change(self, port: Port) -> None:
        """Go on with another entry of the port."""
        before, self._port = self._port, port
        if port.hangup != before.hangup:
            self._let_lines_follow()

    def resume(self, user: User | None) -> None:
        """Go on from an earlier process, whose state is here; `user` is one that has stayed."""
        self._device.hung_up = self._port.hangup and self._state.in_use is False
        if self._state.in_use is None:
            self._state.in_use = user is not None
            self._let_lines_follow()
        elif not user:
            self._leave(None)

    def comes(self, user: User) -> None:
        """The first client comes."""
        if self._leaving:
            self._leave(None)
        if self._is_over or self._state.in_use:
            return
        self._state.in_use = True
        self._let_lines_follow()
        if words := self._owed() + self._port.first_words:
            self._queue.add(user, words.encode())

    def leaves(self, user: User) -> None:
        """The last client has left; its own bytes go out before the last words."""
        if user.has_to_do:
            loop = asyncio.get_running_loop()
            self._leaving = loop.call_later(LOOK_SECONDS, self.leaves, user)
        else:
            self._leave(user)

    def device_is_here(self) -> None:
        """The device has come: it gets the last words that it has missed."""
        if not self._state.in_use:
            self._say_what_is_owed(None)

    def end(self) -> None:
        """The port is no longer served: this is the end for whoever is there."""
        self._leave(None)
        self._is_over = True

    def stop(self) -> None:
        """Say nothing more: the next process does."""
        self._is_over = True
        if self._leaving:
            self._leaving.cancel()
            self._leaving = None

    def _leave(self, user: User | None) -> None:
        if self._leaving:
            self._leaving.cancel()
            self._leaving = None
        if self._is_over or not self._state.in_use:
            return
        self._state.in_use = False
        self._state.owes_words = bool(self._port.last_words)
        if self._device.is_open:
            self._say_what_is_owed(user)
        self._let_lines_follow()

    def _owed(self) -> str:
        owes, self._state.owes_words = self._state.owes_words, False
        return self._port.last_words if owes else ""

    def _say_what_is_owed(self, user: User | None) -> None:
        words = self._owed()
        if not words:
            return
        if user and self._queue.holds(user):  # after its bytes, where senders take turns
            self._queue.add(user, words.encode())
            self._departed.add(user)
        else:  # no kick drops them
            self._queue.add(self, words.encode())

    def _let_lines_follow(self) -> None:
        """Have DTR and RTS as they are to be, once what was sent before is out."""
        self._com_port.hang_up(self._port, self._port.hangup and not self._state.in_use)
