"""An adapter hangs, and its driver blocks whoever asks it: only its own port waits."""

from __future__ import annotations

import contextlib
import fcntl
import os
import termios
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import (
    TIMEOUT,
    Adapter,
    Bench,
    DictStore,
    MakeAdapter,
    MakePort,
    Serve,
    TcpClient,
    until,
)
from rfc2217_client import CONTROL, MODEMSTATE, Rfc2217Client, baudrate, com_port
from simtty import Request, tty_settings
from ttybridge.line.lock import lock_file
from ttybridge.model.ports import Port

_SETS = (termios.TIOCMBIS, termios.TIOCMBIC)
_BREAKS = (Request.SBRK, Request.CBRK)


class Driver:
    """The driver of one adapter. What it is told to hang in blocks until it is let go.

    Linux keeps everybody else out while line settings change: to read, write or ask for them
    meanwhile would block the event loop.
    """

    def __init__(self, adapter: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        """What it has been asked for, and has done."""
        self.waits_in: str | None = None
        self.opened: set[int] = set()
        """Descriptors of the tty that are open."""
        self.touched: list[str] = []
        """What the event loop would have waited for."""
        self._hangs: set[str] = set()
        self._go_on = threading.Event()
        self._tty = os.fstat(adapter.near).st_rdev
        self._path = str(adapter.path)

        def replace(module: Any, name: str, by: Any) -> Any:
            original = getattr(module, name)
            monkeypatch.setattr(module, name, by)
            return original

        self._real_open = replace(os, "open", self._open)
        self._real_close = replace(os, "close", self._close)
        self._real_read = replace(os, "read", self._read)
        self._real_write = replace(os, "write", self._write)
        self._real_ioctl = replace(fcntl, "ioctl", self._ioctl)
        self._real_tcsetattr = replace(termios, "tcsetattr", self._tcsetattr)
        self._real_tcflush = replace(termios, "tcflush", self._tcflush)

    def hang(self, *calls: str) -> None:
        """Block in some of open, close, set, lines, ask and break from now on."""
        self._go_on.clear()
        self._hangs = {*calls}

    def go_on(self) -> None:
        self._hangs = set()
        self._go_on.set()

    async def hangs(self, call: str) -> None:
        """Wait until a thread waits for it in a call."""
        await until(lambda: self.waits_in == call, f"{call} hangs")

    def _does(self, call: str) -> None:
        if call in self._hangs:
            assert threading.current_thread() is not threading.main_thread(), call
            self.waits_in = call
            assert self._go_on.wait(TIMEOUT)
            self.waits_in = None
        self.done.append(call)

    def _is_ours(self, fd: int) -> bool:
        return fd in self.opened

    def _note(self, call: str, fd: int) -> None:
        on_the_loop = threading.current_thread() is threading.main_thread()
        if self._is_ours(fd) and on_the_loop and self.waits_in == "set":
            self.touched.append(call)

    def _open(self, path: Any, *words: Any, **keys: Any) -> int:
        ours = path == self._path
        if ours:
            self._does("open")
        fd: int = self._real_open(path, *words, **keys)
        if ours:
            self.opened.add(fd)
        return fd

    def _close(self, fd: int) -> None:
        if self._is_ours(fd):
            self._does("close")
            self.opened.discard(fd)
        self._real_close(fd)

    def _read(self, fd: int, size: int) -> bytes:
        self._note("read", fd)
        data: bytes = self._real_read(fd, size)
        return data

    def _write(self, fd: int, data: Any) -> int:
        self._note("write", fd)
        count: int = self._real_write(fd, data)
        return count

    def _tcsetattr(self, fd: Any, *words: Any) -> None:
        if self._is_ours(fd):
            self._does("set")
        self._real_tcsetattr(fd, *words)

    def _tcflush(self, fd: int, queue: int) -> None:
        self._note("flush", fd)
        self._real_tcflush(fd, queue)
        self.done.append("flush")

    def _ioctl(self, fd: Any, request: int, *words: Any) -> Any:
        if isinstance(fd, int) and self._is_ours(fd):
            if request in (Request.GETS2, Request.SETS2):
                self._note("settings", fd)
            if request == Request.SETS2:
                self._does("set")
            if request == termios.TIOCMGET:
                self._does("ask")
                return bytes(4)
            if request in _SETS:
                self._does("lines")
                return 0
            if request in _BREAKS:
                self._does("break")
                return 0
        return self._real_ioctl(fd, request, *words)


@pytest.fixture
def driver(adapter: Adapter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """The driver of the adapter; it hangs in nothing after the test."""
    made = Driver(adapter, monkeypatch)
    yield made
    made.go_on()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that does not answer is not waited for."""
    monkeypatch.setattr("ttybridge.line.worker.STUCK_SECONDS", 0.05)
    monkeypatch.setattr("ttybridge.serve.port.DEVICE_SECONDS", 0.1)


Echo = Callable[[], Awaitable[None]]


class Other:
    """Another port, whose adapter is well."""

    def __init__(self, adapter: Adapter, port: Port) -> None:
        self.adapter, self.port = adapter, port
        self._client: TcpClient | None = None

    async def goes_on(self, bench: Bench) -> None:
        """Bytes pass both ways, and the server says how it is."""
        if not self._client:
            self._client = await bench.connect(self.port)
        await self._client.send(b"there")
        assert await self.adapter.receive(5) == b"there"
        await self.adapter.send(b"back")
        assert await self._client.receive(4) == b"back"
        assert bench.status("other")["device"]["present"]
        assert bench.status("sw")


@pytest.fixture
def other(make_adapter: MakeAdapter, make_port: MakePort) -> Other:
    """A port that must go on."""
    adapter = make_adapter("other")
    return Other(adapter, make_port(name="other", device=str(adapter.path)))


async def says_that_it_hangs(bench: Bench) -> None:
    """Wait until `ttybridge status` says why nothing passes."""
    await bench.until(
        lambda said: "its driver has not answered for" in str(said["device"]["problem"]),
        "status says why",
    )


async def test_while_a_device_hangs_as_it_is_opened_the_others_are_served(
    driver: Driver, adapter: Adapter, other: Other, make_port: MakePort, serve: Serve
) -> None:
    driver.hang("open")
    port = make_port(protocol="telnet")
    bench = await serve(port, other.port)
    await driver.hangs("open")
    await other.goes_on(bench)
    await says_that_it_hangs(bench)
    client = await bench.connect(port)
    await client.send(b"typed meanwhile")
    await other.goes_on(bench)
    driver.go_on()
    await client.hear("[ttybridge: sw: the device is here]")
    assert await adapter.receive(15) == b"typed meanwhile"
    assert bench.status()["device"]["problem"] is None
    assert driver.done.count("open") == 1


@pytest.mark.parametrize("call", ["open", "set", "lines"])
async def test_a_port_that_is_removed_while_its_device_is_opened_leaves_nothing_open(
    call: str, driver: Driver, adapter: Adapter, other: Other, make_port: MakePort, serve: Serve
) -> None:
    driver.hang(call)
    port = make_port()
    bench = await serve(port, other.port)
    await driver.hangs(call)
    await bench.server.apply([other.port])
    driver.go_on()
    await until(lambda: "close" in driver.done, "the device is closed")
    await until(lambda: not Path(lock_file(port.path)).exists(), "its lock file is gone")
    assert not driver.opened
    assert [each["name"] for each in bench.server.status()["ports"]] == ["other"]


async def test_a_device_that_is_released_while_it_is_opened_is_not_kept(
    driver: Driver, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    driver.hang("open")
    bench = await serve(make_port())
    await driver.hangs("open")
    await bench.server.release("sw", 600, "a test")
    driver.go_on()
    await until(lambda: "close" in driver.done, "the device is closed")
    assert not driver.opened
    assert "is released until" in bench.status()["device"]["problem"]
    await bench.server.reclaim("sw", "a test")
    await bench.has_device()
    assert driver.done.count("open") == 2


async def test_a_device_that_is_taken_back_while_it_is_still_being_opened_is_opened_again(
    driver: Driver, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    driver.hang("open")
    port = make_port()
    bench = await serve(port)
    await driver.hangs("open")
    await bench.server.release("sw", 600, "a test")
    assert (await bench.server.reclaim("sw", "a test"))[0]
    assert driver.done.count("open") == 0
    driver.go_on()
    await bench.has_device()
    assert driver.done.count("open") == 2
    assert driver.done.count("close") == 1
    assert len(driver.opened) == 1
    client = await bench.connect(port)
    await client.send(b"x")
    assert await adapter.receive(1) == b"x"


async def test_a_reload_while_a_device_is_opened_counts_for_it(
    driver: Driver, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    driver.hang("set")
    listen = make_port().endpoint
    bench = await serve(make_port(listen=listen))
    await driver.hangs("set")
    await bench.server.apply([make_port(listen=listen, hangup=True, baudrate=19200)])
    driver.go_on()
    await bench.has_device()
    await bench.has_baudrate(19200)
    await until(
        lambda: termios.tcgetattr(adapter.near)[2] & termios.HUPCL, "the lines drop on close"
    )
    assert driver.done.count("open") == 1


async def rfc2217(bench: Bench, port: Port) -> Rfc2217Client:
    """Connect a client that speaks RFC 2217."""
    client = Rfc2217Client(await bench.connect(port))
    await client.agree()
    return client


async def test_while_a_setting_hangs_the_others_are_served_and_nobody_touches_the_tty(
    driver: Driver, adapter: Adapter, other: Other, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217", sharing="shared")
    bench = await serve(port, other.port)
    client, second = await rfc2217(bench, port), await rfc2217(bench, port)
    driver.hang("set")
    await client.tell(*baudrate(115200))
    await client.send(b"after it")
    await driver.hangs("set")
    await second.send(b"of another")
    await adapter.send(b"said meanwhile")
    await other.goes_on(bench)
    assert bench.status()["line_settings"]["baudrate"] == 9600
    await says_that_it_hangs(bench)
    assert adapter.read() == b""
    assert client.payloads == []
    driver.go_on()
    assert await client.answer(1) == (115200).to_bytes(4, "big")
    assert tty_settings(adapter.path)["speed"] == 115200
    assert sorted(await adapter.receive(18)) == sorted(b"of anotherafter it")
    assert await client.receive(14) == b"said meanwhile"
    assert driver.touched == []


async def test_bytes_pass_while_a_driver_is_asked_for_modem_lines(
    driver: Driver, adapter: Adapter, other: Other, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217", sharing="shared")
    bench = await serve(port, other.port)
    client = await rfc2217(bench, port)
    driver.hang("ask")
    await driver.hangs("ask")  # as they are asked for all the time
    second = Rfc2217Client(await bench.connect(port))
    await second.agree(modemstate=False)
    await client.send(b"there")
    assert await adapter.receive(5) == b"there"
    await adapter.send(b"back")
    assert await client.receive(4) == await second.receive(4) == b"back"
    await other.goes_on(bench)
    assert second.payloads == []
    driver.go_on()
    assert await second.answer(MODEMSTATE) == b"\x00"
    assert await client.ask(MODEMSTATE) == b"\x00"


async def test_the_bytes_after_a_line_that_hangs_wait_for_it(
    driver: Driver, adapter: Adapter, other: Other, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217")
    bench = await serve(port, other.port)
    client = await rfc2217(bench, port)
    driver.hang("lines")
    await client.tell(CONTROL, 9)  # DTR off
    await client.send(b"a" * 100_000)
    await driver.hangs("lines")
    await other.goes_on(bench)
    assert adapter.read() == b""
    driver.go_on()
    assert await client.answer(CONTROL) == b"\x09"
    assert await adapter.receive(100_000) == b"a" * 100_000


async def test_a_break_that_hangs_holds_up_its_port_only(
    driver: Driver, adapter: Adapter, other: Other, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol="telnet")
    bench = await serve(port, other.port)
    client = await bench.connect(port)
    driver.hang("break")
    await client.send(b"\xff\xf3after it")  # IAC BRK
    await driver.hangs("break")
    await other.goes_on(bench)
    await adapter.send(b"said meanwhile")
    await client.hear(b"said meanwhile")
    assert adapter.read() == b""
    driver.go_on()
    assert await adapter.receive(8) == b"after it"
    assert driver.done.count("break") == 2


async def test_a_device_that_goes_away_in_a_break_comes_back_without_it(
    driver: Driver, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol="telnet")
    bench = await serve(port)
    client = await bench.connect(port)
    driver.hang("break")
    await client.send(b"\xff\xf3")  # IAC BRK
    await driver.hangs("break")
    await bench.server.release("sw", 600, "a test")
    driver.go_on()
    await until(lambda: "close" in driver.done, "the device is closed")
    begun_and_ended = driver.done.count("break")
    await bench.server.reclaim("sw", "a test")
    await bench.has_device()
    assert driver.done.count("break") == begun_and_ended
    await client.send(b"x")
    assert await adapter.receive(1) == b"x"


async def test_a_device_that_hangs_as_it_is_closed_holds_up_nobody(
    driver: Driver, adapter: Adapter, other: Other, make_port: MakePort, serve: Serve
) -> None:
    port = make_port()
    bench = await serve(port, other.port)
    driver.hang("close")
    await bench.server.release("sw", 600, "a test")
    await driver.hangs("close")
    await other.goes_on(bench)
    await bench.server.reclaim("sw", "a test")  # it waits until the device is closed
    assert driver.done.count("open") == 1
    driver.go_on()
    await bench.has_device()
    assert len(driver.opened) == 1


async def test_who_comes_after_the_last_rfc2217_client_finds_the_line_as_configured(
    driver: Driver, adapter: Adapter, other: Other, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217")
    bench = await serve(port, other.port)
    client = await rfc2217(bench, port)
    assert await client.ask(*baudrate(115200)) == (115200).to_bytes(4, "big")
    driver.hang("set")
    client.tcp.close()
    await driver.hangs("set")
    await other.goes_on(bench)
    newcomer = await bench.connect(port)
    await newcomer.send(b"at 9600")
    await other.goes_on(bench)
    assert adapter.read() == b""
    driver.go_on()
    assert await adapter.receive(7) == b"at 9600"
    assert tty_settings(adapter.path)["speed"] == 9600
    assert driver.touched == []


async def test_what_a_kicked_client_has_sent_is_dropped_once_the_line_is_set(
    driver: Driver, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217", sharing="shared")
    bench = await serve(port)
    client = await rfc2217(bench, port)
    await client.send(b"before")
    assert await adapter.receive(6) == b"before"
    driver.hang("set")
    await client.tell(*baudrate(115200))
    await driver.hangs("set")
    second = await bench.connect(port)
    await second.send(b"waits")
    await bench.until(lambda said: said["clients"][1]["received"] == 5, "it has arrived")
    driver.done.clear()
    bench.server.kick("sw", None, "jane")
    assert "flush" not in driver.done
    driver.go_on()
    await until(lambda: "flush" in driver.done, "the tty is emptied")
    assert driver.touched == []
    assert adapter.read() == b""


@pytest.mark.parametrize("call", ["open", "close", "set", "ask", "lines", "break"])
async def test_a_stop_does_not_wait_for_a_device_that_hangs(
    call: str, driver: Driver, adapter: Adapter, other: Other, make_port: MakePort, serve: Serve
) -> None:
    if call == "open":
        driver.hang(call)
    port = make_port(protocol="rfc2217")
    bench = await serve(port, other.port)
    await other.goes_on(bench)
    if call != "open":
        client = await rfc2217(bench, port)
        driver.hang(call)
        await ask_for(call, bench, client)
        await client.send(b"waits")
    await driver.hangs(call)
    await bench.close()
    assert driver.waits_in == call
    driver.go_on()
    await until(lambda: not driver.opened, "the device is closed")
    await until(lambda: not Path(lock_file(port.path)).exists(), "its lock file is gone")


async def ask_for(call: str, bench: Bench, client: Rfc2217Client) -> None:
    """Have a call made on behalf of a client."""
    match call:
        case "close":
            await bench.server.release("sw", 600, "a test")
        case "set":
            await client.tell(*baudrate(115200))
        case "ask":
            await client.tell(MODEMSTATE)
        case "lines":
            await client.tell(CONTROL, 9)
        case "break":
            await client.tell(CONTROL, 5)


async def test_a_hand_over_leaves_a_device_behind_that_is_just_being_opened(
    driver: Driver, adapter: Adapter, other: Other, make_port: MakePort, serve: Serve
) -> None:
    driver.hang("open")
    port = make_port()
    store = DictStore()
    bench = await serve(port, other.port, store=store)
    await driver.hangs("open")
    client = await bench.connect(port)
    await client.send(b"typed meanwhile")
    await bench.has_taken(15)
    await other.goes_on(bench)
    records = await bench.server.leave()
    assert records["sw"].tty is None
    assert records["sw"].queue == [(0, b"typed meanwhile")]
    assert records["sw"].clients[0].connection in store.kept
    assert records["other"].tty in store.kept
    bench.server.abandon()
    driver.go_on()
    await until(lambda: driver.opened, "the device is open")
    await bench.close()
    assert adapter.read() == b""  # the next process writes that


@pytest.mark.parametrize("call", ["set", "lines"])
async def test_a_hand_over_does_not_wait_for_a_setting_that_hangs(
    call: str, driver: Driver, adapter: Adapter, other: Other, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol="rfc2217", sharing="shared")
    store = DictStore()
    bench = await serve(port, other.port, store=store)
    client, second = await rfc2217(bench, port), await rfc2217(bench, port)
    driver.hang(call)
    if call == "set":
        settings = [com_port(*baudrate(rate)) for rate in (115200, 19200)]
        await client.tcp.send(settings[0] + b"one" + settings[1] + b"two")
    else:
        await ask_for(call, bench, client)
    await driver.hangs(call)
    if call == "set":
        before = bench.status()["clients"][1]["received"]
        await second.send(b"waits")
        await bench.until(lambda said: said["clients"][1]["received"] > before, "it has arrived")
    await other.goes_on(bench)
    records = await bench.server.leave()
    left = records["sw"]
    assert driver.waits_in == call
    assert left.tty in store.kept
    assert all(each.connection in store.kept for each in left.clients)
    assert len(left.clients) == 2
    if call == "set":  # the hung setting does not count, and the rest is not tried
        assert left.queue == [(0, b"onetwo"), (1, b"waits")]
        assert await client.answer(1) == (9600).to_bytes(4, "big")
        assert await client.answer(1) == (9600).to_bytes(4, "big")
    bench.server.abandon()
    driver.go_on()
    with contextlib.suppress(ConnectionError):
        await bench.close()
    assert adapter.read() == b""  # the next process writes that
