"""A daemon that is killed, seen by clients and devices: a stand-in for systemd starts it again."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from signal import SIGHUP, SIGKILL

import pytest

from conftest import Adapter, MakeAdapter, Remote, on_each_loop, until
from kept import StartKept
from person import Framed
from process import entry
from rfc2217_client import Rfc2217Client, baudrate
from ttybridge.daemon.earlier import MOST_TRIES
from ttybridge.protocol import console as frames
from ttybridge.serve.record import MemoryFile


@on_each_loop
@pytest.mark.parametrize("protocol", ["raw", "telnet", "rfc2217"])
async def test_a_client_stays_connected_over_five_kills(
    protocol: str, adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), protocol=protocol)
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    for number in range(5):
        await daemon.kill()
        client.write(b"there%d" % number)
        assert await adapter.receive(6) == b"there%d" % number
        await adapter.send(b"back%d" % number)
        assert await client.hear(b"back%d" % number)
    (said,) = (await daemon.port())["clients"]
    assert said["address"] == client.name


async def test_several_ports_and_clients_stay(
    adapter: Adapter, make_adapter: MakeAdapter, kept: StartKept
) -> None:
    other = make_adapter("other")
    ports = [
        entry(device=str(adapter.path), sharing="shared", max_clients=8),
        entry(name="two", device=str(other.path)),
    ]
    daemon = await kept(*ports)
    clients = [await daemon.connect(ports[0]) for _ in range(5)]
    alone = await daemon.connect(ports[1])
    await daemon.kill()
    await adapter.send(b"to all")
    for client in clients:
        assert await client.receive(6) == b"to all"
    alone.write(b"one")
    assert await other.receive(3) == b"one"


@on_each_loop
async def test_a_client_that_comes_after_a_kill_survives_the_next(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared")
    daemon = await kept(sw)
    first = await daemon.connect(sw)
    await daemon.kill()
    second = await daemon.connect(sw)
    await daemon.kill()
    await adapter.send(b"both")
    assert await first.receive(4) == await second.receive(4) == b"both"


@on_each_loop
async def test_a_kill_after_a_restart_and_a_restart_after_a_kill(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    for step in (daemon.restart, daemon.kill, daemon.restart, daemon.kill, daemon.kill):
        await step()
        client.write(b"x")
        assert await adapter.receive(1) == b"x"
    assert (daemon.has("record"), daemon.has("listener"), daemon.has("tty")) == (1, 1, 1)


@on_each_loop
async def test_who_leaves_is_kept_no_more(adapter: Adapter, kept: StartKept) -> None:
    sw = entry(device=str(adapter.path), sharing="shared")
    daemon = await kept(sw)
    stays = await daemon.connect(sw)
    for _ in range(20):
        client = await daemon.connect(sw)
        client.close()
    await daemon.has_clients(1)
    await until(lambda: daemon.has("client") == 1, "only one client is kept")
    await daemon.kill()
    await daemon.has_clients(1)
    await adapter.send(b"x")
    assert await stays.receive(1) == b"x"


@on_each_loop
async def test_a_client_that_is_kicked_sees_the_end_at_once(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    await daemon.say(b'{"command": "kick", "port": "sw"}\n')
    assert await client.is_closed()


async def test_a_client_that_left_while_nobody_served_it_is_let_go(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    assert await daemon.end(SIGKILL) == -SIGKILL
    client.close()
    await daemon.serve(sw)
    await daemon.has_clients(0)
    await until(lambda: daemon.has("client") == 0, "it is kept no more")


async def test_a_device_that_went_away_while_nobody_served_it(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    assert await daemon.end(SIGKILL) == -SIGKILL
    adapter.unplug()
    await daemon.serve(sw)
    await daemon.has_no_device()
    adapter.plug()
    await daemon.until(lambda port: port["device"]["present"], "the device is back")
    client.write(b"x")
    assert await adapter.receive(1) == b"x"


@on_each_loop
async def test_what_an_rfc2217_client_has_set_outlives_a_kill(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), protocol="rfc2217")
    daemon = await kept(sw)
    client = Rfc2217Client(await daemon.connect(sw))
    await client.agree()
    for speed in (19200, 38400):
        await client.ask(*baudrate(speed))
        await daemon.kill()
        assert (await daemon.port())["line_settings"]["baudrate"] == speed
    client.tcp.close()
    await daemon.until(
        lambda port: port["line_settings"]["baudrate"] == 9600, "the line is as configured"
    )


async def test_counters_outlive_a_kill(adapter: Adapter, kept: StartKept) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw, constants={"COUNT_SECONDS": 0.05})
    client = await daemon.connect(sw)
    client.write(b"12345")
    assert await adapter.receive(5) == b"12345"

    def counted() -> bool:
        name = next(name for name in [*daemon.store] if name[0] == "r")
        record = MemoryFile(os.dup(daemon.store[name])).read()
        return record is not None and json.loads(record)["sw"]["written"] == 5

    await until(counted, "the record says what was written")
    await daemon.kill()
    assert (await daemon.port())["counters"]["to_device"] == 5


async def test_a_log_begins_a_line_of_its_own_after_a_kill(
    adapter: Adapter, tmp_path: Path, kept: StartKept
) -> None:
    file = tmp_path / "log"
    sw = entry(device=str(adapter.path), **{"log.file": str(file)})
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    await adapter.send(b"half a l")
    await client.receive(8)
    await until(lambda: file.exists() and b"half a l" in file.read_bytes(), "it is in the file")
    await daemon.kill()
    await adapter.send(b"next\n")
    await client.receive(5)
    await until(lambda: file.read_bytes().endswith(b"next\n"), "the next line is in the file")
    assert [line.split()[-1] for line in file.read_text().splitlines()] == ["l", "next"]


@on_each_loop
async def test_the_replay_outlives_kills_and_restarts(adapter: Adapter, kept: StartKept) -> None:
    sw = entry(device=str(adapter.path), sharing="shared", replay=100)
    daemon = await kept(sw)
    first = await daemon.connect(sw)
    said = b""
    for step in (daemon.kill, daemon.restart, daemon.kill, daemon.kill):
        await adapter.send(b"said before %d;" % len(said))
        said += await first.hear(b";")
        await step()
        other = await daemon.connect(sw)
        assert await other.receive(min(100, len(said))) == said[-100:]
        assert daemon.has("history") == 1
    daemon.configure({**sw, "replay": 0})
    daemon.signal(SIGHUP)
    await until(lambda: daemon.has("history") == 0, "it is kept no more")


async def test_a_connection_that_the_port_dialled_outlives_a_kill(
    adapter: Adapter, remote: Remote, kept: StartKept
) -> None:
    daemon = await kept({"name": "sw", "device": str(adapter.path), "connect": remote.place})
    client = await remote.accept()
    await daemon.has_clients(1)
    await daemon.kill()
    await adapter.send(b"still")
    assert await client.receive(5) == b"still"
    assert remote.accepted.empty()


async def test_a_device_that_was_released_stays_so(adapter: Adapter, kept: StartKept) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    await daemon.say(b'{"command": "release", "port": "sw", "seconds": 600}\n')
    await daemon.kill()
    assert (await daemon.port())["device"]["released"]["by"] == "root"


async def test_a_port_that_leaves_the_port_map_during_a_kill_is_closed(
    adapter: Adapter, make_adapter: MakeAdapter, kept: StartKept
) -> None:
    other = make_adapter("other")
    one, two = entry(device=str(adapter.path)), entry(name="two", device=str(other.path))
    daemon = await kept(one, two)
    stays, goes = await daemon.connect(one), await daemon.connect(two)
    assert await daemon.end(SIGKILL) == -SIGKILL
    # Its TCP port and its tty are another port's now.
    await daemon.serve(one, {**two, "name": "three"})
    assert await goes.is_closed()
    new = await daemon.connect({**two, "name": "three"})
    new.write(b"new")
    assert await other.receive(3) == b"new"
    stays.write(b"old")
    assert await adapter.receive(3) == b"old"


async def test_a_tcp_port_goes_from_one_port_to_another_in_a_reload(
    adapter: Adapter, make_adapter: MakeAdapter, kept: StartKept
) -> None:
    other = make_adapter("other")
    one, two = entry(device=str(adapter.path)), entry(name="two", device=str(other.path))
    daemon = await kept(one, two)
    daemon.configure({**one, "listen": two["listen"]}, {**two, "listen": one["listen"]})
    daemon.signal(SIGHUP)
    await daemon.logs("reloaded: ")
    client = await daemon.connect({**one, "listen": two["listen"]})
    client.write(b"x")
    assert await adapter.receive(1) == b"x"


async def test_a_record_that_ends_each_process_is_given_up(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    assert await daemon.end(SIGKILL) == -SIGKILL
    name = next(name for name in daemon.store if name[0] == "r")
    file = MemoryFile(os.dup(daemon.store[name]))
    for _ in range(MOST_TRIES):
        file.begin_to_read()
    await daemon.serve(sw)
    assert "the last 3 processes have ended with this record" in daemon.log
    assert await client.is_closed()
    other = await daemon.connect(sw)
    other.write(b"next")
    assert await adapter.receive(4) == b"next"


async def test_a_slow_service_manager_does_not_stop_the_event_loop(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared", max_clients=64)
    daemon = await kept(sw)
    with daemon.asleep():
        clients = [await daemon.connect(sw) for _ in range(40)]
        await adapter.send(b"hello")
        for client in clients:
            assert await client.receive(5) == b"hello"
    await until(lambda: daemon.has("client") == 40, "all are kept in the end")
    await daemon.kill()
    await adapter.send(b"again")
    for client in clients:
        assert await client.receive(5) == b"again"


@on_each_loop
async def test_kills_in_mid_stream_drop_nobody(adapter: Adapter, kept: StartKept) -> None:
    sw = entry(device=str(adapter.path), sharing="shared", max_clients=8)
    daemon = await kept(sw)
    clients = [await daemon.connect(sw) for _ in range(4)]
    talking = True

    async def talk() -> None:
        while talking:
            await adapter.send(b"." * 400)
            for client in clients:
                client.write(b"," * 40)
            await asyncio.sleep(0.005)

    task = asyncio.create_task(talk())
    for _ in range(5):
        await asyncio.sleep(0.1)
        await daemon.kill()
    await daemon.has_clients(4)
    talking = False
    await task
    await adapter.send(b"the end")
    for client in clients:
        assert await client.hear(b"the end")


@on_each_loop
async def test_people_stay_over_kills_also_one_who_watches(
    adapter: Adapter, kept: StartKept
) -> None:
    daemon = await kept(entry(device=str(adapter.path)))
    writer = await Framed.attach(daemon, "sw")
    watcher = await Framed.attach(daemon, "sw", watch=True)
    for _ in range(3):
        await daemon.kill()
        writer.types(b"typed")
        watcher.types(b"lost")
        assert await adapter.receive(5) == b"typed"
        await adapter.send(b"said")
        await writer.gets(b"said")
        await watcher.gets(b"said")
    assert [client["writes"] for client in (await daemon.port())["clients"]] == [True, False]
    writer.close()
    watcher.close()


async def test_a_kill_in_the_middle_of_a_frame_ends_the_session(
    adapter: Adapter, kept: StartKept
) -> None:
    daemon = await kept(entry(device=str(adapter.path)))
    person = await Framed.attach(daemon, "sw")
    whole = frames.frame(frames.DATA, b"0123456789")
    person.write(whole[:9])
    await daemon.has_taken(9)
    await daemon.kill()
    person.write(whole[9:] + whole)
    assert await person.is_closed()
    await daemon.logs("sw: client root:1 closed: it sent something else than a frame")
    assert adapter.read() == b""
    person.close()
