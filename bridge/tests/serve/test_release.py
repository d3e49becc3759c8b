"""`ttybridge release` and `reclaim`: another program has a device for a while."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from conftest import Adapter, MakePort, Serve, another_program, on_each_loop
from process import Daemon, StartDaemon, entry, run
from ttybridge.line.lock import lock_file


async def done(process: Daemon, *words: str) -> tuple[int, str, str]:
    """Run a command; return exit status, standard output and standard error."""
    ended = await asyncio.to_thread(run, *words, runtime=process.runtime)
    return ended.returncode, ended.stdout, ended.stderr


@on_each_loop
async def test_another_program_uses_a_released_device_and_its_clients_stay(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), protocol="telnet")
    process = await daemon(sw)
    client = await process.connect(sw)
    status, out, err = await done(process, "release", "sw")
    assert (status, err) == (0, "")
    assert out.startswith("sw: released until ")
    await client.hear("[ttybridge: sw: the device is released until ")
    assert not [*process.locks.iterdir()]
    assert "released until" in (await done(process, "status"))[1]
    other = os.open(adapter.path, os.O_RDWR)
    os.write(other, b"flasher")
    assert await adapter.receive(7) == b"flasher"
    os.close(other)
    client.write(b"typed meanwhile")
    status, out, err = await done(process, "reclaim", "sw")
    assert (status, out, err) == (0, "sw: taken back\n", "")
    await client.hear("[ttybridge: sw: the device is here]")
    assert await adapter.receive(15) == b"typed meanwhile"
    assert "sw: device released until" in process.log
    assert "sw: device taken back by" in process.log


async def test_who_has_released_a_device_is_in_the_journal(
    adapter: Adapter, daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "jane")
    process = await daemon(entry(device=str(adapter.path)))
    await done(process, "release", "sw")
    name = "jane (root)" if os.geteuid() == 0 else os.environ.get("USER", "")
    assert f" by {name}\n" in process.log
    assert (await process.port())["device"]["released"]["by"] == name


async def test_a_device_comes_back_by_itself(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    bench = await serve(make_port())
    await bench.server.release("sw", 1, "a test")
    assert "is released until" in bench.status()["device"]["problem"]
    await bench.has_device()
    assert bench.status()["device"]["released"] is None


async def test_a_device_that_is_still_in_use_comes_back_later(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port()
    bench = await serve(port)
    await bench.server.release("sw", 600, "a test")
    with another_program() as cu:
        Path(lock_file(port.path)).write_text(f"{cu.pid:10d}\n")
        was_released, problem = await bench.server.reclaim("sw", "a test")
        assert was_released
        assert f"is in use by sleep (PID {cu.pid})" in str(problem)
        cu.kill()
        cu.wait()
    await bench.has_device()


async def test_a_release_can_be_made_longer(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    bench = await serve(make_port())
    await bench.server.release("sw", 0.1, "a test")
    await bench.server.release("sw", 600, "another")
    await asyncio.sleep(1)
    assert "by another: ttybridge reclaim sw" in bench.status()["device"]["problem"]


async def test_a_device_that_is_away_can_be_released(make_port: MakePort, serve: Serve) -> None:
    bench = await serve(make_port())
    await bench.server.release("sw", 600, "a test")
    assert bench.status()["device"]["released"]
    assert (await bench.server.reclaim("sw", "a test"))[0]
    assert not (await bench.server.reclaim("sw", "a test"))[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["release", "nowhere"], "no port is named 'nowhere': see ttybridge status"),
        (["reclaim", "nowhere"], "no port is named 'nowhere': see ttybridge status"),
        (["release", "sw", "0"], "0: write a whole number from 1 to 86400"),
        (["release", "sw", "soon"], "soon: write a whole number from 1 to 86400"),
        (["reclaim", "sw"], "sw: it is not released"),
    ],
)
async def test_what_cannot_be_done_is_said(
    words: list[str], said: str, adapter: Adapter, daemon: StartDaemon
) -> None:
    process = await daemon(entry(device=str(adapter.path)))
    _, out, err = await done(process, *words)
    assert said in out + err


@pytest.mark.parametrize("seconds", ["null", "true", '"60"', "0", "1e9", "90000"])
async def test_odd_seconds_are_refused(seconds: str, adapter: Adapter, daemon: StartDaemon) -> None:
    process = await daemon(entry(device=str(adapter.path)))
    request = f'{{"command": "release", "port": "sw", "seconds": {seconds}}}\n'
    assert b"write a whole number" in await process.say(request.encode())
    assert (await process.port())["device"]["present"]


async def test_status_names_a_program_that_the_daemon_does_not_know(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    process = await daemon(entry(device=str(adapter.path)))
    with another_program(stdin=adapter.near) as cat:
        _, out, _ = await done(process, "status")
    assert f"sleep (PID {cat.pid})" in out
    assert "each byte reaches one of both" in out
