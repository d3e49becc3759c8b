"""Metrics over real HTTP, on each event loop, read back by Prometheus' own parser."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from conftest import (
    TIMEOUT,
    Adapter,
    Connect,
    MakePort,
    Serve,
    TcpClient,
    free_tcp_port,
    in_each_loop,
    in_time,
    on_each_loop,
    reset_on_close,
    until,
)
from process import Daemon, StartDaemon, entry, environment, tcp_port
from ttybridge import BUILD
from ttybridge.daemon import metrics
from ttybridge.model.values import Listen
from ttybridge.setup import pulling

PORT = {
    "name": "sw",
    "listening": True,
    "device": {"path": "/dev/ttyUSB0", "present": False, "problem": "it went away"},
    "clients": [{"address": "192.0.2.1:1"}, {"address": "jane:1", "person": "jane", "by": "ssh"}],
    "counters": {
        "from_device": 2**40 + 1,
        "to_device": 7,
        "reconnects": 3,
        "refused_clients": 4,
        "closed_slow_clients": 5,
    },
    "line_errors": {"overrun": 1, "frame": 2, "parity": 3, "break": 4, "buffer_overrun": 6},
    "log": {"file": "/var/log/sw", "problem": None, "lost": 8},
    "not_in_journal": 9,
    "watch": {"panic": 10},
}

Samples = dict[tuple[str, str, str], float]


@contextlib.asynccontextmanager
async def metrics_of(status: Callable[[], dict[str, Any]]) -> AsyncIterator[int]:
    """Serve metrics for the length of a block; gives the TCP port. No error may go unhandled."""
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, error: errors.append(error))
    number = free_tcp_port()
    server = await metrics.serve(Listen("127.0.0.1", number), status)
    try:
        yield number
    finally:
        server.close()
    assert not errors


def nothing() -> dict[str, Any]:
    """The status of a daemon without ports."""
    return {"pid": 1, "ports": []}


def ask(
    number: int, method: str = "GET", target: str = "/metrics"
) -> tuple[http.client.HTTPResponse, bytes]:
    """Return an answer and its body."""
    connection = http.client.HTTPConnection("127.0.0.1", number, timeout=TIMEOUT)
    with contextlib.closing(connection):
        connection.request(method, target)
        response = connection.getresponse()
        return response, response.read()


async def scrape(number: int) -> Samples:
    """Return the samples of a page: name, port and kind of line error, value."""
    return samples(await page(number))


async def page(number: int) -> list[Metric]:
    """Return the metrics of a page."""
    response, body = await asyncio.to_thread(ask, number)
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return list(text_string_to_metric_families(body.decode()))


def samples(families: list[Metric]) -> Samples:
    return {
        (sample.name, sample.labels.get("port", ""), sample.labels.get("kind", "")): sample.value
        for family in families
        for sample in family.samples
        if sample.name != "ttybridge_info"
    }


async def exchange(number: int, data: bytes) -> bytes:
    """Send bytes and then nothing more; return what comes until the server closes."""
    client = await TcpClient.connect("127.0.0.1", number)
    try:
        client.write(data)
        with contextlib.suppress(OSError):
            client.finish()
        return await client.rest()
    except ConnectionError:
        return b""
    finally:
        client.close()


def descriptors() -> int:
    """How many file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


CLIENT = {"address": "192.0.2.7:1", "person": None}


async def test_the_metrics_name_people(make_port: MakePort, serve: Serve) -> None:
    bench = await serve(make_port())
    client = {**CLIENT, "person": "jane", "by": "ssh"}
    port = {**bench.status(), "clients": [client, client, {**client, "by": ""}, CLIENT]}
    async with metrics_of(lambda: {"ports": [port]}) as number:
        (family,) = [one for one in await page(number) if one.name == "ttybridge_people"]
    assert {(one.labels["user"], one.labels["by"]): one.value for one in family.samples} == {
        ("jane", "ssh"): 2,
        ("jane", "local"): 1,
    }


