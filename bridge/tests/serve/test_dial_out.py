"""A port that connects to a listener elsewhere: the listener comes, goes, hangs and misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conftest import TIMEOUT, Adapter, eventually, free_tcp_port, serving
from process import LOOPS, Daemon, daemon
from ttybridge.model.check import parse_portmap
from ttybridge.model.values import Remote
from ttybridge.net import sockets

on_each_loop = pytest.mark.parametrize("loop", LOOPS)


def entry(number: int, adapter: Adapter | None = None, **keys: Any) -> dict[str, Any]:
    """An entry that connects to a TCP port of 127.0.0.1."""
    device = str(adapter.path) if adapter else "/nonexistent/tty"
    return {"name": "sw", "device": device, "connect": f"127.0.0.1:{number}", **keys}


@contextlib.contextmanager
def listening(number: int = 0) -> Iterator[socket.socket]:
    """A listener such as a PC with TruePort has."""
    with socket.create_server(("127.0.0.1", number)) as listener:
        listener.settimeout(TIMEOUT)
        yield listener


@contextlib.contextmanager
def hanging() -> Iterator[int]:
    """A TCP port whose listener answers no SYN: its backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        number = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", number), TIMEOUT):
            yield number


def accept(listener: socket.socket) -> socket.socket:
    """The connection that a port makes."""
    sock, _ = listener.accept()
    sock.settimeout(TIMEOUT)
    return sock


def number_of(listener: socket.socket) -> int:
    """The TCP port of a listener."""
    return int(listener.getsockname()[1])


async def see_bytes_both_ways(process: Daemon, adapter: Adapter, sock: socket.socket) -> None:
    """See that a connection works."""
    await process.until(lambda port: bool(port["clients"]))
    await adapter.send(bytes(range(256)))
    got = b""
    while len(got) < 256:
        got += await asyncio.to_thread(sock.recv, 256)
    assert got == bytes(range(256))
    sock.sendall(got)
    assert await adapter.receive(256) == got


async def test_a_remote_that_comes_late_goes_and_comes_back(adapter: Adapter) -> None:
    number = free_tcp_port()
    async with daemon(entry(number, adapter)) as process:
        refused = f"cannot connect to 127.0.0.1:{number}: Connection refused"
        await process.until(lambda port: port["listen_problem"] == refused)
        assert not (await process.port())["listening"]
        with listening(number) as remote, accept(remote) as sock:
            await process.until(lambda port: bool(port["listening"]))
            await see_bytes_both_ways(process, adapter, sock)
        ended = f"connection to 127.0.0.1:{number} ended"
        await process.until(lambda port: port["listen_problem"] in (ended, refused))
        await process.until(lambda port: not port["clients"])
        with listening(number) as remote, accept(remote) as sock:
            await see_bytes_both_ways(process, adapter, sock)
            assert (await process.port())["listen_problem"] is None
        assert process.log.count(f"sw: {refused}") <= 2


async def test_there_is_one_connection_at_a_time(adapter: Adapter) -> None:
    with listening() as remote:
        async with daemon(entry(number_of(remote), adapter)) as process:
            with accept(remote) as sock:
                remote.settimeout(1.5)
                with pytest.raises(TimeoutError):
                    remote.accept()
                await see_bytes_both_ways(process, adapter, sock)


@on_each_loop
async def test_a_remote_that_accepts_and_resets_at_once_is_tried_again(
    loop: str, adapter: Adapter
) -> None:
    with listening() as remote:
        async with daemon(entry(number_of(remote), adapter), loop=loop) as process:
            with accept(remote) as sock:
                linger = struct.pack("ii", 1, 0)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            with accept(remote) as sock:
                await see_bytes_both_ways(process, adapter, sock)


async def test_a_remote_that_accepts_and_closes_at_once_does_not_fill_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ttybridge.serve.listeners.RETRY_SECONDS", 0.01)
    monkeypatch.setattr("ttybridge.serve.client.HALF_CLOSED_POLL_SECONDS", 0.01)
    came = []

    def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer)
        writer.close()

    remote = await asyncio.start_server(close, "127.0.0.1", 0)
    number = remote.sockets[0].getsockname()[1]
    (port,) = parse_portmap([{**entry(number), "half_close_timeout": 0}])
    async with serving(port):
        await asyncio.sleep(1)
        assert 4 < len(came) < 9  # 0.01 s, 0.02 s, 0.04 s and so on apart
    remote.close()


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example"])
async def test_what_can_be_no_host_is_said_and_stops_nothing(host: str, adapter: Adapter) -> None:
    sw = {**entry(1, adapter), "connect": f"{host}:1"}
    async with daemon(sw) as process:
        problem = f"cannot connect to {host}:1: this is not a valid host name"
        await process.until(lambda port: port["listen_problem"] == problem)
        process.configure()
        process.signal(signal.SIGHUP)
        await eventually(lambda: "reloaded: 0 ports" in process.log)
        assert await process.end() == 0


async def test_networks_that_may_connect_say_nothing_of_a_remote_that_is_connected_to(
    adapter: Adapter,
) -> None:
    with listening() as remote:
        # Written for all ports, in serial_ports_defaults.
        port = entry(number_of(remote), adapter)
        async with serving(*parse_portmap([port], {"allow": ["192.0.2.0/24"]})) as bench:
            with await asyncio.to_thread(accept, remote):
                await eventually(lambda: bool(bench.status()["clients"]))


@on_each_loop
async def test_a_stop_while_the_remote_does_not_answer(loop: str) -> None:
    with hanging() as number:
        async with daemon(entry(number), loop=loop) as process:
            wait = f"not yet connected to 127.0.0.1:{number}"
            assert (await process.port())["listen_problem"] == wait
            assert await process.end() == 0


