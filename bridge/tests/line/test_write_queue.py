"""Who writes to a device, and when: turns, breaks, what departed clients leave."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import until
from ttybridge.line.device import Device
from ttybridge.line.write_queue import MOST_AHEAD, QueueCounters, WriteQueue


class Clock:
    """The clock of the line: it goes on by what the line carries."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


@pytest.fixture(autouse=True, scope="module")
def clock() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ttybridge.line.pace.monotonic", CLOCK)
        yield


class Tty:
    """A tty that holds so many bytes and carries them when it is told to."""

    def __init__(self, room: int = 4096, bytes_per_second: float = 960.0) -> None:
        self.is_open = self.is_ready = self.tells_unsent = True
        self.bytes_per_second = bytes_per_second
        self.line = type("Line", (), {"break_on": False})
        self.received = bytearray()
        """What the line has carried."""
        self.holds = bytearray()
        self._room = room
        self._event = os.eventfd(0)

    def fileno(self) -> int:
        return self._event

    def write(self, data: memoryview) -> int:
        count = min(len(data), self._room - len(self.holds))
        self.holds += data[:count]
        return count

    def unsent(self) -> int:
        return len(self.holds)

    def carry(self, count: int) -> None:
        CLOCK.now += count / self.bytes_per_second
        self.received += self.holds[:count]
        del self.holds[:count]


def queue_to(tty: Tty, fair: bool = False, full: Callable[..., None] | None = None) -> WriteQueue:
    return WriteQueue(
        cast("Device", tty), lambda reason: None, full or (lambda who, full: None), fair
    )


async def carry_all(tty: Tty, queue: WriteQueue, step: int = 16) -> bytes:
    """Let the line carry everything, a few bytes at a time, as the kernel tells of room."""
    while queue.size or tty.holds:
        tty.carry(step)
        queue.write()
    return bytes(tty.received)


@pytest.mark.parametrize("baudrate", [300, 1200, 9600, 115200, 921600])
@pytest.mark.parametrize("pasters", [1, 3])
async def test_a_keystroke_waits_less_than_a_second_of_line_time(
    baudrate: int, pasters: int
) -> None:
    tty = Tty(bytes_per_second=baudrate / 10)
    queue = queue_to(tty, fair=True)
    piece = min(4096, 4 * baudrate // 10)  # minutes of a slow line are enough
    for paster in range(pasters):
        for _ in range(64):
            queue.add(paster, b"k" * piece)
    for _ in range(20):  # the keystroke comes in the middle of turns
        tty.carry(7)
        queue.write()
    before = len(tty.received)
    queue.add("person", b"\x03")
    while b"\x03" not in tty.received[before:]:
        tty.carry(1 + baudrate // 1000)
        queue.write()
    assert tty.received.index(b"\x03") - before < baudrate / 10
    received = await carry_all(tty, queue, step=4096)
    assert len(received) == pasters * 64 * piece + 1


async def test_without_others_a_paste_takes_all_that_the_tty_holds() -> None:
    tty = Tty()
    queue = queue_to(tty)
    queue.add("one", bytes(10_000))
    assert len(tty.holds) == 4096


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 200)), min_size=1, max_size=40),
    st.integers(1, 300),
)
async def test_what_one_sends_in_one_piece_is_not_mixed(
    pieces: list[tuple[int, int]], step: int
) -> None:
    tty = Tty(room=300)
    queue = queue_to(tty, fair=True)
    sent = []
    for number, (sender, size) in enumerate(pieces):
        piece = f"<{sender}.{number}:{'x' * size}>".encode()
        sent.append((sender, piece))
        queue.add(sender, piece)
        tty.carry(number % 5)
    received = await carry_all(tty, queue, step)
    places = [received.find(piece) for _, piece in sent]
    assert -1 not in places
    assert len(received) == sum(len(piece) for _, piece in sent)
    for who in range(4):  # each in the order in which it was sent
        own = [place for place, (sender, _) in zip(places, sent, strict=True) if sender == who]
        assert own == sorted(own)


async def test_elsewhere_all_goes_out_in_the_order_of_its_arrival() -> None:
    tty = Tty(room=4)
    queue = queue_to(tty)
    for sender, data in (("a", b"1234567"), ("b", b"89"), ("a", b"0")):
        queue.add(sender, data)
    assert await carry_all(tty, queue) == b"1234567890"


async def test_of_a_departed_sender_the_first_bytes_are_kept() -> None:
    tty = Tty(room=3)
    queue = queue_to(tty)
    queue.add("a", b"abcdefgh")
    queue.add("b", b"BB")
    queue.add("a", b"ij")
    assert queue.depart("a", 4) == 3
    assert queue.departed() == {"a"}
    assert await carry_all(tty, queue) == b"abcdefgBB"
    assert queue.departed() == set()
    assert queue.state == QueueCounters(written=9, dropped=3)


async def test_bytes_in_the_tty_are_known_by_their_sender() -> None:
    tty = Tty()
    queue = queue_to(tty)
    queue.add("a", b"aaaa")
    queue.add("b", b"bb")
    assert queue.in_tty() == {"a", "b"}
    assert queue.is_moving(10, {"a"})
    tty.carry(4)
    assert queue.in_tty() == {"b"}
    assert not queue.is_moving(10, {"a"})
    assert queue.is_moving(10, {"b"})
    assert queue.is_moving(10)


async def test_a_device_that_takes_nothing_does_not_move_though_more_is_sent() -> None:
    tty = Tty(room=0)
    queue = queue_to(tty)
    queue.add("a", b"a")
    await asyncio.sleep(0.05)
    queue.add("a", b"b")
    assert not queue.is_moving(0.04)
    assert queue.is_moving(60)


async def test_only_who_has_sent_much_is_asked_to_wait_and_goes_on_later() -> None:
    asked: list[tuple[Any, bool]] = []
    tty = Tty(room=0)
    queue = queue_to(tty, fair=True, full=lambda who, full: asked.append((who, full)))
    piece = bytes(256 * 1024)
    while not asked:
        queue.add("paster", piece)
    queue.add("person", b"x")
    assert asked == [("paster", True)]
    assert MOST_AHEAD < queue.size <= MOST_AHEAD + len(piece) + 1
    assert queue.full
    queue.keep_first("paster", MOST_AHEAD // 2 - 10)
    assert asked == [("paster", True), ("paster", False)]


async def test_it_writes_again_once_the_line_has_carried_some() -> None:
    tty = Tty()
    queue = queue_to(tty, fair=True)
    queue.add("a", bytes(1000))
    held = len(tty.holds)
    assert held < 960
    tty.carry(held)
    await until(lambda: bool(tty.holds), "the tty is given more")
    queue.leave()
