"""A port that connects to a listener elsewhere: the listener comes, goes, hangs and misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from conftest import (
    TIMEOUT,
    Adapter,
    Remote,
    Serve,
    TcpClient,
    free_tcp_port,
    on_each_loop,
    until,
)
from process import Daemon, StartDaemon
from ttybridge.model import values
from ttybridge.model.check import parse_portmap
from ttybridge.net import sockets

# A remote that does not answer is tried again ten times as soon.
TRIES_SOON = {"RETRY_SECONDS": 0.1}


def entry(place: str, adapter: Adapter | None = None, **keys: Any) -> dict[str, Any]:
    """An entry that connects to a place."""
    device = str(adapter.path) if adapter else "/nonexistent/tty"
    return {"name": "sw", "device": device, "connect": place, **keys}


@contextlib.contextmanager
def hanging() -> Iterator[str]:
    """A place whose listener answers no SYN: its backlog is full."""
    with socket.create_server(("127.0.0.1", free_tcp_port()), backlog=0) as listener:
        place = listener.getsockname()
        with socket.create_connection(place, TIMEOUT):
            yield "{}:{}".format(*place)


async def see_bytes_both_ways(process: Daemon, adapter: Adapter, client: TcpClient) -> None:
    """See that a connection works."""
    await process.has_clients(1)
    await adapter.send(bytes(range(256)))
    assert await client.receive(256) == bytes(range(256))
    client.write(bytes(range(256)))
    assert await adapter.receive(256) == bytes(range(256))


def reload(process: Daemon, *entries: dict[str, Any]) -> None:
    """Have a daemon take other entries."""
    process.configure(*entries)
    process.signal(signal.SIGHUP)


async def test_a_remote_that_comes_late_goes_and_comes_back(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    remote = Remote()
    process = await daemon(entry(remote.place, adapter))
    refused = f"cannot connect to {remote.place}: Connection refused"
    await process.until(lambda port: port["listen_problem"] == refused, "the problem is shown")
    assert not (await process.port())["listening"]
    await remote.listen()
    client = await remote.accept()
    await process.until(lambda port: port["listening"], "the port is connected")
    await see_bytes_both_ways(process, adapter, client)
    remote.close()
    ended = f"connection to {remote.place} ended"
    await process.until(
        lambda port: port["listen_problem"] in (ended, refused), "the problem is shown"
    )
    await process.has_clients(0)
    await remote.listen()
    await see_bytes_both_ways(process, adapter, await remote.accept())
    assert (await process.port())["listen_problem"] is None
    assert process.log.count(f"sw: {refused}") <= 2
    remote.close()


async def test_there_is_one_connection_at_a_time(
    adapter: Adapter, remote: Remote, daemon: StartDaemon
) -> None:
    process = await daemon(entry(remote.place, adapter), constants=TRIES_SOON)
    client = await remote.accept()
    await asyncio.sleep(0.5)
    assert remote.accepted.empty()
    await see_bytes_both_ways(process, adapter, client)


@on_each_loop
async def test_a_remote_that_accepts_and_resets_at_once_is_tried_again(
    adapter: Adapter, remote: Remote, daemon: StartDaemon
) -> None:
    process = await daemon(entry(remote.place, adapter), constants=TRIES_SOON)
    (await remote.accept()).reset()
    await see_bytes_both_ways(process, adapter, await remote.accept())


async def test_a_remote_that_accepts_and_closes_at_once_does_not_fill_the_log(
    monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    monkeypatch.setattr("ttybridge.serve.listeners.RETRY_SECONDS", 0.01)
    monkeypatch.setattr("ttybridge.serve.client.HALF_CLOSED_POLL_SECONDS", 0.01)
    came: list[float] = []

    def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(asyncio.get_running_loop().time())
        writer.close()

    remote = await asyncio.start_server(close, "127.0.0.1", free_tcp_port())
    place = "{}:{}".format(*remote.sockets[0].getsockname())
    await serve(*parse_portmap([entry(place, half_close_timeout=0)]))
    await until(lambda: len(came) > 5, "the port connects again and again")
    remote.close()
    pauses = [later - sooner for sooner, later in pairwise(came)]
    wanted = [0.01 * 2**number for number in range(len(pauses))]
    assert all(pause > 0.99 * least for pause, least in zip(pauses, wanted, strict=True)), pauses


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example"])
async def test_what_can_be_no_host_is_said_and_stops_nothing(
    host: str, adapter: Adapter, daemon: StartDaemon
) -> None:
    process = await daemon(entry(f"{host}:1", adapter))
    problem = f"cannot connect to {host}:1: this is not a valid host name"
    await process.until(lambda port: port["listen_problem"] == problem, "the problem is shown")
    reload(process)
    await process.logs("reloaded: 0 ports")
    assert await process.end() == 0


async def test_networks_that_may_connect_say_nothing_of_a_remote_that_is_connected_to(
    adapter: Adapter, remote: Remote, serve: Serve
) -> None:
    # Written for all ports, in serial_ports_defaults.
    port = entry(remote.place, adapter)
    bench = await serve(*parse_portmap([port], {"allow": ["192.0.2.0/24"]}))
    await remote.accept()
    await bench.has_clients(1)


@on_each_loop
async def test_a_stop_while_the_remote_does_not_answer(daemon: StartDaemon) -> None:
    with hanging() as place:
        process = await daemon(entry(place))
        assert (await process.port())["listen_problem"] == f"not yet connected to {place}"
        assert await process.end() == 0


@on_each_loop
async def test_a_reload_while_the_remote_does_not_answer(
    adapter: Adapter, remote: Remote, daemon: StartDaemon
) -> None:
    with hanging() as place:
        process = await daemon(entry(place, adapter))
        reload(process, entry(remote.place, adapter))
        await see_bytes_both_ways(process, adapter, await remote.accept())


async def test_a_reload_keeps_the_connection_while_it_leads_to_the_same_listener(
    adapter: Adapter, remote: Remote, daemon: StartDaemon
) -> None:
    sw = entry(remote.place, adapter)
    process = await daemon(sw)
    client = await remote.accept()
    reload(process, sw, {"name": "b", "device": "/nonexistent/b", "listen": 1})
    await process.logs("reloaded: 2 ports")
    await see_bytes_both_ways(process, adapter, client)
    reload(process, {**sw, "baudrate": 19200})
    await process.has_baudrate(19200)
    await see_bytes_both_ways(process, adapter, client)
    reload(process, {**sw, "protocol": "telnet"})
    await client.rest()
    client = await remote.accept()
    await client.hear(b"\xff")
    reload(process, sw)
    await client.rest()
    client = await remote.accept()
    await see_bytes_both_ways(process, adapter, client)
    reload(process)
    assert await client.rest() == b""
    await process.logs("reloaded: 0 ports")


async def test_the_connection_outlives_the_device(
    adapter: Adapter, remote: Remote, daemon: StartDaemon
) -> None:
    process = await daemon(entry(remote.place, adapter))
    client = await remote.accept()
    adapter.unplug()
    await process.has_no_device()
    adapter.plug()
    await process.has_device()
    await see_bytes_both_ways(process, adapter, client)


async def test_telnet_and_replay_are_as_for_a_client_that_came_itself(
    adapter: Adapter, remote: Remote, daemon: StartDaemon
) -> None:
    keys = {"protocol": "telnet", "replay": 100, "banner": "this is {name}"}
    await daemon(entry(remote.place, adapter, **keys), constants=TRIES_SOON)
    first = await remote.accept()
    await adapter.send(b"once")
    await first.hear("once")
    first.close()
    second = await remote.accept()
    assert (await second.hear("this is sw\r\nonce")).startswith(b"\xff")


async def test_an_idle_connection_is_closed_and_made_anew(
    adapter: Adapter, remote: Remote, daemon: StartDaemon
) -> None:
    sw = entry(remote.place, adapter, idle_timeout=1)
    process = await daemon(sw, constants=TRIES_SOON)
    assert await (await remote.accept()).rest() == b""
    await see_bytes_both_ways(process, adapter, await remote.accept())


async def test_8_mib_each_way(adapter: Adapter, remote: Remote, daemon: StartDaemon) -> None:
    up, down = os.urandom(8 * 1024 * 1024), os.urandom(8 * 1024 * 1024)
    process = await daemon(entry(remote.place, adapter))
    client = await remote.accept()
    await process.has_clients(1)
    client.write(up)
    sending = asyncio.create_task(adapter.send(down))
    receiving = asyncio.create_task(adapter.receive(len(up)))
    assert await client.receive(len(down)) == down
    assert await receiving == up
    await sending


def looked_up(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., object]) -> None:
    """Let the name server answer."""
    monkeypatch.setattr("ttybridge.net.sockets.socket.getaddrinfo", answer)


def places(*numbers: int) -> list[tuple[Any, ...]]:
    """What getaddrinfo(3) says of a host with several addresses."""
    kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
    return [(*kind, ("127.0.0.1", number)) for number in numbers]


async def test_the_second_address_is_tried_where_the_first_one_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, remote: Remote
) -> None:
    monkeypatch.setattr("ttybridge.net.sockets.CONNECT_SECONDS", 0.5)
    with hanging() as silent:
        number = int(silent.rpartition(":")[2])
        looked_up(monkeypatch, lambda *_, **__: places(number, 1, remote.number))
        with await sockets.open_connection(values.Remote("pc", 1)) as sock:
            assert sock.getpeername()[1] == remote.number


def test_a_name_that_is_not_known_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    looked_up(monkeypatch, unknown)
    with pytest.raises(socket.gaierror, match="Name or service not known"):
        asyncio.run(sockets.open_connection(values.Remote("pc", 1)))


async def test_where_no_thread_can_be_started_that_is_said_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    with pytest.raises(OSError, match="TasksMax=") as caught:
        await sockets.open_connection(values.Remote("pc", 1))
    assert "TasksMax=" in sockets.connect_words(caught.value)


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
    connecting = asyncio.create_task(sockets.open_connection(values.Remote("pc", 1)))
    await until(asked.is_set, "the name server is asked")
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
        await sockets.open_connection(values.Remote("127.0.0.1", number))
    monkeypatch.undo()
