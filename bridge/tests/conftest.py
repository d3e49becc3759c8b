"""Serial adapters, servers and clients for the tests; all of them close themselves.

Ptys stand in for the tty, TCP is on loopback. Daemons as processes are in process.py, and under a
stand-in for systemd in kept.py; ttys with modem lines are in simtty.py, clients that speak RFC 2217
in rfc2217_client.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import os
import pty
import socket
import struct
import subprocess
import tempfile
import time
import tty
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from ttybridge.model.check import parse_portmap
from ttybridge.model.ports import Port
from ttybridge.serve.keeper import Store
from ttybridge.serve.server import Server

if TYPE_CHECKING:
    from kept import StartKept
    from process import StartDaemon
    from simtty import Uart

# After so many seconds something does not happen any more. Nothing that passes takes nearly as
# long, also on a machine that has much else to do.
TIMEOUT = 60.0

# How long an example takes says how busy the machine is.
settings.register_profile(
    "no deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("no deadline")

# The event loops that the daemon can run on: uvloop where it is installed.
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
if importlib.util.find_spec("uvloop"):
    LOOPS["uvloop"] = importlib.import_module("uvloop").new_event_loop

in_each_loop = pytest.mark.asyncio(loop_factories=list(LOOPS))
"""Runs an async test once in each of these loops; else it runs in asyncio's own."""

on_each_loop = pytest.mark.parametrize("loop", LOOPS)
"""Runs a test once with daemons on each of these loops; else they run on the fastest."""


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Any]:
    """Give an async test its event loops."""
    marker = item.get_closest_marker("asyncio")
    every = marker is not None and "loop_factories" in marker.kwargs
    return LOOPS if every else {"asyncio": LOOPS["asyncio"]}


Condition = Callable[[], object | Awaitable[object]]


async def until(
    condition: Condition,
    what: str,
    seconds: float = TIMEOUT,
    seen: Callable[[], object] = lambda: "",
) -> None:
    """Wait until a condition holds; AssertionError that says what did not happen, and what did."""
    last, pause = monotonic() + seconds, 0.001
    while True:
        holds = condition()
        if await holds if isinstance(holds, Awaitable) else holds:
            return
        assert monotonic() < last, f"not within {seconds:g} s: {what} {seen()}"
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.02)


@contextlib.asynccontextmanager
async def in_time(what: str) -> AsyncIterator[None]:
    """Let a block end in time; else AssertionError that says what did not happen."""
    try:
        async with asyncio.timeout(TIMEOUT):
            yield
    except TimeoutError:
        raise AssertionError(f"not within {TIMEOUT:g} s: {what}") from None


def _own_tcp_ports() -> range:
    """TCP ports of this worker: the kernel gives none of them to a client, here or elsewhere."""
    text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    first, last = map(int, text.split())
    below, above = range(10000, first), range(last + 1, 65536)
    all_ = max(below, above, key=len)
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    size = len(all_) // workers
    assert size > 100, f"ip_local_port_range {first}-{last} leaves no TCP ports for the tests"
    return all_[number * size : (number + 1) * size]


_tcp_ports = itertools.cycle(_own_tcp_ports())
# Two runs on one machine begin at different places.
for _ in range(os.getpid() % 1009):
    next(_tcp_ports)


