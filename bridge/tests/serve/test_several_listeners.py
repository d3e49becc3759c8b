"""Several listeners on one device: they share its clients, and each has rules of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import termios
from pathlib import Path
from typing import Any

import pytest

from conftest import TIMEOUT, Adapter, DictStore, MakePort, Serve, free_tcp_port, until
from rfc2217_client import Rfc2217Client
from rfc2217_client import baudrate as rfc2217_baudrate
from ttybridge.line.device import Device
from ttybridge.serve.handover import Inheritance, dump, load
from ttybridge.serve.server import Server


def at() -> str:
    return f"127.0.0.1:{free_tcp_port()}"


async def baudrate(adapter: Adapter, wanted: int) -> None:
    def is_set() -> bool:
        settings = termios.tcgetattr(adapter.near)
        return bool(settings[4] == getattr(termios, f"B{wanted}"))

    await until(is_set, f"{wanted} baud")


async def test_clients_of_all_listeners_hear_the_device_each_in_its_protocol(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(listen=[at(), {"at": at(), "protocol": "telnet"}], sharing="shared")
    bench = await serve(port)
    raw, telnet = await bench.connect(port), await bench.connect(port, listener=1)
    await adapter.send(b"\xff")
    assert await raw.receive(1) == b"\xff"
    assert await telnet.hear(b"\xff\xff")
    await raw.send(b"one")
    assert await adapter.receive(3) == b"one"
    await telnet.send(b"two")
    assert await adapter.receive(3) == b"two"
    status = bench.status()
    assert [each["protocol"] for each in status["listeners"]] == ["raw", "telnet"]
    assert status["clients"][1]["listener"] == str(port.listeners[1].at)


async def test_the_sharing_rule_holds_across_listeners(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(listen=[at(), at()])
    bench = await serve(port)
    first = await bench.connect(port)
    await first.send(b"x")
    assert await adapter.receive(1) == b"x"
    second = await bench.connect(port, listener=1)
    assert b"port sw is in use by 127.0.0.1" in await second.rest()


async def test_a_watcher_sees_all_writes_nothing_and_keeps_nobody_out(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    watch = {"at": at(), "access": "watch", "max_clients": 2, "protocol": "telnet"}
    port = make_port(listen=[at(), watch])
    bench = await serve(port)
    watchers = [await bench.connect(port, listener=1) for _ in range(2)]
    for watcher in watchers:
        assert await watcher.hear(b"nothing that you send is written]\r\n")
        await watcher.send(b"lost\xff\xf3")
    writer = await bench.connect(port)
    await writer.send(b"kept")
    assert await adapter.receive(4) == b"kept"
    await adapter.send(b"seen")
    assert await writer.receive(4) == b"seen"
    for watcher in watchers:
        assert (await watcher.hear(b"seen"))[-4:] == b"seen"
    refused = await bench.connect(port, listener=1)
    assert b"in use by" in await refused.rest()
    assert [each["writes"] for each in bench.status()["clients"]] == [True, False, False]
    assert bench.status()["counters"]["to_device"] == 4


async def test_each_listener_lets_in_whom_it_allows(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(listen=[{"at": at(), "allow": ["192.0.2.0/24"]}, at()])
    bench = await serve(port)
    stranger = await bench.connect(port)
    assert b"127.0.0.1 may not connect to port sw" in await stranger.rest()
    friend = await bench.connect(port, listener=1)
    await friend.send(b"x")
    assert await adapter.receive(1) == b"x"


async def test_each_listener_has_its_greeting_on_any_protocol(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(
        listen=[at(), {"at": at(), "banner": "{name} for programs"}],
        banner="{name} at {baudrate}",
        sharing="shared",
    )
    bench = await serve(port)
    one, two = await bench.connect(port), await bench.connect(port, listener=1)
    assert await one.hear(b"\n") == b"sw at 9600\r\n"
    assert await two.hear(b"\n") == b"sw for programs\r\n"


async def test_a_listener_has_its_speed_while_its_client_is_the_only_one(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(listen=[at(), {"at": at(), "baudrate": 115200}], sharing="shared")
    bench = await serve(port)
    await baudrate(adapter, 9600)
    fast = await bench.connect(port, listener=1)
    await baudrate(adapter, 115200)
    other = await bench.connect(port)
    await baudrate(adapter, 9600)
    other.close()
    await baudrate(adapter, 115200)
    fast.close()
    await baudrate(adapter, 9600)


async def test_one_listener_has_tls_and_the_other_has_not(
    adapter: Adapter, make_port: MakePort, tmp_path: Path, serve: Serve
) -> None:
    names = {"certificate": f"{tmp_path}/pi.pem", "key": f"{tmp_path}/pi.key"}
    made = await asyncio.create_subprocess_shell(
        "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=pi "
        f"-out {names['certificate']} -keyout {names['key']}",
        stderr=asyncio.subprocess.PIPE,
    )
    await made.communicate()
    context = ssl.create_default_context(cafile=names["certificate"])
    context.check_hostname = False
    port = make_port(listen=[at(), {"at": at(), "tls": names}], sharing="shared")
    bench = await serve(port)
    plain, secure = await bench.connect(port), await bench.connect(port, listener=1, ssl=context)
    await secure.send(b"secret")
    assert await adapter.receive(6) == b"secret"
    await adapter.send(b"answer")
    for client in (plain, secure):
        assert await client.receive(6) == b"answer"


async def test_a_listener_that_is_taken_is_named_and_the_other_serves(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    number = free_tcp_port()
    port = make_port(listen=[at(), f"127.0.0.1:{number}"])
    with socket.create_server(("127.0.0.1", number)):
        bench = await serve(port)
        status = bench.status()
        assert [each["listening"] for each in status["listeners"]] == [True, False]
        assert not status["listening"]
        assert f"cannot listen on 127.0.0.1:{number}" in status["listen_problem"]
        client = await bench.connect(port)
        await client.send(b"x")
        assert await adapter.receive(1) == b"x"
    await bench.until(lambda port: port["listening"], "both listeners are open")


async def test_a_watcher_with_rfc2217_does_not_keep_the_line_from_being_set(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    fast = {"at": at(), "protocol": "raw", "baudrate": 115200}
    port = make_port(protocol="rfc2217", listen=[at(), fast, {"at": at(), "access": "watch"}])
    bench = await serve(port)
    watcher = Rfc2217Client(await bench.connect(port, listener=2))
    await watcher.agree()
    writer = Rfc2217Client(await bench.connect(port))
    await writer.agree()
    await writer.ask(*rfc2217_baudrate(57600))
    await writer.send(bytes(60_000))
    writer.tcp.close()
    assert await watcher.ask(*rfc2217_baudrate(115200)) == (57600).to_bytes(4, "big")
    await baudrate(adapter, 57600)
    await adapter.receive(60_000)
    await baudrate(adapter, 9600)
    await bench.connect(port, listener=1)
    await baudrate(adapter, 115200)


async def test_a_listener_has_its_speed_until_its_last_client_has_its_answers(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(listen=[at(), {"at": at(), "baudrate": 115200}], half_close_timeout=2)
    bench = await serve(port)
    client = await bench.connect(port, listener=1)
    await client.send(b"uptime\r")
    client.finish()
    assert await adapter.receive(7) == b"uptime\r"
    await asyncio.sleep(0.3)
    assert termios.tcgetattr(adapter.near)[4] == termios.B115200
    await adapter.send(b"up")
    assert await client.rest() == b"up"
    await baudrate(adapter, 9600)


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The speeds that a line is set to while its device is open."""
    speeds: list[int] = []
    real = Device.set

    def set_(device: Device, name: str, value: Any) -> None:
        if name == "baudrate" and value != device.setting(name):
            speeds.append(value)
        real(device, name, value)

    monkeypatch.setattr(Device, "set", set_)
    return speeds


