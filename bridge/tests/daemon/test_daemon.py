"""The daemon under attack, as a process, on each event loop: nothing ends it, nothing is leaked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from conftest import Adapter, MakeAdapter, on_each_loop, reset_on_close, until
from process import StartDaemon, entry

MIB = 1024 * 1024

# An absent device is looked for ten times as often.
LOOKS_OFTEN = {"DEVICE_POLL_SECONDS": 0.05}


def reset(client: socket.socket) -> None:
    """End a connection by RST."""
    reset_on_close(client)
    client.close()


def fill(client: socket.socket) -> int:
    """Send until the connection takes no more; return how much that was."""
    client.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += client.send(bytes(65536))
    return sent


@on_each_loop
@pytest.mark.parametrize("keys", [{}, {"allow": ["127.0.0.0/8"]}, {"allow": ["192.0.2.0/24"]}])
async def test_a_storm_of_clients_that_come_and_vanish_leaves_nothing_behind(
    keys: dict[str, Any], adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), **keys)
    # Who is told that it may not connect is closed this much later.
    process = await daemon(sw, constants={"GOODBYE_SECONDS": 0.2})
    reset(process.socket_to(sw))
    await process.has_clients(0)
    before = process.descriptors()
    for number in range(300):
        client = await process.socket_soon(sw)
        if number % 3 == 0:
            client.send(b"x")
        if number % 2:
            reset(client)
        else:
            client.close()
    await process.has_clients(0)
    await until(lambda: process.descriptors() <= before, "its descriptors are as few as before")


@on_each_loop
async def test_memory_is_flat_over_many_connections(adapter: Adapter, daemon: StartDaemon) -> None:
    sw = entry(device=str(adapter.path), half_close_timeout=0)
    process = await daemon(sw)
    sizes = []
    for _ in range(3):
        for _ in range(300):
            (await process.socket_soon(sw)).close()
        await process.has_clients(0)
        sizes.append(process.memory())
    assert sizes[2] - sizes[1] < 1024


@on_each_loop
async def test_refused_clients_that_stay_are_few(adapter: Adapter, daemon: StartDaemon) -> None:
    sw = entry(device=str(adapter.path))
    process = await daemon(sw)
    await process.connect(sw)
    before = process.descriptors()
    flood = [await process.socket_soon(sw) for _ in range(200)]
    await process.has_refused(200)
    assert process.descriptors() <= before + 40
    assert (await process.port())["clients"][0]["received"] == 0
    assert flood[0].recv(100).startswith(b"ttybridge: port sw is in use by")


@on_each_loop
async def test_what_clients_send_to_an_absent_device_does_not_fill_the_memory(
    daemon: StartDaemon,
) -> None:
    sw = entry(device="/nonexistent/tty", sharing="shared", max_clients=32)
    process = await daemon(sw)
    before = process.memory()
    clients = [process.socket_to(sw)]
    fill(clients[0])
    await process.has_taken(65537)
    clients += [process.socket_to(sw) for _ in range(31)]
    await process.has_clients(32)
    for _ in range(5):
        for client in clients:
            fill(client)
        await asyncio.sleep(0.1)
    assert process.memory() - before < 20 * 1024


@on_each_loop
async def test_32_clients_share_a_port_and_one_that_never_reads_does_not_hold_them_up(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared", max_clients=32)
    data = os.urandom(MIB)
    process = await daemon(sw)
    never = process.socket_to(sw)
    clients = [await process.connect(sw) for _ in range(31)]
    await process.has_clients(32)
    sending = asyncio.create_task(adapter.send(data))
    all_got = await asyncio.gather(*(client.receive(len(data)) for client in clients))
    assert all(got == data for got in all_got)
    await sending
    for client in clients:
        client.reset()
    reset(never)
    await process.has_clients(0)


@on_each_loop
async def test_a_device_that_vanishes_during_writes_comes_back(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path))
    process = await daemon(sw)
    for number in range(4):
        await process.has_device()
        client = process.socket_to(sw)
        client.send(bytes(30_000))
        adapter.unplug()
        await process.has_no_device()
        if number % 2:
            reset(client)
        else:
            client.close()
        adapter.plug()
    await process.until(
        lambda port: port["device"]["present"] and not port["clients"],
        "the device is back and the client gone",
    )
    last = await process.connect(sw)
    await adapter.send(b"x")
    assert await last.receive(1) == b"x"


@on_each_loop
async def test_what_is_no_serial_device_is_named_and_not_written_to(
    tmp_path: Path, daemon: StartDaemon
) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("/nonexistent/tty")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    said = {
        str(tmp_path / "fifo"): "is not a serial device",
        str(tmp_path / "file"): "is not a serial device",
        str(tmp_path / "folder"): "is not a serial device",
        str(tmp_path / "dangling"): "does not exist",
        str(tmp_path / "circle"): "does not exist",
        str(tmp_path / "file" / "tty"): "does not exist",
        "/dev/null": "is not a serial device",
    }
    ports = [entry(name=f"p{number}", device=path) for number, path in enumerate(said)]
    process = await daemon(*ports, constants=LOOKS_OFTEN)
    before = process.descriptors()
    for port in ports:
        with process.socket_to(port) as client:
            client.send(b"overwritten")
    await asyncio.sleep(0.5)
    for port in (await process.status())["ports"]:
        path = port["device"]["path"]
        assert port["device"]["problem"] == f"{path} {said[path]}"
    await until(lambda: process.descriptors() <= before, "its descriptors are as few as before")
    assert all(process.log.count(f"p{n}: no device") == 1 for n in range(len(ports)))
    assert await process.end() == 0
    assert (tmp_path / "file").read_text() == "precious"


def test_a_device_without_permission_is_named(
    adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Also where root runs the tests, who may open everything.
    from ttybridge.line.device import Device, DeviceError
    from ttybridge.model.check import parse_portmap

    def deny(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    (port,) = parse_portmap([{"name": "sw", "listen": 1, "device": str(adapter.path)}])
    monkeypatch.setattr("os.open", deny)
    with pytest.raises(DeviceError, match="permission denied: the daemon's user must be in"):
        Device(port).open()


@on_each_loop
async def test_a_daemon_out_of_file_descriptors_refuses_and_goes_on(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    keys = {"sharing": "shared", "max_clients": 1024, "half_close_timeout": 0}
    sw = entry(device=str(adapter.path), **keys)
    process = await daemon(sw, before="ulimit -n 48")
    clients = [process.socket_to(sw) for _ in range(100)]
    assert b"takes no more clients" in await asyncio.to_thread(clients[-1].recv, 200)
    inside = len((await process.port())["clients"])  # so it still answers
    assert 10 < inside < 42
    await process.has_refused(100 - inside)
    used = process.cpu_seconds()
    await asyncio.sleep(1.5)
    assert process.cpu_seconds() - used < 0.5
    assert process.log.count("takes no more clients") <= 20
    for client in clients:
        client.close()
    await process.has_clients(0)
    last = await process.connect(sw)
    await adapter.send(b"x")
    assert await last.receive(1) == b"x"


@on_each_loop
async def test_without_any_descriptor_it_says_so_once_a_minute(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path))
    process = await daemon(sw, constants={"RETRY_SECONDS": 0.01, "MINUTE_SECONDS": 2})
    first = await process.connect(sw)
    limit = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    # The status cannot be asked now, as that takes a descriptor too.
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (process.descriptors(), limit[1]))
    waiting = process.socket_to(sw)
    await process.logs("sw: cannot accept clients: Too many open files (and ")
    assert process.log.count("cannot accept clients") <= 4
    await adapter.send(b"x")
    assert await first.receive(1) == b"x"
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limit)
    assert b"in use by" in await asyncio.to_thread(waiting.recv, 200)


async def test_a_soft_limit_of_file_descriptors_does_not_count(daemon: StartDaemon) -> None:
    before = "ulimit -S -n 24; ulimit -H -n 400"
    ports = [entry(name=f"p{number}", device=f"/nonexistent/{number}") for number in range(50)]
    process = await daemon(*ports, before=before)
    assert all(port["listening"] for port in (await process.status())["ports"])


@on_each_loop
async def test_an_idle_daemon_uses_no_processor_time(adapter: Adapter, daemon: StartDaemon) -> None:
    away = [entry(name=f"p{number}", device=f"/nonexistent/{number}") for number in range(20)]
    sw = entry(device=str(adapter.path))
    process = await daemon(sw, *away)
    await process.connect(sw)
    used = process.cpu_seconds()
    await asyncio.sleep(1)
    assert process.cpu_seconds() - used < 0.2


@on_each_loop
async def test_a_daemon_that_cannot_move_a_byte_uses_no_processor_time(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path))
    process = await daemon(sw)
    fill(process.socket_to(sw))
    await process.until(lambda port: port["counters"]["to_device"], "the device is written to")
    await asyncio.sleep(0.3)
    used = process.cpu_seconds()
    await asyncio.sleep(1)
    assert process.cpu_seconds() - used < 0.2


@on_each_loop
async def test_reloads_while_a_client_streams_lose_nothing(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw, other = entry(device=str(adapter.path)), entry(name="other", device="/nonexistent/tty")
    data = os.urandom(2 * MIB)
    process = await daemon(sw, other)
    client = await process.connect(sw)
    sending = asyncio.create_task(adapter.send(data))
    reading = asyncio.create_task(client.receive(len(data)))
    for number in range(10):
        process.configure(
            {**sw, "baudrate": 300 + number, "keepalive": 1 + number, "replay": number},
            {**other, "device": f"/nonexistent/{number}"},
        )
        process.signal(signal.SIGHUP)
        with contextlib.suppress(ConnectionError):  # between the old listener and the new
            reset(process.socket_to(other))
        await asyncio.sleep(0.05)
    assert await reading == data
    await sending


@on_each_loop
async def test_a_port_that_is_taken_away_while_its_device_is_lost_leaves_the_device_alone(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw, other = entry(device=str(adapter.path)), entry(name="other", device="/nonexistent/tty")
    process = await daemon(sw, other, constants=LOOKS_OFTEN)
    fill(process.socket_to(sw))
    await process.until(lambda port: port["counters"]["to_device"], "the device is written to")
    process.configure(other)
    process.signal(signal.SIGHUP)
    await asyncio.sleep(0.2)
    adapter.unplug()
    await process.logs("reloaded: 1 ports")
    opened = process.log.count("is open")
    adapter.plug()
    await asyncio.sleep(0.5)
    assert process.log.count("is open") == opened


@on_each_loop
async def test_a_stop_during_a_reload_is_a_clean_stop(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path))
    process = await daemon(sw)
    fill(process.socket_to(sw))
    await process.until(lambda port: port["counters"]["to_device"], "the device is written to")
    process.configure()
    process.signal(signal.SIGHUP)
    await asyncio.sleep(0.2)
    assert await process.end() == 0


async def test_many_ports_are_served_by_one_process(
    make_adapter: MakeAdapter, daemon: StartDaemon
) -> None:
    adapters = [make_adapter(f"tty{n}") for n in range(16)]
    paths = [str(one.path) for one in adapters] + [f"/nonexistent/{n}" for n in range(48)]
    ports = [entry(name=f"p{n}", device=path) for n, path in enumerate(paths)]
    process = await daemon(*ports)
    clients = [await process.connect(port) for port in ports[:16]]
    for n, one in enumerate(adapters):
        await one.send(b"%02d" % n)
    assert [await client.receive(2) for client in clients] == [b"%02d" % n for n in range(16)]
