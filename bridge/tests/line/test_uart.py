"""What only a UART shows: modem lines, breaks, parity, and flow control by RTS and CTS."""

from __future__ import annotations

import termios
from typing import Any

import pytest

from conftest import Adapter, Bench, MakePort, Serve, until
from rfc2217_client import (
    BAUDRATE,
    CONTROL,
    DATASIZE,
    LINESTATE,
    LINESTATE_MASK,
    MODEMSTATE,
    PARITY,
    STOPSIZE,
    Rfc2217Client,
    baudrate,
)
from simtty import CD, CTS, DSR, DTR, RTS, Uart, tty_settings
from ttybridge.model.ports import Port


async def join(bench: Bench, port: Port) -> Rfc2217Client:
    """Connect a client that speaks RFC 2217."""
    client = Rfc2217Client(await bench.connect(port))
    await client.agree()
    return client


@pytest.mark.parametrize(
    ("keys", "up"),
    [
        ({}, DTR | RTS),
        ({"dtr": "off"}, RTS),
        ({"rts": "off"}, DTR),
        ({"dtr": "off", "rts": "off"}, 0),
        ({"dtr": "keep", "rts": "keep"}, DTR | RTS),
    ],
)
async def test_dtr_and_rts_are_as_the_port_map_says_each_time_the_device_is_there(
    keys: dict[str, Any],
    up: int,
    adapter: Adapter,
    make_port: MakePort,
    uart: Uart,
    serve: Serve,
) -> None:
    bench = await serve(make_port(**keys))
    assert uart.outputs == up
    adapter.unplug()
    await bench.has_no_device()
    adapter.plug()
    await bench.has_device()
    assert uart.outputs == up