async def test_the_line_stays_as_it_is_when_a_client_of_the_same_listener_replaces(
    adapter: Adapter, make_port: MakePort, speeds: list[int], serve: Serve
) -> None:
    port = make_port(listen=[at(), {"at": at(), "baudrate": 115200}], sharing="replace")
    bench = await serve(port)
    _, two = await bench.connect(port, listener=1), await bench.connect(port, listener=1)
    await two.send(b"x")
    assert await adapter.receive(1) == b"x"
    assert speeds == [115200]


async def test_the_line_stays_as_it_is_in_a_restart(
    adapter: Adapter, make_port: MakePort, speeds: list[int], serve: Serve
) -> None:
    port, store = make_port(listen=[at(), {"at": at(), "baudrate": 115200}]), DictStore()
    bench = await serve(port, store=store)
    client = await bench.connect(port, listener=1)
    await baudrate(adapter, 115200)
    state = b"".join(dump(await bench.server.leave()))
    bench.server.abandon()
    after = Server(Inheritance(load(state), store.kept))
    await after.start([port])
    await client.send(b"x")
    assert await adapter.receive(1) == b"x"
    assert speeds == [115200]
    await after.stop()


async def test_watchers_that_will_send_no_more_make_room_for_newer_ones(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    watch = {"at": at(), "access": "watch", "max_clients": 2}
    port = make_port(listen=[at(), watch], half_close_timeout=60)
    bench = await serve(port)
    watchers = []
    for _ in range(3):
        watchers.append(await bench.connect(port, listener=1))
        watchers[-1].finish()
        await asyncio.sleep(0.1)
    assert await watchers[0].rest() == b""
    assert len(bench.status()["clients"]) == 2
    await adapter.send(b"seen")
    for watcher in watchers[1:]:
        assert await watcher.receive(4) == b"seen"


async def test_who_has_connected_hears_what_the_device_says_next_also_beside_a_watcher(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(listen=[at(), {"at": at(), "access": "watch"}])
    bench = await serve(port)
    await bench.connect(port, listener=1)
    where = ("127.0.0.1", port.listeners[0].at.port)
    with socket.create_connection(where, TIMEOUT) as client:
        os.write(adapter.far, b"boot")
        bench.server._services["sw"].served._readable()
        assert await asyncio.to_thread(client.recv, 4) == b"boot"
