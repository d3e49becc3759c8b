"""A tty is as it has to be, whatever another program has made of it before."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from conftest import Adapter, MakePort, Serve
from rfc2217_client import CONTROL, LINESTATE, LINESTATE_MASK, STOPSIZE, Rfc2217Client
from simtty import CTS, Request, Uart
from ttybridge.line.device import Device
from ttybridge.model.ports import Port

# asm-generic/ioctls.h, asm-generic/termbits.h
_TCGETS2, _TCSETS2 = 0x802C542A, 0x402C542B
_TERMIOS2 = struct.Struct("4IB19s2I")
_IXANY, _IUTF8 = 0o4000, 0o40000

XON, XOFF = b"\x11", b"\x13"


class Fields(NamedTuple):
    """struct termios2 (asm-generic/termbits.h)."""

    iflag: int
    oflag: int
    cflag: int
    lflag: int
    line: int
    characters: bytes
    ispeed: int
    ospeed: int


def fields(path: Any) -> Fields:
    """All of a tty's struct termios2."""
    with open(path, "rb", buffering=0) as tty:
        return Fields(*_TERMIOS2.unpack(fcntl.ioctl(tty, _TCGETS2, bytes(_TERMIOS2.size))))


def spoil(path: Any, to: Fields) -> None:
    """Set a tty as another program might; the kernel keeps what makes no sense on a pty."""
    with open(path, "rb", buffering=0) as tty:
        fcntl.ioctl(tty, _TCSETS2, _TERMIOS2.pack(*to))


def one_by_one(known: Fields) -> Iterator[Fields]:
    """The same with one flag turned over, or with one control character that is another."""
    for bit in (1 << place for place in range(32)):
        yield known._replace(iflag=known.iflag ^ bit)
        yield known._replace(oflag=known.oflag ^ bit)
        yield known._replace(cflag=known.cflag ^ bit)
        yield known._replace(lflag=known.lflag ^ bit)
    for place, character in enumerate(known.characters):
        for other in {0, 255, ord("x")} - {character}:
            characters = bytearray(known.characters)
            characters[place] = other
            yield known._replace(characters=bytes(characters))


def all_wrong(known: Fields) -> Fields:
    """Every flag turned over, and every control character another."""
    every = 0xFFFFFFFF
    return Fields(
        iflag=known.iflag ^ every,
        oflag=known.oflag ^ every,
        cflag=known.cflag ^ every,
        lflag=known.lflag ^ every,
        line=known.line ^ 7,
        characters=bytes(each ^ 0x55 for each in known.characters),
        ispeed=known.ispeed,
        ospeed=50,
    )


@pytest.fixture
def known(adapter: Adapter, make_port: MakePort) -> Fields:
    """What a tty is after it was opened as it came from the kernel."""
    return after_open(make_port(), adapter)


def after_open(port: Port, adapter: Adapter) -> Fields:
    device = Device(port)
    device.open()
    found = fields(adapter.path)
    device.close()
    return found


def test_the_known_state(known: Fields) -> None:
    iflag, oflag, cflag, lflag, line, characters, ispeed, ospeed = known
    assert (iflag, oflag, lflag, line) == (termios.IGNBRK, 0, 0, 0)
    assert cflag == termios.B9600 | termios.CS8 | termios.CREAD | termios.CLOCAL
    assert (ispeed, ospeed) == (9600, 9600)
    new_tty = b"\x03\x1c\x7f\x15\x04\x00\x01\x00\x11\x13\x1a\x00\x12\x0f\x17\x16\x00\x00\x00"
    assert characters == new_tty


def test_each_field_that_was_wrong_is_right_after_open(
    known: Fields, adapter: Adapter, make_port: MakePort
) -> None:
    port, spoilt = make_port(), 0
    for wrong in one_by_one(known):
        spoil(adapter.path, wrong)
        spoilt += fields(adapter.path) != known
        assert after_open(port, adapter) == known, wrong
    # All but the flags for which a pty has no use.
    assert spoilt > 150


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"flow": "xonxoff"},
        {"flow": "rtscts", "stopbits": 2, "hangup": True},
        {"baudrate": 12345},
        {"baudrate": 3000000},
    ],
)
def test_all_fields_that_were_wrong_are_right_after_open(
    keys: dict[str, Any], adapter: Adapter, make_port: MakePort
) -> None:
    port = make_port(**keys)
    right = after_open(port, adapter)
    spoil(adapter.path, all_wrong(right))
    assert fields(adapter.path) != right
    assert after_open(port, adapter) == right