async def test_the_metrics_of_a_port_in_use(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(sharing="shared", max_clients=1)
    bench = await serve(port)
    async with metrics_of(bench.server.status) as number:
        before = await scrape(number)
        client = await bench.connect(port)
        await client.send(b"abc")
        await adapter.send(b"12345")
        assert await client.receive(5) == b"12345"
        refused = await bench.connect(port)
        assert await refused.rest()
        in_use = await scrape(number)
        adapter.unplug()
        await bench.has_no_device()
        away = await scrape(number)
        adapter.plug()
        await bench.has_device()
        back = await scrape(number)

    def values(name: str) -> list[float]:
        return [page[f"ttybridge_{name}", "sw", ""] for page in (before, in_use, away, back)]

    assert values("listening") == [1, 1, 1, 1]
    assert values("device_present") == [1, 1, 0, 1]
    assert values("clients") == [0, 1, 1, 1]
    assert values("device_received_bytes_total") == [0, 5, 5, 5]
    assert values("device_sent_bytes_total") == [0, 3, 3, 3]
    assert values("refused_clients_total") == [0, 1, 1, 1]
    assert values("device_reconnects_total") == [0, 0, 0, 1]


@in_each_loop
async def test_a_page_has_everything_once() -> None:
    async with metrics_of(lambda: {"pid": 1, "ports": [PORT]}) as number:
        families = await page(number)
    assert samples(families) == {
        ("ttybridge_device_present", "sw", ""): 0,
        ("ttybridge_listening", "sw", ""): 1,
        ("ttybridge_clients", "sw", ""): 2,
        ("ttybridge_device_received_bytes_total", "sw", ""): 2**40 + 1,
        ("ttybridge_device_sent_bytes_total", "sw", ""): 7,
        ("ttybridge_device_reconnects_total", "sw", ""): 3,
        ("ttybridge_refused_clients_total", "sw", ""): 4,
        ("ttybridge_closed_slow_clients_total", "sw", ""): 5,
        ("ttybridge_log_lost_bytes_total", "sw", ""): 8,
        ("ttybridge_journal_lost_lines_total", "sw", ""): 9,
        ("ttybridge_watch_matches_total", "sw", ""): 10,
        ("ttybridge_people", "sw", ""): 1,
        ("ttybridge_line_errors_total", "sw", "overrun"): 1,
        ("ttybridge_line_errors_total", "sw", "frame"): 2,
        ("ttybridge_line_errors_total", "sw", "parity"): 3,
        ("ttybridge_line_errors_total", "sw", "break"): 4,
        ("ttybridge_line_errors_total", "sw", "buffer_overrun"): 6,
    }
    (info,) = [family for family in families if family.name == "ttybridge_info"]
    assert [(one.labels, one.value) for one in info.samples] == [({"version": BUILD}, 1)]
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    for family in families:
        assert family.documentation.endswith(".")
        counted = all(sample.name.endswith("_total") for sample in family.samples)
        assert family.type == ("counter" if counted else "gauge")


@pytest.mark.parametrize(
    "port",
    [
        {"name": "sw"},
        {"name": "sw", "device": {}, "counters": {}, "log": {}, "line_errors": {}},
        dict.fromkeys(PORT) | {"name": "sw"},
    ],
)
async def test_what_a_port_does_not_have_is_left_out(port: dict[str, Any]) -> None:
    async with metrics_of(lambda: {"ports": [port, {**PORT, "name": "other"}]}) as number:
        found = await scrape(number)
    assert {name for _, name, _ in found} == {"other"}
    assert len(found) == 17


PULLED = {
    **{"result": "failed", "ended": 1800000000, "succeeded": 1799990000},
    **{"stale_after": 1800010000, "commit": "1a2b"},
}


async def test_a_host_that_pulls_says_how_that_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pull.json"
    monkeypatch.setattr(metrics, "PULL_STATE", file)
    async with metrics_of(nothing) as number:
        assert not [one for one in await page(number) if one.name.startswith("ttyfleet")]
        file.write_text(json.dumps(PULLED))
        found = {
            sample.name: (sample.labels, sample.value)
            for family in await page(number)
            if family.name.startswith("ttyfleet")
            for sample in family.samples
        }
        for text in ("", "[]", "\xff", '{"ended": "x", "result": null}'):
            file.write_text(text)
            await page(number)
    assert found == {
        "ttyfleet_pull_info": ({"commit": "1a2b"}, 1),
        "ttyfleet_pull_success": ({}, 0),
        "ttyfleet_pull_last_run_timestamp_seconds": ({}, 1800000000),
        "ttyfleet_pull_last_success_timestamp_seconds": ({}, 1799990000),
        "ttyfleet_pull_stale_after_timestamp_seconds": ({}, 1800010000),
    }


def test_it_reads_what_the_program_that_pulls_writes() -> None:
    assert pulling.Places().state == metrics.PULL_STATE


@in_each_loop
async def test_names_of_ports_come_back_as_they_are() -> None:
    names = ['say "hi"', "back\\slash", "two\nlines", "\\n", 'a="b",c="d"} 1', "Überseehafen", ""]
    ports = [{**PORT, "name": name} for name in names]
    async with metrics_of(lambda: {"ports": ports}) as number:
        found = await scrape(number)
    assert {name for _, name, _ in found} == set(names)
    assert len(found) == 17 * len(names)


@in_each_loop
async def test_each_scrape_asks_anew() -> None:
    counts = itertools.count(1)

    def status() -> dict[str, Any]:
        return {"ports": [{"name": "sw", "counters": {"reconnects": next(counts)}}]}

    async with metrics_of(status) as number:
        for expected in (1, 2):
            assert await scrape(number) == {
                ("ttybridge_device_reconnects_total", "sw", ""): expected
            }


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        ("GET", "/metrics", 200),
        ("GET", "/metrics?name[]=x", 200),
        ("HEAD", "/metrics", 200),
        ("GET", "/", 404),
        ("HEAD", "/", 404),
        ("POST", "/metrics/", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/metrics", 405),
    ],
)
@in_each_loop
async def test_http(method: str, target: str, code: int) -> None:
    async with metrics_of(nothing) as number:
        response, body = await asyncio.to_thread(ask, number, method, target)
    assert response.status == code
    assert response.headers["Connection"] == "close"
    assert response.headers["Allow"] == "GET, HEAD"
    length = int(response.headers["Content-Length"])
    assert length > 0
    assert len(body) == (0 if method == "HEAD" else length)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /metrics HTTP/2.0\r\n\r\n",
        b"GET  /metrics HTTP/1.1\r\n\r\n",
        b"get /metrics HTTP/1.1\r\n\r\n",
        b"GET /metrics\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n",
        b"GET /metr\x00cs HTTP/1.1\r\n\r\n",
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"",
    ],
)
@in_each_loop
async def test_what_is_no_request_is_told_so(request_: bytes) -> None:
    async with metrics_of(nothing) as number:
        assert (await exchange(number, request_)).startswith(b"HTTP/1.1 400 Bad Request\r\n")


