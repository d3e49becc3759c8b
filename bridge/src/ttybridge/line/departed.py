"""Bytes of departed senders that still wait in the write queue and the tty.

The first DEPARTED_SIZE bytes of a sender still go out. The rest is dropped, and so is what a stuck
device does not take: a device that wakes up must not get input of clients that left long ago.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable

from ttybridge.line.device import Device
from ttybridge.line.write_queue import WriteQueue

log = logging.getLogger(__name__)

# Bytes of a departed sender that still go to the device.
DEPARTED_SIZE = 65536

# Seconds that they wait for a device that takes nothing, and seconds between two checks.
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
        """A sender has left after `received` bytes: keep the first of those on their way."""
        if not self._device.is_open:
            self.drop({sender}, "the device is away")
            return
        in_tty = min(self._queue.most_in_tty(), received - self._queue.holds(sender))
        self._drop({sender}, f"at most {DEPARTED_SIZE} are kept", DEPARTED_SIZE - in_tty)
        self.look_later()

    def add(self, sender: Hashable) -> None:
        """More bytes of a departed sender were queued: the same limit holds for them."""
        self._queue.depart(sender, DEPARTED_SIZE)
        self.look_later()

    def drop(self, senders: set[Hashable], why: str) -> None:
        """Drop all bytes of senders, also in the tty if it holds bytes of no other sender."""
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
        """Empty the tty's own queue unless it holds a byte of another sender; return the count."""
        there = self._queue.in_tty()
        if not there or not there <= senders:
            return 0
        unsent = self._device.unsent()
        self._device.purge(received=False, unsent=True)
        self._queue.state.dropped += unsent
        return unsent

    def look_later(self) -> None:
        """Check from time to time whether a stuck device holds up departed senders' bytes."""
        if self._queue.departed() and not self._timer:
            self._timer = self._loop.call_later(STUCK_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        departed = self._queue.departed()
        if departed and not self._queue.is_moving(STUCK_SECONDS):
            self.drop(departed, f"the device has taken nothing for {STUCK_SECONDS:.0f} s")
        self.look_later()

    def stop(self) -> None:
        """Stop checking."""
        if self._timer:
            self._timer.cancel()
            self._timer = None


def is_blocked(queue: WriteQueue) -> bool:
    """Whether senders wait for a device that has taken nothing for long."""
    waiting = queue.full or queue.is_full_while_away
    return waiting and queue.idle_for() > STUCK_SECONDS


def is_on_its_way(queue: WriteQueue, sender: Hashable, away_since: float) -> bool:
    """Whether bytes of a sender will still go out; a stuck device gets STUCK_SECONDS.

    `away_since` is when the device went away, by the loop's clock.
    """
    if queue.has_device:
        return queue.is_moving(STUCK_SECONDS, {sender})
    away = asyncio.get_running_loop().time() - away_since
    return away <= STUCK_SECONDS and queue.holds(sender) > 0
