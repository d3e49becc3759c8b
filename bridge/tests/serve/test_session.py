"""Telnet and RFC 2217 clients on a served port: real TCP, a pty as the serial adapter."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from conftest import LOOPS, TIMEOUT, Adapter, Bench, MakePort, Serve, on_each_loop, until
from process import Daemon, StartDaemon, entry
from rfc2217_client import (
    AYT,
    BAUDRATE,
    BINARY,
    BRK,
    COM_PORT,
    CONTROL,
    DATASIZE,
    DO,
    DONT,
    ECHO,
    LINESTATE,
    LINESTATE_MASK,
    MODEMSTATE,
    MODEMSTATE_MASK,
    NOP,
    PARITY,
    PURGE,
    RESUME,
    SGA,
    SIGNATURE,
    STOPSIZE,
    SUSPEND,
    WILL,
    WONT,
    Rfc2217Client,
    baudrate,
    com_port,
)
from simtty import CD, CTS, DSR, RI, Uart, tty_settings
from ttybridge.line.device import Device
from ttybridge.model.ports import Port

# NOTIFY-MODEMSTATE of a tty without modem lines: CTS, DSR and CD are up.
READY = b"\xb0"
TERMINAL_TYPE, TIMING_MARK = 24, 6
# Ctrl-C as inetutils and netkit telnet send it in line mode: IAC IP, IAC DM, IAC DO TIMING-MARK.
INTERRUPT = b"\xff\xf4\xff\xf2\xff\xfd\x06"


async def join(bench: Bench, port: Port) -> Rfc2217Client:
    """Connect one more client that speaks RFC 2217."""
    client = Rfc2217Client(await bench.connect(port))
    await client.agree()
    return client


Joined = Callable[[Port], Awaitable[tuple[Bench, Rfc2217Client]]]


@pytest.fixture
def joined(serve: Serve) -> Joined:
    """Serve a port with a client that speaks RFC 2217."""

    async def start(port: Port) -> tuple[Bench, Rfc2217Client]:
        bench = await serve(port)
        return bench, await join(bench, port)

    return start


# telnet


async def test_a_telnet_port_negotiates_character_mode_and_refuses_the_rest_each_time(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol="telnet")
    bench = await serve(port)
    client = Rfc2217Client(await bench.connect(port))
    await client.until(lambda: len(client.said) == 5, "five options are negotiated")
    assert sorted(client.said) == sorted(
        [(WILL, ECHO), (WILL, SGA), (WILL, BINARY), (DO, SGA), (DO, BINARY)]
    )
    client.said.clear()
    await client.negotiate(
        *[(DO, ECHO), (DO, SGA), (WILL, SGA), (WILL, TERMINAL_TYPE), (WILL, COM_PORT)] * 3
    )
    await client.tcp.send(AYT)
    await client.until(lambda: client.data.endswith(b"]\r\n"), "the answer to AYT")
    assert client.said == [(DONT, TERMINAL_TYPE), (DONT, COM_PORT)] * 3


async def test_a_client_that_wants_the_server_to_be_the_client_is_refused(
    adapter: Adapter, make_port: MakePort, joined: Joined
) -> None:
    _, client = await joined(make_port(protocol="rfc2217"))
    client.said.clear()
    await client.negotiate((DO, COM_PORT), (DO, COM_PORT))
    await client.catch_up()
    assert client.said == [(WONT, COM_PORT)] * 2


@pytest.mark.parametrize("protocol", ["telnet", "rfc2217"])
async def test_every_byte_passes_both_ways_in_binary_and_outside(
    adapter: Adapter, make_port: MakePort, protocol: str, serve: Serve
) -> None:
    port, every_byte = make_port(protocol=protocol), bytes(range(256)) * 2
    bench = await serve(port)
    client = Rfc2217Client(await bench.connect(port))
    await adapter.send(every_byte + b"x")
    sent = every_byte.replace(b"\r", b"\r\0") + b"x"
    assert await client.receive(len(sent)) == sent
    await client.send(sent)
    assert await adapter.receive(len(every_byte) + 1) == every_byte + b"x"
    await client.negotiate((WILL, BINARY), (DO, BINARY))
    await client.send(every_byte)
    assert await adapter.receive(len(every_byte)) == every_byte
    await adapter.send(every_byte)
    assert await client.receive(len(every_byte)) == every_byte


async def test_a_telnet_in_line_mode_gets_its_timing_mark_after_each_interrupt(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    """It shows nothing of the device until the mark is there (RFC 860)."""
    port = make_port(protocol="telnet")
    bench = await serve(port)
    client = Rfc2217Client(await bench.connect(port))
    for _ in range(3):
        client.said.clear()
        await client.tcp.send(INTERRUPT)
        assert await adapter.receive(1) == b"\x03"
        await client.until(lambda: (WILL, TIMING_MARK) in client.said, "the timing mark")


async def test_commands_never_reach_the_device(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol="telnet")
    bench = await serve(port)
    client = await bench.connect(port)
    commands = b"".join(b"\xff" + bytes((code,)) for code in range(236, 250))
    await client.send(b"a" + commands + com_port(BAUDRATE, 0, 0, 0, 0) + b"b")
    # But for those that stand for a key: EOF, SUSP, ABORT, IP, EC, EL.
    keys = b"\x04\x1a\x1c\x03\x7f\x15"
    assert await adapter.receive(8) == b"a" + keys + b"b"


async def test_are_you_there_is_answered_in_words_to_a_person(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol="telnet")
    bench = await serve(port)
    client = await bench.connect(port)
    await client.send(AYT)
    assert await client.hear(b"[ttybridge: sw: here]\r\n")
    adapter.unplug()
    await client.hear(b"the device has gone]\r\n")
    await client.send(AYT)
    assert b"went away" in await client.hear(b"]\r\n")


async def test_a_program_gets_no_words(
    adapter: Adapter, make_port: MakePort, joined: Joined
) -> None:
    bench, client = await joined(make_port(protocol="rfc2217"))
    await client.tcp.send(AYT)
    await client.until(lambda: client.commands == [NOP], "the answer to AYT")
    adapter.unplug()
    # CTS, DSR and CD have fallen.
    assert await client.answer(MODEMSTATE) == b"\x0b"
    assert not bench.status()["device"]["present"]
    assert await client.ask(MODEMSTATE) == b"\x00"
    adapter.plug()
    assert await client.answer(MODEMSTATE) == b"\xbb"
    await adapter.send(b"x")
    assert await client.receive(1) == b"x"
    assert client.data == b""


async def test_a_break_is_sent_after_what_came_before_and_before_what_comes_after(
    adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    heard = []
    uart.on_break = lambda: heard.append(adapter.read())
    port = make_port(protocol="telnet")
    bench = await serve(port)
    uart.done.clear()
    client = await bench.connect(port)
    await client.send(b"before" + BRK + b"after")
    await until(lambda: "break ends" in uart.done, "the break ends")
    assert await adapter.receive(5) == b"after"
    assert heard == [b"before", b""]
    assert uart.done == ["break", "break ends"]


async def test_a_break_waits_for_a_device_that_takes_nothing(
    adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    port = make_port(protocol="telnet")
    bench = await serve(port)
    uart.done.clear()
    client = await bench.connect(port)
    await client.send(bytes(30_000) + BRK + b"x")
    await asyncio.sleep(0.3)
    assert uart.done == []
    assert await adapter.receive(30_001) == bytes(30_000) + b"x"
    assert uart.done == ["break", "break ends"]


async def test_a_flood_of_breaks_does_not_take_the_port_away(
    adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    port = make_port(protocol="telnet", sharing="shared")
    bench = await serve(port)
    flooding, other = await bench.connect(port), await bench.connect(port)
    await flooding.send((BRK + b".") * 5000)
    await asyncio.sleep(0.1)
    await other.send(b"x")
    received = await adapter.receive(5001)
    assert sorted(received) == sorted(b"." * 5000 + b"x")
    assert 2 <= uart.done.count("break") < 2500


# RFC 2217: the settings of the line


SETTINGS: list[tuple[tuple[int, ...], bytes, dict[str, int | bool]]] = [
    (baudrate(115200), b"\x00\x01\xc2\x00", {"speed": 115200}),
    (baudrate(12345), b"\x00\x00\x30\x39", {"speed": 12345}),
    (baudrate(0xFFFF), b"\x00\x00\xff\xff", {"speed": 0xFFFF}),
    (baudrate(3_000_000), b"\x00\x2d\xc6\xc0", {"speed": 3_000_000}),
    ((STOPSIZE, 2), b"\x02", {"two stop bits": True}),
    ((CONTROL, 2), b"\x02", {"xonxoff": True}),
    ((CONTROL, 3), b"\x03", {"rtscts": True}),
    # What the device cannot do: the answer is what is in force. A pty has eight bits only.
    ((DATASIZE, 7), b"\x08", {"eight bits": True}),
    ((PARITY, 3), b"\x01", {"parity": False}),
    ((STOPSIZE, 3), b"\x02", {"two stop bits": True}),
    (baudrate(0xFFFFFFFF), b"\x00\x00\x25\x80", {"speed": 9600}),
    # A tty has no flow control of its own for what it receives.
    ((CONTROL, 16), b"\x0e", {"rtscts": False}),
    # Values that do not exist.
    ((PARITY, 9), b"\x01", {"parity": False}),
    ((STOPSIZE, 9), b"\x01", {"two stop bits": False}),
    ((DATASIZE, 9), b"\x08", {"eight bits": True}),
    ((CONTROL, 99), b"\x01", {"rtscts": False}),
    # Wrong lengths.
    ((BAUDRATE, 9), b"\x00\x00\x25\x80", {"speed": 9600}),
    ((BAUDRATE,), b"\x00\x00\x25\x80", {"speed": 9600}),
    ((BAUDRATE, 0, 1, 0xC2, 0, 0), b"\x00\x00\x25\x80", {"speed": 9600}),
    ((STOPSIZE, 2, 2), b"\x01", {"two stop bits": False}),
    ((PARITY,), b"\x01", {"parity": False}),
    ((CONTROL,), b"\x01", {"rtscts": False}),
]


async def test_a_setting_is_answered_with_what_is_then_in_force(
    adapter: Adapter, make_port: MakePort, joined: Joined
) -> None:
    _, client = await joined(make_port(protocol="rfc2217"))
    for command, answer, tty in SETTINGS:
        assert await client.ask(*command) == answer
        assert tty_settings(adapter.path).items() >= tty.items(), command
        # Back again, which works whatever came before.
        assert await client.ask(*baudrate(9600)) == b"\x00\x00\x25\x80"
        assert await client.ask(STOPSIZE, 1) == b"\x01"
        assert await client.ask(CONTROL, 1) == b"\x01"
        assert tty_settings(adapter.path)["speed"] == 9600


QUERIES: list[tuple[tuple[int, ...], bytes]] = [
    ((SIGNATURE,), b"ttybridge"),
    (baudrate(0), b"\x00\x00\x12\xc0"),
    ((DATASIZE, 0), b"\x08"),
    ((PARITY, 0), b"\x01"),
    ((STOPSIZE, 0), b"\x02"),
    ((CONTROL, 0), b"\x03"),
    ((CONTROL, 4), b"\x06"),
    ((CONTROL, 7), b"\x09"),
    ((CONTROL, 10), b"\x0b"),
    ((CONTROL, 13), b"\x10"),
    ((LINESTATE,), b"\x00"),
    ((MODEMSTATE,), READY),
    ((LINESTATE_MASK,), b"\x00"),
    ((MODEMSTATE_MASK,), b"\xff"),
    ((PURGE, 77), b"\x4d"),
]


async def test_what_is_asked_for_is_answered_and_not_changed(
    adapter: Adapter, make_port: MakePort, joined: Joined
) -> None:
    port = make_port(protocol="rfc2217", baudrate=4800, stopbits=2, flow="rtscts", dtr="off")
    _, client = await joined(port)
    before = tty_settings(adapter.path)
    for query, answer in QUERIES:
        assert await client.ask(*query) == answer, query
    assert tty_settings(adapter.path) == before
    assert client.payloads == []


async def test_dtr_rts_and_break_of_a_tty_without_them_are_remembered(
    adapter: Adapter, make_port: MakePort, joined: Joined
) -> None:
    _, client = await joined(make_port(protocol="rfc2217"))
    for query, off, on in [(4, 6, 5), (7, 9, 8), (10, 12, 11)]:
        for code in (on, off, on):
            assert await client.ask(CONTROL, code) == bytes((code,))
            assert await client.ask(CONTROL, query) == bytes((code,))


async def test_dtr_rts_and_break_are_set_once_each(
    adapter: Adapter, make_port: MakePort, uart: Uart, joined: Joined
) -> None:
    _, client = await joined(make_port(protocol="rfc2217"))
    uart.done.clear()
    for code in (8, 9, 9, 11, 12, 12, 5, 5, 6, 6, 8, 11):
        assert await client.ask(CONTROL, code) == bytes((code,))
    assert uart.done == ["dtr off", "rts off", "break", "break ends", "dtr on", "rts on"]


async def test_a_line_that_can_do_everything_is_set_to_it(
    adapter: Adapter, make_port: MakePort, monkeypatch: pytest.MonkeyPatch, joined: Joined
) -> None:
    _, client = await joined(make_port(protocol="rfc2217"))
    monkeypatch.setattr(Device, "setting", lambda self, name: self.line.settings[name])
    monkeypatch.setattr(
        Device, "set", lambda self, name, value: self.line.settings.update({name: value})
    )
    for size in (5, 6, 7, 8):
        assert await client.ask(DATASIZE, size) == bytes((size,))
    for parity in (1, 2, 3, 4, 5):
        assert await client.ask(PARITY, parity) == bytes((parity,))
    for size in (1, 2, 3):
        assert await client.ask(STOPSIZE, size) == bytes((size,))


async def test_a_setting_that_is_in_force_already_is_left_alone(
    adapter: Adapter, make_port: MakePort, monkeypatch: pytest.MonkeyPatch, joined: Joined
) -> None:
    touched: list[str] = []
    _, client = await joined(make_port(protocol="rfc2217"))
    monkeypatch.setattr("termios.tcsetattr", lambda *_: touched.append("tcsetattr"))
    for command in [
        baudrate(9600),
        (DATASIZE, 8),
        (PARITY, 1),
        (STOPSIZE, 1),
        (CONTROL, 1),
    ]:
        await client.ask(*command)
    assert touched == []
    await client.ask(STOPSIZE, 2)
    assert touched != []


async def test_a_client_says_what_it_is_and_is_not_answered(
    adapter: Adapter, make_port: MakePort, joined: Joined
) -> None:
    _, client = await joined(make_port(protocol="rfc2217"))
    await client.tell(SIGNATURE, *b"a client \xff")
    assert await client.ask(SIGNATURE) == b"ttybridge"
    assert client.payloads == []


async def test_a_command_that_does_not_exist_is_not_answered(
    adapter: Adapter, make_port: MakePort, joined: Joined
) -> None:
    _, client = await joined(make_port(protocol="rfc2217"))
    for code in (13, 100, 112, 255):
        await client.tell(code, 1)
    await client.tcp.send(com_port())
    await client.catch_up()
    assert client.payloads == []


async def test_nothing_is_told_or_done_before_both_have_agreed(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217")
    bench = await serve(port)
    client = Rfc2217Client(await bench.connect(port))
    await client.tell(*baudrate(115200))
    await client.agree(modemstate=False)
    assert await client.answer(MODEMSTATE) == READY
    assert client.payloads == []
    assert tty_settings(adapter.path)["speed"] == 9600


async def test_a_client_that_takes_its_agreement_back_is_told_nothing_more(
    adapter: Adapter, make_port: MakePort, uart: Uart, joined: Joined
) -> None:
    _, client = await joined(make_port(protocol="rfc2217"))
    await client.ask(*baudrate(115200))
    await client.tell(SUSPEND)
    client.said.clear()
    await client.negotiate((WONT, COM_PORT))
    await client.until(lambda: client.said == [(DONT, COM_PORT)], "DONT COM-PORT-OPTION")
    await until(lambda: tty_settings(adapter.path)["speed"] == 9600, "the line is 9600 again")
    uart.inputs = CTS
    await asyncio.sleep(0.3)
    await adapter.send(b"still a telnet client")
    assert await client.receive(21) == b"still a telnet client"
    assert client.payloads == []
    await client.negotiate((WILL, COM_PORT))
    assert await client.answer(MODEMSTATE) == b"\x10"


# RFC 2217: what a client is told


async def test_the_modem_state_is_told_at_first_and_then_when_it_changes(
    adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217")
    uart.inputs = CTS | CD
    bench = await serve(port)
    client = Rfc2217Client(await bench.connect(port))
    await client.agree(modemstate=False)
    assert await client.answer(MODEMSTATE) == b"\x90"
    for lines, told in [
        (CTS | CD | DSR, b"\xb2"),
        (CTS | DSR, b"\x38"),
        (RI, b"\x43"),
        (0, b"\x04"),
        (CTS, b"\x11"),
        (0, b"\x01"),
    ]:
        uart.inputs = lines
        assert await client.answer(MODEMSTATE) == told
    await asyncio.sleep(0.1)
    await client.catch_up()
    assert client.payloads == []


async def test_a_mask_is_acknowledged_and_hides_what_is_not_in_it(
    adapter: Adapter, make_port: MakePort, uart: Uart, joined: Joined
) -> None:
    _, client = await joined(make_port(protocol="rfc2217"))
    assert await client.ask(MODEMSTATE_MASK, 0x80) == b"\x80"
    assert await client.ask(MODEMSTATE_MASK) == b"\x80"
    uart.inputs = CTS | DSR
    await asyncio.sleep(0.1)
    uart.inputs = CD
    assert await client.answer(MODEMSTATE) == b"\x80"
    uart.inputs = 0  # of CD's fall the mask leaves an empty state, and that has to be told
    assert await client.answer(MODEMSTATE) == b"\x00"
    assert await client.ask(MODEMSTATE_MASK, 0) == b"\x00"
    uart.inputs = CTS | CD
    await asyncio.sleep(0.1)
    await client.catch_up()
    assert client.payloads == []
    assert await client.ask(MODEMSTATE_MASK, 255) == b"\xff"
    uart.inputs = CTS
    # Whatever it was told meanwhile or not, the state itself is right.
    assert (await client.answer(MODEMSTATE))[0] & 0xF0 == 0x10


async def test_a_client_that_sets_its_mask_over_and_over_is_still_told(
    adapter: Adapter, make_port: MakePort, uart: Uart, joined: Joined
) -> None:
    _, client = await joined(make_port(protocol="rfc2217"))
    uart.inputs = CTS
    for _ in range(30):
        await client.ask(MODEMSTATE_MASK, 255)
        await asyncio.sleep(0.005)
    assert b"\x6b\x11" in client.payloads


@pytest.mark.parametrize(
    ("place", "bit"), [(6, 8), (7, 2), (8, 4), (9, 16), (10, 2)], ids=lambda value: str(value)
)
async def test_line_errors_are_told_to_who_asked_for_them(
    adapter: Adapter,
    make_port: MakePort,
    uart: Uart,
    place: int,
    bit: int,
    joined: Joined,
) -> None:
    port = make_port(protocol="rfc2217", sharing="shared")
    uart.counts[place] = 1000  # from before anybody was there
    bench, client = await joined(port)
    await client.ask(LINESTATE_MASK, 0xFF)
    other = await join(bench, port)
    uart.counts[place] += 3
    assert await client.answer(LINESTATE) == bytes((bit,))
    await asyncio.sleep(0.1)
    await client.catch_up()
    assert client.payloads == []
    await client.ask(LINESTATE_MASK, 0xFF ^ bit)
    uart.counts[place] += 1
    await asyncio.sleep(0.1)
    await client.catch_up()
    await other.catch_up()
    assert client.payloads == other.payloads == []


async def test_errors_from_before_a_client_came_are_not_told(
    adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217")
    bench = await serve(port)
    uart.counts[6] = 5
    client = Rfc2217Client(await bench.connect(port))
    await client.negotiate((WILL, COM_PORT))
    await client.ask(LINESTATE_MASK, 0xFF)
    await client.answer(MODEMSTATE)
    await asyncio.sleep(0.1)
    await client.catch_up()
    assert client.payloads == []


# RFC 2217: suspend, resume, purge


async def test_a_client_that_asks_for_silence_gets_everything_later(
    adapter: Adapter, make_port: MakePort, joined: Joined
) -> None:
    port, data = make_port(protocol="rfc2217", sharing="shared"), os.urandom(100_000)
    bench, client = await joined(port)
    other = await join(bench, port)
    await client.tell(SUSPEND)
    await client.catch_up()
    # RFC 2217, section 5: the same command from the server would silence the client.
    assert client.payloads == []
    sending = asyncio.create_task(adapter.send(data))
    assert await other.receive(len(data)) == data
    await sending
    # What it asks meanwhile is answered, what it sends is taken.
    assert await client.ask(*baudrate(19200)) == b"\x00\x00\x4b\x00"
    await client.send(b"x")
    assert await adapter.receive(1) == b"x"
    assert client.data == b""
    await client.tell(RESUME)
    assert await client.receive(len(data)) == data
    await client.catch_up()
    assert client.payloads == []


async def test_a_device_waits_for_its_only_client_that_asked_for_silence(
    adapter: Adapter, make_port: MakePort, joined: Joined
) -> None:
    port, data = make_port(protocol="rfc2217"), os.urandom(300_000)
    _, client = await joined(port)
    await client.tell(SUSPEND)
    await client.catch_up()
    sending = asyncio.create_task(adapter.send(data))
    await asyncio.sleep(0.5)
    assert not sending.done(), "the device was read although nobody wanted its bytes"
    await client.tell(RESUME)
    assert await client.receive(len(data)) == data
    await sending


async def test_a_client_that_is_silent_for_too_long_is_closed_and_the_others_lose_nothing(
    adapter: Adapter, make_port: MakePort, caplog: pytest.LogCaptureFixture, joined: Joined
) -> None:
    port, data = make_port(protocol="rfc2217", sharing="shared"), os.urandom(10_000_000)
    bench, client = await joined(port)
    other = await join(bench, port)
    await client.tell(SUSPEND)
    await client.catch_up()
    sending = asyncio.create_task(adapter.send(data))
    assert await other.receive(len(data)) == data
    await sending
    await bench.has_clients(1)
    assert "bytes behind" in caplog.text


async def test_a_purge_of_what_was_received_forgets_what_was_held_back(
    adapter: Adapter, make_port: MakePort, joined: Joined
) -> None:
    port = make_port(protocol="rfc2217", sharing="shared")
    bench, client = await joined(port)
    watcher = await join(bench, port)
    await client.tell(SUSPEND)
    await client.catch_up()
    await adapter.send(b"forget this")
    assert await watcher.receive(11) == b"forget this"
    assert await client.ask(PURGE, 1) == b"\x01"
    await client.tell(RESUME)
    await adapter.send(b"new")
    assert await client.receive(3) == b"new"


@pytest.mark.parametrize("code", [2, 3])
async def test_a_purge_of_what_was_sent_forgets_what_waits(
    adapter: Adapter, make_port: MakePort, code: int, joined: Joined
) -> None:
    bench, client = await joined(make_port(protocol="rfc2217"))
    adapter.unplug()
    await client.answer(MODEMSTATE)
    await client.send(b"forget this")
    assert await client.ask(PURGE, 1) == b"\x01"
    assert await client.ask(PURGE, code) == bytes((code,))
    await client.send(b"new")
    adapter.plug()
    assert await adapter.receive(3) == b"new"
    assert bench.status()["device"]["present"]


async def test_a_purge_of_nothing_keeps_what_waits(
    adapter: Adapter, make_port: MakePort, joined: Joined
) -> None:
    _, client = await joined(make_port(protocol="rfc2217"))
    adapter.unplug()
    await client.answer(MODEMSTATE)
    await client.send(b"keep this")
    for code in (0, 4, 255):
        assert await client.ask(PURGE, code) == bytes((code,))
    await client.tell(PURGE)
    adapter.plug()
    assert await adapter.receive(9) == b"keep this"


# RFC 2217: settings and bytes in their order


async def test_a_setting_waits_for_the_bytes_before_it(
    adapter: Adapter, make_port: MakePort, joined: Joined
) -> None:
    _, client = await joined(make_port(protocol="rfc2217"))
    await client.send(bytes(60_000))
    await client.tell(*baudrate(115200))
    await client.send(b"faster")
    received = b""
    while len(received) < 30_000:  # a pty holds less than the other half
        assert tty_settings(adapter.path)["speed"] == 9600
        received += await adapter.receive(1)
    received += await adapter.receive(60_006 - len(received))
    assert await client.answer(BAUDRATE) == b"\x00\x01\xc2\x00"
    assert received == bytes(60_000) + b"faster"


async def test_a_setting_does_not_wait_for_ever(
    adapter: Adapter, make_port: MakePort, monkeypatch: pytest.MonkeyPatch, joined: Joined
) -> None:
    monkeypatch.setattr("ttybridge.line.comport.BLOCKED_SECONDS", 0.3)
    _, client = await joined(make_port(protocol="rfc2217"))
    await client.send(bytes(60_000))
    assert await client.ask(*baudrate(115200)) == b"\x00\x01\xc2\x00"
    assert await adapter.receive(60_000) == bytes(60_000)


async def test_a_setting_does_not_wait_for_what_others_send(
    adapter: Adapter, make_port: MakePort, joined: Joined
) -> None:
    port = make_port(protocol="rfc2217", sharing="shared")
    bench, client = await joined(port)
    busy = await join(bench, port)

    async def send() -> None:
        while True:
            await busy.send(bytes(50_000))

    async def read_slowly() -> None:
        while True:
            await adapter.receive(1)
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(send()), asyncio.create_task(read_slowly())]
    await asyncio.sleep(0.2)
    await client.send(b"mine")
    assert await client.ask(*baudrate(115200)) == b"\x00\x01\xc2\x00"
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@on_each_loop
async def test_what_a_client_said_before_it_was_closed_is_done_and_then_it_is_forgotten(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    table = entry(device=str(adapter.path), protocol="rfc2217", sharing="shared")
    # A loaded machine takes its time with the bytes below, and the device takes nothing meanwhile.
    patient = {"BLOCKED_SECONDS": TIMEOUT, "STUCK_SECONDS": TIMEOUT}
    served = await daemon(table, constants=patient)
    slow, other = [Rfc2217Client(await served.open(table)) for _ in range(2)]
    await slow.agree()
    await other.agree()
    await slow.tell(SUSPEND)
    await slow.catch_up()
    await slow.send(bytes(60_000))
    # Waits for those bytes, which nobody takes; meanwhile the client falls behind.
    await slow.tcp.send(com_port(*baudrate(115200)) + com_port(RESUME) + AYT)
    sending = asyncio.create_task(adapter.send(bytes(10_000_000)))
    await other.receive(10_000_000)
    await sending
    await served.has_clients(1)
    assert (await served.port())["line_settings"]["baudrate"] == 9600
    assert await adapter.receive(60_000) == bytes(60_000)
    await served.has_baudrate(115200)
    other.tcp.close()
    await served.has_baudrate(9600)


# RFC 2217: several clients


async def test_the_first_client_owns_the_settings_and_the_others_are_told_them(
    adapter: Adapter, make_port: MakePort, joined: Joined
) -> None:
    port = make_port(protocol="rfc2217", sharing="shared")
    bench, owner = await joined(port)
    other = await join(bench, port)
    assert await owner.ask(*baudrate(19200)) == b"\x00\x00\x4b\x00"
    assert await other.ask(*baudrate(0)) == b"\x00\x00\x4b\x00"
    for command, answer in [
        (baudrate(115200), b"\x00\x00\x4b\x00"),
        ((STOPSIZE, 2), b"\x01"),
        ((CONTROL, 3), b"\x01"),
        ((CONTROL, 5), b"\x06"),
        ((CONTROL, 9), b"\x08"),
        ((CONTROL, 12), b"\x0b"),
    ]:
        assert await other.ask(*command) == answer
    assert tty_settings(adapter.path)["speed"] == 19200
    # Both write, and a mask is everybody's own.
    await other.send(b"x")
    assert await adapter.receive(1) == b"x"
    assert await other.ask(MODEMSTATE_MASK, 0) == b"\x00"
    assert await owner.ask(MODEMSTATE_MASK) == b"\xff"
    # The owner leaves: its settings stay, and the next one may change them.
    owner.tcp.close()
    await bench.has_clients(1)
    assert await other.ask(*baudrate(0)) == b"\x00\x00\x4b\x00"
    assert await other.ask(*baudrate(115200)) == b"\x00\x01\xc2\x00"
    other.tcp.close()
    await until(lambda: tty_settings(adapter.path)["speed"] == 9600, "the line is 9600 again")


async def test_a_purge_by_who_does_not_own_the_settings_discards_nothing(
    adapter: Adapter, make_port: MakePort, joined: Joined
) -> None:
    port = make_port(protocol="rfc2217", sharing="shared")
    bench, owner = await joined(port)
    other = await join(bench, port)
    adapter.unplug()
    await owner.answer(MODEMSTATE)
    await owner.send(b"the owner's")
    await owner.catch_up()
    assert await other.ask(PURGE, 3) == b"\x03"
    adapter.plug()
    assert await adapter.receive(11) == b"the owner's"


async def test_who_only_watches_never_owns_the_settings(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217", sharing="observed")
    bench = await serve(port)
    writer = await bench.connect(port)  # a person with telnet
    watcher = await join(bench, port)
    assert await watcher.ask(*baudrate(115200)) == b"\x00\x00\x25\x80"
    await watcher.send(b"lost")
    await watcher.catch_up()
    await writer.send(b"x")
    assert await adapter.receive(1) == b"x"
    writer.close()
    await bench.has_clients(1)
    assert await watcher.ask(*baudrate(115200)) == b"\x00\x01\xc2\x00"


async def test_all_settings_are_restored_after_the_last_client(
    adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217", baudrate=4800, flow="rtscts", rts="off")
    bench = await serve(port)
    uart.done.clear()
    configured = tty_settings(adapter.path)
    client = await join(bench, port)
    for command in [baudrate(115200), (STOPSIZE, 2), (CONTROL, 2)]:
        await client.ask(*command)
    for code in (5, 9, 11):
        await client.ask(CONTROL, code)
    changed = tty_settings(adapter.path)
    assert changed["two stop bits"]
    assert changed["xonxoff"]
    client.tcp.close()
    await until(lambda: tty_settings(adapter.path) == configured, "the line is as configured")
    assert uart.done[:3] == ["break", "dtr off", "rts on"]
    assert sorted(uart.done[3:]) == ["break ends", "dtr on", "rts off"]
    client = await join(bench, port)
    assert await client.ask(*baudrate(0)) == b"\x00\x00\x12\xc0"


async def test_settings_are_restored_after_the_last_bytes(
    adapter: Adapter, make_port: MakePort, joined: Joined
) -> None:
    _, client = await joined(make_port(protocol="rfc2217"))
    await client.ask(*baudrate(115200))
    await client.send(bytes(60_000))
    client.tcp.close()
    await asyncio.sleep(0.05)  # the server sees it in some turns of this loop
    received = await adapter.receive(20_000)
    assert tty_settings(adapter.path)["speed"] == 115200
    received += await adapter.receive(60_000 - len(received))
    await until(lambda: tty_settings(adapter.path)["speed"] == 9600, "the line is 9600 again")


async def test_a_client_that_comes_before_settings_are_restored_gets_its_own(
    adapter: Adapter, make_port: MakePort, joined: Joined
) -> None:
    port = make_port(protocol="rfc2217", baudrate=4800)
    bench, client = await joined(port)
    await client.ask(*baudrate(115200))
    await client.ask(STOPSIZE, 2)
    await client.send(bytes(60_000))
    client.tcp.close()
    await asyncio.sleep(0.05)  # the server sees it in some turns of this loop
    following = await join(bench, port)
    assert await following.ask(*baudrate(19200)) == b"\x00\x00\x4b\x00"
    await adapter.receive(60_000)
    await asyncio.sleep(0.3)
    assert tty_settings(adapter.path)["speed"] == 19200
    await until(lambda: not tty_settings(adapter.path)["two stop bits"], "one stop bit again")


async def test_settings_outlast_an_unplugged_device(
    adapter: Adapter, make_port: MakePort, joined: Joined
) -> None:
    _, client = await joined(make_port(protocol="rfc2217"))
    await client.ask(*baudrate(115200))
    adapter.unplug()
    await client.answer(MODEMSTATE)
    # What is asked for meanwhile is what the device will get.
    assert await client.ask(*baudrate(0)) == b"\x00\x01\xc2\x00"
    assert await client.ask(STOPSIZE, 2) == b"\x02"
    assert await client.ask(CONTROL, 9) == b"\x09"
    adapter.plug()
    await client.answer(MODEMSTATE)
    assert tty_settings(adapter.path)["speed"] == 115200
    assert tty_settings(adapter.path)["two stop bits"]
    assert await client.ask(CONTROL, 7) == b"\x09"
    # Unplugged while the last one leaves: as configured when it is back.
    adapter.unplug()
    await client.answer(MODEMSTATE)
    client.tcp.close()
    adapter.plug()
    await until(lambda: tty_settings(adapter.path)["speed"] == 9600, "the line is 9600 again")
    assert not tty_settings(adapter.path)["two stop bits"]


async def test_a_device_that_comes_late_gets_what_was_asked_for(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    adapter.unplug()
    port = make_port(protocol="rfc2217")
    bench = await serve(port)
    client = Rfc2217Client(await bench.connect(port))
    await client.agree(modemstate=False)
    assert await client.answer(MODEMSTATE) == b"\x00"
    assert await client.ask(*baudrate(115200)) == b"\x00\x01\xc2\x00"
    adapter.plug()
    assert await client.answer(MODEMSTATE) == b"\xbb"
    assert tty_settings(adapter.path)["speed"] == 115200


# Whatever may come.

# Each of them ended pyserial's reference server.
KILLERS = [
    b"\xff\xf0",  # SE without SB
    com_port(PARITY, 9),
    com_port(STOPSIZE, 9),
    com_port(BAUDRATE, 9),
    com_port(LINESTATE_MASK),
    com_port(DATASIZE, 7) + com_port(PARITY, 3),  # which a pty refuses
]


@pytest.mark.parametrize("agreed", [False, True])
async def test_packets_that_ended_another_server_are_survived(
    adapter: Adapter, make_port: MakePort, agreed: bool, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217", sharing="shared")
    bench = await serve(port)
    client = Rfc2217Client(await bench.connect(port))
    if agreed:
        await client.agree()
    other = await join(bench, port)
    for packet in KILLERS:
        await client.tcp.send(packet + b"x")
        assert await adapter.receive(1) == b"x"
        await adapter.send(b"y")
        assert await client.receive(1) == b"y"
        assert await other.receive(1) == b"y"
        assert await other.ask(DATASIZE, 0) == b"\x08"


@pytest.mark.parametrize("plugged", [True, False])
async def test_bytes_one_by_one_take_no_more_memory_than_others(
    adapter: Adapter, plugged: bool, daemon: StartDaemon
) -> None:
    table = entry(device=str(adapter.path), protocol="telnet")
    if not plugged:
        adapter.unplug()
    served = await daemon(table)
    client = await served.connect(table)
    before = served.memory()
    for _ in range(20):
        await client.send((b"x" + BRK) * 1000)
    await served.has_taken(60_000)
    assert served.memory() - before < 10 * 1024


PACKETS = 20_000  # others in each run


def noise(rng: random.Random) -> bytes:
    """A packet that is telnet, nearly telnet, or nothing at all, without breaks: they take time."""
    code = rng.randrange(16)
    value = rng.randbytes(rng.choice((0, 1, 1, 1, 4, 4, 7)))
    packet = rng.choice(
        (
            com_port(code, *value),
            com_port(rng.randrange(1, 6), rng.randrange(20)),
            b"\xff\xfa," + bytes((code,)) + value,
            bytes(
                (255, rng.randrange(251, 255), rng.choice((0, 1, 3, 24, 44, rng.randrange(256))))
            ),
            b"\xff" + bytes((rng.randrange(256),)),
            rng.randbytes(rng.randrange(12)),
            rng.choice(KILLERS),
            b"\xff\xfa" + rng.randbytes(rng.randrange(600)),
        )
    )
    return packet.replace(BRK, NOP).replace(com_port(SUSPEND), b"")


@on_each_loop
async def test_random_packets_disturb_nobody_else(adapter: Adapter, daemon: StartDaemon) -> None:
    """The daemon lives, another client misses nothing, memory stays flat."""
    table = entry(device=str(adapter.path), protocol="rfc2217", sharing="shared")
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    served = await daemon(table)
    person = await served.open(table)
    program = Rfc2217Client(await served.open(table))
    await program.agree()
    before = served.memory()
    done = asyncio.Event()
    reading = asyncio.create_task(empty(adapter, done))
    for _ in range(2):
        await storm(served, rng, table, PACKETS // len(LOOPS) // 2)
        await adapter.send(b"to both")
        assert await program.receive(7) == b"to both"
        await person.hear(b"to both")
        assert await program.ask(SIGNATURE) == b"ttybridge"
    done.set()
    await reading
    assert served.memory() - before < 4 * 1024
    assert program.payloads == [], "somebody else's doing was told to a program"
    assert not served.ended


async def storm(served: Daemon, rng: random.Random, table: dict[str, Any], packets: int) -> None:
    """Send random packets, from two clients that read what they are answered."""
    clients = [await served.open(table) for _ in range(2)]
    reading = [asyncio.create_task(client.rest()) for client in clients]
    for _ in range(packets // 50):
        await rng.choice(clients).send(b"".join(noise(rng) for _ in range(50)))
    for client in clients:
        client.finish()
    await asyncio.gather(*reading)
    for client in clients:
        client.close()


async def empty(adapter: Adapter, done: asyncio.Event) -> None:
    """Read the far end, so that nothing waits for it."""
    while not done.is_set():
        adapter.read()
        await asyncio.sleep(0.001)
