"""Who reads along at a port: matches of `watch`, and lines for the journal."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Adapter, Bench, MakePort, Serve, until
from kept import StartKept
from process import entry
from ttybridge.line.device import Line
from ttybridge.line.lines import LONGEST, cut
from ttybridge.model.check import parse_portmap
from ttybridge.model.people import Person
from ttybridge.net.journal import Journal
from ttybridge.serve import monitor as module
from ttybridge.serve.monitor import Monitor
from ttybridge.serve.record import MemoryFile
from ttybridge.serve.state import ClientState, PortState


@pytest.mark.parametrize(
    ("data", "lines", "rest"),
    [
        (b"", [], b""),
        (b"login: ", [], b"login: "),
        (b"one\ntwo\r\nthree\r\r\n\n\nfour\rfi", ["one", "two", "three", "four"], b"fi"),
        (b"\xe9\xff\xe2\x82\xac\n", ["\\xe9\\xff\u20ac"], b""),
        (b"[\x1b[0;32m  OK  \x1b[0m] \x1b[2Kready\n", ["[  OK  ] ready"], b""),
        (b"x" * (2 * LONGEST + 3), ["x" * LONGEST] * 2, b"xxx"),
        (b"x" * (LONGEST + 3) + b"\nz", ["x" * LONGEST, "xxx"], b"z"),
    ],
)
def test_bytes_become_lines(data: bytes, lines: list[str], rest: bytes) -> None:
    assert cut(data) == (lines, rest)
    # However they were cut on their way.
    found, left = [], b""
    for at in range(len(data)):
        more, left = cut(left + data[at : at + 1])
        found += more
    assert ("".join(found), left) == ("".join(lines), rest)


class Journald:
    """A journal that keeps what it gets."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(self.path)
        self._sock.setblocking(False)

    def entries(self) -> list[dict[str, str]]:
        """What has come since this was last asked."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                lines = self._sock.recv(65536).decode().splitlines()
                found.append(dict(line.split("=", 1) for line in lines))
        return found

    def dies(self) -> None:
        self._sock.close()
        Path(self.path).unlink()


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    journald = Journald(tmp_path / "journal")
    yield journald
    with contextlib.suppress(OSError):
        journald.dies()


class Typist:
    """A client that types."""

    def __init__(self, name: str, person: Person | None = None) -> None:
        self.name = name
        self.state = ClientState(person=person)


LOG = {"file": "/var/log/ttybridge/sw", "journal": True, "input": True}


def monitor_of(journald: Journald, state: PortState, **keys: Any) -> Monitor:
    (port,) = parse_portmap([entry(device="/dev/ttyUSB0", **keys)])
    return Monitor(port, state, Journal(journald.path))


@pytest.fixture
def state() -> PortState:
    return PortState(line=Line({}, dtr=True, rts=True))


def test_lines_go_to_the_journal_with_port_and_user(journald: Journald, state: PortState) -> None:
    monitor = monitor_of(journald, state, log=LOG)
    monitor.device_sent(b"login: ")
    jane, other = Typist("jane:1", Person("jane")), Typist("192.0.2.7:50000")
    for part in (b"ro", b"ot\r"):
        monitor.client_sent(jane, part)
    monitor.client_sent(jane, b"unfinished")
    monitor.client_sent(other, b"\x1b]0;x\x07\xe2\x80\xae\n")
    monitor.device_sent(b"root\r\n")
    usual = {"PRIORITY": "6", "SYSLOG_IDENTIFIER": "ttybridge-sw", "PORT": "sw"}
    assert journald.entries() == [
        {"MESSAGE": "root", **usual, "USER": "jane"},
        {"MESSAGE": "unfinished", **usual, "USER": "jane"},
        {"MESSAGE": "\\x1b]0;x\\x07\\u202e", **usual, "USER": "192.0.2.7:50000"},
        {"MESSAGE": "login: root", **usual},
    ]
    monitor.device_sent(b"# ")
    monitor.client_sent(other, b"q")
    monitor.close()
    assert [one["MESSAGE"] for one in journald.entries()] == ["q", "# "]


def test_what_clients_send_is_not_in_the_journal_unasked(
    journald: Journald, state: PortState
) -> None:
    monitor = monitor_of(journald, state, log={**LOG, "input": False})
    monitor.client_sent(Typist("x"), b"secret\n")
    monitor.device_sent(b"public\n")
    assert [one["MESSAGE"] for one in journald.entries()] == ["public"]
    monitor.close()


def test_a_journal_that_is_full_or_dead_holds_nobody_up(
    journald: Journald, state: PortState, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = monitor_of(journald, state, log=LOG)
    while not state.not_in_journal:
        monitor.device_sent(b"x\n" * 100)
    assert "sw: log.journal: lines are lost: Resource temporarily unavailable" in caplog.text
    journald.dies()
    lost = state.not_in_journal
    monitor.device_sent(b"y\n")
    assert state.not_in_journal == lost + 1
    assert "lines are lost: No such file or directory" in caplog.text
    alive = Journald(Path(journald.path))
    monitor.device_sent(b"z\n")
    assert [one["MESSAGE"] for one in alive.entries()] == ["z"]
    alive.dies()
    monitor.close()


PANIC = {"watch.panic": "Kernel panic|Oops", "watch.up": "^%LINK.*UP$"}


@pytest.fixture
def in_vain(monkeypatch: pytest.MonkeyPatch, journald: Journald) -> Callable[[], list[str]]:
    """What the journal of this machine would get; it gets nothing."""
    monkeypatch.setattr(module, "Journal", lambda: Journal(journald.path))
    return lambda: [one["MESSAGE"] for one in journald.entries()]


def matches(bench: Bench) -> dict[str, int]:
    found: dict[str, int] = bench.status()["watch"]
    return found


async def test_matches_are_counted_and_warned_of(
    adapter: Adapter,
    make_port: MakePort,
    serve: Serve,
    caplog: pytest.LogCaptureFixture,
    in_vain: Callable[[], list[str]],
) -> None:
    """With and without a client: somebody reads along."""
    watch = {"panic": "Kernel panic|Oops", "up": "^%LINK.*UP$"}
    port = make_port(watch=watch, log={**LOG, "file": str(adapter.path.parent / "log")})
    bench = await serve(port)
    assert matches(bench) == {"panic": 0, "up": 0}
    with caplog.at_level(logging.WARNING):
        for part in (b"Kernel ", b"pan", b"ic - \x1b[1mnot\x1b[0m syncing\xc2\x9b\r\nOo"):
            await adapter.send(part)
        await until(lambda: matches(bench)["panic"] == 1, "the line is counted")
        await adapter.send(b"ps and Oops: one line\n%LINK-3: UP\nx%LINK UP\n")
        await until(lambda: matches(bench) == {"panic": 2, "up": 1}, "the others, too")
    warned = [one.getMessage() for one in caplog.records if "watch" in one.getMessage()]
    assert warned == [
        "sw: watch: panic: Kernel panic - not syncing\\x9b",
        "sw: watch: panic: Oops and Oops: one line",
        "sw: watch: up: %LINK-3: UP",
    ]
    assert in_vain()[-1] == "x%LINK UP"
    # Another expression of this name goes on with its count; a name that goes takes its count away.
    await bench.server.apply([make_port(watch={"panic": "again"})])
    await adapter.send(b"once again\n")
    await until(lambda: matches(bench) == {"panic": 3}, "it goes on")
    await bench.server.apply([make_port()])
    assert matches(bench) == {}


@pytest.mark.parametrize("kills", [False, True])
async def test_matches_outlive_the_process(kills: bool, adapter: Adapter, kept: StartKept) -> None:
    sw = entry(device=str(adapter.path), **PANIC)
    daemon = await kept(sw, constants={"COUNT_SECONDS": 0.05})
    await adapter.send(b"Oops\n")

    async def counted(number: int) -> bool:
        found: dict[str, int] = (await daemon.port())["watch"]
        return found == {"panic": number, "up": 0}

    await until(lambda: counted(1), "it is counted")
    if kills:

        def is_in_the_record() -> bool:
            name = next(name for name in [*daemon.store] if name[0] == "r")
            record = MemoryFile(os.dup(daemon.store[name])).read()
            return record is not None and json.loads(record)["sw"]["matches"]["panic"] == 1

        await until(is_in_the_record, "the record has the count")
        await daemon.kill()
    else:
        client = await daemon.connect(sw)
        await adapter.send(b"Kernel pan")
        assert await client.receive(10) == b"Kernel pan"
        await daemon.restart()
        await adapter.send(b"ic\n")
        await until(lambda: counted(2), "a line over the restart is one")
    await adapter.send(b"Oops\n")
    await until(lambda: counted(2 if kills else 3), "the count goes on")