@in_each_loop
async def test_garbage_and_clients_that_vanish_do_no_harm() -> None:
    chance = random.Random(2217)
    async with metrics_of(nothing) as number:
        before = descriptors()
        for size in (1, 100, 3000, 100_000, 2_000_000):
            for _ in range(5):
                answer = await exchange(number, chance.randbytes(size))
                assert answer.startswith(b"HTTP/1.1 400 ") or not answer
        for _ in range(200):
            with socket.create_connection(("127.0.0.1", number), TIMEOUT) as client:
                reset_on_close(client)
                client.send(b"GET /metrics HTTP/1.1\r\n\r\n"[: chance.randrange(1, 30)])
            await asyncio.sleep(0.001 * chance.randrange(3))
        assert await page(number)
        await until(lambda: descriptors() <= before, "the descriptors are as few as before")


@in_each_loop
async def test_a_request_without_end_is_not_kept(connect: Connect) -> None:
    async with metrics_of(nothing) as number:
        client = await connect("127.0.0.1", number)
        client.write(b"GET /metrics HTTP/1.1\r\n")
        async with in_time("the client is cut off"):
            with contextlib.suppress(ConnectionError):
                while True:
                    await client.send(b"X-Long: %1000d\r\n" % 1)


@in_each_loop
async def test_a_request_that_comes_slowly_is_answered(connect: Connect) -> None:
    async with metrics_of(nothing) as number:
        client = await connect("127.0.0.1", number)
        for byte in b"GET /metrics HTTP/1.0\r\nHost: pi\r\n\r\n":
            client.write(bytes([byte]))
            await asyncio.sleep(0.001)
        assert (await client.rest()).startswith(b"HTTP/1.1 200 OK\r\n")


@in_each_loop
async def test_clients_beyond_a_few_at_once_are_closed(connect: Connect) -> None:
    async with metrics_of(nothing) as number:
        many = 3 * metrics.ANSWERED_AT_ONCE
        flood = [await connect("127.0.0.1", number) for _ in range(many)]
        ends = [asyncio.create_task(client.rest()) for client in flood]
        await until(
            lambda: [end.done() for end in ends].count(False) == metrics.ANSWERED_AT_ONCE,
            "the others are closed",
        )
        for client in flood:
            client.close()
        await asyncio.gather(*ends, return_exceptions=True)
        assert await page(number)


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\n"])
@in_each_loop
async def test_a_client_that_asks_nothing_is_closed(
    sent: bytes, monkeypatch: pytest.MonkeyPatch, connect: Connect
) -> None:
    monkeypatch.setattr(metrics, "ANSWER_SECONDS", 0.2)
    async with metrics_of(nothing) as number:
        client = await connect("127.0.0.1", number)
        client.write(sent)
        assert await client.rest() == b""