def free_tcp_port() -> int:
    """A TCP port that nothing listens on, another one each time."""
    while True:
        number = next(_tcp_ports)
        with contextlib.suppress(OSError), socket.create_server(("0.0.0.0", number)):
            return number


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
        self.near = near

    def unplug(self) -> None:
        if self.far >= 0:
            self.path.unlink(missing_ok=True)
            os.close(self.near)
            os.close(self.far)
            self.far = -1

    async def send(self, data: bytes) -> None:
        """Send from the far end, as the device at the other end of the cable does."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.far, view[:4096]) :]
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                await self._ready(loop.add_writer, loop.remove_writer)
            await asyncio.sleep(0)

    async def receive(self, size: int) -> bytes:
        """Return `size` bytes, or a few more, that arrived at the far end."""
        data = bytearray()
        async with in_time(f"{size} bytes at the far end of the line"):
            while len(data) < size:
                if got := self.read():
                    data += got
                    await asyncio.sleep(0)
                else:
                    loop = asyncio.get_running_loop()
                    await self._ready(loop.add_reader, loop.remove_reader)
        return bytes(data)

    async def _ready(
        self, watch: Callable[[int, Callable[[], None]], None], forget: Callable[[int], object]
    ) -> None:
        """Wait until the far end can be read or written."""
        event, far = asyncio.Event(), self.far
        watch(far, event.set)
        try:
            await event.wait()
        finally:
            forget(far)

    async def receive_until(self, word: bytes) -> bytes:
        """Return what arrives at the far end before a word."""
        data = bytearray()
        while word not in data:
            data += await self.receive(1)
        return bytes(data[: data.index(word)])

    def read(self) -> bytes:
        """Return what has arrived at the far end."""
        with contextlib.suppress(BlockingIOError):
            return os.read(self.far, 65536)
        return b""


MakeAdapter = Callable[[str], Adapter]


@pytest.fixture
def make_adapter(tmp_path: Path) -> Iterator[MakeAdapter]:
    """Plug in adapters, each with a name, until the end of a test."""
    with contextlib.ExitStack() as stack:

        def make(name: str) -> Adapter:
            made = Adapter(tmp_path / name)
            stack.callback(made.unplug)
            return made

        yield make


@pytest.fixture
def adapter(make_adapter: MakeAdapter) -> Adapter:
    """An adapter that is plugged in."""
    return make_adapter("tty")


@pytest.fixture
def uart(adapter: Adapter, monkeypatch: pytest.MonkeyPatch) -> Uart:
    """The adapter is a UART to this process; it is looked at often, and its breaks are short."""
    from simtty import Uart  # which needs what is above

    monkeypatch.setattr("ttybridge.line.comport.LINE_POLL_SECONDS", 0.02)
    monkeypatch.setattr("ttybridge.line.write_queue.BREAK_SECONDS", 0.05)
    return Uart(adapter, monkeypatch)


@pytest.fixture(autouse=True)
def lock_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tests of this process write no lock files where other programs look."""
    folder = tmp_path / "lock"
    folder.mkdir()
    monkeypatch.setattr("ttybridge.line.lock.LOCK_DIRECTORY", str(folder))
    return folder


@contextlib.contextmanager
def another_program(**keys: Any) -> Iterator[subprocess.Popen[bytes]]:
    """`sleep`, as long as a block."""
    with subprocess.Popen(["sleep", "1000"], **keys) as process:
        # It has its own name a moment after Popen returns.
        while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
            time.sleep(0.001)
        try:
            yield process
        finally:
            process.kill()


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


def tcp_port(port: Port) -> int:
    """The TCP port that a port listens on."""
    return port.listeners[0].at.port


