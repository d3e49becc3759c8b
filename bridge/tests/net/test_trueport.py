"""TruePort in Full mode is recognized by its urgent byte, and urgent bytes harm nobody."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from conftest import TIMEOUT, Adapter, free_tcp_port, on_each_loop, until
from process import Daemon, StartDaemon, entry

ADVICE = (
    "sw: this client is Perle TruePort in Full mode, which works with Perle's own servers only: "
    "in TruePort choose Lite (in newer versions Automatic)"
)


async def connected(process: Daemon, to: dict[str, Any]) -> socket.socket:
    """A client that has been taken in."""
    client = process.socket_to(to)
    await process.has_clients(1)
    return client


@on_each_loop
async def test_a_client_in_full_mode_gets_a_line_in_the_log(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path))
    process = await daemon(sw)
    with await connected(process, sw) as client:
        client.send(b"\x02", socket.MSG_OOB)
        await process.logs(ADVICE)
        client.send(b"\x02", socket.MSG_OOB)
        client.send(b"typed")
        assert await adapter.receive(5) == b"typed"
        await adapter.send(b"x")
        assert client.recv(1) == b"x"
    assert process.log.count(ADVICE) == 1


async def test_each_client_in_full_mode_gets_its_line(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path))
    process = await daemon(sw)
    for number in (1, 2):
        with await connected(process, sw) as client:
            client.send(b"\x02", socket.MSG_OOB)
            await process.logs(ADVICE, number)
        await process.has_clients(0)
    assert process.log.count(ADVICE) == 2


@on_each_loop
async def test_a_listener_in_full_mode_that_a_port_connects_to_gets_its_line(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    with socket.create_server(("127.0.0.1", free_tcp_port())) as trueport:
        trueport.settimeout(TIMEOUT)
        remote = "{}:{}".format(*trueport.getsockname())
        process = await daemon({"name": "sw", "device": str(adapter.path), "connect": remote})
        with trueport.accept()[0] as client:
            client.send(b"\x02", socket.MSG_OOB)
            await process.logs(ADVICE)
            client.send(b"typed")
            assert await adapter.receive(5) == b"typed"


@pytest.mark.parametrize("byte", [b"\x00", b"\x01", b"\x03", b"\xf2", b"\xff"])
async def test_another_urgent_byte_says_nothing_and_is_no_input(
    byte: bytes, adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path))
    process = await daemon(sw)
    with await connected(process, sw) as client:
        client.send(b"before")
        client.send(byte, socket.MSG_OOB)
        client.send(b"after")
        assert await adapter.receive(11) == b"beforeafter"
    assert "TruePort" not in process.log


async def test_the_byte_without_urgency_is_input_like_any_other(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path))
    process = await daemon(sw)
    with await connected(process, sw) as client:
        client.send(b"\x02")
        assert await adapter.receive(1) == b"\x02"
    assert "TruePort" not in process.log


@on_each_loop
@pytest.mark.parametrize(
    ("synch", "meant"),
    [(b"\xff\xf2", b""), (b"\xff\xf4\xff\xf2", b"\x03"), (b"\xff\xff\xff\xf2", b"\xff")],
)
async def test_synch_of_telnet_does_not_corrupt_the_stream(
    synch: bytes, meant: bytes, adapter: Adapter, daemon: StartDaemon
) -> None:
    # RFC 854: the data mark is sent as urgent, and its byte is part of the stream.
    sw = entry(device=str(adapter.path), protocol="telnet")
    process = await daemon(sw)
    with await connected(process, sw) as client:
        client.send(b"before")
        client.send(synch, socket.MSG_OOB)
        client.send(b"after")
        wanted = b"before" + meant + b"after"
        assert await adapter.receive(len(wanted)) == wanted
    assert "TruePort" not in process.log


async def test_urgent_bytes_of_clients_that_leave_at_once_cost_nothing(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path))
    process = await daemon(sw)
    before = process.descriptors()
    for _ in range(100):
        with process.socket_to(sw) as client:
            client.send(b"\x02", socket.MSG_OOB)
    await process.has_clients(0)
    await until(lambda: process.descriptors() <= before, "its descriptors are as few as before")
    used = process.cpu_seconds()
    await asyncio.sleep(0.5)
    assert process.cpu_seconds() - used < 0.2