@pytest.mark.parametrize("flow", ["none", "xonxoff"])
async def test_data_pass_unchanged_on_a_tty_that_was_all_wrong(
    flow: str, known: Fields, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    every_byte = bytes(range(256)) * 2
    if flow == "xonxoff":
        every_byte = every_byte.replace(XON, b"").replace(XOFF, b"")
    spoil(adapter.path, all_wrong(known))
    port = make_port(flow=flow)
    bench = await serve(port)
    client = await bench.connect(port)
    await adapter.send(every_byte)
    assert await client.receive(len(every_byte)) == every_byte
    await client.send(every_byte)
    assert await adapter.receive(len(every_byte)) == every_byte


@pytest.mark.parametrize("by", ["port map", "client"])
async def test_xoff_counts_on_a_tty_whose_characters_were_undefined(
    by: str, known: Fields, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    spoil(adapter.path, known._replace(characters=bytes(19)))
    flow = "xonxoff" if by == "port map" else "none"
    port = make_port(flow=flow, protocol="rfc2217")
    bench = await serve(port)
    client = Rfc2217Client(await bench.connect(port))
    await client.agree()
    if by == "client":
        assert await client.ask(CONTROL, 2) == b"\x02"
    await adapter.send(XOFF + b"wait")
    assert await client.receive(4) == b"wait"
    await client.send(b"later")
    await client.catch_up()
    with pytest.raises(BlockingIOError):
        os.read(adapter.far, 100)
    await adapter.send(XON)
    assert await adapter.receive(5) == b"later"


async def test_a_setting_that_is_changed_later_leaves_all_others_known(
    known: Fields, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217")
    bench = await serve(port)
    client = Rfc2217Client(await bench.connect(port))
    await client.agree()
    iflag = known.iflag | _IXANY | _IUTF8
    spoil(adapter.path, known._replace(iflag=iflag, characters=bytes(19)))
    assert await client.ask(STOPSIZE, 2) == b"\x02"
    two_stop_bits = known.cflag | termios.CSTOPB
    assert fields(adapter.path) == known._replace(cflag=two_stop_bits)


def test_a_tty_of_an_earlier_process_becomes_known(
    known: Fields, adapter: Adapter, make_port: MakePort
) -> None:
    earlier, later = Device(make_port()), Device(make_port())
    earlier.open()
    iflag = known.iflag & ~termios.IGNBRK | termios.BRKINT
    spoil(adapter.path, known._replace(iflag=iflag, characters=bytes(19)))
    os.write(adapter.far, b"said meanwhile")
    later.adopt(os.dup(earlier.fileno()))
    later.complete()
    assert fields(adapter.path) == known
    assert later.read() == b"said meanwhile"
    later.close()
    earlier.close()


def test_a_tty_that_is_known_is_left_alone(
    adapter: Adapter, make_port: MakePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A UART that is set up while it sends may send rubbish."""
    earlier = Device(make_port())
    earlier.open()
    asked, ioctl = [], fcntl.ioctl

    def spy(fd: int, request: int, *arguments: Any) -> Any:
        asked.append(request)
        return ioctl(fd, request, *arguments)

    monkeypatch.setattr(fcntl, "ioctl", spy)
    later = Device(make_port())
    later.adopt(os.dup(earlier.fileno()))
    later.complete()
    assert _TCGETS2 in asked
    assert _TCSETS2 not in asked
    later.close()
    earlier.close()


@pytest.mark.parametrize("modem_lines", [True, False])
@pytest.mark.parametrize("counts", [True, False])
async def test_breaks_of_the_device_are_told_wherever_the_driver_counts_them(
    modem_lines: bool,
    counts: bool,
    uart: Uart,
    make_port: MakePort,
    serve: Serve,
) -> None:
    port = make_port(protocol="rfc2217")
    uart.missing |= set() if modem_lines else {termios.TIOCMGET}
    uart.missing |= set() if counts else {Request.GICOUNT}
    bench = await serve(port)
    client = Rfc2217Client(await bench.connect(port))
    await client.agree()
    assert await client.ask(LINESTATE_MASK, 0x10) == b"\x10"
    await uart.send_break()
    uart.inputs = CTS
    if counts:
        assert await client.answer(LINESTATE) == b"\x10"
        assert bench.status()["line_errors"]["break"] == 1
    if modem_lines:
        await client.until(lambda: b"\x6b\x11" in client.payloads, "CTS has risen")
    await client.catch_up()
    told = [payload[0] - 100 for payload in client.payloads]
    assert LINESTATE not in told