def reset_on_close(sock: Any) -> None:
    """Have a connection end by RST once it is closed (socket(7), SO_LINGER)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class TcpClient:
    """A client of a port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @property
    def name(self) -> str:
        """How the daemon names it."""
        address, number, *_ = self.writer.get_extra_info("sockname")
        return f"[{address}]:{number}" if ":" in address else f"{address}:{number}"

    @classmethod
    async def connect(cls, *place: Any, **keys: Any) -> TcpClient:
        """Connect to an address and TCP port, or as else asyncio.open_connection may be told."""
        async with in_time(f"a connection to {place}"):
            return cls(*await asyncio.open_connection(*place, **keys))

    async def receive(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        async with in_time(f"{size} bytes for a client"):
            return await self.reader.readexactly(size)

    async def receive_some(self) -> bytes:
        """Return what comes next."""
        async with in_time("something for a client"):
            data = await self.reader.read(65536)
        assert data, "the server has closed"
        return data

    async def hear(self, words: bytes | str) -> bytes:
        """Return what comes up to certain words, with them."""
        wanted, heard = words.encode() if isinstance(words, str) else words, b""
        async with in_time(f"{words!r} for a client"):
            while True:
                try:
                    return heard + await self.reader.readuntil(wanted)
                except asyncio.LimitOverrunError as error:
                    heard += await self.reader.readexactly(error.consumed)

    async def rest(self) -> bytes:
        """Return everything until the server closes."""
        async with in_time("the server closes"):
            return await self.reader.read()

    async def is_closed(self) -> bool:
        """Wait until the server closes; return whether it has said nothing more."""
        with contextlib.suppress(ConnectionError):
            return not await self.rest()
        return True

    def write(self, data: bytes) -> None:
        """Send, and wait for nothing."""
        self.writer.write(data)

    async def send(self, data: bytes) -> None:
        """Send, waiting while the connection is full."""
        self.write(data)
        async with in_time("the server reads what a client sends"):
            await self.writer.drain()

    def finish(self) -> None:
        """Send no more, and go on reading."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Leave without a farewell."""
        reset_on_close(self.writer.get_extra_info("socket"))
        self.writer.transport.abort()

    def close(self) -> None:
        """Leave."""
        self.writer.close()


Connect = Callable[..., Awaitable[TcpClient]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connect clients that leave at the end of a test."""
    clients: list[TcpClient] = []

    async def to(*place: Any, **keys: Any) -> TcpClient:
        clients.append(await TcpClient.connect(*place, **keys))
        return clients[-1]

    yield to
    for client in clients:
        client.writer.transport.abort()


class Remote:
    """A listener such as a port connects to, and the connections that it has accepted."""

    def __init__(self) -> None:
        self.accepted: asyncio.Queue[TcpClient] = asyncio.Queue()
        self._clients: list[TcpClient] = []
        self._server: asyncio.Server | None = None
        self.number = free_tcp_port()
        self.place = f"127.0.0.1:{self.number}"

    async def listen(self) -> None:
        """Accept connections from now on."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.number)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = TcpClient(reader, writer)
        self._clients.append(client)
        self.accepted.put_nowait(client)

    async def accept(self) -> TcpClient:
        """Return the next connection."""
        async with in_time("a port connects"):
            return await self.accepted.get()

    def close(self) -> None:
        """Accept no more, and close all that there are."""
        if self._server:
            self._server.close()
        for client in self._clients:
            client.writer.transport.abort()


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    """A listener that a port can connect to."""
    made = Remote()
    await made.listen()
    yield made
    made.close()


class Watched(ABC):
    """A server whose ports can be asked how they are."""

    @abstractmethod
    async def port(self, name: str = "sw") -> dict[str, Any]:
        """What the server says of one port."""

    async def until(
        self, condition: Callable[[dict[str, Any]], object], what: str, name: str = "sw"
    ) -> None:
        """Wait until what the server says of a port meets a condition."""
        said: dict[str, Any] = {}

        async def met() -> bool:
            said.update(await self.port(name))
            return bool(condition(said))

        await until(met, what, seen=lambda: said)

    async def has_clients(self, count: int, name: str = "sw") -> None:
        """Wait until a port has so many clients."""
        await self.until(lambda port: len(port["clients"]) == count, f"{count} clients", name)

    async def has_device(self) -> None:
        """Wait until the port has its device."""
        await self.until(lambda port: port["device"]["present"], "the device is there")

    async def has_no_device(self) -> None:
        """Wait until the port has lost its device."""
        await self.until(lambda port: not port["device"]["present"], "the device is gone")

    async def has_refused(self, clients: int) -> None:
        """Wait until the port has refused so many clients since the start."""
        await self.until(
            lambda port: port["counters"]["refused_clients"] == clients,
            f"{clients} refused clients",
        )

    async def has_read(self, size: int) -> None:
        """Wait until the port has read so much from its device."""
        await self.until(
            lambda port: port["counters"]["from_device"] >= size, f"{size} bytes are read"
        )

    async def reads_no_more(self) -> int:
        """Wait until the port has stopped to read its device; return how much it has read."""
        counts = [0]

        def still(port: dict[str, Any]) -> bool:
            counts.append(port["counters"]["from_device"])
            return counts[-1] > 0 and len(set(counts[-10:])) == 1

        await self.until(still, "the device is read no more")
        return counts[-1]

    async def has_baudrate(self, baudrate: int) -> None:
        """Wait until the line of the port has a baudrate."""
        await self.until(
            lambda port: port["line_settings"]["baudrate"] == baudrate, f"{baudrate} baud"
        )

    async def has_taken(self, size: int, name: str = "sw") -> None:
        """Wait until so many bytes of the port's first client have arrived."""
        await self.until(
            lambda port: port["clients"] and port["clients"][0]["received"] >= size,
            f"{size} bytes of a client have arrived",
            name,
        )


class DictStore:
    """Keeps descriptors in this process."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}
        self._numbers = itertools.count()

    def put(self, kind: str, descriptor: int) -> str:
        name = f"{kind}{next(self._numbers)}"
        self.kept[name] = os.dup(descriptor)
        return name

    def drop(self, name: str) -> None:
        os.close(self.kept.pop(name))


class Bench(Watched):
    """A running server and the clients of a test."""

    def __init__(self, store: Store | None = None) -> None:
        self.server = Server(None, store)
        self._clients: list[TcpClient] = []
        self._closed = False

    def status(self, name: str = "sw") -> dict[str, Any]:
        """What the server says of one port."""
        ports: list[dict[str, Any]] = self.server.status()["ports"]
        return next(port for port in ports if port["name"] == name)

    async def port(self, name: str = "sw") -> dict[str, Any]:
        return self.status(name)

    async def connect(
        self, port: Port, address: str = "127.0.0.1", listener: int = 0, **keys: Any
    ) -> TcpClient:
        """Connect a client, and return when the server has taken it in or refused it.

        Without `ssl` at a listener with TLS, the server does neither: there this returns at once.
        `keys` are those of asyncio.open_connection.
        """
        refused = self.status(port.name)["counters"]["refused_clients"]
        place = port.listeners[listener]
        client = await TcpClient.connect(address, place.at.port, **keys)
        self._clients.append(client)
        if keys or not place.tls:
            await self.until(
                lambda said: (
                    client.name in [one["address"] for one in said["clients"]]
                    or said["counters"]["refused_clients"] > refused
                ),
                f"{client.name} is taken in or refused",
                port.name,
            )
        return client

    async def close(self) -> None:
        """End server and clients, once."""
        if self._closed:
            return
        self._closed = True
        await self.server.stop()
        for client in self._clients:
            client.writer.transport.abort()


@contextlib.asynccontextmanager
async def serving(*ports: Port, store: Store | None = None) -> AsyncIterator[Bench]:
    """Serve ports for the length of a block."""
    bench = Bench(store)
    await bench.server.start(ports)
    try:
        yield bench
    finally:
        await bench.close()


Serve = Callable[..., Awaitable[Bench]]
MakePort = Callable[..., Port]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serve ports until the end of a test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(*ports: Port, store: Store | None = None) -> Bench:
            return await stack.enter_async_context(serving(*ports, store=store))

        yield start


@pytest.fixture
def loop() -> str:
    """The event loop of the daemons of a test."""
    return list(LOOPS)[-1]


@pytest.fixture
async def daemon(loop: str) -> AsyncIterator[StartDaemon]:
    """Start daemons, as processes of their own, which end with the test."""
    from process import running  # which needs what is above

    async with contextlib.AsyncExitStack() as stack:

        async def start(*entries: dict[str, Any], **keys: Any) -> Any:
            return await stack.enter_async_context(running(*entries, loop=loop, **keys))

        yield start


@pytest.fixture
async def kept(loop: str) -> AsyncIterator[StartKept]:
    """Start a daemon whose descriptors are kept; it ends with the test."""
    from kept import Kept  # which needs what is above

    with contextlib.ExitStack() as stack:

        async def start(*entries: dict[str, Any], **constants: Any) -> Kept:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            made = stack.enter_context(contextlib.closing(Kept(Path(folder), loop)))
            made.constants = constants.get("constants") or {}
            await made.serve(*entries)
            return made

        yield start
