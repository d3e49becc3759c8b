"""The daemon under attack, as a process, on each event loop: nothing ends it, nothing is leaked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from conftest import TIMEOUT, Adapter, eventually
from process import LOOPS, daemon, entry, tcp_port

MIB = 1024 * 1024

on_each_loop = pytest.mark.parametrize("loop", LOOPS)


def connected(to: dict[str, Any]) -> socket.socket:
    """A client that the test keeps itself, without an event loop."""
    return socket.create_connection(("127.0.0.1", tcp_port(to)), TIMEOUT)


def reset(client: socket.socket) -> None:
    """End a connection by RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
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
    loop: str, keys: dict[str, Any], adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path), **keys)
    async with daemon(sw, loop=loop) as process:
        reset(connected(sw))
        await process.until(lambda port: not port["clients"])
        before = process.descriptors()
        for number in range(300):
            client = connected(sw)
            if number % 3 == 0:
                client.send(b"x")
            if number % 2:
                reset(client)
            else:
                client.close()
        await process.until(lambda port: not port["clients"])
        await eventually(lambda: process.descriptors() <= before)


@on_each_loop
async def test_memory_is_flat_over_many_connections(loop: str, adapter: Adapter) -> None:
    sw = entry(device=str(adapter.path))
    async with daemon(sw, loop=loop) as process:
        sizes = []
        for _ in range(3):
            for _ in range(300):
                connected(sw).close()
            await process.until(lambda port: not port["clients"])
            sizes.append(process.memory())
        assert sizes[2] - sizes[1] < 1024


@on_each_loop
async def test_refused_clients_that_stay_are_few(loop: str, adapter: Adapter) -> None:
    sw = entry(device=str(adapter.path))
    async with daemon(sw, loop=loop) as process:
        holder = connected(sw)
        await process.until(lambda port: bool(port["clients"]))
        before = process.descriptors()
        flood = [connected(sw) for _ in range(200)]
        await process.until(lambda port: port["counters"]["refused_clients"] == 200)
        assert process.descriptors() <= before + 40
        assert (await process.port())["clients"][0]["received"] == 0
        assert flood[0].recv(100).startswith(b"ttybridge: port sw is in use by")
        for client in (holder, *flood):
            client.close()


@on_each_loop
async def test_what_clients_send_to_an_absent_device_does_not_fill_the_memory(loop: str) -> None:
    sw = entry(device="/nonexistent/tty", sharing="shared", max_clients=32)
    async with daemon(sw, loop=loop) as process:
        before = process.memory()
        clients = [connected(sw)]
        fill(clients[0])
        await process.until(lambda port: port["clients"][0]["received"] > 65536)
        clients += [connected(sw) for _ in range(31)]
        await process.until(lambda port: len(port["clients"]) == 32)
        for _ in range(5):
            for client in clients:
                fill(client)
            await asyncio.sleep(0.1)
        assert process.memory() - before < 20 * 1024
        for client in clients:
            reset(client)


