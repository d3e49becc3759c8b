"""`ttybridge kick` and what `ttybridge status` tells of clients, as a person runs them."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from typing import Any

import pytest

from conftest import TIMEOUT, Adapter, free_tcp_port
from process import LOOPS, Daemon, daemon, entry, run, tcp_port

on_each_loop = pytest.mark.parametrize("loop", LOOPS)


def connected(to: dict[str, Any]) -> tuple[socket.socket, str]:
    """A client and how the daemon names it."""
    client = socket.create_connection(("127.0.0.1", tcp_port(to)), TIMEOUT)
    return client, "{}:{}".format(*client.getsockname())


async def done(process: Daemon, *words: str) -> tuple[int, str, str]:
    """Run a command; return exit status, standard output and standard error."""
    ended = await asyncio.to_thread(run, *words, runtime=process.runtime)
    return ended.returncode, ended.stdout, ended.stderr


@on_each_loop
async def test_one_client_is_closed_and_the_others_notice_nothing(
    loop: str, adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared")
    async with daemon(sw, loop=loop) as process:
        first, name = connected(sw)
        second, _ = connected(sw)
        await process.until(lambda port: len(port["clients"]) == 2)
        assert await done(process, "kick", "sw", name) == (0, f"sw: {name} closed\n", "")
        assert first.recv(1) == b""
        await adapter.send(b"x")
        assert second.recv(1) == b"x"
        assert f"sw: client {name} closed by ttybridge kick" in process.log
        first.close()
        second.close()


@on_each_loop
async def test_all_clients_of_a_port_are_closed_and_no_other_ports(
    loop: str, adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared", protocol="telnet")
    other = entry(name="other", device="/nonexistent/tty")
    async with daemon(sw, other, loop=loop) as process:
        clients = [connected(sw) for _ in range(3)]
        bystander, _ = connected(other)
        await process.until(lambda port: len(port["clients"]) == 3)
        await process.until(lambda port: len(port["clients"]) == 1, "other")
        lines = "".join(f"sw: {name} closed\n" for _, name in clients)
        assert await done(process, "kick", "sw") == (0, lines, "")
        for client, _ in clients:
            with client, client.makefile("rb") as stream:
                assert b"[ttybridge: sw: closed by the administrator]" in stream.read()
        assert not (await process.port())["clients"]
        assert (await process.port("other"))["clients"]
        bystander.close()


async def test_who_waits_to_replace_a_client_is_shown_and_closed(adapter: Adapter) -> None:
    sw = entry(device=str(adapter.path), sharing="replace")
    async with daemon(sw) as process:
        client, name = connected(sw)
        await process.until(lambda port: len(port["clients"]) == 1)
        waiting, other = connected(sw)
        await process.until(lambda port: len(port["clients"]) == 2)
        assert await done(process, "kick", "sw", other) == (0, f"sw: {other} closed\n", "")
        assert waiting.recv(1) == b""
        again, other = connected(sw)
        await process.until(lambda port: len(port["clients"]) == 2)
        assert f"{other} (waits)" in (await done(process, "status"))[1]
        lines = f"sw: {other} closed\nsw: {name} closed\n"
        assert await done(process, "kick", "sw") == (0, lines, "")
        assert not (await process.port())["clients"]
        for each in (client, waiting, again):
            each.close()


async def test_a_client_that_never_reads_is_closed_too(adapter: Adapter) -> None:
    sw = entry(device=str(adapter.path))
    async with daemon(sw) as process:
        stuck, name = connected(sw)
        await process.until(lambda port: bool(port["clients"]))
        sending = asyncio.create_task(adapter.send(bytes(16 * 1024 * 1024)))
        await process.until(lambda port: port["counters"]["from_device"] > 1024 * 1024)
        assert await done(process, "kick", "sw", name) == (0, f"sw: {name} closed\n", "")
        await process.until(lambda port: not port["clients"])
        await sending  # nobody is there for whom the device would wait
        stuck.close()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nowhere",), "no port is named 'nowhere': see ttybridge status\n"),
        (("sw",), "sw: no client is connected\n"),
        (("sw", "192.0.2.1:5"), "sw: 192.0.2.1:5 is not connected\n"),
    ],
)
async def test_what_cannot_be_kicked_is_one_line_and_exit_status_1(
    words: tuple[str, ...], complaint: str
) -> None:
    async with daemon(entry(device="/nonexistent/tty")) as process:
        assert await done(process, "kick", *words) == (1, "", complaint)


@pytest.mark.parametrize(
    "request_", [{}, {"port": None}, {"port": ["sw"]}, {"port": "sw", "client": [1]}]
)
async def test_odd_requests_are_answered(request_: dict[str, Any]) -> None:
    async with daemon(entry(device="/nonexistent/tty")) as process:
        path = process.runtime / "control.sock"
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(json.dumps({"command": "kick", **request_}).encode() + b"\n")
        answer = json.loads(await asyncio.wait_for(reader.read(), TIMEOUT))
        assert "error" in answer or answer == {"kicked": []}
        writer.close()


async def test_the_connection_of_a_port_that_connects_itself_is_made_anew(adapter: Adapter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as remote:
        remote.settimeout(TIMEOUT)
        connect = "127.0.0.1:{}".format(*remote.getsockname()[1:])
        sw = {"name": "sw", "device": str(adapter.path), "connect": connect}
        async with daemon(sw) as process:
            with remote.accept()[0] as first:
                await process.until(lambda port: bool(port["clients"]))
                _, out, _ = await done(process, "status")
                row = ["sw", "->", connect, str(adapter.path), connect, "0", "0"]
                assert out.splitlines()[1].split() == row
                status = await done(process, "kick", "sw")
                assert status == (0, f"sw: {connect} closed\n", "")
                assert first.recv(1) == b""
            with remote.accept()[0]:
                await process.until(lambda port: bool(port["clients"]))


async def test_the_table_of_a_port_that_cannot_connect_says_why() -> None:
    connect = f"127.0.0.1:{free_tcp_port()}"
    sw = {"name": "sw", "device": "/nonexistent/tty", "connect": connect}
    async with daemon(sw) as process:
        problem = f"cannot connect to {connect}: Connection refused"
        await process.until(lambda port: port["listen_problem"] == problem)
        code, out, complaint = await done(process, "status")
        assert (code, complaint) == (0, "")
        assert out.splitlines()[1].split() == ["sw", "->", connect, "absent", "-", "0", "0"]
        assert f"sw: {problem}" in out.splitlines()


async def test_the_table_shows_who_writes_where_others_watch(adapter: Adapter) -> None:
    sw = entry(device=str(adapter.path), sharing="observed")
    async with daemon(sw) as process:
        (writer, first), (watcher, second) = connected(sw), connected(sw)
        await process.until(lambda port: len(port["clients"]) == 2)
        _, out, _ = await done(process, "status")
        assert f"{first} (writes), {second}  " in out
        writer.close()
        watcher.close()


async def test_status_is_complete_for_programs(adapter: Adapter) -> None:
    sw = entry(device=str(adapter.path), sharing="shared", protocol="telnet")
    async with daemon(sw) as process:
        client, name = connected(sw)
        await process.until(lambda port: bool(port["clients"]))
        client.sendall(b"four")
        await adapter.receive(4)
        code, out, _ = await done(process, "status", "--json")
        assert code == 0
        (port,) = json.loads(out)["ports"]
        assert port["device"] == {
            "path": str(adapter.path),
            "present": True,
            "problem": None,
            "refused_settings": [],
        }
        assert port["line_settings"]["baudrate"] == 9600
        assert port["line_errors"] is None  # a pty counts none
        assert (port["protocol"], port["sharing"]) == ("telnet", "shared")
        assert (port["listen"], port["connect"]) == (sw["listen"], None)
        assert port["counters"] == {
            "from_device": 0,
            "to_device": 4,
            "dropped": 0,
            "reconnects": 0,
            "refused_clients": 0,
            "closed_slow_clients": 0,
        }
        (shown,) = port["clients"]
        assert (shown["address"], shown["received"], shown["writes"]) == (name, 4, True)
        assert 0 <= shown["idle_for"] <= shown["connected_for"] < TIMEOUT
        client.close()


async def test_a_service_waits_for_the_tcp_port_of_its_only_port(adapter: Adapter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        sw = entry(device=str(adapter.path))
        sw["listen"] = f"127.0.0.1:{squatter.getsockname()[1]}"
        async with daemon(sw) as process:
            problem = (await process.port())["listen_problem"]
            assert "another program holds TCP port" in problem
            squatter.close()
            await process.until(lambda port: bool(port["listening"]))
            _, writer = await process.connect(sw)
            writer.close()
            assert await process.end(signal.SIGTERM) == 0
