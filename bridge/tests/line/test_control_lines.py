"""DTR, RTS and RS-485: what the driver is asked for, and when."""

from __future__ import annotations

import termios
from typing import Any

import pytest

from conftest import Adapter, MakePort, Serve
from simtty import Uart

# linux/serial.h
_ENABLED, _RTS_ON_SEND, _RTS_AFTER_SEND, _RX_DURING_TX = 1, 2, 4, 16


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, ["dtr on", "rts on"]),
        ({"dtr": "off"}, ["dtr off", "rts on"]),
        ({"rts": "off"}, ["dtr on", "rts off"]),
        ({"dtr": "off", "rts": "off"}, ["dtr off", "rts off"]),
        # Opening has raised them: there is nothing to keep them from.
        ({"dtr": "keep", "rts": "keep"}, ["dtr on", "rts on"]),
        # The hardware's own flow control moves RTS.
        ({"dtr": "off", "flow": "rtscts"}, ["dtr off"]),
    ],
)
async def test_the_lines_are_set_when_the_device_is_opened(
    keys: dict[str, Any],
    told: list[str],
    uart: Uart,
    adapter: Adapter,
    make_port: MakePort,
    serve: Serve,
) -> None:
    await serve(make_port(**keys))
    assert uart.done == told


async def test_the_lines_are_set_again_when_the_device_comes_back(
    uart: Uart, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    bench = await serve(make_port(dtr="off"))
    adapter.unplug()
    await bench.has_no_device()
    adapter.plug()
    await bench.has_device()
    assert uart.done == ["dtr off", "rts on"] * 2


@pytest.mark.parametrize("protocol", ["raw", "telnet", "rfc2217"])
@pytest.mark.parametrize("sharing", ["exclusive", "shared"])
async def test_no_board_is_reset_by_clients_that_come_and_go(
    protocol: str,
    sharing: str,
    uart: Uart,
    adapter: Adapter,
    make_port: MakePort,
    monkeypatch: pytest.MonkeyPatch,
    serve: Serve,
) -> None:
    port = make_port(dtr="off", rts="off", protocol=protocol, sharing=sharing, half_close_timeout=0)
    bench = await serve(port)
    uart.done.clear()
    clients = []
    for _ in range(2):
        client = await bench.connect(port)
        clients.append(client)
        if protocol == "rfc2217":
            await client.send(b"\xff\xfb\x2c")  # IAC WILL COM-PORT-OPTION
        await client.send(b"x")
    sent = b"xx" if sharing == "shared" else b"x"
    assert await adapter.receive(len(sent)) == sent
    for client in clients:
        client.writer.transport.abort()
    await bench.has_clients(0)
    assert uart.done == []


@pytest.mark.parametrize("hangup", [False, True])
async def test_lines_drop_on_close_only_where_that_is_asked_for(
    hangup: bool, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    await serve(make_port(hangup=hangup))
    with adapter.path.open("rb", buffering=0) as tty:
        assert bool(termios.tcgetattr(tty)[2] & termios.HUPCL) == hangup


async def test_timings_of_rs485_arrive_as_they_are_written(
    uart: Uart, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    # In seconds, which pyserial takes, 29 ms and 57 ms are a little less than that.
    for before, after in [(0, 0), (1, 2), (29, 57), (1000, 999)]:
        rs485 = {"delay_before_send": before, "delay_after_send": after}
        bench = await serve(make_port(rs485=rs485))
        flags, *delays = uart.rs485[-1]
        assert flags & (_ENABLED | _RTS_ON_SEND | _RTS_AFTER_SEND) == 3
        assert delays[:2] == [before, after]
        assert bench.status()["device"]["refused_settings"] == []
        await bench.close()


@pytest.mark.parametrize("on_send", [False, True])
@pytest.mark.parametrize("during_tx", [False, True])
async def test_levels_of_rs485(
    on_send: bool,
    during_tx: bool,
    uart: Uart,
    adapter: Adapter,
    make_port: MakePort,
    serve: Serve,
) -> None:
    await serve(make_port(rs485={"rts_on_send": on_send, "rx_during_tx": during_tx}))
    flags = uart.rs485[-1][0]
    assert bool(flags & _RTS_ON_SEND) == on_send
    assert bool(flags & _RTS_AFTER_SEND) == (not on_send)
    assert bool(flags & _RX_DURING_TX) == during_tx


async def test_without_rs485_in_the_port_map_the_device_is_left_as_it_is(
    uart: Uart, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    await serve(make_port())
    assert uart.rs485 == []


async def test_a_device_without_rs485_is_reported_and_served(
    adapter: Adapter, make_port: MakePort, caplog: pytest.LogCaptureFixture, serve: Serve
) -> None:
    port = make_port(rs485={"rts_on_send": True})
    bench = await serve(port)
    assert bench.status()["device"]["refused_settings"] == ["rs485"]
    assert "sw: the device refuses rs485" in caplog.text
    client = await bench.connect(port)
    await adapter.send(b"x")
    assert await client.receive(1) == b"x"