@pytest.mark.parametrize(("carrier", "local"), [("ignore", True), ("follow", False)])
async def test_the_kernel_is_told_whether_the_carrier_counts(
    carrier: str, local: bool, adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    port = make_port(carrier=carrier, protocol="rfc2217")
    bench = await serve(port)
    client = await join(bench, port)
    await client.ask(*baudrate(19200))  # pyserial sets all flags again
    assert bool(termios.tcgetattr(adapter.near)[2] & termios.CLOCAL) == local


@pytest.mark.parametrize(("hangup", "up"), [(False, DTR | RTS), (True, 0)])
async def test_the_lines_drop_with_the_last_close_only_where_that_is_asked_for(
    hangup: bool, up: int, adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    port = make_port(hangup=hangup)
    bench = await serve(port)
    await bench.connect(port)
    await until(lambda: uart.outputs == DTR | RTS, "the lines are up")
    await bench.server.apply([])
    assert uart.outputs == up


async def test_a_client_moves_the_lines_and_they_go_back_when_it_leaves(
    adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217", rts="off")
    bench = await serve(port)
    client = await join(bench, port)
    for code, up in [(9, 0), (11, RTS), (8, DTR | RTS), (12, DTR), (9, 0)]:
        assert await client.ask(CONTROL, code) == bytes((code,))
        assert uart.outputs == up
    client.tcp.close()
    await until(lambda: uart.outputs == DTR, "the lines are as the port map says")


async def test_a_client_is_told_that_cts_has_fallen_and_its_bytes_pass_all_the_same(
    adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    uart.inputs = CTS | DSR | CD
    port = make_port(protocol="rfc2217")
    bench = await serve(port)
    client = await join(bench, port)
    uart.inputs = DSR | CD
    assert await client.answer(MODEMSTATE) == b"\xa1"  # DSR and CD are up, CTS has changed
    await client.send(b"x")  # without flow control the line does not ask for CTS
    assert await adapter.receive(1) == b"x"
    uart.inputs = CTS | DSR | CD
    assert await client.answer(MODEMSTATE) == b"\xb1"


@pytest.mark.parametrize("protocol", ["raw", "rfc2217"])
async def test_a_break_is_counted_and_is_no_byte(
    protocol: str, adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    port = make_port(protocol=protocol)
    bench = await serve(port)
    client = await bench.connect(port)
    told = Rfc2217Client(client)
    if protocol == "rfc2217":
        await told.agree()
        assert await told.ask(LINESTATE_MASK, 0x10) == b"\x10"
    await adapter.send(b"before ")
    await uart.send_break()
    await adapter.send(b"after")
    if protocol == "rfc2217":
        assert await told.answer(LINESTATE) == b"\x10"
        assert await told.receive(12) == b"before after"
    else:
        assert await client.receive(12) == b"before after"
    assert bench.status()["line_errors"]["break"] == 1


@pytest.mark.parametrize(("parity", "errors"), [("even", 1), ("none", 0)])
async def test_a_parity_error_is_counted_and_the_byte_passes_as_it_came(
    parity: str, errors: int, adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217", bytesize=7, parity=parity)
    bench = await serve(port)
    client = await join(bench, port)
    assert await client.ask(LINESTATE_MASK, 0x04) == b"\x04"
    await uart.send_garbled(b"\xc1")
    assert await client.receive(1) == b"\xc1"
    if errors:
        assert await client.answer(LINESTATE) == b"\x04"
    await client.catch_up()
    assert client.payloads == []
    assert bench.status()["line_errors"]["parity"] == errors


@pytest.mark.parametrize(
    ("keys", "frame"),
    [
        ({}, "8N1"),
        ({"bytesize": 7, "parity": "even"}, "7E1"),
        ({"bytesize": 7, "parity": "odd", "stopbits": 2}, "7O2"),
        ({"bytesize": 8, "parity": "mark", "baudrate": 12345}, "8M1"),
        ({"bytesize": 6, "parity": "space"}, "6S1"),
        ({"bytesize": 6, "parity": "odd", "stopbits": 2, "baudrate": 500_000}, "6O2"),
        ({"bytesize": 5, "stopbits": 1.5, "baudrate": 50}, "5N1.5"),
        ({"bytesize": 5, "parity": "mark", "stopbits": 1.5, "flow": "rtscts"}, "5M1.5"),
        ({"bytesize": 7, "parity": "space", "baudrate": 12_000_000}, "7S1"),
        ({"bytesize": 5, "baudrate": 11_999_999}, "5N1"),
    ],
)
async def test_characters_are_as_the_port_map_says(
    keys: dict[str, Any],
    frame: str,
    adapter: Adapter,
    make_port: MakePort,
    uart: Uart,
    serve: Serve,
) -> None:
    bench = await serve(make_port(**keys))
    assert uart.frame == frame
    assert bench.status()["device"]["refused_settings"] == []
    assert bench.status()["line_settings"].items() >= keys.items()


async def test_characters_are_as_a_client_wants_them_until_it_leaves(
    adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217", bytesize=7, parity="even")
    bench = await serve(port)
    client = await join(bench, port)
    for command, frame in [
        ((DATASIZE, 8), "8E1"),
        ((PARITY, 2), "8O1"),
        ((STOPSIZE, 2), "8O2"),
        ((PARITY, 4), "8M2"),
        ((PARITY, 5), "8S2"),
        ((PARITY, 1), "8N2"),
        ((DATASIZE, 6), "6N2"),
        ((STOPSIZE, 1), "6N1"),
        ((DATASIZE, 5), "5N1"),
        ((STOPSIZE, 3), "5N1.5"),
        ((PARITY, 4), "5M1.5"),
        ((DATASIZE, 7), "7M2"),
    ]:
        assert await client.ask(*command) == bytes(command[1:])
        assert uart.frame == frame
    client.tcp.close()
    await until(lambda: uart.frame == "7E1", "characters are as the port map says")


@pytest.mark.parametrize("rate", [12_000_000, 11_999_999, 4_000_001, 250_000, 12_345, 50])
async def test_a_client_sets_any_baudrate(
    rate: int, adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217")
    bench = await serve(port)
    client = await join(bench, port)
    assert await client.ask(*baudrate(rate)) == rate.to_bytes(4, "big")
    assert tty_settings(adapter.path)["speed"] == rate
    client.tcp.close()
    await until(lambda: tty_settings(adapter.path)["speed"] == 9600, "as the port map says")


async def test_a_client_is_told_the_stop_bits_that_its_data_bits_allow(
    adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    """A UART has 1.5 stop bits with 5 data bits, and 2 with more (termios has one bit for both)."""
    port = make_port(protocol="rfc2217", bytesize=5, stopbits=1.5)
    bench = await serve(port)
    client = await join(bench, port)
    one_and_a_half, two = b"\x03", b"\x02"
    assert await client.ask(STOPSIZE, 0) == one_and_a_half
    assert await client.ask(STOPSIZE, 2) == one_and_a_half
    assert await client.ask(DATASIZE, 8) == b"\x08"
    assert await client.ask(STOPSIZE, 0) == two
    assert await client.ask(STOPSIZE, 3) == two
    assert uart.frame == "8N2"


@pytest.mark.parametrize("keys", [{}, {"low_latency": "on"}, {"low_latency": "off"}])
async def test_the_driver_passes_on_at_once_what_it_has_received(
    keys: dict[str, Any], adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    others = bytes(range(72))
    uart.serial = others
    await serve(make_port(**keys))
    assert uart.low_latency == (keys.get("low_latency") != "off")
    flags = slice(16, 20)
    assert uart.serial[: flags.start] == others[: flags.start]
    assert uart.serial[flags.stop :] == others[flags.stop :]


async def test_a_driver_without_low_latency_is_used_all_the_same(
    adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    uart.missing = {termios.TIOCGSERIAL}
    bench = await serve(make_port())
    assert not uart.low_latency
    assert bench.status()["device"]["refused_settings"] == []


async def test_without_cts_nothing_goes_out_and_with_it_all_that_waits(
    adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    port, data = make_port(flow="rtscts"), bytes(range(256)) * 100
    bench = await serve(port)
    client = await bench.connect(port)
    await client.send(data)
    await bench.has_taken(len(data))
    assert adapter.read() == b""
    await adapter.send(b"the other way")
    assert await client.receive(13) == b"the other way"
    uart.inputs = CTS
    assert await adapter.receive(len(data)) == data


async def test_a_setting_waits_for_bytes_that_wait_for_cts(
    adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217", flow="rtscts")
    bench = await serve(port)
    client = await join(bench, port)
    await client.send(b"slowly")
    await client.tell(*baudrate(115200))
    await client.send(b"fast")
    await bench.until(lambda port: port["counters"]["to_device"] == 6, "the first bytes are out")
    assert tty_settings(adapter.path)["speed"] == 9600
    uart.inputs = CTS
    assert await adapter.receive(6) == b"slowly"
    assert await client.answer(BAUDRATE) == b"\x00\x01\xc2\x00"
    assert await adapter.receive(4) == b"fast"


async def test_what_waits_for_cts_does_not_go_out_long_after_its_client_has_left(
    adapter: Adapter,
    make_port: MakePort,
    uart: Uart,
    monkeypatch: pytest.MonkeyPatch,
    serve: Serve,
) -> None:
    monkeypatch.setattr("ttybridge.line.departed.STUCK_SECONDS", 0.3)
    monkeypatch.setattr("ttybridge.line.departed.STUCK_LOOK_SECONDS", 0.02)
    port = make_port(flow="rtscts")
    bench = await serve(port)
    client = await bench.connect(port)
    await client.send(b"reboot\r")
    await bench.has_taken(7)
    client.reset()
    await bench.until(lambda port: port["counters"]["dropped"] == 7, "the bytes are dropped")
    uart.inputs = CTS
    second = await bench.connect(port)
    await second.send(b"SECOND")
    assert await adapter.receive_until(b"SECOND") == b""
