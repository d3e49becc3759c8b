"""Several listeners on one device: they share its clients, and each has rules of its own."""

from __future__ import annotations

import asyncio
import socket
import ssl
import termios
from pathlib import Path

from conftest import Adapter, MakePort, Serve, free_tcp_port, until


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
    raw, telnet = await bench.connect(port, listener=0), await bench.connect(port, listener=1)
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
    first = await bench.connect(port, listener=0)
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
    writer = await bench.connect(port, listener=0)
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
    stranger = await bench.connect(port, listener=0)
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
    one, two = await bench.connect(port, listener=0), await bench.connect(port, listener=1)
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
    other = await bench.connect(port, listener=0)
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
    plain, secure = (
        await bench.connect(port, listener=0),
        await bench.connect(port, listener=1, ssl=context),
    )
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
    await bench.until(lambda port: port["listening"], "both listeners listen")
