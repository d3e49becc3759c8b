"""Several clients at one port: who gets in, who writes, who is told what, and who is let go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import socket
import time
from signal import SIGCONT, SIGSTOP
from typing import Any

import pytest

from conftest import (
    LOOPS,
    TIMEOUT,
    Adapter,
    MakePort,
    Serve,
    free_tcp_port,
    on_each_loop,
    until,
)
from process import FASTEST, Daemon, StartDaemon, entry

MIB = 1024 * 1024
AYT = b"\xff\xf6"  # ARE-YOU-THERE: its answer says that what came before is done

_IP_MINTTL = 21  # linux/in.h


def play_dead(client: socket.socket) -> None:
    """Let a client's kernel drop whatever comes for it: no answer, no ACK, no RST.

    It takes only what comes with a higher TTL (ip(7), IP_MINTTL) than anything does by
    default, which needs no root.
    """
    client.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, 255)


def is_taken_in(process: Daemon, to: dict[str, Any]) -> bool:
    """Whether a client gets in: one that is refused is told so at once."""
    with process.socket_to(to) as client:
        client.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            assert client.recv(100).startswith(b"ttybridge: port sw is in use by")
            return False
        return True


async def test_a_refused_telnet_client_is_told_who_holds_the_port(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol="telnet")
    bench = await serve(port)
    first = await bench.connect(port)
    second = await bench.connect(port)
    words = (await second.rest()).decode()
    said = re.escape(f"ttybridge: port sw is in use by {first.name} (for ") + r"\d s\)\r\n"
    assert re.fullmatch(said, words)
    assert bench.status()["counters"]["refused_clients"] == 1


async def test_a_client_refused_by_several_is_told_all_of_them(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(sharing="observed", max_clients=2)
    bench = await serve(port)
    holders = [await bench.connect(port) for _ in range(2)]
    words = (await (await bench.connect(port)).rest()).decode()
    assert all(holder.name in words for holder in holders)


@pytest.mark.parametrize("protocol", ["raw", "telnet", "rfc2217"])
async def test_replace_lets_the_newest_win(
    protocol: str, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(sharing="replace", protocol=protocol)
    bench = await serve(port)
    old = await bench.connect(port)
    await old.send(b"from the old ")
    assert await adapter.receive(13) == b"from the old "
    new = await bench.connect(port)
    await new.send(b"from the new")
    assert await adapter.receive(12) == b"from the new"
    with contextlib.suppress(ConnectionError):
        await old.send(b"nobody reads this")
    await new.send(b"!")
    assert await adapter.receive(1) == b"!"
    await adapter.send(b"to the new")
    await new.hear("to the new")
    said = f"sw: replaced by {new.name}".encode()
    assert (said in await old.rest()) == (protocol != "raw")
    assert [one["address"] for one in bench.status()["clients"]] == [new.name]


async def test_replace_by_a_burst_of_clients_leaves_the_last_one(
    adapter: Adapter, make_port: MakePort, monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    monkeypatch.setattr("ttybridge.serve.clients.CANDIDATE_SECONDS", 0.5)
    port = make_port(sharing="replace")
    bench = await serve(port)
    clients = [await bench.connect(port) for _ in range(10)]
    assert [await client.rest() for client in clients[:-1]] == [b""] * 9
    await adapter.send(b"x")
    assert await clients[-1].receive(1) == b"x"


@on_each_loop
async def test_who_only_looks_whether_a_port_answers_replaces_nobody(
    adapter: Adapter, caplog: pytest.LogCaptureFixture, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), sharing="replace")
    process = await daemon(sw)
    client = await process.connect(sw)
    for number in range(20):
        process.socket_to(sw).close()
        client.write(b"%02d" % number)
        assert await adapter.receive(2) == b"%02d" % number
        await adapter.send(b"%02d" % number)
        assert await client.receive(2) == b"%02d" % number
    await until(lambda: process.log.count("waits to replace") == 20, "20 clients have waited")
    await process.has_clients(1)
    assert "replaced" not in process.log.replace("waits to replace", "")


async def test_a_newcomer_that_stays_replaces_though_it_says_nothing(
    adapter: Adapter, make_port: MakePort, monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    monkeypatch.setattr("ttybridge.serve.clients.CANDIDATE_SECONDS", 1)
    port = make_port(sharing="replace")
    bench = await serve(port)
    old = await bench.connect(port)
    new = await bench.connect(port)
    assert [one["waits"] for one in bench.status()["clients"]] == [False, True]
    assert await old.rest() == b""
    (only,) = bench.status()["clients"]
    assert (only["address"], only["waits"]) == (new.name, False)
    await new.send(b"x")
    assert await adapter.receive(1) == b"x"


@pytest.mark.parametrize("protocol", ["raw", "telnet"])
async def test_who_waits_sees_what_the_device_says_and_only_the_other_writes(
    protocol: str, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(sharing="replace", protocol=protocol, replay=100)
    bench = await serve(port)
    old = await bench.connect(port)
    await adapter.send(b"before ")
    await old.hear("before ")
    new = await bench.connect(port)
    await adapter.send(b"for both")
    assert (await new.hear("for both")).endswith(b"before for both")
    await old.hear("for both")
    status = bench.status()["clients"]
    assert [one["writes"] for one in status] == [True, False]
    await old.send(b"old")
    assert await adapter.receive(3) == b"old"
    await new.send(b"new")
    assert await adapter.receive(3) == b"new"
    assert [one["writes"] for one in bench.status()["clients"]] == [True]


async def test_an_answer_to_the_telnet_negotiation_replaces(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(sharing="replace", protocol="telnet")
    bench = await serve(port)
    old = await bench.connect(port)
    new = await bench.connect(port)
    assert (await new.receive(3))[:1] == b"\xff"
    await new.send(b"\xff\xfd\x03")
    assert f"sw: replaced by {new.name}".encode() in await old.rest()


async def test_who_waits_does_not_change_the_line_before_it_has_replaced(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(sharing="replace", protocol="rfc2217")
    will_com_port, baudrate_19200 = b"\xff\xfb\x2c", b"\xff\xfa\x2c\x01\0\0\x4b\0\xff\xf0"
    bench = await serve(port)
    old = await bench.connect(port)
    await old.send(will_com_port + baudrate_19200)
    await bench.has_baudrate(19200)
    new = await bench.connect(port)
    await old.send(b"x")
    assert await adapter.receive(1) == b"x"
    assert bench.status()["line_settings"]["baudrate"] == 19200
    await new.send(will_com_port)  # the old one has left: the line is the port map's again
    await bench.has_baudrate(9600)


@pytest.mark.parametrize("leaves", ["closes", "half-closes", "resets"])
async def test_who_waits_takes_over_at_once_when_the_other_leaves(
    leaves: str,
    adapter: Adapter,
    make_port: MakePort,
    monkeypatch: pytest.MonkeyPatch,
    serve: Serve,
) -> None:
    monkeypatch.setattr("ttybridge.serve.clients.CANDIDATE_SECONDS", 2 * TIMEOUT)
    port = make_port(sharing="replace")
    bench = await serve(port)
    old = await bench.connect(port)
    waiting = [await bench.connect(port) for _ in range(3)]
    if leaves == "resets":
        old.writer.transport.abort()
    elif leaves == "closes":
        old.close()
    else:
        old.finish()
    newest = waiting[-1].name
    await bench.until(
        lambda port: port["clients"][0]["address"] == newest, "the other client has the port"
    )
    assert len(bench.status()["clients"]) == 1
    assert [await client.rest() for client in waiting[:-1]] == [b"", b""]
    await waiting[-1].send(b"x")
    assert await adapter.receive(1) == b"x"


async def test_a_client_that_half_closes_makes_room_for_who_waits_and_who_comes_then(
    adapter: Adapter, make_port: MakePort, monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    monkeypatch.setattr("ttybridge.serve.clients.CANDIDATE_SECONDS", 2 * TIMEOUT)
    port = make_port(sharing="replace", half_close_timeout=60)
    bench = await serve(port)
    old, waiting = await bench.connect(port), await bench.connect(port)
    await old.send(b"the last")
    old.finish()
    await bench.until(
        lambda port: port["clients"][0]["address"] == waiting.name,
        "the other client has the port",
    )
    newest = await bench.connect(port)
    assert [one["waits"] for one in bench.status()["clients"]] == [False, True]
    await newest.send(b" and the first")
    assert await adapter.receive(22) == b"the last and the first"
    assert [await client.rest() for client in (old, waiting)] == [b"", b""]


async def test_who_is_newer_than_the_one_that_replaces_still_waits(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(sharing="replace")
    bench = await serve(port)
    clients = [await bench.connect(port) for _ in range(3)]
    await clients[1].send(b"1")
    assert await adapter.receive(1) == b"1"
    assert [one["waits"] for one in bench.status()["clients"]] == [False, True]
    await clients[2].send(b"2")
    assert await adapter.receive(1) == b"2"
    assert [await client.rest() for client in clients[:2]] == [b"", b""]


async def test_few_wait_at_once(
    adapter: Adapter, make_port: MakePort, monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    monkeypatch.setattr("ttybridge.serve.clients.CANDIDATE_SECONDS", 2 * TIMEOUT)
    port = make_port(sharing="replace")
    bench = await serve(port)
    old = await bench.connect(port)
    waiting = [await bench.connect(port) for _ in range(30)]
    assert len(bench.status()["clients"]) < 10
    assert await waiting[0].rest() == b""
    await old.send(b"x")
    assert await adapter.receive(1) == b"x"
    await waiting[-1].send(b"y")
    assert await adapter.receive(1) == b"y"


async def test_who_waits_for_a_port_whose_device_takes_nothing_can_still_replace(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(sharing="replace")
    bench = await serve(port)
    old = await bench.connect(port)
    sending = asyncio.create_task(old.send(bytes(16 * MIB)))
    await bench.until(
        lambda port: port["clients"][0]["received"] > MIB / 16, "what the client sent has arrived"
    )
    new = await bench.connect(port)
    await new.send(b"x")
    await bench.until(
        lambda port: port["clients"][0]["address"] == new.name, "the other client has the port"
    )
    sending.cancel()


async def test_of_observers_the_first_writes_and_the_next_one_when_it_has_left(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(sharing="observed", protocol="telnet")
    bench = await serve(port)
    first = await bench.connect(port)
    second, third = await bench.connect(port), await bench.connect(port)
    await second.hear(f"sw: you watch {first.name}, who writes")
    assert [one["writes"] for one in bench.status()["clients"]] == [True, False, False]
    for watcher in (second, third):
        await watcher.send(b"dropped" + AYT)
        await watcher.hear("sw: here]")
    await first.send(b"kept")
    assert await adapter.receive(4) == b"kept"
    await adapter.send(b"for all")
    for client in (first, second, third):
        await client.hear("for all")
    first.writer.transport.abort()
    await second.hear("sw: you write now")
    await third.send(b"still dropped" + AYT)
    await third.hear("sw: here]")
    await second.send(b"promoted")
    assert await adapter.receive(8) == b"promoted"
    writers = [one["address"] for one in bench.status()["clients"] if one["writes"]]
    assert writers == [second.name]


async def test_a_writer_that_half_closes_hands_over_and_still_gets_the_answer(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(sharing="observed")
    bench = await serve(port)
    first, second = await bench.connect(port), await bench.connect(port)
    await first.send(b"reboot\r")
    first.finish()
    assert await adapter.receive(7) == b"reboot\r"
    await bench.until(lambda port: port["clients"][1]["writes"], "the second client writes")
    await second.send(b"mine")
    assert await adapter.receive(4) == b"mine"
    await adapter.send(b"ok")
    assert await first.rest() == b"ok"
    assert await second.receive(2) == b"ok"


async def test_what_a_telnet_writer_sent_before_it_half_closed_reaches_the_device(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    # RFC 2217 makes what follows a change of the line wait for what went before.
    port = make_port(sharing="observed", protocol="rfc2217")
    bench = await serve(port)
    first = await bench.connect(port)
    will_com_port = b"\xff\xfb\x2c"
    baudrate_19200 = b"\xff\xfa\x2c\x01\x00\x00\x4b\x00\xff\xf0"
    await first.send(will_com_port + bytes(100_000) + baudrate_19200 + b"the end")
    first.finish()
    assert await adapter.receive(100_007) == bytes(100_000) + b"the end"


@on_each_loop
async def test_a_storm_of_refused_clients_costs_few_lines_and_no_memory(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path))
    process = await daemon(sw)
    client = await process.connect(sw)
    sizes = []
    for clients in (200, 400, 600):
        for _ in range(200):
            (await process.socket_soon(sw)).close()
        await process.has_refused(clients)
        sizes.append(process.memory())
    assert sizes[2] - sizes[1] < 1024
    assert process.log.count("refused") < 50
    await adapter.send(b"x")
    assert await client.receive(1) == b"x"


@on_each_loop
async def test_a_hundred_clients_that_come_at_once_all_get_in(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared", max_clients=128)
    process = await daemon(sw)
    process.signal(SIGSTOP)
    clients = [process.socket_to(sw) for _ in range(128)]
    process.signal(SIGCONT)
    await process.has_clients(128)
    await adapter.send(b"x")
    assert [client.recv(1) for client in clients] == [b"x"] * 128


@on_each_loop
async def test_31_of_32_clients_get_every_byte_though_one_never_reads(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared", max_clients=32)
    # More than one that never reads may lag behind, and both kernels hold for it.
    data = os.urandom(14 * MIB)
    process = await daemon(sw)
    process.socket_to(sw)  # never reads
    clients = [process.socket_to(sw) for _ in range(31)]
    await process.has_clients(32)
    os.set_blocking(adapter.far, True)
    sending = asyncio.create_task(asyncio.to_thread(send_all, adapter.far, data))
    try:
        await asyncio.to_thread(expect_each, clients, data)
    except AssertionError:
        adapter.unplug()  # ends what is still being sent
        raise
    await sending
    assert (await process.port())["counters"]["closed_slow_clients"] == 1
    assert process.log.count("bytes behind") == 1


def send_all(tty: int, data: bytes) -> None:
    """Send from the far end of a tty, in a thread."""
    view = memoryview(data)
    while view:
        view = view[os.write(tty, view[:65536]) :]


def expect_each(clients: list[socket.socket], data: bytes) -> None:
    """Read `data` from each client, in a thread; AssertionError where a byte differs."""
    got = {client.fileno(): 0 for client in clients}
    by_number = {client.fileno(): client for client in clients}
    buffer = memoryview(bytearray(MIB))
    poll = select.poll()
    for number in by_number:
        poll.register(number, select.POLLIN)
    while any(size < len(data) for size in got.values()):
        ready = poll.poll(1000 * TIMEOUT)
        assert ready, f"no byte in {TIMEOUT} s"
        for number, _ in ready:
            size = by_number[number].recv_into(buffer)
            assert size, "closed"
            assert data.startswith(buffer[:size], got[number])
            got[number] += size


@pytest.mark.parametrize(
    ("loop", "in_flight"),
    [(FASTEST, False), *((loop, True) for loop in LOOPS)],
)
async def test_a_dead_client_frees_its_port(
    in_flight: bool, adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), keepalive=1)
    process = await daemon(sw)
    dead = process.socket_to(sw)
    await process.has_clients(1)
    play_dead(dead)
    if in_flight:
        await adapter.send(b"to nobody")
    await process.has_clients(0)


async def test_a_dead_client_does_not_keep_out_the_next_one(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), keepalive=1)
    process = await daemon(sw)
    dead = process.socket_to(sw)
    await process.has_clients(1)
    play_dead(dead)
    await adapter.send(b"to nobody")
    await until(lambda: is_taken_in(process, sw), "a client is taken in")


async def test_a_client_that_reads_nothing_but_is_alive_is_not_taken_for_dead(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), keepalive=1)
    process = await daemon(sw)
    process.socket_to(sw)
    await process.has_clients(1)
    sending = asyncio.create_task(adapter.send(os.urandom(16 * MIB)))
    end = time.monotonic() + 3
    while time.monotonic() < end:
        with process.socket_to(sw) as other:
            assert (await asyncio.to_thread(other.recv, 100)).startswith(b"ttybridge: ")
        await asyncio.sleep(0.2)
    sending.cancel()
    assert len((await process.port())["clients"]) == 1


async def test_a_client_that_reads_nothing_and_then_dies_frees_its_port(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), keepalive=1)
    process = await daemon(sw)
    dead = process.socket_to(sw)
    await process.has_clients(1)
    sending = asyncio.create_task(adapter.send(bytes(16 * MIB)))
    await process.reads_no_more()  # nothing is on its way: the window of the client is closed
    play_dead(dead)
    await process.has_clients(0)
    sending.cancel()


@pytest.mark.parametrize(
    ("allow", "address", "gets_in"),
    [
        (["127.0.0.0/8"], "127.0.0.1", True),
        (["127.0.0.0/8"], "::1", False),
        (["::1/128"], "::1", True),
        (["::1/128"], "127.0.0.1", False),
        (["::/0"], "127.0.0.1", False),
        (["0.0.0.0/0"], "::1", False),
        (["192.0.2.0/24", "127.0.0.1/32", "2001:db8::/32"], "127.0.0.1", True),
    ],
)
async def test_a_listener_for_ipv4_and_ipv6_knows_the_networks_of_both(
    allow: list[str],
    address: str,
    gets_in: bool,
    adapter: Adapter,
    make_port: MakePort,
    serve: Serve,
) -> None:
    port = make_port(listen=free_tcp_port(), allow=allow)
    bench = await serve(port)
    client = await bench.connect(port, address)
    assert len(bench.status()["clients"]) == gets_in
    if not gets_in:
        words = f"ttybridge: {address} may not connect to port sw\r\n"
        assert await client.rest() == words.encode()


async def test_an_idle_telnet_client_is_told_why_it_is_closed(
    adapter: Adapter, make_port: MakePort, caplog: pytest.LogCaptureFixture, serve: Serve
) -> None:
    caplog.set_level("INFO")
    port = make_port(protocol="telnet", idle_timeout=1)
    bench = await serve(port)
    client = await bench.connect(port)
    for _ in range(6):
        await asyncio.sleep(0.2)
        await client.send(b"x")
    assert await adapter.receive(6) == b"xxxxxx"
    assert (await client.rest()).endswith(b"\r\n[ttybridge: closed after 1 s without a byte]\r\n")
    assert f"sw: client {client.name} closed after 1 s without a byte" in caplog.text
    assert not bench.status()["clients"]


@pytest.mark.parametrize("protocol", ["raw", "telnet"])
async def test_a_new_client_first_sees_the_last_of_what_the_device_said(
    protocol: str, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol=protocol, replay=1000, sharing="shared")
    said = bytes(range(32, 127)) * 50
    bench = await serve(port)
    await adapter.send(said)
    await bench.has_read(len(said))
    for number in range(2):
        client = await bench.connect(port)
        await adapter.send(b"live %d" % number)
        said += b"live %d" % number
        received = await client.hear(f"live {number}")
        assert received[-1006:] == said[-1006:]
        negotiation = received[:-1006]
        assert said[-1010:-1006] not in negotiation
        assert bool(negotiation) == (protocol == "telnet")


async def test_replay_and_what_follows_are_one_stream_while_the_device_talks(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    # A count that each client must see go on by one: no line is missing, doubled or out of order.
    async def count(enough: asyncio.Event) -> None:
        number = 0
        while not enough.is_set():
            await adapter.send(b"".join(b"%06d\n" % n for n in range(number, number + 4)))
            number += 4
            await asyncio.sleep(0.001)
        await adapter.send(b"the end")

    port = make_port(replay=700, sharing="shared", max_clients=10)
    bench = await serve(port)
    enough = asyncio.Event()
    counting = asyncio.create_task(count(enough))
    clients = []
    for come in range(1, 11):
        clients.append(await bench.connect(port))
        await bench.has_read(300 * come)
    enough.set()
    for client in clients:
        numbers = [int(line) for line in (await client.hear("the end")).split()[1:-2]]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert len(numbers) > 90
    await counting


async def test_what_a_device_said_before_it_went_away_is_shown_to_the_next_client(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(replay=1000)
    bench = await serve(port)
    await adapter.send(b"before ")
    await bench.has_read(7)
    adapter.unplug()
    await bench.has_no_device()
    client = await bench.connect(port)
    assert await client.receive(7) == b"before "
    client.writer.transport.abort()
    adapter.plug()
    await bench.has_device()
    await adapter.send(b"after")
    await bench.has_read(12)
    assert await (await bench.connect(port)).receive(12) == b"before after"


async def test_a_replay_longer_than_a_client_may_lag_behind_is_shown_whole(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port, said = make_port(replay=8 * MIB), os.urandom(4 * MIB).hex().encode()
    bench = await serve(port)
    await adapter.send(said)
    await bench.has_read(len(said))
    client = await bench.connect(port)
    await adapter.send(b"live")
    assert await client.receive(len(said) + 4) == said + b"live"
