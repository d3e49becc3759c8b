"""`ttybridge kick` and what `ttybridge status` tells of clients, as a person runs them."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest

from conftest import TIMEOUT, Adapter, Remote, free_tcp_port, on_each_loop
from process import Daemon, StartDaemon, entry, run, tcp_port


async def done(process: Daemon, *words: str) -> tuple[int, str, str]:
    """Run a command; return exit status, standard output and standard error."""
    ended = await asyncio.to_thread(run, *words, runtime=process.runtime)
    return ended.returncode, ended.stdout, ended.stderr


@on_each_loop
async def test_one_client_is_closed_and_the_others_notice_nothing(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared")
    process = await daemon(sw)
    first, second = await process.connect(sw), await process.connect(sw)
    said = f"sw: {first.name} closed\n"
    assert await done(process, "kick", "sw", first.name) == (0, said, "")
    assert await first.rest() == b""
    await adapter.send(b"x")
    assert await second.receive(1) == b"x"
    assert f"sw: client {first.name} closed by root (ttybridge kick)" in process.log


@on_each_loop
async def test_all_clients_of_a_port_are_closed_and_no_other_ports(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared", protocol="telnet")
    other = entry(name="other", device="/nonexistent/tty")
    process = await daemon(sw, other)
    clients = [await process.connect(sw) for _ in range(3)]
    await process.connect(other)
    lines = "".join(f"sw: {client.name} closed\n" for client in clients)
    assert await done(process, "kick", "sw") == (0, lines, "")
    for client in clients:
        assert b"[ttybridge: sw: closed by root]" in await client.rest()
    assert not (await process.port())["clients"]
    assert (await process.port("other"))["clients"]


async def test_who_waits_to_replace_a_client_is_shown_and_closed(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), sharing="replace")
    process = await daemon(sw, constants={"CANDIDATE_SECONDS": 2 * TIMEOUT})
    client, waiting = await process.connect(sw), await process.connect(sw)
    said = f"sw: {waiting.name} closed\n"
    assert await done(process, "kick", "sw", waiting.name) == (0, said, "")
    assert await waiting.rest() == b""
    another = await process.connect(sw)
    assert f"{another.name} (waits)" in (await done(process, "status"))[1]
    lines = f"sw: {another.name} closed\nsw: {client.name} closed\n"
    assert await done(process, "kick", "sw") == (0, lines, "")
    assert not (await process.port())["clients"]


async def test_a_client_that_never_reads_is_closed_too(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path))
    process = await daemon(sw)
    stuck = process.socket_to(sw)
    name = "{}:{}".format(*stuck.getsockname())
    await process.has_clients(1)
    sending = asyncio.create_task(adapter.send(bytes(16 * 1024 * 1024)))
    await process.has_read(1024 * 1024)
    assert await done(process, "kick", "sw", name) == (0, f"sw: {name} closed\n", "")
    await process.has_clients(0)
    await sending  # the device waits for nobody


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nowhere",), "no port is named 'nowhere': see ttybridge status\n"),
        (("sw",), "sw: no client is connected\n"),
        (("sw", "192.0.2.1:5"), "sw: 192.0.2.1:5 is not connected\n"),
    ],
)
async def test_what_cannot_be_kicked_is_one_line_and_exit_status_1(
    words: tuple[str, ...], complaint: str, daemon: StartDaemon
) -> None:
    process = await daemon(entry(device="/nonexistent/tty"))
    assert await done(process, "kick", *words) == (1, "", complaint)


@pytest.mark.parametrize(
    "request_", [{}, {"port": None}, {"port": ["sw"]}, {"port": "sw", "client": [1]}]
)
async def test_odd_requests_are_answered(request_: dict[str, Any], daemon: StartDaemon) -> None:
    process = await daemon(entry(device="/nonexistent/tty"))
    request = json.dumps({"command": "kick", **request_}).encode() + b"\n"
    answer = json.loads(await process.say(request))
    assert "error" in answer or answer == {"kicked": []}


async def test_the_connection_of_a_port_that_connects_itself_is_made_anew(
    adapter: Adapter, remote: Remote, daemon: StartDaemon
) -> None:
    sw = {"name": "sw", "device": str(adapter.path), "connect": remote.place}
    process = await daemon(sw)
    first = await remote.accept()
    await process.has_clients(1)
    _, out, _ = await done(process, "status")
    row = ["sw", "->", remote.place, str(adapter.path), remote.place, "0", "0"]
    assert out.splitlines()[1].split() == row
    assert await done(process, "kick", "sw") == (0, f"sw: {remote.place} closed\n", "")
    assert await first.rest() == b""
    await remote.accept()
    await process.has_clients(1)


async def test_the_table_of_a_port_that_cannot_connect_says_why(daemon: StartDaemon) -> None:
    connect = f"127.0.0.1:{free_tcp_port()}"
    sw = {"name": "sw", "device": "/nonexistent/tty", "connect": connect}
    process = await daemon(sw)
    problem = f"cannot connect to {connect}: Connection refused"
    await process.until(lambda port: port["listen_problem"] == problem, "the problem is shown")
    code, out, complaint = await done(process, "status")
    assert (code, complaint) == (0, "")
    assert out.splitlines()[1].split() == ["sw", "->", connect, "absent", "-", "0", "0"]
    assert f"sw: {problem}" in out.splitlines()


async def test_the_table_shows_who_writes_where_others_watch(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), sharing="observed")
    process = await daemon(sw)
    writer, watcher = await process.connect(sw), await process.connect(sw)
    _, out, _ = await done(process, "status")
    assert f"{writer.name} (writes), {watcher.name}  " in out


async def test_status_is_complete_for_programs(adapter: Adapter, daemon: StartDaemon) -> None:
    sw = entry(device=str(adapter.path), sharing="shared", protocol="telnet")
    process = await daemon(sw)
    client = await process.connect(sw)
    client.write(b"four")
    await adapter.receive(4)
    code, out, _ = await done(process, "status", "--json")
    assert code == 0
    (port,) = json.loads(out)["ports"]
    del port["device"]["also_open_in"]  # as this process plays the adapter
    assert port["device"] == {
        "path": str(adapter.path),
        "present": True,
        "problem": None,
        "refused_settings": [],
        "released": None,
        "holder": None,
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
    assert (shown["address"], shown["received"], shown["writes"]) == (client.name, 4, True)
    assert 0 <= shown["idle_for"] <= shown["connected_for"] < TIMEOUT


async def test_a_service_waits_for_the_tcp_port_of_its_only_port(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path))
    with socket.create_server(("127.0.0.1", tcp_port(sw))):
        process = await daemon(sw)
        problem = (await process.port())["listen_problem"]
        assert "another program holds TCP port" in problem
    await process.until(lambda port: port["listening"], "the port listens")
    await process.connect(sw)
    assert await process.end() == 0
