"""`pack`: what a device says without a pause reaches its clients in one piece."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conftest import Adapter, MakePort, Serve, TcpClient, in_each_loop, on_each_loop, until
from kept import StartKept
from process import entry
from rfc2217_client import PURGE, Rfc2217Client, baudrate

ANSWER = bytes(range(64, 64 + 37))
LUMPS = [ANSWER[at : at + 8] for at in range(0, len(ANSWER), 8)]

# A line that is so slow that a pause does not end while a busy machine hesitates: a character takes
# a fifth of a second.
SLOW: dict[str, Any] = {"baudrate": 50}

# A pause that does not end within a test, and a piece that ends with the answer.
WHOLE: dict[str, Any] = {**SLOW, "pack": {"idle": 1000, "max": len(ANSWER)}}


async def say_in_lumps(adapter: Adapter) -> None:
    """Say the answer as the FIFO of a UART hands it over."""
    for lump in LUMPS:
        await adapter.send(lump)
        await asyncio.sleep(0.01)


async def heard(client: TcpClient) -> list[bytes]:
    """The answer, in the pieces in which it comes."""
    pieces: list[bytes] = []
    while sum(map(len, pieces)) < len(ANSWER):
        pieces.append(await client.receive_some())
    return pieces


@in_each_loop
async def test_an_answer_comes_as_a_whole_once_the_line_pauses(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(**SLOW, pack={"idle": 1}, sharing="shared")
    bench = await serve(port)
    clients = [await bench.connect(port) for _ in range(2)]
    await say_in_lumps(adapter)
    for client in clients:
        assert await heard(client) == [ANSWER]


@in_each_loop
async def test_without_pack_each_lump_comes_at_once(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(**SLOW)
    bench = await serve(port)
    client = await bench.connect(port)
    for lump in LUMPS:
        await adapter.send(lump)
        assert await client.receive_some() == lump


async def test_what_an_rfc2217_client_sets_says_how_long_a_pause_is(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(**SLOW, pack={"idle": 1000}, protocol="rfc2217")
    bench = await serve(port)
    client = Rfc2217Client(await bench.connect(port))
    await client.agree()
    await client.ask(*baudrate(115200))
    await adapter.send(ANSWER)
    assert await client.receive(len(ANSWER)) == ANSWER  # else this takes three minutes


async def test_what_a_client_purges_is_not_sent(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(**WHOLE, protocol="rfc2217")
    bench = await serve(port)
    client = Rfc2217Client(await bench.connect(port))
    await client.agree()
    await adapter.send(b"purged")
    await bench.has_read(6)
    await client.ask(PURGE, 1)
    await adapter.send(ANSWER)
    assert await client.receive(len(ANSWER)) == ANSWER


async def test_what_waits_is_sent_when_the_device_goes(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(**WHOLE)
    bench = await serve(port)
    client = await bench.connect(port)
    await adapter.send(b"last words")
    await bench.has_read(10)
    adapter.unplug()
    assert await client.receive(10) == b"last words"


async def test_what_waits_is_sent_before_a_port_stops(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(**WHOLE)
    bench = await serve(port)
    client = await bench.connect(port)
    await adapter.send(b"last words")
    await bench.has_read(10)
    await bench.server.apply([])
    assert await client.rest() == b"last words"


@on_each_loop
async def test_what_waits_is_sent_first_after_a_restart(adapter: Adapter, kept: StartKept) -> None:
    sw = entry(device=str(adapter.path), **WHOLE, replay=100)
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    await adapter.send(b"before ")
    await daemon.has_read(7)
    assert (await daemon.port())["clients"][0]["sent"] == 0
    await daemon.restart()
    await adapter.send(ANSWER)
    assert await client.receive(7 + len(ANSWER)) == b"before " + ANSWER
    assert (await daemon.port())["counters"]["from_device"] == 7 + len(ANSWER)


async def test_a_log_and_a_replay_get_whole_pieces_too(
    adapter: Adapter, make_port: MakePort, serve: Serve, tmp_path: Any
) -> None:
    log = tmp_path / "log"
    port = make_port(**WHOLE, replay=100, log={"file": str(log)})
    bench = await serve(port)
    await adapter.send(ANSWER)
    await bench.has_read(len(ANSWER))
    client = await bench.connect(port)
    assert await client.receive(len(ANSWER)) == ANSWER
    await until(lambda: log.exists() and log.read_bytes(), "the log has it")


@pytest.mark.parametrize("pack", ["off", {"max": 2}])
async def test_every_byte_passes_once_and_in_order(
    pack: Any, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    data = bytes(range(256)) * 256
    port = make_port(pack=pack, baudrate=4_000_000)
    bench = await serve(port)
    client = await bench.connect(port)
    sending = asyncio.create_task(adapter.send(data + b"!"))
    assert await client.receive(len(data) + 1) == data + b"!"
    await sending
