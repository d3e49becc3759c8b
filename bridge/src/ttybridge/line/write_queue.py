"""What clients have sent and the device has not taken yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from ttybridge.line.device import Device, DeviceLost
from ttybridge.line.pace import Pace

# Bytes of one sender that wait before it may be asked to wait too, and when it may go on.
HIGH_WATER, LOW_WATER = 65536, 16384

# Bytes that wait for one device in all before senders above HIGH_WATER are asked to wait. The
# kernels at both ends of a connection hold less, so its end is seen even if the device takes
# nothing: a FIN comes only after the bytes before it.
MOST_AHEAD = 8 * 1024 * 1024

# The same for all devices together: a Pi with many ports has no more memory than one with few.
MOST_AHEAD_OF_ALL = 64 * 1024 * 1024

# Bytes that wait for a device that is away before no sender is read any more.
AWAY_SIZE = 65536

# Bytes that a full pty may hold; it does not say how many (measured: 15 to 30 KiB).
PTY_SIZE = 65536

# How long a break lasts, in seconds: tcsendbreak(3) takes 0.25 to 0.5.
BREAK_SECONDS = 0.25

# How long a break waits for the bytes before it, and how often that is checked, in seconds.
BREAK_WAITS_SECONDS = 2.0
BREAK_POLL_SECONDS = 0.01

# Small pieces of one sender are joined up to this many bytes: a piece of one byte costs a hundred
# times the memory of the byte.
PIECE_SIZE = 256

# Breaks that wait at once; further ones are dropped: a packet full of them would hold the line for
# hours.
MOST_BREAKS = 8

# Where senders take turns: the line time of one turn in seconds, and its bytes at most. Even with
# what the tty holds (pace.py), a keystroke waits less than a second behind another client's paste.
TURN_LINE_SECONDS, TURN_SIZE = 0.5, 512


@dataclass
class QueueCounters:
    """What the queue counts, in bytes since the daemon started."""

    written: int = 0
    """Bytes that the device has taken."""
    dropped: int = 0
    """Bytes for the device that were dropped."""


@dataclass
class Waiting:
    """What waits for all devices together, in bytes."""

    size: int = 0

    @property
    def is_much(self) -> bool:
        """Whether it is more than may wait."""
        return self.size > MOST_AHEAD_OF_ALL


@dataclass(eq=False)
class _Break:
    """A break of the line."""

    has_begun: bool = False
    """Whether it no longer waits for the bytes before it."""
    timer: asyncio.TimerHandle | None = None
    """Until it is looked at again, or ends."""


_Lane = deque[tuple[Hashable, memoryview | None]]
"""What waits, in order of arrival: each piece with its sender, None for a break."""


class WriteQueue:
    """The way from the clients of a port to its device.

    Where senders take turns (`fair`), each has a lane of its own, and the lane that was served
    longest ago comes next: one keystroke does not wait behind another's paste. A turn never cuts a
    piece that fits in it. Without `fair` all bytes go out in order of arrival.

    `on_lost` is called when the device goes away in a write, `on_full` with a sender and whether it
    must wait, `on_full_while_away` when no sender may go on before the device is back.
    """

    def __init__(
        self,
        device: Device,
        on_lost: Callable[[DeviceLost], None],
        on_full: Callable[[Hashable, bool], None],
        fair: bool = False,
        state: QueueCounters | None = None,
        on_full_while_away: Callable[[], None] = lambda: None,
        of_all: Waiting | None = None,
    ) -> None:
        self._device = device
        self._on_lost = on_lost
        self._on_full = on_full
        self._on_full_while_away = on_full_while_away
        self._of_all = of_all or Waiting()
        self.drops_while_away = False
        """Whether what comes while the device is away is dropped."""
        self._fair = fair
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[Hashable, _Lane] = {}
        """By sender if they take turns, else one lane; the lane that was served last is last."""
        self._serving: _Lane | None = None
        """The lane that has the turn."""
        self._turn = 0
        """Bytes that it may still write."""
        self._held: dict[Hashable, int] = {}
        """Bytes that wait, by sender."""
        self._last: dict[Hashable, int] = {}
        """The value of `written` after each sender's last byte, while it may be in the tty."""
        self._waiting: set[Hashable] = set()
        """Senders that were asked to wait."""
        self._departed: set[Hashable] = set()
        """Senders that will send no more."""
        self._breaks = 0
        self._break: _Break | None = None
        """The break that waits for the bytes before it, or is on the line."""
        self._break_due = 0.0
        self._pause: asyncio.TimerHandle | None = None
        """Until the tty holds less, where senders take turns."""
        self._pace = Pace(device)
        self._carried = 0
        self.state = state or QueueCounters()
        self.size = 0
        """Bytes that wait."""
        self.moved_at = self._loop.time()
        """When something last went to the device, or when the device went away."""

    @property
    def full(self) -> bool:
        """Whether a sender was asked to wait."""
        return bool(self._waiting)

    @property
    def is_full_while_away(self) -> bool:
        """Whether no sender may go on before the device is back."""
        return self.size >= AWAY_SIZE and not self._device.is_open

    @property
    def has_device(self) -> bool:
        """Whether the device is there."""
        return self._device.is_open

    def idle_for(self) -> float:
        """Return the seconds since something last went to the device."""
        return self._loop.time() - self.moved_at

    @property
    def breaking(self) -> bool:
        """Whether a break is on the line, or waits for what was sent before it."""
        return self._break is not None

    def add(self, sender: Hashable, data: bytes) -> None:
        """Write now, or when the device takes more."""
        rest = memoryview(data)
        idle = not (self.size or self._breaks or self._break)
        if idle and (not self._fair or self._has_room(len(data))):
            rest = self._write(sender, rest)
        if rest and self.drops_while_away and not self._device.is_open:
            self.state.dropped += len(rest)
        elif rest:
            if not self.size:
                self.moved_at = self._loop.time()
            self._append(sender, rest)
            if self._fair:
                self.write()
            else:
                self._watch()
            self._ask_to_wait(sender)

    def take_turns(self, fair: bool) -> None:
        """Let senders take turns from now on, or no more."""
        if fair == self._fair:
            return
        lanes: dict[Hashable, _Lane] = {}
        for sender, data in self.items():
            lanes.setdefault(sender if fair else None, deque()).append((sender, data))
        self._fair, self._lanes, self._serving = fair, lanes, None
        self._pace.begin()
        self.write()

    def _has_room(self, size: int) -> bool:
        """Whether the tty takes so many bytes without making other senders wait."""
        return self._device.is_ready and self._pace.room() >= size

    def _append(self, sender: Hashable, data: memoryview) -> None:
        lane = self._lane(sender)
        self.size += len(data)
        self._of_all.size += len(data)
        self._held[sender] = self._held.get(sender, 0) + len(data)
        if lane:
            other, last = lane[-1]
            if other is sender and last is not None and len(last) + len(data) <= PIECE_SIZE:
                lane.pop()
                data = memoryview(b"".join((last, data)))
        lane.append((sender, data))

    def _lane(self, sender: Hashable) -> _Lane:
        key = sender if self._fair else None
        if key not in self._lanes:  # no lane has waited longer for a turn
            self._lanes = {key: deque(), **self._lanes}
        return self._lanes[key]

    def add_break(self, sender: Hashable) -> None:
        """Break the line after what was sent before; do nothing if the device is away.

        A second break of a sender right after its first is dropped while the first waits.
        """
        lane = self._lane(sender)
        repeated = bool(lane) and lane[-1] == (sender, None)
        if self._device.is_open and self._breaks < MOST_BREAKS and not repeated:
            lane.append((sender, None))
            self._breaks += 1
            self._break_due = self._loop.time() + BREAK_WAITS_SECONDS
            self.write()

    def write(self) -> None:
        """Give the device what it takes."""
        while self._device.is_ready and not self._break:
            lane = self._next_lane()
            if not lane:
                break
            sender, data = lane[0]
            if data is None:
                self._begin_break(lane)
                continue
            size = self._share(lane, len(data))
            if not size:
                self._pause_until_room()
                break
            rest = self._write(sender, data[:size])
            if not self._device.is_open:  # lost: `on_lost` has decided what may stay
                break
            self._took(lane, size - len(rest))
            if rest:
                break
        self._watch()

    def _next_lane(self) -> _Lane | None:
        """The lane that has the turn, else the one that was served longest ago."""
        return self._serving or next((lane for lane in self._lanes.values() if lane), None)

    def _share(self, lane: _Lane, size: int) -> int:
        """How many of the next `size` bytes of a lane may be written now."""
        if not self._fair:
            return size
        if not self._serving:
            in_time = round(TURN_LINE_SECONDS * self._device.bytes_per_second)
            most = max(1, min(TURN_SIZE, in_time))
            self._serving, self._turn = lane, _whole_pieces(lane, most) or most
        alone = len(self._held) == 1
        return min(size if alone else min(size, self._turn), self._pace.room())

    def _took(self, lane: _Lane, size: int) -> None:
        """The device has taken the first bytes of a lane."""
        sender, data = lane.popleft()
        assert data is not None
        if size < len(data):
            lane.appendleft((sender, data[size:]))
        self.size -= size
        self._of_all.size -= size
        self._release(sender, size)
        self._turn -= size
        if self._turn <= 0 or not lane:
            self._end_turn(lane)

    def _end_turn(self, lane: _Lane) -> None:
        """Let the other lanes come first."""
        self._serving = None
        if len(self._lanes) > 1:
            key = next(key for key, each in self._lanes.items() if each is lane)
            self._lanes[key] = self._lanes.pop(key)

    def _release(self, sender: Hashable, size: int) -> None:
        held = self._held[sender] = self._held[sender] - size
        if not held:
            del self._held[sender]

    def holds(self, sender: Hashable) -> int:
        """Return how many bytes of a sender wait."""
        return self._held.get(sender, 0)

    def senders(self) -> set[Hashable]:
        """Return all senders that have bytes here or in the tty."""
        return {*self._held} | self.in_tty()

    def is_moving(self, patience: float, senders: Collection[Hashable] | None = None) -> bool:
        """Whether bytes are on their way out, and some have left in the last `patience` seconds.

        Where `senders` are given, only their bytes count.
        """
        if not self._device.is_open:
            return False
        unsent = self._device.unsent()
        carried = self.state.written - unsent
        if carried != self._carried:
            self._carried = carried
            self.moved_at = self._loop.time()
        if senders is None:
            waits = self.size + unsent > 0
        else:
            waits = any(self._waits(sender, carried) for sender in senders)
        return waits and self._loop.time() - self.moved_at < patience

    def _waits(self, sender: Hashable, carried: int) -> bool:
        return sender in self._held or self._last.get(sender, 0) > carried

    def most_in_tty(self) -> int:
        """Return how many bytes the tty may hold that the line has not carried."""
        if not self._device.is_open:
            return 0
        if self._device.tells_unsent:
            return self._device.unsent()
        return PTY_SIZE if self.size else 0

    def in_tty(self) -> set[Hashable]:
        """Return the senders that may have bytes in the tty that the line has not carried."""
        if not self._device.is_open:
            return set()
        carried = self.state.written - self.most_in_tty()
        self._last = {who: last for who, last in self._last.items() if last > carried}
        return {*self._last}

    def depart(self, sender: Hashable, most: int) -> int:
        """A sender has left: keep its first `most` bytes; return the number of bytes dropped."""
        self._departed.add(sender)
        self._waiting.discard(sender)
        return self.keep_first(sender, most)

    def departed(self) -> set[Hashable]:
        """Return the senders that have left and have bytes on their way."""
        there = self.in_tty()
        for sender in [who for who in self._departed if who not in self._held and who not in there]:
            self._departed.remove(sender)
            if self._fair and not self._lane(sender):
                del self._lanes[sender]
        return {*self._departed}

    def items(self) -> Iterator[tuple[Hashable, memoryview | None]]:
        """All that waits: senders with their bytes, or with None for a break."""
        for lane in [*self._lanes.values()]:
            yield from lane

    def resume(self, items: Iterable[tuple[Hashable, bytes | None]]) -> None:
        """Begin with what the earlier process had not written; a departed sender is None."""
        for sender, data in items:
            if data is None:
                self._lane(sender).append((sender, None))
                self._breaks += 1
            else:
                self._append(sender, memoryview(data))
        self._break_due = self._loop.time() + BREAK_WAITS_SECONDS
        self._departed |= {None} & self._held.keys()
        self._watch()
        for sender in [*self._held]:
            self._ask_to_wait(sender)

    def leave(self) -> None:
        """Stop writing. The next process goes on, and repeats a break that has not ended."""
        self._stop_watching()
        if self._break:
            if self._break.has_begun:
                # It may still be on the line: the next process begins it again and ends it.
                self._device.line.break_on = False
                self._lane(None).appendleft((None, None))
                self._breaks += 1
            self._end_of(self._break)

    def keep_only(self, senders: Collection[Hashable]) -> int:
        """Drop what others sent, and every break; return the number of bytes dropped."""
        before = self.size
        for sender in self._held.keys() - {*senders}:
            self.keep_first(sender, 0)
        self._breaks = 0
        for key, lane in self._lanes.items():
            self._lanes[key] = deque(piece for piece in lane if piece[1] is not None)
        self._serving = None
        self._watch()
        return before - self.size

    def keep_first(self, sender: Hashable, most: int) -> int:
        """Drop what a sender sent beyond its first bytes; return the number of bytes dropped."""
        excess = self.holds(sender) - most
        if excess <= 0:
            return 0
        lane = self._lane(sender)
        pieces = [*lane]
        lane.clear()
        for who, data in pieces:
            piece = data
            if who is sender and piece is not None:
                piece = piece[: max(0, most)]
                most -= len(piece)
            if piece is None or piece:
                lane.append((who, piece))
        if not lane and self._serving is lane:
            self._end_turn(lane)
        self.size -= excess
        self._of_all.size -= excess
        self.state.dropped += excess
        self._release(sender, excess)
        self._watch()
        return excess

    def device_closed(self) -> None:
        """The device is about to be closed: stop watching it."""
        self._stop_watching()
        self._last.clear()
        self._pace.begin()
        self.moved_at = self._loop.time()
        if self._break:
            if self._break.has_begun:
                self._set_break(False)
            self._end_of(self._break)

    def hold(self) -> None:
        """The line is being set: write nothing until `write` is called."""
        self._stop_watching()

    def _write(self, sender: Hashable, data: memoryview) -> memoryview:
        """Return what the device did not take."""
        if not self._device.is_ready:
            return data
        try:
            count = self._device.write(data)
        except DeviceLost as reason:
            self._on_lost(reason)
            return data
        if count:
            self.state.written += count
            if self._fair:
                self._pace.wrote(count)
            self._last[sender] = self.state.written
            self.moved_at = self._loop.time()
        return data[count:]

    def _begin_break(self, lane: _Lane) -> None:
        self._break = this = _Break()
        if self._device.unsent() and self._loop.time() < self._break_due:
            this.timer = self._loop.call_later(BREAK_POLL_SECONDS, self._go_on, this)
            return
        lane.popleft()
        self._breaks -= 1
        self._end_turn(lane)
        this.has_begun = True

        def end() -> None:
            self._set_break(False, lambda: self._go_on(this))

        def has_begun() -> None:
            if self._break is this:
                this.timer = self._loop.call_later(BREAK_SECONDS, end)

        self._set_break(True, has_begun)

    def _set_break(self, on: bool, then: Callable[[], None] = lambda: None) -> None:
        # Before a break the kernel waits until the line has carried all (tty_io.c, tty_ioctl).
        self._device.worker.do(partial(self._device.set_break, on), lambda error: then())

    def _go_on(self, after: _Break) -> None:
        if self._break is after:
            self._end_of(after)
            self.write()

    def _end_of(self, this: _Break) -> None:
        self._break = None
        if this.timer:
            this.timer.cancel()

    def _pause_until_room(self) -> None:
        """Look again when the line has carried half of what the tty may hold."""
        if not self._pause:
            self._pause = self._loop.call_later(self._pace.pause, self._end_pause)

    def _end_pause(self) -> None:
        self._pause = None
        self.write()

    def _watch(self) -> None:
        if self._device.is_ready:
            if (self.size or self._breaks) and not self._break and not self._pause:
                self._loop.add_writer(self._device.fileno(), self.write)
            else:
                self._loop.remove_writer(self._device.fileno())
        for sender in [who for who in self._waiting if self._may_go_on(who)]:
            self._waiting.remove(sender)
            self._on_full(sender, False)

    def _stop_watching(self) -> None:
        if self._pause:
            self._pause.cancel()
            self._pause = None
        if self._device.is_open:
            self._loop.remove_writer(self._device.fileno())

    def _ask_to_wait(self, sender: Hashable) -> None:
        much = (self.size > MOST_AHEAD or self._of_all.is_much) and (
            self.holds(sender) > HIGH_WATER
        )
        if much and sender not in self._waiting:
            self._waiting.add(sender)
            self._on_full(sender, True)
        if self.is_full_while_away:
            self._on_full_while_away()

    def _may_go_on(self, sender: Hashable) -> bool:
        much = self.size >= MOST_AHEAD // 2 or self._of_all.is_much
        return self.holds(sender) < LOW_WATER or not much


def _whole_pieces(lane: _Lane, most: int) -> int:
    """Return the size of the first pieces that fit into so many bytes, up to a break."""
    size = 0
    for _, data in lane:
        if data is None or size + len(data) > most:
            break
        size += len(data)
    return size