@on_each_loop
async def test_32_clients_share_a_port_and_one_that_never_reads_does_not_hold_them_up(
    loop: str, adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared", max_clients=32)
    data = os.urandom(MIB)
    async with daemon(sw, loop=loop) as process:
        never = connected(sw)
        streams = [await process.connect(sw) for _ in range(31)]
        await process.until(lambda port: len(port["clients"]) == 32)
        sending = asyncio.create_task(adapter.send(data))
        async with asyncio.timeout(3 * TIMEOUT):
            readers = (reader.readexactly(len(data)) for reader, _ in streams)
            assert all(got == data for got in await asyncio.gather(*readers))
        await sending
        for _, writer in streams:
            writer.transport.abort()
        reset(never)
        await process.until(lambda port: not port["clients"])


@on_each_loop
async def test_a_device_that_vanishes_during_writes_comes_back(loop: str, adapter: Adapter) -> None:
    sw = entry(device=str(adapter.path))
    async with daemon(sw, loop=loop) as process:
        for number in range(4):
            await process.until(lambda port: port["device"]["present"])
            client = connected(sw)
            client.send(bytes(30_000))
            adapter.unplug()
            await process.until(lambda port: not port["device"]["present"])
            if number % 2:
                reset(client)
            else:
                client.close()
            adapter.plug()
        await process.until(lambda port: port["device"]["present"] and not port["clients"])
        reader, writer = await process.connect(sw)
        await adapter.send(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.close()


@on_each_loop
async def test_what_is_no_serial_device_is_named_and_not_written_to(
    loop: str, tmp_path: Path
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
    async with daemon(*ports, loop=loop) as process:
        before = process.descriptors()
        for port in ports:
            with connected(port) as client:
                client.send(b"overwritten")
        await asyncio.sleep(1.2)
        for port in (await process.status())["ports"]:
            path = port["device"]["path"]
            assert port["device"]["problem"] == f"{path} {said[path]}"
        await eventually(lambda: process.descriptors() <= before)
        assert all(process.log.count(f"p{n}: no device") == 1 for n in range(len(ports)))
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
async def test_a_daemon_out_of_file_descriptors_waits_and_goes_on(
    loop: str, adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared", max_clients=1024)
    async with daemon(sw, loop=loop, before="ulimit -n 48") as process:
        clients = [connected(sw) for _ in range(100)]
        await eventually(lambda: process.descriptors() >= 47)
        used = process.cpu_seconds()
        await asyncio.sleep(1.5)
        assert process.cpu_seconds() - used < 0.5
        assert len(process.log) < 100_000
        for client in clients:
            client.close()
        # Those that waited to be accepted come once there is room, and leave as well.
        await eventually(lambda: process.log.count(" left") == len(clients))
        reader, writer = await process.connect(sw)
        await process.until(lambda port: bool(port["clients"]))
        await adapter.send(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.close()


async def test_a_soft_limit_of_file_descriptors_does_not_count() -> None:
    before = "ulimit -S -n 24; ulimit -H -n 400"
    ports = [entry(name=f"p{number}", device=f"/nonexistent/{number}") for number in range(50)]
    async with daemon(*ports, before=before) as process:
        assert all(port["listening"] for port in (await process.status())["ports"])


@on_each_loop
async def test_an_idle_daemon_uses_no_processor_time(loop: str, adapter: Adapter) -> None:
    away = [entry(name=f"p{number}", device=f"/nonexistent/{number}") for number in range(20)]
    sw = entry(device=str(adapter.path))
    async with daemon(sw, *away, loop=loop) as process:
        client = connected(sw)
        await process.until(lambda port: bool(port["clients"]))
        used = process.cpu_seconds()
        await asyncio.sleep(1)
        assert process.cpu_seconds() - used < 0.2
        client.close()


@on_each_loop
async def test_a_daemon_that_cannot_move_a_byte_uses_no_processor_time(
    loop: str, adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path))
    async with daemon(sw, loop=loop) as process:
        client = connected(sw)
        fill(client)
        await process.until(lambda port: bool(port["counters"]["to_device"]))
        await asyncio.sleep(0.3)
        used = process.cpu_seconds()
        await asyncio.sleep(1)
        assert process.cpu_seconds() - used < 0.2
        reset(client)


@on_each_loop
async def test_reloads_while_a_client_streams_lose_nothing(loop: str, adapter: Adapter) -> None:
    sw, other = entry(device=str(adapter.path)), entry(name="other", device="/nonexistent/tty")
    data = os.urandom(2 * MIB)
    async with daemon(sw, other, loop=loop) as process:
        reader, writer = await process.connect(sw)
        await process.until(lambda port: bool(port["clients"]))
        sending = asyncio.create_task(adapter.send(data))
        reading = asyncio.create_task(reader.readexactly(len(data)))
        for number in range(10):
            process.configure(sw, {**other, "baudrate": 300 + number})
            process.signal(signal.SIGHUP)
            with contextlib.suppress(ConnectionError):  # between the old listener and the new
                reset(connected(other))
            await asyncio.sleep(0.05)
        async with asyncio.timeout(3 * TIMEOUT):
            assert await reading == data
            await sending
        writer.close()


@on_each_loop
async def test_a_port_that_is_taken_away_while_its_device_is_lost_leaves_the_device_alone(
    loop: str, adapter: Adapter
) -> None:
    sw, other = entry(device=str(adapter.path)), entry(name="other", device="/nonexistent/tty")
    async with daemon(sw, other, loop=loop) as process:
        client = connected(sw)
        fill(client)
        await process.until(lambda port: bool(port["counters"]["to_device"]))
        process.configure(other)
        process.signal(signal.SIGHUP)
        await asyncio.sleep(0.2)
        adapter.unplug()
        await eventually(lambda: "reloaded: 1 ports" in process.log)
        opened = process.log.count("is open")
        adapter.plug()
        await asyncio.sleep(1.2)
        assert process.log.count("is open") == opened
        client.close()


@on_each_loop
async def test_a_stop_during_a_reload_is_a_clean_stop(loop: str, adapter: Adapter) -> None:
    sw = entry(device=str(adapter.path))
    async with daemon(sw, loop=loop) as process:
        client = connected(sw)
        fill(client)
        await process.until(lambda port: bool(port["counters"]["to_device"]))
        process.configure()
        process.signal(signal.SIGHUP)
        await asyncio.sleep(0.2)
        assert await process.end() == 0
        client.close()


async def test_many_ports_are_served_by_one_process(tmp_path: Path) -> None:
    ports = [entry(name=f"p{n}", device=f"/nonexistent/{n}") for n in range(64)]
    adapters = []
    for number in range(16):
        adapters.append(Adapter(tmp_path / f"tty{number}"))
        ports[number]["device"] = str(adapters[-1].path)
    async with daemon(*ports) as process:
        clients = [connected(port) for port in ports[:16]]
        for n in range(16):
            await process.until(lambda port: bool(port["clients"]), f"p{n}")
            await adapters[n].send(b"%02d" % n)
        assert [client.recv(2) for client in clients] == [b"%02d" % n for n in range(16)]
        for client in clients:
            client.close()
    for one in adapters:
        one.unplug()
