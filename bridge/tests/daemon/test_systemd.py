"""What systemd is told, on a socket of the test in the place of systemd's."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import in_time, on_each_loop
from process import StartDaemon, entry, tcp_port
from ttybridge.daemon import systemd

_NUMBERS = itertools.count()


class Manager:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind("\0" + address[1:] if address.startswith("@") else address)
        self._sock.setblocking(False)

    async def told(self) -> dict[str, str]:
        """The next message."""
        async with in_time("the service manager is told something"):
            data = await asyncio.get_running_loop().sock_recv(self._sock, 4096)
        return dict(line.split("=", 1) for line in data.decode().splitlines())

    async def told_of(self, key: str) -> dict[str, str]:
        """The next message with a key."""
        while key not in (message := await self.told()):
            pass
        return message

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A service manager whose socket has a path."""
    with contextlib.closing(Manager(str(tmp_path / "notify"))) as made:
        yield made


@pytest.fixture(params=["abstract", "path"])
def any_manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """A service manager, once with each kind of socket."""
    abstract = f"@ttybridge-test-{os.getpid()}-{next(_NUMBERS)}"
    address = abstract if request.param == "abstract" else str(tmp_path / "notify")
    with contextlib.closing(Manager(address)) as made:
        yield made


@on_each_loop
async def test_readiness_reload_and_stop_are_told(
    any_manager: Manager, daemon: StartDaemon
) -> None:
    manager = any_manager
    process = await daemon(entry(device="/nonexistent/tty"), NOTIFY_SOCKET=manager.address)
    ready = await manager.told()
    assert ready == {"READY": "1", "STATUS": "1 ports, 0 devices present, 0 clients"}
    process.configure()
    process.signal(signal.SIGHUP)
    reloading = await manager.told()
    assert reloading["RELOADING"] == "1"
    assert int(reloading["MONOTONIC_USEC"]) > 0
    assert (await manager.told())["READY"] == "1"
    process.config.write_text("nonsense")
    process.signal(signal.SIGHUP)
    assert "RELOADING" in await manager.told()
    assert (await manager.told())["READY"] == "1"
    assert await process.end() == 0
    assert await manager.told() == {"STOPPING": "1"}


@on_each_loop
async def test_ready_is_told_when_every_port_answers(manager: Manager, daemon: StartDaemon) -> None:
    ports = [entry(name=f"p{number}", device=f"/nonexistent/{number}") for number in range(20)]
    process = await daemon()
    await process.end()
    starting = asyncio.create_task(process.start(*ports, NOTIFY_SOCKET=manager.address))
    assert (await manager.told())["READY"] == "1"
    for port in ports:
        await process.open(port)
    await starting


async def test_a_service_whose_tcp_port_is_taken_is_ready_and_waits_for_it(
    manager: Manager, daemon: StartDaemon
) -> None:
    sw = entry(device="/nonexistent/tty")
    with socket.create_server(("127.0.0.1", tcp_port(sw))):
        process = await daemon(sw, NOTIFY_SOCKET=manager.address)
        assert (await manager.told())["READY"] == "1"
        assert not (await process.port())["listening"]
    await process.until(lambda port: port["listening"], "the port listens")


@on_each_loop
async def test_the_watchdog_is_told_twice_in_its_time(
    manager: Manager, daemon: StartDaemon
) -> None:
    sw = entry(device="/nonexistent/tty")
    await daemon(sw, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="200000")
    for _ in range(4):
        assert await manager.told_of("WATCHDOG") == {"WATCHDOG": "1"}


async def test_a_manager_that_has_gone_does_not_end_the_daemon(
    tmp_path: Path, daemon: StartDaemon
) -> None:
    sw = entry(device="/nonexistent/tty")
    process = await daemon(sw, NOTIFY_SOCKET=str(tmp_path / "gone"), WATCHDOG_USEC="100000")
    await process.logs("cannot tell systemd READY=1: No such file or directory")
    await asyncio.sleep(0.3)  # the watchdog is not told either
    assert (await process.port())["listening"]
    assert await process.end() == 0


def test_without_a_manager_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    systemd.notify("READY=1")
    asyncio.run(systemd.keep_watchdog())
