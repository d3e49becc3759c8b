"""A port end to end: real ttys (ptys), real TCP."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import cast

import pytest

from conftest import (
    TIMEOUT,
    Adapter,
    Connect,
    MakeAdapter,
    MakePort,
    Serve,
    free_tcp_port,
    on_each_loop,
    reset_on_close,
    tcp_port,
    until,
)
from process import StartDaemon, entry
from ttybridge.line.device import Device, DeviceLost
from ttybridge.serve.client import Client
from ttybridge.serve.entrance import Entrance
from ttybridge.serve.port import ServedPort
from ttybridge.serve.server import ListenError, Server

MIB = 1024 * 1024


async def test_bytes_pass_both_ways_unchanged(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port()
    bench = await serve(port)
    client = await bench.connect(port)
    every_byte = bytes(range(256))
    await adapter.send(every_byte)
    assert await client.receive(256) == every_byte
    await client.send(every_byte)
    assert await adapter.receive(256) == every_byte


async def test_8_mib_from_device_to_client(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port, data = make_port(), os.urandom(8 * MIB)
    bench = await serve(port)
    client = await bench.connect(port)
    sending = asyncio.create_task(adapter.send(data))
    assert await client.receive(len(data)) == data
    await sending


async def test_8_mib_from_client_to_device(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port, data = make_port(), os.urandom(8 * MIB)
    bench = await serve(port)
    client = await bench.connect(port)
    sending = asyncio.create_task(client.send(data))
    assert await adapter.receive(len(data)) == data
    await sending


async def test_a_client_that_reads_late_gets_everything(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port, data = make_port(), os.urandom(16 * MIB)
    bench = await serve(port)
    client = await bench.connect(port)
    sending = asyncio.create_task(adapter.send(data))
    await asyncio.sleep(1)
    assert not sending.done(), "the device was read although the client took nothing"
    assert await client.receive(len(data)) == data
    await sending


async def test_what_is_sent_before_closing_reaches_the_device(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port, data = make_port(), os.urandom(200_000)
    bench = await serve(port)
    client = await bench.connect(port)
    client.write(data)
    client.close()
    assert await adapter.receive(len(data)) == data


async def test_a_client_that_half_closes_still_gets_the_answer(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port()
    bench = await serve(port)
    client = await bench.connect(port)
    await client.send(b"version\r")
    client.finish()
    assert await adapter.receive(8) == b"version\r"
    await asyncio.sleep(0.3)
    await adapter.send(b"12.4\r\n")
    assert await client.rest() == b"12.4\r\n"


async def test_exclusive_tells_a_second_client_who_holds_the_port(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port()
    bench = await serve(port)
    first = await bench.connect(port)
    holder = first.name
    second = await bench.connect(port)
    await second.send(b"lost in the crossing")
    words = (await second.rest()).decode()
    assert words.startswith(f"ttybridge: port sw is in use by {holder}")
    await adapter.send(b"still yours")
    assert await first.receive(11) == b"still yours"


async def test_the_port_is_free_as_soon_as_its_client_has_left(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port()
    bench = await serve(port)
    for _ in range(20):
        client = await bench.connect(port)
        await adapter.send(b"x")
        assert await client.receive(1) == b"x"
        client.close()


async def test_a_client_that_half_closed_does_not_hold_the_port(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port()
    bench = await serve(port)
    first = await bench.connect(port)
    first.finish()
    second = await bench.connect(port)
    await adapter.send(b"for the second")
    assert await second.receive(14) == b"for the second"
    assert await first.rest() == b""


async def test_shared_clients_all_read_and_write(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(sharing="shared", max_clients=3)
    bench = await serve(port)
    clients = [await bench.connect(port) for _ in range(3)]
    await adapter.send(b"to all")
    assert [await client.receive(6) for client in clients] == [b"to all"] * 3
    for client in clients:
        await client.send(b"abc")
    assert await adapter.receive(9) == b"abc" * 3
    fourth = await bench.connect(port)
    assert (await fourth.rest()).startswith(b"ttybridge: port sw is in use by")


async def test_a_shared_client_that_never_reads_is_closed_and_the_others_lose_nothing(
    adapter: Adapter, make_port: MakePort, caplog: pytest.LogCaptureFixture, serve: Serve
) -> None:
    port, data = make_port(sharing="shared"), os.urandom(16 * MIB)
    bench = await serve(port)
    stuck = await bench.connect(port)
    cast("asyncio.Transport", stuck.writer.transport).pause_reading()
    others = [await bench.connect(port) for _ in range(3)]
    sending = asyncio.create_task(adapter.send(data))
    for received in await asyncio.gather(*(c.receive(len(data)) for c in others)):
        assert received == data
    await sending
    assert "bytes behind" in caplog.text


async def test_a_lost_device_keeps_its_clients_and_comes_back(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port()
    bench = await serve(port)
    client = await bench.connect(port)
    adapter.unplug()
    await bench.has_no_device()
    await client.send(b"typed while it was away")
    adapter.plug()
    assert await adapter.receive(23) == b"typed while it was away"
    await adapter.send(b"back")
    assert await client.receive(4) == b"back"
    assert bench.status()["counters"]["reconnects"] == 1


async def test_a_device_is_in_use_within_a_second_of_its_name_appearing(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port()
    adapter.unplug()
    bench = await serve(port)
    client = await bench.connect(port)
    adapter.plug()
    # A look that is due before this wait ends comes before it, however busy the machine is.
    await asyncio.sleep(1)
    assert bench.status()["device"]["present"]
    await adapter.send(b"hello")
    assert await client.receive(5) == b"hello"


async def test_a_client_that_streams_through_a_replug_stays_connected(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port()
    bench = await serve(port)
    client = await bench.connect(port)
    sending = asyncio.create_task(client.send(bytes(1024 * 1024) + b"the end"))
    await adapter.receive(65536)
    adapter.unplug()
    await asyncio.sleep(0.2)
    adapter.plug()
    while not (await adapter.receive(1)).endswith(b"d"):
        pass
    await sending
    await adapter.send(b"x")
    assert await client.receive(1) == b"x"


async def test_what_a_departed_client_typed_does_not_reach_a_device_that_comes_back(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port()
    adapter.unplug()
    bench = await serve(port)
    gone = await bench.connect(port)
    await gone.send(b"reboot\r")
    gone.close()
    await bench.has_clients(0)
    client = await bench.connect(port)
    await client.send(b"hello")
    adapter.plug()
    assert await adapter.receive(5) == b"hello"


async def test_what_a_departed_client_typed_does_not_wait_for_a_device_that_was_never_there(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port()
    adapter.unplug()
    bench = await serve(port)
    gone = await bench.connect(port)
    await gone.send(b"reboot\r")
    gone.finish()
    await bench.has_clients(0)
    adapter.plug()
    await bench.has_device()
    client = await bench.connect(port)
    await client.send(b"hello")
    assert await adapter.receive(5) == b"hello"


async def test_idle_clients_are_closed_and_busy_ones_are_not(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(idle_timeout=1)
    idle_port = make_port(name="idle", device="/nonexistent/tty", idle_timeout=1)
    bench = await serve(port, idle_port)
    busy, idle = await bench.connect(port), await bench.connect(idle_port)
    while bench.status("idle")["clients"]:
        await asyncio.sleep(0.1)
        await adapter.send(b"x")
        assert await busy.receive(1) == b"x"
    assert await idle.is_closed()
    assert await busy.is_closed()  # now that it is idle, too


@on_each_loop
@pytest.mark.parametrize("protocol", ["raw", "telnet"])
async def test_what_the_device_says_right_after_a_connect_reaches_that_client(
    protocol: str, adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), protocol=protocol)
    process = await daemon(sw)
    for number in range(25):
        client = process.socket_to(sw)
        reset_on_close(client)
        os.write(adapter.far, b"boot %02d" % number)
        with client, client.makefile("rb") as stream:
            got = b""
            while not got.endswith(b"boot %02d" % number):
                byte = await asyncio.to_thread(stream.read, 1)
                assert byte, got
                got += byte
        await process.has_clients(0)


async def test_who_has_connected_comes_before_what_the_device_says_after_it(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    # The event loop may come to the device first, also where that speaks later.
    port = make_port()
    bench = await serve(port)
    with socket.create_connection(("127.0.0.1", tcp_port(port)), TIMEOUT) as client:
        os.write(adapter.far, b"boot")
        served = bench.server._services["sw"].served
        served._readable()
        assert await asyncio.to_thread(client.recv, 4) == b"boot"


@on_each_loop
async def test_a_client_that_is_reset_at_once_harms_nobody(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), protocol="telnet", replay=1000)
    process = await daemon(sw)
    for _ in range(200):
        client = await process.socket_soon(sw)
        reset_on_close(client)
        client.close()
    await process.has_clients(0)
    last = await process.connect(sw)
    last.write(b"x")
    assert await adapter.receive(1) == b"x"


async def test_a_client_that_is_kicked_before_it_has_a_transport_is_told_so(
    adapter: Adapter, make_port: MakePort, connect: Connect, serve: Serve
) -> None:
    port = make_port(protocol="telnet", banner="this is {name}")
    bench = await serve(port)
    connecting = asyncio.ensure_future(connect("127.0.0.1", tcp_port(port)))
    kicked: list[str] = []
    for _ in range(100_000):  # within a turn or two of the event loop
        if kicked := bench.server.kick("sw", None, "jane"):
            break
        await asyncio.sleep(0)
    client = await connecting
    assert kicked == [client.name]
    assert b"this is sw\r\n\r\n[ttybridge: sw: closed by" in await client.rest()
    assert not bench.status()["clients"]


@on_each_loop
async def test_a_storm_from_a_network_that_may_not_connect_is_told_so_and_costs_nothing(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), allow=["127.0.0.1/32"])
    process = await daemon(sw)
    before = process.descriptors()
    storm = [process.socket_to(sw, "127.0.0.2") for _ in range(100)]
    for client in storm[-20:]:
        words = await asyncio.to_thread(client.recv, 100)
        assert words == b"ttybridge: 127.0.0.2 may not connect to port sw\r\n"
    await process.has_refused(100)
    assert process.descriptors() < before + 40
    allowed = await process.connect(sw)
    allowed.write(b"x")
    assert await adapter.receive(1) == b"x"
    assert process.log.count("may not connect to port sw") <= 21


async def test_only_allowed_networks_may_connect(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    shut, open_ = make_port(allow=["192.0.2.0/24"]), make_port(allow=["127.0.0.0/8"])
    bench = await serve(shut)
    refused = await bench.connect(shut)
    assert await refused.rest() == b"ttybridge: 127.0.0.1 may not connect to port sw\r\n"
    await bench.server.apply([open_])
    client = await bench.connect(open_)
    await adapter.send(b"x")
    assert await client.receive(1) == b"x"


async def test_line_settings_that_a_device_refuses_are_reported_and_the_port_is_served(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(baudrate=12345, bytesize=7, parity="even", stopbits=2, flow="rtscts")
    bench = await serve(port)
    status = bench.status()
    assert status["device"]["refused_settings"] == ["bytesize 7", "parity even"]
    assert status["line_settings"] == {
        "baudrate": 12345,
        "bytesize": 8,
        "parity": "none",
        "stopbits": 2.0,
        "flow": "rtscts",
    }
    client = await bench.connect(port)
    await adapter.send(b"x")
    assert await client.receive(1) == b"x"


async def test_a_reload_touches_only_what_changed(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    kept = make_port()
    other = make_port(name="other", device="/nonexistent/tty")
    bench = await serve(kept, other)
    client = await bench.connect(kept)
    bystander = await bench.connect(other)
    changed = make_port(name="other", device="/nonexistent/tty2")
    await bench.server.apply([kept, changed])
    assert await bystander.rest() == b""
    await bench.connect(changed)
    await adapter.send(b"x")
    assert await client.receive(1) == b"x"


async def test_a_reload_takes_the_device_that_has_the_name_now(
    adapter: Adapter, make_adapter: MakeAdapter, make_port: MakePort, serve: Serve
) -> None:
    other = make_adapter("other")
    port, bystander = make_port(), make_port(name="bystander", device="/nonexistent/tty")
    bench = await serve(port, bystander)
    client, unaffected = await bench.connect(port), await bench.connect(bystander)
    assert bench.status()["device"]["problem"] is None
    adapter.path.unlink()
    adapter.path.symlink_to(os.readlink(other.path))
    assert "is another device now" in bench.status()["device"]["problem"]
    await bench.server.apply([port, bystander])
    assert bench.status()["device"]["problem"] is None
    assert await client.rest() == b""
    newcomer = await bench.connect(port)
    await other.send(b"other")
    assert await newcomer.receive(5) == b"other"
    await unaffected.send(b"still here")


async def test_a_tcp_port_in_use_is_served_once_it_is_free(
    adapter: Adapter, make_port: MakePort, caplog: pytest.LogCaptureFixture, serve: Serve
) -> None:
    port, fine = make_port(), make_port(name="fine", device="/nonexistent/tty")
    with socket.create_server(("127.0.0.1", tcp_port(port))):
        bench = await serve(port, fine)
        status = bench.status()
        assert not status["listening"]
        assert f"another program holds TCP port {tcp_port(port)}" in status["listen_problem"]
    await bench.until(lambda port: port["listening"], "the port listens")
    await bench.until(lambda port: port["device"]["present"], "the device is open")
    client = await bench.connect(port)
    await adapter.send(b"x")
    assert await client.receive(1) == b"x"
    assert caplog.text.count("another program holds") == 1


async def test_a_daemon_that_can_serve_nothing_says_so(
    adapter: Adapter, make_port: MakePort
) -> None:
    port = make_port()
    taken = socket.create_server(("127.0.0.1", tcp_port(port)))
    with taken, pytest.raises(ListenError, match=f"sw: cannot listen on .*{tcp_port(port)}"):
        await Server().start([port])


async def test_a_listener_without_an_address_takes_ipv4_and_ipv6(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(listen=free_tcp_port(), sharing="shared")
    bench = await serve(port)
    await bench.connect(port, "127.0.0.1")
    await bench.connect(port, "::1")
    clients = bench.status()["clients"]
    assert [client["address"].rpartition(":")[0] for client in clients] == [
        "127.0.0.1",
        "[::1]",
    ]


async def test_the_queue_stays_right_when_the_device_is_lost_in_the_middle_of_a_write(
    adapter: Adapter, make_port: MakePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(device: Device, data: bytes | memoryview) -> int:
        raise DeviceLost("gone")

    served = ServedPort(make_port())
    served.open_device()
    await served.device_settled()
    departed = Client(served, Entrance.of(served.port, served.port.listeners[0]))
    departed.writes = departed.has_left = True
    while not served.queue.holds(departed):  # until it is more than the pty takes
        served.from_client(departed, bytes(30_000))
    monkeypatch.setattr(Device, "write", lost)

    def lost_once_there_is_room() -> bool:
        adapter.read()
        return not served.device.is_open

    await until(lost_once_there_is_room, "the device is lost")
    assert not served.queue.holds(departed)
    monkeypatch.undo()
    await until(lambda: served.device.is_open, "the device is open again")
    served.from_client(departed, b"hello")
    while not (await adapter.receive(1)).endswith(b"hello"):
        pass
    await served.stop()
