"""What a client leaves behind, and that it never waits longer than it must."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable

import pytest

from conftest import Adapter, Bench, TcpClient, eventually, serving
from process import LOOPS, daemon, entry, tcp_port
from ttybridge.line.departed import DEPARTED_SIZE
from ttybridge.model.ports import Port

MakePort = Callable[..., Port]

XOFF, XON = b"\x13", b"\x11"

# More than the queue of the port, two kernels and a TCP window hold without reading on.
MUCH = 5_000_000

on_each_loop = pytest.mark.parametrize("loop", LOOPS)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that takes nothing counts as stuck after 0.3 s."""
    monkeypatch.setattr("ttybridge.line.departed.STUCK_SECONDS", 0.3)
    monkeypatch.setattr("ttybridge.line.departed.STUCK_LOOK_SECONDS", 0.02)


def reset(client: TcpClient) -> None:
    """Have a client close its connection by a reset (socket(7), SO_LINGER)."""
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


async def stuff(bench: Bench, client: TcpClient, size: int) -> None:
    """Send more than a device that takes nothing can hold, and see that it has arrived."""
    client.writer.write(b"k" * size)
    await eventually(lambda: bool(bench.status()["clients"]))
    await eventually(lambda: bench.status()["clients"][0]["received"] == size)


async def received_until(adapter: Adapter, word: bytes) -> bytes:
    """What arrives at the far end before a word."""
    data = bytearray()
    while word not in data:
        data += await adapter.receive(1)
    return bytes(data[: data.index(word)])


@on_each_loop
async def test_a_close_is_seen_behind_input_that_the_device_does_not_take(
    loop: str, adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path))
    async with daemon(sw, loop=loop) as process:
        with socket.create_connection(("127.0.0.1", tcp_port(sw))) as client:
            await asyncio.to_thread(client.sendall, bytes(MUCH))
        await process.until(lambda port: port["clients"][0]["received"] == MUCH)
        with socket.create_connection(("127.0.0.1", tcp_port(sw))) as client:
            client.sendall(b"SECOND")
            before = await received_until(adapter, b"SECOND")
        assert len(before) <= DEPARTED_SIZE
        counters = (await process.port())["counters"]
        assert counters["dropped"] == MUCH - len(before)
        assert f"{counters['dropped']} bytes of a client that has left" in process.log


@pytest.mark.parametrize("size", [1, 60_000, DEPARTED_SIZE])
async def test_what_a_client_sent_before_it_left_still_arrives(
    size: int, adapter: Adapter, make_port: MakePort
) -> None:
    port = make_port()
    async with serving(port) as bench:
        client = await bench.connect(port)
        await stuff(bench, client, size)
        reset(client)
        await eventually(lambda: not bench.status()["clients"])
        second = await bench.connect(port)
        await second.send(b"SECOND")
        assert await received_until(adapter, b"SECOND") == b"k" * size
        assert bench.status()["counters"]["dropped"] == 0


@pytest.mark.usefixtures("impatient")
async def test_a_device_that_wakes_up_late_gets_nothing_of_who_has_left(
    adapter: Adapter, make_port: MakePort, caplog: pytest.LogCaptureFixture
) -> None:
    port = make_port(flow="xonxoff")
    async with serving(port) as bench:
        client = await bench.connect(port)
        await adapter.send(XOFF)
        await asyncio.sleep(0.05)
        await client.send(b"reboot\r")
        await eventually(lambda: bench.status()["clients"][0]["received"] == 7)
        reset(client)
        await eventually(lambda: bench.status()["counters"]["dropped"] == 7)
        await adapter.send(XON)
        second = await bench.connect(port)
        await second.send(b"SECOND")
        assert await received_until(adapter, b"SECOND") == b""
    assert "the device has taken nothing for 0 s" in caplog.text


