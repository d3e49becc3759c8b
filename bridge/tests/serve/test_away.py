"""Clients and their input while the device is away: `away: keep`, `refuse` and `drop`."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from conftest import Adapter, MakePort, Serve, in_time, on_each_loop, until
from process import StartDaemon, entry
from ttybridge.line.write_queue import AWAY_SIZE

MIB = 1024 * 1024

# What is away counts as stuck soon, and is looked for often.
IMPATIENT = {"STUCK_SECONDS": 0.3, "DEVICE_POLL_SECONDS": 0.05}

# The event loops read at most so much at a time.
ONE_READ = 256 * 1024


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a server in this process."""
    monkeypatch.setattr("ttybridge.line.departed.STUCK_SECONDS", IMPATIENT["STUCK_SECONDS"])
    monkeypatch.setattr("ttybridge.serve.port.DEVICE_POLL_SECONDS", 0.05)


@pytest.mark.parametrize("protocol", ["raw", "telnet"])
@on_each_loop
async def test_all_that_a_client_sends_meanwhile_waits_as_long_as_the_client_stays(
    protocol: str, adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), protocol=protocol)
    process = await daemon(sw, constants=IMPATIENT)
    client = await process.connect(sw)
    adapter.unplug()
    await process.has_no_device()
    data = os.urandom(8 * MIB).replace(b"\xff", b"f").replace(b"\r", b"r")
    sending = asyncio.create_task(client.send(data))
    await process.has_taken(AWAY_SIZE)
    await asyncio.sleep(1)  # it is away for longer than a stuck device is waited for
    (status,) = (await process.port())["clients"]
    assert status["received"] <= AWAY_SIZE + ONE_READ
    adapter.plug()
    assert await adapter.receive(len(data)) == data
    async with in_time("all is sent"):
        await sending
    assert (await process.port())["counters"]["dropped"] == 0


@on_each_loop
async def test_all_clients_of_a_port_together_fill_it_once(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared", max_clients=8)
    process = await daemon(sw)
    adapter.unplug()
    await process.has_no_device()
    clients = [await process.connect(sw) for _ in range(8)]
    for client in clients:
        client.write(b"k" * MIB)
    await process.has_taken(1)
    await process.until(
        lambda port: sum(each["received"] for each in port["clients"]) >= AWAY_SIZE, "it is full"
    )
    await asyncio.sleep(0.5)
    port = await process.port()
    assert sum(each["received"] for each in port["clients"]) <= AWAY_SIZE + 8 * ONE_READ
    adapter.plug()
    assert (await adapter.receive(8 * MIB)).count(b"k") == 8 * MIB


@pytest.mark.parametrize("protocol", ["raw", "telnet"])
async def test_with_carrier_follow_clients_are_closed_when_the_line_hangs_up(
    protocol: str, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol=protocol, carrier="follow")
    bench = await serve(port)
    client = await bench.connect(port)
    adapter.unplug()  # a driver hangs the line up without a carrier as it does without an adapter
    assert (await client.rest()).endswith(b" went away: hung up\r\n")
    await bench.connect(port)
    assert not bench.status()["device"]["present"]


@pytest.mark.usefixtures("impatient")
async def test_who_leaves_while_it_is_not_read_is_noticed_and_what_it_sent_is_dropped(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port()
    adapter.unplug()
    bench = await serve(port)
    gone = await bench.connect(port)
    gone.write(bytes(AWAY_SIZE))
    await bench.has_taken(AWAY_SIZE)
    gone.write(b"more")
    gone.close()
    await bench.has_clients(0)
    assert bench.status()["counters"]["dropped"] == AWAY_SIZE
    client = await bench.connect(port)
    await client.send(b"hello")
    adapter.plug()
    assert await adapter.receive(5) == b"hello"


@pytest.mark.usefixtures("impatient")
async def test_others_go_on_when_the_one_that_filled_the_port_has_left(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(sharing="shared")
    adapter.unplug()
    bench = await serve(port)
    greedy, other = await bench.connect(port), await bench.connect(port)
    greedy.write(bytes(AWAY_SIZE))
    await bench.has_taken(AWAY_SIZE)
    await other.send(b"hello")
    await asyncio.sleep(0.3)
    assert bench.status()["clients"][1]["received"] == 0
    greedy.close()
    await bench.has_clients(1)
    await bench.has_taken(5)
    adapter.plug()
    assert await adapter.receive(5) == b"hello"


async def test_newcomers_are_refused_with_words(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(away="refuse")
    adapter.unplug()
    bench = await serve(port)
    client = await bench.connect(port)
    words = f"ttybridge: port sw has no device now: {adapter.path} does not exist\r\n"
    assert await client.rest() == words.encode()
    assert bench.status()["counters"]["refused_clients"] == 1
    adapter.plug()
    await bench.has_device()
    client = await bench.connect(port)
    await client.send(b"x")
    assert await adapter.receive(1) == b"x"


@pytest.mark.parametrize("keys", [{"sharing": "shared"}, {"sharing": "replace"}])
@pytest.mark.parametrize("protocol", ["raw", "telnet", "rfc2217"])
async def test_those_that_are_there_are_closed_with_words(
    keys: dict[str, Any], protocol: str, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(away="refuse", protocol=protocol, **keys)
    bench = await serve(port)
    clients = [await bench.connect(port) for _ in range(2)]
    adapter.unplug()
    for client in clients:
        assert b"ttybridge: port sw has no device now: " in await client.rest()
    assert not bench.status()["clients"]


async def test_input_is_thrown_away_and_counted(
    adapter: Adapter, make_port: MakePort, caplog: pytest.LogCaptureFixture, serve: Serve
) -> None:
    port = make_port(away="drop")
    bench = await serve(port)
    client = await bench.connect(port)
    adapter.unplug()
    await bench.has_no_device()
    await client.send(bytes(MIB))
    await bench.has_taken(MIB)
    assert bench.status()["counters"]["dropped"] == MIB
    adapter.plug()
    await bench.has_device()
    await client.send(b"hello")
    assert await adapter.receive(5) == b"hello"
    assert f"sw: {MIB} bytes came while the device was away: dropped" in caplog.text


async def test_what_waits_when_the_device_goes_is_thrown_away_too(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(away="drop")
    bench = await serve(port)
    client = await bench.connect(port)
    await client.send(bytes(MIB))
    await bench.has_taken(MIB)
    adapter.unplug()
    await bench.has_no_device()
    counters = bench.status()["counters"]
    # A pty says only that it is gone: what it held then has been written.
    assert counters["dropped"] + counters["to_device"] == MIB


async def test_a_released_device_is_away(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    refusing = make_port(away="refuse")
    bench = await serve(refusing)
    client = await bench.connect(refusing)
    await bench.server.release("sw", 600, "a test")
    assert b"port sw has no device now: " in await client.rest()
    await until(lambda: not bench.status()["clients"], "it has left")
    assert b" is released until " in await (await bench.connect(refusing)).rest()
    await bench.server.reclaim("sw", "a test")
    await bench.connect(refusing)
    await bench.has_clients(1)
