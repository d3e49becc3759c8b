"""Serial adapters and servers for the tests: ptys stand in for the tty, TCP is on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import socket
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from ttybridge.model.check import parse_portmap
from ttybridge.model.ports import Port
from ttybridge.serve.server import Server

TIMEOUT = 10.0

# How long an example takes says how busy the machine is.
settings.register_profile(
    "no deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("no deadline")


class Adapter:
    """A serial adapter with a name under which it comes and goes, and its far end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.far = -1
        self.plug()

    def plug(self) -> None:
        self.far, near = pty.openpty()
        tty.setraw(near)
        os.set_blocking(self.far, False)
        self.path.symlink_to(os.ttyname(near))
        # Held open, as a real tty is by its driver: else the far end sees EIO before it is opened.
        self._near = near

    def unplug(self) -> None:
        if self.far >= 0:
            self.path.unlink()
            os.close(self._near)
            os.close(self.far)
            self.far = -1

    async def send(self, data: bytes) -> None:
        """Send from the far end, as the device at the other end of the cable does."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.far, view[:4096]) :]
            except BlockingIOError:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)

    async def receive(self, size: int) -> bytes:
        """Return `size` bytes that arrived at the far end."""
        data = bytearray()
        async with asyncio.timeout(TIMEOUT):
            while len(data) < size:
                try:
                    data += os.read(self.far, 65536)
                except BlockingIOError:
                    await asyncio.sleep(0.001)
        return bytes(data)


@pytest.fixture
def adapter(tmp_path: Path) -> Iterator[Adapter]:
    """An adapter that is plugged in."""
    made = Adapter(tmp_path / "tty")
    yield made
    made.unplug()


@pytest.fixture
def make_port(tmp_path: Path) -> Callable[..., Port]:
    """Make a port on a free TCP port of 127.0.0.1, with the adapter as its device."""

    def make(**keys: Any) -> Port:
        entry = {
            "name": "sw",
            "device": str(tmp_path / "tty"),
            "listen": f"127.0.0.1:{free_tcp_port()}",
            **keys,
        }
        return parse_portmap([entry])[0]

    return make


def free_tcp_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def tcp_port(port: Port) -> int:
    """The TCP port that a port listens on."""
    return port.listeners[0].at.port


class TcpClient:
    """A client of a port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def receive(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """Return everything until the server closes."""
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.read()

    async def send(self, data: bytes) -> None:
        """Send, waiting while the connection is full."""
        self.writer.write(data)
        async with asyncio.timeout(TIMEOUT):
            await self.writer.drain()

    async def close(self) -> None:
        """Close, and give the server the moment to see it."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()
        await asyncio.sleep(0.05)


class Bench:
    """A running server and the clients of a test."""

    def __init__(self) -> None:
        self.server = Server()
        self._clients: list[TcpClient] = []

    def status(self, name: str = "sw") -> dict[str, Any]:
        """What the server says of one port."""
        ports: list[dict[str, Any]] = self.server.status()["ports"]
        return next(port for port in ports if port["name"] == name)

    async def connect(self, port: Port, address: str = "127.0.0.1") -> TcpClient:
        """Connect a client, and give the server the moment to see it."""
        client = TcpClient(*await asyncio.open_connection(address, tcp_port(port)))
        self._clients.append(client)
        await asyncio.sleep(0.05)
        return client

    async def close(self) -> None:
        """End server and clients."""
        await self.server.stop()
        for client in self._clients:
            await client.close()


@contextlib.asynccontextmanager
async def serving(*ports: Port) -> AsyncIterator[Bench]:
    """Serve ports for the length of a block."""
    bench = Bench()
    await bench.server.start(ports)
    try:
        yield bench
    finally:
        await bench.close()


async def eventually(condition: Callable[[], bool], seconds: float = TIMEOUT) -> None:
    """Wait until a condition holds; TimeoutError where it does not."""
    for _ in range(round(seconds / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError
