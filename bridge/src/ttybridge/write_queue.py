"""What clients have sent and the device has not taken yet, in the order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

from ttybridge.device import Device, DeviceLost

# Bytes that wait before the senders are asked to wait too, and when they may go on.
HIGH_WATER, LOW_WATER = 65536, 16384

# How long a break lasts, in seconds: tcsendbreak(3) takes 0.25 to 0.5.
BREAK_SECONDS = 0.25

# How long a break waits for what was sent before it, and how often it looks, in seconds.
BREAK_WAITS_SECONDS = 2.0
LOOK_SECONDS = 0.01

# What one sender sends in pieces is put together up to so many bytes: each item costs memory of its
# own, a hundred times that of a single byte.
ITEM_SIZE = 1024

# Breaks that wait at once; further ones are dropped: a packet full of them would hold the line for
# hours.
MOST_BREAKS = 8


@dataclass
class State:
    """What waits: senders with their bytes, or with None for a break."""

    items: deque[tuple[Hashable, memoryview | None]] = field(default_factory=deque)
    size: int = 0
    breaks: int = 0
    written: int = 0
    """Bytes that the device has taken."""
    dropped: int = 0
    """Bytes that it was not given."""


class WriteQueue:
    """The way from the clients of a port to its device.

    `on_lost` is called when the device goes away in a write, `on_full` with whether senders shall
    wait.
    """

    def __init__(
        self,
        device: Device,
        on_lost: Callable[[DeviceLost], None],
        on_full: Callable[[bool], None],
    ) -> None:
        self._device = device
        self._on_lost = on_lost
        self._on_full = on_full
        self._loop = asyncio.get_running_loop()
        self._break: asyncio.TimerHandle | None = None
        self._break_due = 0.0
        self._left = 0
        self.state = State()
        self.full = False
        """Whether senders have been asked to wait."""
        self.moved_at = self._loop.time()
        """When something last went to the device, or when the device went away."""

    def add(self, sender: Hashable, data: bytes) -> None:
        """Write now, or when the device takes more."""
        rest = memoryview(data)
        if self._device.is_open and not self.state.items and not self._break:
            rest = self._write(rest)
        if rest:
            if not self.state.items:
                self.moved_at = self._loop.time()
            self.state.size += len(rest)
            self._append(sender, rest)
            self._watch()

    def _append(self, sender: Hashable, data: memoryview) -> None:
        if self.state.items:
            other, last = self.state.items[-1]
            if other is sender and last is not None and len(last) + len(data) <= ITEM_SIZE:
                self.state.items.pop()
                data = memoryview(b"".join((last, data)))
        self.state.items.append((sender, data))

    def add_break(self, sender: Hashable) -> None:
        """Break the line after what was sent before; never later for a device that is away."""
        if self._device.is_open and self.state.breaks < MOST_BREAKS:
            self.state.items.append((sender, None))
            self.state.breaks += 1
            self._break_due = self._loop.time() + BREAK_WAITS_SECONDS
            self.write()

    def write(self) -> None:
        """Give the device what it takes."""
        while self.state.items and self._device.is_open and not self._break:
            sender, data = self.state.items[0]
            if data is None:
                self._begin_break()
                continue
            rest = self._write(data)
            if not self._device.is_open:  # lost: what may stay has been decided
                break
            self.state.size -= len(data) - len(rest)
            if rest:
                self.state.items[0] = sender, rest
                break
            self.state.items.popleft()
        self._watch()

    def holds(self, sender: Hashable) -> bool:
        """Whether something that this sender sent waits."""
        return any(other is sender for other, _ in self.state.items)

    @property
    def end(self) -> int:
        """Where what was added so far ends: its bytes are all that were added until now."""
        return self.state.written + self.state.dropped + self.state.size

    def is_moving(self, patience: float, end: int | None = None) -> bool:
        """Whether bytes are on their way out, and some have left in the last so many seconds.

        Where an `end` is given, only bytes before it count.
        """
        if not self._device.is_open:
            return False
        left = self.state.size + self._device.unsent()
        if left != self._left:
            self._left = left
            self.moved_at = self._loop.time()
        later = 0 if end is None else self.end - end
        return left > later and self._loop.time() - self.moved_at < patience

    @property
    def breaking(self) -> bool:
        """Whether a break is on the line, or waits for what was sent before it."""
        return self._break is not None

    def resume(self, items: Iterable[tuple[Hashable, bytes | None]]) -> None:
        """Begin with what a predecessor had not written."""
        for sender, data in items:
            self.state.items.append((sender, None if data is None else memoryview(data)))
            self.state.size += len(data or b"")
            self.state.breaks += data is None
        self._break_due = self._loop.time() + BREAK_WAITS_SECONDS
        self._watch()

    def leave(self) -> None:
        """Write nothing more: a successor goes on. It makes a break anew that has not ended."""
        if self._device.is_open:
            self._loop.remove_writer(self._device.fileno())
        if self._break:
            self._break.cancel()
            self._break = None
            if self._device.line.break_on:
                self._device.set_break(False)
                self.state.items.appendleft((None, None))
                self.state.breaks += 1

    def keep_only(self, senders: set[Hashable]) -> int:
        """Drop what others sent, and every break; return the number of bytes dropped."""
        kept = deque(
            item for item in self.state.items if item[0] in senders and item[1] is not None
        )
        size = sum(len(data) for _, data in kept if data is not None)
        dropped = self.state.size - size
        self.state.items, self.state.size, self.state.breaks = kept, size, 0
        self.state.dropped += dropped
        self._watch()
        return dropped

    def device_closed(self) -> None:
        """The device is about to be closed: stop watching it."""
        self._loop.remove_writer(self._device.fileno())
        self.moved_at = self._loop.time()
        if self._break:
            self._break.cancel()
            self._break = None
            self._device.line.break_on = False

    def _write(self, data: memoryview) -> memoryview:
        """Return what the device did not take."""
        try:
            count = self._device.write(data)
        except DeviceLost as reason:
            self._on_lost(reason)
            return data
        if count:
            self.state.written += count
            self.moved_at = self._loop.time()
        return data[count:]

    def _begin_break(self) -> None:
        if self._device.unsent() and self._loop.time() < self._break_due:
            self._break = self._loop.call_later(LOOK_SECONDS, self._go_on)
            return
        self.state.items.popleft()
        self.state.breaks -= 1
        self._device.set_break(True)
        self._break = self._loop.call_later(BREAK_SECONDS, self._end_break)

    def _end_break(self) -> None:
        self._device.set_break(False)
        self._go_on()

    def _go_on(self) -> None:
        self._break = None
        self.write()

    def _watch(self) -> None:
        if self._device.is_open:
            if self.state.items and not self._break:
                self._loop.add_writer(self._device.fileno(), self.write)
            else:
                self._loop.remove_writer(self._device.fileno())
        if self.state.size > HIGH_WATER and not self.full:
            self.full = True
            self._on_full(True)
        elif self.state.size < LOW_WATER and self.full:
            self.full = False
            self._on_full(False)