@on_each_loop
async def test_a_reload_while_the_remote_does_not_answer(loop: str, adapter: Adapter) -> None:
    with hanging() as number, listening() as remote:
        async with daemon(entry(number, adapter), loop=loop) as process:
            process.configure(entry(number_of(remote), adapter))
            process.signal(signal.SIGHUP)
            with accept(remote) as sock:
                await see_bytes_both_ways(process, adapter, sock)


async def test_a_reload_keeps_the_connection_of_a_port_that_is_the_same(adapter: Adapter) -> None:
    with listening() as remote:
        sw = entry(number_of(remote), adapter)
        async with daemon(sw) as process:
            with accept(remote) as sock:
                process.configure(sw, {"name": "b", "device": "/nonexistent/b", "listen": 1})
                process.signal(signal.SIGHUP)
                await eventually(lambda: "reloaded: 2 ports" in process.log)
                await see_bytes_both_ways(process, adapter, sock)
                process.configure({**sw, "baudrate": 19200})
                process.signal(signal.SIGHUP)
                assert await asyncio.to_thread(sock.recv, 1) == b""
            with accept(remote) as sock:
                await see_bytes_both_ways(process, adapter, sock)
                process.configure()
                process.signal(signal.SIGHUP)
                assert await asyncio.to_thread(sock.recv, 1) == b""
            await eventually(lambda: "reloaded: 0 ports" in process.log)


async def test_the_connection_outlives_the_device(adapter: Adapter) -> None:
    with listening() as remote:
        async with daemon(entry(number_of(remote), adapter)) as process:
            with accept(remote) as sock:
                adapter.unplug()
                await process.until(lambda port: not port["device"]["present"])
                adapter.plug()
                await process.until(lambda port: bool(port["device"]["present"]))
                await see_bytes_both_ways(process, adapter, sock)


async def test_telnet_and_replay_are_as_for_a_client_that_came_itself(adapter: Adapter) -> None:
    keys = {"protocol": "telnet", "replay": 100, "banner": "this is {name}"}
    with listening() as remote:
        async with daemon(entry(number_of(remote), adapter, **keys)):
            with accept(remote) as sock:
                await adapter.send(b"once")
                while not (await asyncio.to_thread(sock.recv, 1000)).endswith(b"once"):
                    pass
            with accept(remote) as sock:
                got = b""
                while not got.endswith(b"this is sw\r\nonce"):
                    got += await asyncio.to_thread(sock.recv, 1000)
                assert got.startswith(b"\xff")


async def test_an_idle_connection_is_closed_and_made_anew(adapter: Adapter) -> None:
    with listening() as remote:
        sw = entry(number_of(remote), adapter, idle_timeout=1)
        async with daemon(sw) as process:
            with accept(remote) as sock:
                assert await asyncio.to_thread(sock.recv, 1) == b""
            with accept(remote) as sock:
                await see_bytes_both_ways(process, adapter, sock)


async def test_8_mib_each_way(adapter: Adapter) -> None:
    up, down = os.urandom(8 * 1024 * 1024), os.urandom(8 * 1024 * 1024)
    with listening() as remote:
        async with daemon(entry(number_of(remote), adapter)) as process:
            with accept(remote) as sock:
                await process.until(lambda port: bool(port["clients"]))
                reader, writer = await asyncio.open_connection(sock=sock.dup())
                writer.write(up)
                sending = asyncio.create_task(adapter.send(down))
                receiving = asyncio.create_task(adapter.receive(len(up)))
                async with asyncio.timeout(3 * TIMEOUT):
                    assert await reader.readexactly(len(down)) == down
                    assert await receiving == up
                await sending
                writer.close()


def looked_up(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., object]) -> None:
    """Let the name server answer."""
    monkeypatch.setattr("ttybridge.net.sockets.socket.getaddrinfo", answer)


def places(*numbers: int) -> list[tuple[Any, ...]]:
    """What getaddrinfo(3) says of a host with several addresses."""
    kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
    return [(*kind, ("127.0.0.1", number)) for number in numbers]


async def test_the_second_address_is_tried_where_the_first_one_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ttybridge.net.sockets.CONNECT_SECONDS", 0.5)
    with hanging() as silent, listening() as remote:
        looked_up(monkeypatch, lambda *_, **__: places(silent, 1, number_of(remote)))
        with await sockets.open_connection(Remote("pc", 1)) as sock:
            assert sock.getpeername()[1] == number_of(remote)


def test_a_name_that_is_not_known_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    looked_up(monkeypatch, unknown)
    with pytest.raises(socket.gaierror, match="Name or service not known"):
        asyncio.run(sockets.open_connection(Remote("pc", 1)))


async def test_a_stop_does_not_wait_for_a_name_server_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, release, answered = threading.Event(), threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> list[tuple[Any, ...]]:
        asked.set()
        release.wait(3 * TIMEOUT)
        answered.set()
        return []

    looked_up(monkeypatch, hang)
    connecting = asyncio.create_task(sockets.open_connection(Remote("pc", 1)))
    await eventually(asked.is_set)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert not answered.is_set()
    release.set()
    assert answered.wait(TIMEOUT)


async def test_a_port_never_connects_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    # By chance the kernel takes the TCP port that is connected to for this side: here it must.
    number = free_tcp_port()

    class Bound(socket.socket):
        def __init__(self, *words: Any) -> None:
            super().__init__(*words)
            self.bind(("127.0.0.1", number))

    monkeypatch.setattr("ttybridge.net.sockets.socket.socket", Bound)
    with pytest.raises(ConnectionRefusedError):
        await sockets.open_connection(Remote("127.0.0.1", number))
    monkeypatch.undo()
