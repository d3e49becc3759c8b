"""What a device says without a pause is one piece, in whatever lumps its driver hands it over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from conftest import in_each_loop, until
from ttybridge.line.packer import Packer
from ttybridge.model.ports import Pack, character_seconds


class Line:
    """A line whose characters take so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.character_seconds = seconds


class Clock:
    """An event loop's clock and timers, in the hand of the test."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: dict[object, tuple[float, Callable[[], None]]] = {}
        self.set = 0

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(self)
        self.timers[timer] = self.now + seconds, call
        self.set += 1
        return timer

    def go(self, seconds: float) -> None:
        """Let time pass, in small steps as they come."""
        end = self.now + seconds
        while due := [item for item in self.timers.items() if item[1][0] <= end]:
            timer, (at, call) = min(due, key=lambda item: item[1][0])
            del self.timers[timer]
            self.now = max(self.now, at)
            call()
        self.now = end


class Timer:
    """A timer of `Clock`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def cancel(self) -> None:
        self._clock.timers.pop(self, None)


MS = 0.001


class Bench:
    """A packer at a line of 1 ms a character, and the pieces that it has delivered."""

    def __init__(self, clock: Clock, **keys: Any) -> None:
        self.clock = clock
        self.pieces: list[tuple[float, bytes]] = []
        self.line = Line(MS)
        self.more: list[bytes] = []
        self.packer = Packer(Pack(**keys), self.line, self._deliver, self._look)

    def _deliver(self, piece: bytes) -> None:
        self.pieces.append((self.clock.now, piece))

    def _look(self) -> None:
        if self.more:
            self.packer.add(self.more.pop(0))

    def says(self, size: int, lump: int) -> None:
        """The device says so many bytes, which come in lumps, each when the line has carried it."""
        for at in range(0, size, lump):
            now = min(lump, size - at)
            self.clock.go(now * MS)
            self.packer.add(b"x" * now)

    @property
    def sizes(self) -> list[int]:
        return [len(piece) for _, piece in self.pieces]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    return made


@pytest.mark.parametrize("lump", [1, 2, 8, 14, 16, 37])
def test_an_answer_is_one_piece_in_whatever_lumps_it_comes(lump: int, clock: Clock) -> None:
    bench = Bench(clock)
    for _ in range(3):
        bench.says(37, lump)
        assert bench.pieces == []
        said_at = clock.now
        clock.go(1.0)
        ((sent_at, piece),) = bench.pieces
        assert piece == b"x" * 37
        assert (lump + 3.4) * MS < sent_at - said_at < (lump + 4.6) * MS
        bench.pieces.clear()


@pytest.mark.parametrize(("lump", "pause"), [(1, 6), (8, 13)])
def test_answers_with_a_pause_between_them_are_two_pieces(
    lump: int, pause: float, clock: Clock
) -> None:
    bench = Bench(clock)
    bench.says(16, lump)
    clock.go(pause * MS)
    bench.says(24, lump)
    clock.go(1.0)
    assert bench.sizes == [16, 24]


def test_the_lumps_of_the_piece_before_count_for_a_first_one_that_is_small(clock: Clock) -> None:
    """An adapter that collects for 16 ms begins to count before the device begins to speak."""
    bench = Bench(clock)
    bench.says(45, 15)
    clock.go(1.0)
    bench.says(3, 3)
    bench.says(30, 15)
    clock.go(1.0)
    assert bench.sizes == [45, 33]


def test_a_piece_ends_at_its_largest_size(clock: Clock) -> None:
    bench = Bench(clock, max=16)
    bench.packer.add(b"y" * 40)
    assert bench.sizes == [16, 16]
    bench.packer.add(b"y" * 8)
    assert bench.sizes == [16, 16, 16]
    clock.go(1.0)
    assert bench.sizes == [16, 16, 16]
    assert clock.timers == {}


def test_the_line_says_how_long_a_pause_is(clock: Clock) -> None:
    bench = Bench(clock, idle=10)
    bench.packer.add(b"a")
    clock.go(10 * MS)
    assert bench.pieces == []
    clock.go(2 * MS)
    assert bench.sizes == [1]
    bench.line.character_seconds = 10 * MS
    bench.packer.add(b"a")
    clock.go(100 * MS)
    assert bench.sizes == [1]
    clock.go(20 * MS)
    assert bench.sizes == [1, 1]


def test_what_a_busy_process_has_not_read_yet_belongs_to_the_piece(clock: Clock) -> None:
    bench = Bench(clock)
    bench.more = [b"late", b"later"]
    bench.packer.add(b"early")
    clock.go(1.0)
    assert [piece for _, piece in bench.pieces] == [b"earlylatelater"]


def test_what_waits_is_delivered_or_dropped_when_asked(clock: Clock) -> None:
    bench = Bench(clock)
    bench.packer.add(b"sent")
    bench.packer.flush()
    assert clock.timers == {}
    bench.packer.add(b"dropped")
    bench.packer.discard()
    clock.go(1.0)
    bench.packer.flush()
    assert [piece for _, piece in bench.pieces] == [b"sent"]


def test_many_lumps_need_few_timers(clock: Clock) -> None:
    bench = Bench(clock, max=65536)
    bench.says(10_000, 1)
    assert clock.set < 10_000 / 2


@in_each_loop
async def test_with_the_timers_of_a_real_loop() -> None:
    loop = asyncio.get_running_loop()
    pieces: list[tuple[float, bytes]] = []
    packer = Packer(Pack(), Line(2 * MS), lambda piece: pieces.append((loop.time(), piece)))
    # Before it is added: uvloop's clock goes on only when uvloop looks at it.
    added_at = loop.time()
    packer.add(b"a")
    await until(lambda: pieces, "the piece has ended")
    ((at, piece),) = pieces
    assert piece == b"a"
    assert at - added_at > 8 * MS


@pytest.mark.parametrize(
    ("line", "bits"),
    [((9600, 8, "none", 1.0), 10), ((9600, 8, "even", 1.0), 11), ((300, 5, "mark", 1.5), 8.5)],
)
def test_the_time_of_a_character(line: tuple[Any, ...], bits: float) -> None:
    names = ("baudrate", "bytesize", "parity", "stopbits")
    seconds = character_seconds(dict(zip(names, line, strict=True)))
    assert seconds == pytest.approx(bits / line[0])