@in_each_loop
async def test_a_client_that_reads_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "ANSWER_SECONDS", 0.2)
    # More than the kernel holds for a client that does not read.
    large = {"ports": [{**PORT, "name": f"{number:0>2000}"} for number in range(500)]}
    asked = []

    def status() -> dict[str, Any]:
        asked.append(True)
        return large

    async with metrics_of(status) as number:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", number))
            with_client = descriptors()
            client.send(b"GET /metrics HTTP/1.1\r\n\r\n")
            await until(lambda: bool(asked), "the page is asked for")
            await until(lambda: descriptors() == with_client, "the client's connection is closed")


@in_each_loop
async def test_it_listens_until_it_is_closed() -> None:
    async with metrics_of(nothing) as number:
        with pytest.raises(OSError, match="in use"):
            await metrics.serve(Listen("127.0.0.1", number), nothing)
        assert await page(number)
    await asyncio.sleep(0)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.to_thread(ask, number)


async def reload(process: Daemon, *entries: dict[str, Any], metrics: str = "") -> dict[str, Any]:
    """Have a daemon reload; return what it says of its metrics once it has."""
    process.configure(*entries, metrics=metrics)
    before = process.log.count("reloaded")
    process.signal(signal.SIGHUP)
    await until(lambda: process.log.count("reloaded") > before, "the daemon has reloaded")
    said: dict[str, Any] = (await process.status())["metrics"]
    return said


@on_each_loop
async def test_a_reload_moves_the_metrics_and_touches_no_port(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw, free = entry(device=str(adapter.path)), entry()
    number = tcp_port(free)
    process = await daemon(sw)
    client = await process.connect(sw)
    nowhere = {"listen": None, "listening": False, "problem": None}
    assert (await process.status())["metrics"] == nowhere
    # The second address is part of the first: the old listener must close first.
    for listen in (str(number), f"127.0.0.1:{number}", f"127.0.0.1:{number}"):
        there = {"listen": listen, "listening": True, "problem": None}
        assert await reload(process, sw, metrics=listen) == there
        assert await scrape(number)
    assert process.log.count(f"metrics on 127.0.0.1:{number}") == 1
    elsewhere = tcp_port(entry())
    await reload(process, sw, metrics=f"127.0.0.1:{elsewhere}")
    assert await scrape(elsewhere)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.to_thread(ask, number)
    # The port and the metrics change places.
    free["device"] = "/nonexistent/tty"
    free["name"] = "more"
    free["listen"] = f"127.0.0.1:{elsewhere}"
    await reload(process, sw, free, metrics=f"127.0.0.1:{number}")
    assert (await process.port("more"))["listening"]
    assert await scrape(number)
    assert await reload(process, sw, free) == nowhere
    with pytest.raises(ConnectionRefusedError):
        await asyncio.to_thread(ask, number)
    await adapter.send(b"still here")
    assert await client.receive(10) == b"still here"


@on_each_loop
async def test_metrics_come_once_another_program_has_left_their_address(
    daemon: StartDaemon,
) -> None:
    number, problem = free_tcp_port(), "Address already in use"
    listen = f"127.0.0.1:{number}"
    process = await daemon()
    with socket.create_server(("127.0.0.1", number)):
        said = await reload(process, metrics=listen)
        assert said == {"listen": listen, "listening": False, "problem": problem}
    await until(
        lambda: f"metrics on {listen}\n" in process.log.split(problem)[-1],
        "the metrics are there",
    )
    assert process.log.count(problem) == 1
    assert (await process.status())["metrics"]["problem"] is None
    response, _ = await asyncio.to_thread(ask, number)
    assert response.status == 200


async def test_a_reload_that_failed_is_told_until_one_succeeds(daemon: StartDaemon) -> None:
    process = await daemon()
    assert (await process.status())["reload_problem"] is None
    await reload(process, {"name": "sw"})
    problem = (await process.status())["reload_problem"]
    assert problem.startswith("not reloaded, all stays as it was:\n")
    assert "port sw: listen: missing" in problem
    await reload(process)
    assert (await process.status())["reload_problem"] is None


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    number = free_tcp_port()
    with pytest.raises(metrics.MetricsError) as caught:
        asyncio.run(metrics.serve(Listen("127.0.0.1", number), nothing))
    assert str(caught.value) == (
        "Python's module prometheus_client is missing: sudo apt install python3-prometheus-client"
    )
    with pytest.raises(ConnectionRefusedError):
        ask(number)


def test_the_library_is_imported_only_when_metrics_are_asked_for(tmp_path: Path) -> None:
    program = "import sys, ttybridge.daemon.metrics; sys.exit('prometheus_client' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], env=environment(tmp_path), check=True)
