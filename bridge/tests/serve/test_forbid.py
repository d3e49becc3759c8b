"""What `forbid` keeps clients from: breaks, line settings, DTR and RTS."""

from __future__ import annotations

import pytest

from conftest import Adapter, MakePort, Serve, on_each_loop
from person import Framed
from process import StartDaemon, entry
from rfc2217_client import (
    BAUDRATE,
    BRK,
    CONTROL,
    DATASIZE,
    PARITY,
    SIGNATURE,
    STOPSIZE,
    Rfc2217Client,
    baudrate,
)
from simtty import DTR, RTS, Uart
from ttybridge.model.check import parse_portmap
from ttybridge.protocol import console as frames

ALL = ["break", "line_settings", "modem_lines"]
BREAK_ON, BREAK_OFF, DTR_ON, DTR_OFF, RTS_ON, RTS_OFF, RTSCTS = 5, 6, 8, 9, 11, 12, 3


async def test_a_telnet_client_is_told_and_no_break_is_sent(
    adapter: Adapter,
    make_port: MakePort,
    uart: Uart,
    serve: Serve,
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = make_port(protocol="telnet", forbid=["break"])
    bench = await serve(port)
    uart.done.clear()
    client = await bench.connect(port)
    await client.send(b"before" + BRK + b"after")
    said = b"[ttybridge: sw: you may not send a break: the port map forbids it]"
    await client.hear(said)
    assert await adapter.receive(11) == b"beforeafter"
    assert uart.done == []
    line = f"sw: client {client.name} may not send a break: the port map forbids it"
    assert line in caplog.text


@on_each_loop
async def test_a_person_at_the_console_is_told(adapter: Adapter, daemon: StartDaemon) -> None:
    process = await daemon(entry(device=str(adapter.path), forbid=["break"]))
    person = await Framed.attach(process, "sw")
    person.asks(frames.BREAK)
    words = b"sw: you may not send a break: the port map forbids it"
    assert await person.hears(frames.NOTICE) == words
    person.types(b"x")
    assert await adapter.receive(1) == b"x"
    watcher = await Framed.attach(process, "sw", watch=True)
    assert b"you watch" in await watcher.hears(frames.NOTICE)
    watcher.asks(frames.BREAK)  # which does nothing for who watches, and is no news
    watcher.asks(frames.WATCH)
    assert b"you watch" in await watcher.hears(frames.NOTICE)
    person.close()
    watcher.close()


async def test_rfc2217_answers_with_what_is_in_force(
    adapter: Adapter,
    make_port: MakePort,
    uart: Uart,
    serve: Serve,
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = make_port(protocol="rfc2217", forbid=ALL)
    bench = await serve(port)
    client = Rfc2217Client(await bench.connect(port))
    await client.agree()
    uart.done.clear()
    asked: list[tuple[tuple[int, ...], bytes]] = [
        (baudrate(115200), b"\x00\x00\x25\x80"),
        (baudrate(9600), b"\x00\x00\x25\x80"),
        ((DATASIZE, 7), b"\x08"),
        ((PARITY, 3), b"\x01"),
        ((STOPSIZE, 2), b"\x01"),
        ((CONTROL, RTSCTS), b"\x01"),
        ((CONTROL, BREAK_ON), bytes((BREAK_OFF,))),
        ((CONTROL, BREAK_OFF), bytes((BREAK_OFF,))),
        ((CONTROL, DTR_OFF), bytes((DTR_ON,))),
        ((CONTROL, RTS_OFF), bytes((RTS_ON,))),
        ((CONTROL, RTS_ON), bytes((RTS_ON,))),
        ((BAUDRATE, 0, 0, 0, 0), b"\x00\x00\x25\x80"),
        ((SIGNATURE,), b"ttybridge"),
    ]
    for command, answer in asked:
        assert await client.ask(*command) == answer, command
    await client.tcp.send(BRK)
    await client.send(b"x")
    assert await adapter.receive(1) == b"x"
    assert uart.done == []
    assert (uart.outputs, uart.frame) == (DTR | RTS, "8N1")
    await client.catch_up()
    assert client.data == b"", "a program gets no words"
    # Where what is asked for is so already, nothing was refused.
    for what, times in (("line settings", 5), ("DTR and RTS", 2)):
        assert caplog.text.count(f"may not change {what}: the port map forbids it") == times
    assert caplog.text.count("may not send a break") == 2


@pytest.mark.parametrize("forbidden", ALL)
async def test_one_thing_is_forbidden_and_the_others_are_not(
    forbidden: str, adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217", forbid=[forbidden])
    bench = await serve(port)
    client = Rfc2217Client(await bench.connect(port))
    await client.agree()
    uart.done.clear()
    may = {what: what != forbidden for what in ALL}
    answer = await client.ask(*baudrate(115200))
    assert (int.from_bytes(answer, "big") == 115200) == may["line_settings"]
    assert (await client.ask(CONTROL, DTR_OFF) == bytes((DTR_OFF,))) == may["modem_lines"]
    assert (await client.ask(CONTROL, BREAK_ON) == bytes((BREAK_ON,))) == may["break"]
    assert await client.ask(CONTROL, BREAK_OFF) == bytes((BREAK_OFF,))
    dtr = ["dtr off"] if may["modem_lines"] else []
    assert uart.done == dtr + (["break", "break ends"] if may["break"] else [])


async def test_a_break_that_is_on_when_it_is_forbidden_can_end(
    adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217")
    bench = await serve(port)
    client = Rfc2217Client(await bench.connect(port))
    await client.agree()
    uart.done.clear()
    assert await client.ask(CONTROL, BREAK_ON) == bytes((BREAK_ON,))
    same = {"name": "sw", "device": port.device, "listen": port.endpoint, "protocol": "rfc2217"}
    await bench.server.apply(parse_portmap([{**same, "forbid": ["break"]}]))
    assert await client.ask(CONTROL, BREAK_OFF) == bytes((BREAK_OFF,))
    assert await client.ask(CONTROL, BREAK_ON) == bytes((BREAK_OFF,))
    assert uart.done == ["break", "break ends"]


async def test_a_listener_forbids_more_than_its_port(
    adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    places = [make_port().endpoint for _ in range(2)]
    port = make_port(
        protocol="rfc2217",
        sharing="shared",
        forbid=["break"],
        listen=[places[0], {"at": places[1], "forbid": ["line_settings"]}],
    )
    bench = await serve(port)
    for listener, speed in ((1, 9600), (0, 19200)):
        tcp = await bench.connect(port, listener=listener)
        client = Rfc2217Client(tcp)
        await client.agree()
        assert int.from_bytes(await client.ask(*baudrate(19200)), "big") == speed
        assert await client.ask(CONTROL, BREAK_ON) == bytes((BREAK_OFF,))
        tcp.close()
        await bench.has_clients(0)


async def test_what_the_port_itself_does_is_not_forbidden(
    adapter: Adapter, make_port: MakePort, uart: Uart, serve: Serve
) -> None:
    words = {"first_words": "hello", "last_words": "bye", "hangup": True}
    place = make_port().endpoint
    listen = [make_port().endpoint, {"at": place, "baudrate": 19200}]
    port = make_port(forbid=ALL, listen=listen, rts="off", **words)
    bench = await serve(port)
    client = await bench.connect(port, listener=1)
    assert await adapter.receive(5) == b"hello"
    await bench.has_baudrate(19200)
    assert uart.outputs == DTR
    client.close()
    assert await adapter.receive(3) == b"bye"
    await bench.has_baudrate(9600)
    await bench.until(lambda _: uart.outputs == 0, "the lines drop")
