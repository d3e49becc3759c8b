"""What the soak counts is what happened: streams that lose, repeat and change bytes."""

from __future__ import annotations

import random

import pytest

from sessions import BAUDRATE, Telnet
from stream import CELL, Checker, Receipt, piece

WHOLE = piece("a", 0, 20 * CELL)


def fed(data: bytes, size: int) -> Checker:
    """A checker of the stream a that gets data in parts of this size."""
    checker = Checker("a")
    for start in range(0, len(data), size):
        checker.receive(data[start : start + size])
    return checker


def counts(checker: Checker) -> tuple[int, int, int]:
    return checker.lost, checker.repeated, checker.wrong


def test_a_stream_is_the_same_from_each_position() -> None:
    for start in (0, 1, CELL - 1, CELL, 3 * CELL + 7):
        for size in (0, 1, CELL, 5 * CELL + 3):
            assert piece("a", start, size) == WHOLE[start : start + size]


def test_streams_differ() -> None:
    assert piece("a", 0, CELL) != piece("b", 0, CELL)


@pytest.mark.parametrize("size", [1, 7, CELL, 1000])
@pytest.mark.parametrize("at", [0, 5, CELL, 100])
@pytest.mark.parametrize("jump", [1, 31, CELL, 300])
def test_what_is_lost_and_repeated_is_counted_to_the_byte(size: int, at: int, jump: int) -> None:
    lost = fed(WHOLE[:at] + WHOLE[at + jump :], size)
    assert (counts(lost), lost.position) == ((jump, 0, 0), len(WHOLE))
    back = max(0, 320 - jump)
    repeated = fed(WHOLE[:320] + WHOLE[back:], size)
    assert (counts(repeated), repeated.position) == ((0, 320 - back, 0), len(WHOLE))


@pytest.mark.parametrize("size", [1, 7, CELL, 1000])
def test_bytes_of_elsewhere_are_wrong(size: int) -> None:
    noise = random.Random(1).randbytes(200)
    inserted = fed(WHOLE[:100] + noise + WHOLE[100:], size)
    assert (counts(inserted), inserted.position) == ((0, 0, 200), len(WHOLE))
    changed = fed(WHOLE[:100] + bytes([WHOLE[100] ^ 1]) + WHOLE[101:], size)
    assert (counts(changed), changed.position) == ((1, 0, 1), len(WHOLE))
    assert fed(piece("b", 0, 10 * CELL), size).wrong > 7 * CELL


def test_each_of_several_jumps_is_counted() -> None:
    checker = fed(WHOLE[:100] + WHOLE[150:400] + WHOLE[380:700] + WHOLE[701:], 64)
    assert (counts(checker), checker.position) == ((51, 20, 0), len(WHOLE))


def test_a_pause_is_between_arrivals_since_the_beginning() -> None:
    receipt = Receipt("a")
    receipt.receive(WHOLE[:10])
    first = receipt.report()
    receipt.receive(WHOLE[20:])
    assert first == {"position": 10, "lost": 0, "repeated": 0, "wrong": 0, "pause": first["pause"]}
    assert receipt.report()["lost"] == 10
    assert receipt.report()["pause"] >= first["pause"]
    receipt.begin()
    assert receipt.report()["pause"] < first["pause"] + 60


def test_telnet_is_agreed_and_its_bytes_are_the_device_s() -> None:
    telnet = Telnet(com_port=True)
    asked = telnet.start()
    assert not telnet.agreed
    answers = b"\xff\xfb\x00\xff\xfd\x00\xff\xfb\x01\xff\xfd\x2c"
    plain, reply = telnet.receive(answers + b"a\xff\xffb\xff")
    assert telnet.agreed
    assert plain == b"a\xffb"
    assert asked.count(b"\xff\xfd\x00") == 1
    assert b"\xff\xfd\x01" in reply
    assert reply.endswith(telnet.set_baudrate(BAUDRATE))
    assert telnet.receive(b"\xff\xff\xfa\x2c\x65\x00\x00\xe1\x00\xff\xf0c") == (b"\xffc", b"")
    assert telnet.baudrates == [57600]
    assert telnet.encode(b"\xff") == b"\xff\xff"
