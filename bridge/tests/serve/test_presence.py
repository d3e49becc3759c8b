"""The first client comes and the last one leaves: first_words, last_words, hangup."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conftest import Adapter, Bench, MakePort, Serve, TcpClient, free_tcp_port, until
from kept import StartKept
from process import entry
from rfc2217_client import Rfc2217Client
from simtty import DTR, RTS, Uart
from ttybridge.model.check import parse_portmap
from ttybridge.model.ports import Port
from ttybridge.serve.port import ServedPort

WORDS: dict[str, Any] = {"first_words": "\r", "last_words": "exit\r\x04"}
FIRST, LAST = b"\r", b"exit\r\x04"


def served(bench: Bench) -> ServedPort:
    return bench.server._services["sw"].served


async def leave(bench: Bench, client: TcpClient, stay: int = 0) -> None:
    client.reset()
    await bench.has_clients(stay)


async def is_all(adapter: Adapter, words: bytes) -> None:
    """The device gets these bytes, and no more with the next ones."""
    assert await adapter.receive(len(words)) == words


@pytest.mark.parametrize("protocol", ["raw", "telnet", "rfc2217"])
@pytest.mark.parametrize("sharing", ["exclusive", "shared"])
async def test_the_device_is_told_each_time_around_what_a_client_says(
    protocol: str, sharing: str, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol=protocol, sharing=sharing, **WORDS)
    bench = await serve(port)
    for _ in range(2):
        client = await bench.connect(port)
        await client.send(b"ls")
        await bench.has_taken(2)
        await leave(bench, client)
        await is_all(adapter, FIRST + b"ls" + LAST)


async def test_the_words_come_once_for_several_clients(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(sharing="shared", **WORDS)
    bench = await serve(port)
    one, two = await bench.connect(port), await bench.connect(port)
    await leave(bench, one, 1)
    await two.send(b"two")
    await is_all(adapter, FIRST + b"two")
    await leave(bench, two)
    await is_all(adapter, LAST)


async def test_who_only_watches_does_not_count(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    places = [f"127.0.0.1:{free_tcp_port()}" for _ in range(2)]
    port = make_port(listen=[places[0], {"at": places[1], "access": "watch"}], **WORDS)
    bench = await serve(port)
    await bench.connect(port, listener=1)
    client = await bench.connect(port)
    await leave(bench, client, 1)
    await is_all(adapter, FIRST + LAST)


async def test_who_replaces_a_client_goes_on_with_its_session(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(sharing="replace", **WORDS)
    bench = await serve(port)
    old, new = await bench.connect(port), await bench.connect(port)
    await new.send(b"new")
    await old.rest()
    await is_all(adapter, FIRST + b"new")
    await leave(bench, new)
    await is_all(adapter, LAST)


async def test_who_comes_after_a_client_that_will_send_no_more_begins_a_session(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(half_close_timeout=86_400, **WORDS)
    bench = await serve(port)
    done = await bench.connect(port)
    await done.send(b"done")
    done.finish()
    await until(lambda: served(bench).clients.inside[0].state.finished, "it is seen")
    await bench.connect(port)
    await done.rest()
    await is_all(adapter, FIRST + b"done" + LAST + FIRST)


async def test_no_kick_drops_the_last_words(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(**WORDS)
    bench = await serve(port)
    await bench.connect(port)
    served(bench).kick(None, "root")
    await is_all(adapter, FIRST + LAST)


async def test_what_is_left_of_a_client_goes_before_the_last_words(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol="telnet", sharing="shared", **WORDS)
    bench = await serve(port)
    client = await bench.connect(port)
    pasted = b"a" * 50_000
    await client.send(pasted)
    await bench.has_taken(len(pasted))
    await leave(bench, client)
    await is_all(adapter, FIRST + pasted + LAST)


@pytest.mark.parametrize("how", ["stop", "remove"])
async def test_a_port_that_ends_is_left_by_all(
    how: str, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(sharing="shared", **WORDS)
    bench = await serve(port)
    for _ in range(2):
        await bench.connect(port)
    await (bench.close() if how == "stop" else bench.server.apply([]))
    await is_all(adapter, FIRST + LAST)


@pytest.mark.parametrize("comes", [False, True])
async def test_a_device_that_was_away_gets_its_last_words_when_it_is_back(
    comes: bool, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(**WORDS)
    bench = await serve(port)
    client = await bench.connect(port)
    adapter.unplug()
    await bench.has_no_device()
    await leave(bench, client)
    if comes:
        await (await bench.connect(port)).send(b"next")
        await bench.has_taken(4)
    adapter.plug()
    await is_all(adapter, LAST + FIRST + b"next" if comes else LAST)


@pytest.mark.parametrize("how", ["restart", "kill"])
@pytest.mark.parametrize("stays", [True, False])
async def test_a_restart_is_no_client_that_leaves(
    how: str, stays: bool, adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), **WORDS)
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    await is_all(adapter, FIRST)
    if how == "kill":
        await daemon.kill()
    elif stays:
        await daemon.restart()
    else:
        await daemon.stop()
    if stays:
        client.write(b"on")
        await is_all(adapter, b"on")
    client.reset()
    if how == "restart" and not stays:
        await daemon.serve(sw)
    await daemon.has_clients(0)
    await is_all(adapter, LAST)
    await daemon.restart()
    await daemon.connect(sw)
    await is_all(adapter, FIRST)


# DTR and RTS.


async def test_the_lines_follow_the_clients(
    uart: Uart, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(hangup=True)
    bench = await serve(port)
    assert uart.done == ["dtr off", "rts off"]
    for _ in range(2):
        client = await bench.connect(port)
        await until(lambda: uart.outputs == DTR | RTS, "the lines are up")
        await leave(bench, client)
        await until(lambda: uart.outputs == 0, "the lines are down")


async def test_the_lines_drop_after_the_last_words(
    uart: Uart, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(hangup=True, last_words="exit\r")
    bench = await serve(port)
    client = await bench.connect(port)
    await until(lambda: uart.outputs == DTR | RTS, "the lines are up")
    await leave(bench, client)
    await until(lambda: not served(bench).queue.size, "they are in the tty")
    await asyncio.sleep(0.1)  # several looks
    assert uart.outputs == DTR | RTS, "the line has not carried them"
    await is_all(adapter, b"exit\r")
    await until(lambda: uart.outputs == 0, "the lines are down")


async def test_who_comes_at_once_finds_a_device_that_was_hung_up(
    uart: Uart,
    adapter: Adapter,
    make_port: MakePort,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ttybridge.line.comport.LINE_POLL_SECONDS", 10.0)
    port = make_port(hangup=True, first_words="hello")
    bench = await serve(port)
    client = await bench.connect(port)
    await until(lambda: uart.outputs == DTR | RTS, "the lines are up")
    await is_all(adapter, b"hello")
    uart.done.clear()
    await leave(bench, client)
    await bench.connect(port)
    assert not adapter.read()
    await is_all(adapter, b"hello")
    assert uart.done == ["dtr off", "rts off", "dtr on", "rts on"]


async def test_a_line_that_is_kept_off_stays_off(
    uart: Uart, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(hangup=True, dtr="off", first_words="hello")
    bench = await serve(port)
    await bench.connect(port)
    await is_all(adapter, b"hello")
    await until(lambda: uart.outputs == RTS, "RTS is up")
    assert "dtr on" not in uart.done


async def test_an_rfc2217_client_moves_the_lines_while_it_is_there(
    uart: Uart, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(hangup=True, protocol="rfc2217")
    bench = await serve(port)
    client = Rfc2217Client(await bench.connect(port))
    await client.agree()
    await client.ask(5, 9)  # SET-CONTROL: DTR off
    assert uart.outputs == RTS
    await client.ask(5, 8)
    assert uart.outputs == DTR | RTS
    client.tcp.close()
    await until(lambda: uart.outputs == 0, "the lines are down")


async def test_a_device_that_comes_back_has_the_lines_as_clients_are_there(
    uart: Uart, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(hangup=True)
    bench = await serve(port)
    client = await bench.connect(port)
    for outputs in (DTR | RTS, 0):
        adapter.unplug()
        await bench.has_no_device()
        if not outputs:
            await leave(bench, client)
        adapter.plug()
        await bench.has_device()
        assert uart.outputs == outputs


async def test_a_reload_hangs_up_and_picks_up_where_nobody_is_there(
    uart: Uart, adapter: Adapter, serve: Serve
) -> None:
    def port(hangup: bool) -> Port:
        keys = {"device": str(adapter.path), "listen": place, "hangup": hangup}
        return parse_portmap([{"name": "sw", **keys}])[0]

    place = f"127.0.0.1:{free_tcp_port()}"
    bench = await serve(port(False))
    await bench.server.apply([port(True)])
    await until(lambda: uart.outputs == 0, "the lines are down")
    await bench.server.apply([port(False)])
    await until(lambda: uart.outputs == DTR | RTS, "the lines are up")
