"""Clients that are silent for too long: what counts as silence, for people and for programs."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from conftest import Adapter, MakeAdapter, MakePort, Serve, on_each_loop, until
from kept import Kept, StartKept
from person import Framed
from process import StartDaemon, entry
from rfc2217_client import AYT, BRK, NOP
from ttybridge.protocol import console as frames
from ttybridge.serve.record import MemoryFile


@asynccontextmanager
async def talking(adapter: Adapter) -> AsyncIterator[None]:
    """The device says something all the time."""

    async def talk() -> None:
        while True:
            await adapter.send(b".")
            await asyncio.sleep(0.05)

    task = asyncio.create_task(talk())
    try:
        yield
    finally:
        task.cancel()


@pytest.mark.parametrize(("protocol", "own"), [("raw", b""), ("telnet", NOP)])
async def test_only_its_own_input_keeps_a_client(
    protocol: str, own: bytes, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol=protocol, idle_timeout=2, idle="input", sharing="shared")
    bench = await serve(port)
    silent, typing = await bench.connect(port), await bench.connect(port)
    async with talking(adapter):
        while silent.name in [one["address"] for one in bench.status()["clients"]]:
            await asyncio.sleep(0.05)
            silent.write(own)
            await typing.send(b"x")
    assert typing.name in [one["address"] for one in bench.status()["clients"]]
    words = b"[ttybridge: closed after 2 s without input]\r\n"
    assert (words in await silent.rest()) == (protocol == "telnet")


@pytest.mark.parametrize("own", [b"x", BRK, AYT])
async def test_what_a_person_does_at_a_telnet_client_is_input(
    own: bytes, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol="telnet", idle_timeout=3600, idle="input")
    bench = await serve(port)
    client = await bench.connect(port)
    (served,) = bench.server._services["sw"].served.clients.all
    await client.send(NOP)
    before = served.state.input_at
    await client.send(own)
    await until(lambda: served.state.input_at > before, "it is noted as input")


@on_each_loop
async def test_a_person_has_a_timeout_where_the_port_has_none(
    adapter: Adapter, make_adapter: MakeAdapter, daemon: StartDaemon
) -> None:
    other = make_adapter("other")
    sw = entry(device=str(adapter.path), sharing="shared")
    longer = entry(name="longer", device=str(other.path), idle_timeout=3600)
    process = await daemon(sw, longer, constants={"PEOPLE_IDLE_SECONDS": 2})
    client = await process.connect(sw)
    stays = await Framed.attach(process, "longer")
    silent, typing = await Framed.attach(process, "sw"), await Framed.attach(process, "sw")
    watcher = await Framed.attach(process, "sw", watch=True)
    async with talking(adapter):
        ended = asyncio.create_task(silent.is_closed())
        watched = asyncio.create_task(watcher.is_closed())
        while not (ended.done() and watched.done()):
            typing.types(b"x")
            await asyncio.sleep(0.05)
    for one in ("root:1", "root:3"):
        assert f"sw: client {one} closed after 2 s without input" in process.log
    here = [one["address"] for one in (await process.port())["clients"]]
    assert here == [client.name, "root:2"], "who typed and who came by TCP stay"
    assert [one["address"] for one in (await process.port("longer"))["clients"]] == ["root:1"]
    for each in (stays, typing, silent, watcher):
        each.close()


async def test_a_person_is_warned_and_told_why(adapter: Adapter, daemon: StartDaemon) -> None:
    seconds = {"PEOPLE_IDLE_SECONDS": 6, "WARNING_SECONDS": 3}
    process = await daemon(entry(device=str(adapter.path)), constants=seconds)
    person = await Framed.attach(process, "sw")
    said = [await person.hears(frames.NOTICE)]
    while said[-1].startswith(b"closes in "):
        said.append(await person.hears(frames.NOTICE))
    assert said == [said[0], b"closed after 6 s without input"]
    assert await person.is_closed()
    person.close()


async def test_a_reload_counts_input_at_once(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(idle_timeout=2)
    bench = await serve(port)
    client = await bench.connect(port)
    async with talking(adapter):
        await client.receive(1)
        await bench.server.apply([make_port(listen=port.endpoint, idle_timeout=2, idle="input")])
        assert (await client.rest()).strip(b".") == b""


def record(daemon: Kept) -> dict[str, Any]:
    """What the running daemon has noted of its only client."""
    name = next(name for name in [*daemon.store] if name[0] == "r")
    noted = MemoryFile(os.dup(daemon.store[name])).read() or b"{}"
    clients = json.loads(noted).get("sw", {}).get("clients", [])
    return dict(clients[0]) if clients else {}


@pytest.mark.parametrize("end", ["restart", "kill"])
async def test_the_time_of_the_last_input_outlives_the_process(
    end: str, adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), idle_timeout=3600, idle="input")
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    client.write(b"x")
    assert await adapter.receive(1) == b"x"
    await asyncio.sleep(0.01)  # the loop's clock counts in milliseconds
    await adapter.send(b"y")
    assert await client.receive(1) == b"y"

    def both_noted() -> bool:
        noted = record(daemon)
        return bool(noted) and (noted["received"], noted["sent"]) == (1, 1)

    await until(both_noted, "the record has both")
    before = record(daemon)["input_at"]
    assert before < record(daemon)["active_at"]
    await getattr(daemon, end)()
    await until(both_noted, "the next process has noted both")
    assert record(daemon)["input_at"] == before