@pytest.mark.usefixtures("impatient")
async def test_a_client_that_waits_with_its_half_close_is_not_waited_for_for_ever(
    adapter: Adapter, make_port: MakePort
) -> None:
    port = make_port(half_close_timeout=0)
    async with serving(port) as bench:
        client = await bench.connect(port)
        await stuff(bench, client, 200_000)
        client.writer.write_eof()
        assert await client.rest() == b""
        await eventually(lambda: bench.status()["counters"]["dropped"] > 100_000)


async def test_a_half_closed_client_is_answered_after_all_it_sent_is_out(
    adapter: Adapter, make_port: MakePort
) -> None:
    port = make_port()
    async with serving(port) as bench:
        client = await bench.connect(port)
        await stuff(bench, client, 200_000)
        client.writer.write_eof()
        await asyncio.sleep(1.5)  # longer than the half-close timeout
        assert bench.status()["clients"]
        await adapter.receive(200_000)
        await adapter.send(b"answer")
        assert await client.rest() == b"answer"


@pytest.mark.parametrize("seconds", [0, 3])
async def test_the_half_close_timeout_is_that_of_the_port_map(
    seconds: int, adapter: Adapter, make_port: MakePort
) -> None:
    port = make_port(half_close_timeout=seconds)
    async with serving(port) as bench:
        client = await bench.connect(port)
        began = asyncio.get_running_loop().time()
        client.writer.write_eof()
        assert await client.rest() == b""
        assert asyncio.get_running_loop().time() - began >= seconds


@pytest.mark.parametrize("whole_port", [False, True])
async def test_nothing_of_a_kicked_client_goes_out(
    whole_port: bool, adapter: Adapter, make_port: MakePort
) -> None:
    port = make_port()
    async with serving(port) as bench:
        client = await bench.connect(port)
        await stuff(bench, client, 1_000_000)
        address = bench.status()["clients"][0]["address"]
        assert bench.server.kick("sw", None if whole_port else address) == [address]
        second = await bench.connect(port)
        await second.send(b"SECOND")
        # A pty's far end has taken up to a page of its own already.
        assert len(await received_until(adapter, b"SECOND")) <= 4096


async def test_kicking_all_also_drops_what_earlier_clients_left(
    adapter: Adapter, make_port: MakePort
) -> None:
    port = make_port()
    async with serving(port) as bench:
        client = await bench.connect(port)
        await stuff(bench, client, 60_000)
        reset(client)
        await eventually(lambda: not bench.status()["clients"])
        assert bench.server.kick("sw", None) == []
        second = await bench.connect(port)
        await second.send(b"SECOND")
        assert len(await received_until(adapter, b"SECOND")) <= 4096


@pytest.mark.parametrize("paster_comes_first", [True, False])
@on_each_loop
async def test_a_paste_does_not_hold_up_another_client(
    loop: str, paster_comes_first: bool, adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared")
    async with daemon(sw, loop=loop) as process:
        clients = [socket.create_connection(("127.0.0.1", tcp_port(sw))) for _ in range(2)]
        await process.until(lambda port: len(port["clients"]) == 2)
        paster, person = clients if paster_comes_first else reversed(clients)
        await asyncio.to_thread(paster.sendall, b"k" * 4_000_000)
        await process.until(
            lambda port: sum(each["received"] for each in port["clients"]) >= 1_000_000
        )
        person.sendall(b"\x03")
        await process.until(lambda port: all(each["received"] for each in port["clients"]))
        before = await received_until(adapter, b"\x03")
        assert len(before) <= 65536  # what a pty may hold
        for client in clients:
            client.close()


@on_each_loop
async def test_all_that_a_client_sends_arrives_though_it_is_read_far_ahead(
    loop: str, adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path))
    data = os.urandom(24 * 1024 * 1024)
    async with daemon(sw, loop=loop):
        with socket.create_connection(("127.0.0.1", tcp_port(sw))) as client:
            sending = asyncio.create_task(asyncio.to_thread(client.sendall, data))
            await asyncio.sleep(1)  # more waits than may be read ahead
            received = bytearray()
            while len(received) < len(data):
                received += await adapter.receive(1)
            await sending
        assert bytes(received) == data
