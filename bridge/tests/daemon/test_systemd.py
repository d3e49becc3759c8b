"""What systemd is told, on a socket of the test in the place of systemd's."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
from pathlib import Path

import pytest

from conftest import TIMEOUT
from process import LOOPS, daemon, entry, tcp_port
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
        async with asyncio.timeout(TIMEOUT):
            data = await asyncio.get_running_loop().sock_recv(self._sock, 4096)
        return dict(line.split("=", 1) for line in data.decode().splitlines())

    async def told_of(self, key: str) -> dict[str, str]:
        """The next message with a key."""
        while key not in (message := await self.told()):
            pass
        return message

    def close(self) -> None:
        self._sock.close()


@pytest.fixture(params=["abstract", "path"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "path":
        return str(tmp_path / "notify")
    return f"@ttybridge-test-{os.getpid()}-{next(_NUMBERS)}"


@pytest.mark.parametrize("loop", LOOPS)
async def test_readiness_reload_and_stop_are_told(loop: str, address: str) -> None:
    manager = Manager(address)
    sw = entry(device="/nonexistent/tty")
    async with daemon(sw, loop=loop, NOTIFY_SOCKET=address) as process:
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
    manager.close()


@pytest.mark.parametrize("loop", LOOPS)
async def test_ready_is_told_when_every_port_answers(loop: str, tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    ports = [entry(name=f"p{number}", device=f"/nonexistent/{number}") for number in range(20)]
    async with daemon(loop=loop) as process:
        await process.end()
        starting = asyncio.create_task(
            process.start(*ports, loop=loop, NOTIFY_SOCKET=manager.address)
        )
        assert (await manager.told())["READY"] == "1"
        for port in ports:
            _, writer = await asyncio.open_connection("127.0.0.1", tcp_port(port))
            writer.close()
        await starting
    manager.close()


async def test_a_service_whose_tcp_port_is_taken_is_ready_and_waits_for_it(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    sw = entry(device="/nonexistent/tty")
    squatter = socket.create_server(("127.0.0.1", tcp_port(sw)))
    async with daemon(sw, NOTIFY_SOCKET=manager.address) as process:
        assert (await manager.told())["READY"] == "1"
        assert not (await process.port())["listening"]
        squatter.close()
        await process.until(lambda port: bool(port["listening"]))
    manager.close()


@pytest.mark.parametrize("loop", LOOPS)
async def test_the_watchdog_is_told_twice_in_its_time(loop: str, tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    async with daemon(
        entry(device="/nonexistent/tty"),
        loop=loop,
        NOTIFY_SOCKET=manager.address,
        WATCHDOG_USEC="200000",
    ):
        for _ in range(4):
            assert await manager.told_of("WATCHDOG") == {"WATCHDOG": "1"}
    manager.close()


async def test_a_manager_that_has_gone_does_not_end_the_daemon(tmp_path: Path) -> None:
    sw = entry(device="/nonexistent/tty")
    async with daemon(sw, NOTIFY_SOCKET=str(tmp_path / "gone"), WATCHDOG_USEC="100000") as process:
        await asyncio.sleep(0.3)
        assert "cannot tell systemd READY=1: No such file or directory" in process.log
        assert (await process.port())["listening"]
        assert await process.end() == 0


def test_without_a_manager_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    systemd.notify("READY=1")
    asyncio.run(systemd.keep_watchdog())
