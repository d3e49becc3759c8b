"""What senders leave behind in the write queue and the tty when they go.

A sender's first bytes still go out; the rest, and whatever a stuck device does not take, is
dropped: a device that wakes up must not get what somebody typed who has long gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable

from ttybridge.line.device import Device
from ttybridge.line.write_queue import WriteQueue

log = logging.getLogger(__name__)

# Bytes of a departed sender that the device is still given.
DEPARTED_SIZE = 65536

# How long they wait for a device that takes nothing, and how often that is looked at, in seconds.
STUCK_SECONDS = 10.0
STUCK_LOOK_SECONDS = 1.0


class Departed:
    """Input of senders that have left the port `name`."""

    def __init__(self, name: str, device: Device, queue: WriteQueue) -> None:
        self._name = name
        self._device = device
        self._queue = queue
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def leave(self, sender: Hashable, received: int) -> None:
        """A sender of so many bytes has left: keep the first of those that are on their way."""
        if not self._device.is_open:
            self.drop({sender}, "they did not go out before")
            return
        in_tty = min(self._queue.most_in_tty(), received - self._queue.holds(sender))
        self._drop({sender}, "they are too many", DEPARTED_SIZE - in_tty)
        self.look_later()

    def add(self, sender: Hashable) -> None:
        """A sender that has left turns out to have said more."""
        self._queue.depart(sender, DEPARTED_SIZE)
        self.look_later()

    def drop(self, senders: set[Hashable], why: str) -> None:
        """Drop all that senders have sent, also what the tty holds if it holds nothing else."""
        purged = self._purge_tty_of(senders)
        self._drop(senders, why, 0, purged)
        self.look_later()

    def _drop(self, senders: set[Hashable], why: str, keep: int, purged: int = 0) -> None:
        dropped = purged + sum(self._queue.depart(sender, keep) for sender in senders)
        if dropped:
            log.warning(
                "%s: %d bytes of a client that has left are dropped: %s", self._name, dropped, why
            )

    def _purge_tty_of(self, senders: set[Hashable]) -> int:
        """Empty the tty's own queue, unless it holds a byte of somebody else; return the count."""
        there = self._queue.in_tty()
        if not there or not there <= senders:
            return 0
        unsent = self._device.unsent()
        self._device.purge(received=False, unsent=True)
        self._queue.state.dropped += unsent
        return unsent

    def look_later(self) -> None:
        """See from time to time whether a stuck device keeps what they have sent."""
        if self._queue.departed() and not self._timer:
            self._timer = self._loop.call_later(STUCK_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        departed = self._queue.departed()
        if departed and not self._queue.is_moving(STUCK_SECONDS):
            self.drop(departed, f"the device has taken nothing for {STUCK_SECONDS:.0f} s")
        self.look_later()

    def stop(self) -> None:
        """Look no more."""
        if self._timer:
            self._timer.cancel()
            self._timer = None


def is_blocked(queue: WriteQueue) -> bool:
    """Whether senders wait for a device that has taken nothing for long."""
    return queue.full and queue.idle_for() > STUCK_SECONDS


def is_on_its_way(queue: WriteQueue, sender: Hashable, away_since: float) -> bool:
    """Whether what a sender has sent will still go out: not for ever to a stuck device.

    `away_since` is when the device went away, by the loop's clock.
    """
    if queue.has_device:
        return queue.is_moving(STUCK_SECONDS, {sender})
    away = asyncio.get_running_loop().time() - away_since
    return away <= STUCK_SECONDS and queue.holds(sender) > 0
