"""A byte there and back on a quiet raw port, while one client floods another port of the server."""

from __future__ import annotations

import contextlib
import math
import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Pty, Row
from benchmarks.servers import ROOT, BrokenError, Line, Server, free_tcp_ports, running
from benchmarks.wire import (
    BINARY,
    COM_PORT,
    DO,
    DONT,
    ECHO,
    IAC,
    NEGOTIATION_SECONDS,
    SB,
    SE,
    SET_BAUDRATE,
    WILL,
    WONT,
    Client,
    Protocol,
)

# Seconds after which a server counts as not answering.
NO_ANSWER_SECONDS = 10.0

# The longest pause between two round trips: without pauses they keep step with the server's turns.
PAUSE_SECONDS = 0.002

# The servers that can speak another protocol on each line, and those of them that are flooded by
# default: the tuned ser2net is the faster one.
CAN_BE_FLOODED = ("ttybridge", "ttybridge-asyncio", "ser2net", "ser2net-tuned")
FLOODED = ("ttybridge", "ttybridge-asyncio", "ser2net-tuned")

# What the flooding client says once the server has taken something.
BEGUN = "begun"

# The far end of the flooded line: its bytes a second at most, 0 for as many as come.
_DEVICE = """
import os, sys, time
rate = int(sys.argv[1])
while data := os.read(0, rate // 10 or 65536):
    time.sleep(len(data) / rate if rate else 0)
"""
SLOW_DEVICE = 11520


@dataclass(frozen=True)
class Flood:
    """What the flooding client sends: `first` once, then `again` without end."""

    name: str
    again: bytes
    first: bytes = b""
    protocol: Protocol = "telnet"
    """What it negotiates first."""
    reads: bool = True
    """Whether it reads the answers."""
    slow_device: bool = False
    """Whether the device takes only what a line of 115200 baud carries."""


def _command(*pairs: int | tuple[int, int]) -> bytes:
    """Commands of one byte, and verbs with their options."""
    return b"".join(bytes((IAC, *((p,) if isinstance(p, int) else p))) for p in pairs)


def _com_port(*payload: int) -> bytes:
    return bytes((IAC, SB, COM_PORT)) + bytes(payload).replace(b"\xff", b"\xff\xff") + _END


def _rfc2217(name: str, *payloads: Sequence[int], reads: bool = True) -> Flood:
    again = b"".join(_com_port(*payload) for payload in payloads)
    return Flood(name, again, protocol="rfc2217", reads=reads)


def _baudrate(value: int) -> tuple[int, ...]:
    return SET_BAUDRATE, *value.to_bytes(4, "big")


_END = bytes((IAC, SE))
_NOP, _BRK, _AYT = 241, 243, 246
_TIMING_MARK = 6
_SIGNATURE, _CONTROL, _POLL, _SUSPEND, _RESUME = 0, 5, 6, 8, 9
_LINE_MASK, _MODEM_MASK, _PURGE = 10, 11, 12
_TEXT = bytes(range(32, 127))

DATA = Flood("data", _TEXT)
"""The other floods are compared with this one."""

FLOODS = [
    Flood("nothing", b""),
    DATA,
    Flood("data, slow device", _TEXT, slow_device=True),
    Flood("IAC IAC, a NOP in 50", _command(*[IAC] * 49, _NOP)),
    Flood("x NOP", b"x" + _command(_NOP)),
    Flood("x NOP, slow device", b"x" + _command(_NOP), slow_device=True),
    Flood("BRK", _command(_BRK)),
    Flood("x BRK", b"x" + _command(_BRK)),
    Flood("NOP", _command(_NOP)),
    Flood("AYT", _command(_AYT)),
    Flood("AYT, answers unread", _command(_AYT), reads=False),
    Flood("WILL/WONT BINARY", _command((WILL, BINARY), (WONT, BINARY))),
    Flood("WILL/WONT, unread", _command((WILL, BINARY), (WONT, BINARY)), reads=False),
    Flood("WILL/WONT COM-PORT", _command((WILL, COM_PORT), (WONT, COM_PORT))),
    Flood("DO/DONT ECHO", _command((DO, ECHO), (DONT, ECHO))),
    Flood("DO TIMING-MARK", _command((DO, _TIMING_MARK))),
    _rfc2217("SIGNATURE", (_SIGNATURE,)),
    _rfc2217("SIGNATURE, unread", (_SIGNATURE,), reads=False),
    _rfc2217("SET-BAUDRATE, same", _baudrate(115200)),
    _rfc2217("SET-BAUDRATE, two", _baudrate(9600), _baudrate(115200)),
    Flood(
        "x SET-BAUDRATE, slow",
        b"x" + _com_port(*_baudrate(9600)) + b"x" + _com_port(*_baudrate(115200)),
        protocol="rfc2217",
        slow_device=True,
    ),
    _rfc2217("DTR on/off", (_CONTROL, 8), (_CONTROL, 9)),
    _rfc2217("PURGE-DATA", (_PURGE, 3)),
    _rfc2217("NOTIFY-LINESTATE", (_POLL,)),
    _rfc2217("masks", (_LINE_MASK, 0), (_MODEM_MASK, 0), (_LINE_MASK, 255), (_MODEM_MASK, 255)),
    _rfc2217("SUSPEND/RESUME", (_SUSPEND,), (_RESUME,)),
    Flood("SB, empty", _command(SB, SE), protocol="rfc2217"),
    Flood("SB, endless", _TEXT, bytes((IAC, SB, COM_PORT)), "rfc2217"),
]


def measure(server: Server, flood: Flood, seconds: float, folder: Path) -> Row:
    """Start a server, flood one port of it, and measure the other for `seconds`."""
    with contextlib.ExitStack() as stack:
        quiet, flooded = (stack.enter_context(contextlib.closing(Pty())) for _ in range(2))
        quiet_port, flooded_port = free_tcp_ports(2)
        lines = [Line(quiet.path, quiet_port), Line(flooded.path, flooded_port, rfc2217=True)]
        stack.enter_context(running(server, lines, folder))
        client = stack.enter_context(contextlib.closing(Client("raw", quiet_port, folder)))
        stack.enter_context(_device(flooded, flood))
        flooder = stack.enter_context(_flooder(flood, flooded_port)) if flood.again else None
        began = time.perf_counter()
        times = _round_trips(client, quiet, seconds)
        taken = _end(flooder) / 1e6 / (time.perf_counter() - began) if flooder else 0.0
    return {
        "p50": _rank(times, 0.5),
        "p99": _rank(times, 0.99),
        "max": max(times),
        "trips": len(times),
        "flood_mb_s": taken,
    }


@contextlib.contextmanager
def _device(line: Pty, flood: Flood) -> Iterator[None]:
    """The device at the flooded line, which says nothing."""
    rate = str(SLOW_DEVICE if flood.slow_device else 0)
    process = subprocess.Popen([sys.executable, "-S", "-c", _DEVICE, rate], stdin=line.far)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _flooder(flood: Flood, tcp_port: int) -> Iterator[subprocess.Popen[str]]:
    """The flooding client, a process of its own; it has begun when the block begins."""
    words = [sys.executable, "-m", "benchmarks.flooder", flood.name, str(tcp_port)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        if process.stdout.readline().strip() != BEGUN:
            raise BrokenError(f"the client that floods with {flood.name} could not begin")
        yield process
    finally:
        process.kill()
        process.communicate()


def _end(flooder: subprocess.Popen[str]) -> int:
    """End the flood; return how many bytes of it the server's connection has taken."""
    flooder.terminate()
    said, _ = flooder.communicate(timeout=NEGOTIATION_SECONDS)
    return int(said)


def _round_trips(client: Client, line: Pty, seconds: float) -> list[float]:
    """Seconds from a byte's departure until its echo is back; the last may be unanswered."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        time.sleep(random.uniform(0, PAUSE_SECONDS))
        byte = bytes([len(times) % 256])
        before = time.perf_counter()
        client.sock.sendall(byte)
        if not _readable(line.far, before):
            return [*times, NO_ANSWER_SECONDS]
        os.write(line.far, os.read(line.far, 1))
        if not _readable(client.sock.fileno(), before):
            return [*times, NO_ANSWER_SECONDS]
        back = client.receive_byte()
        times.append(time.perf_counter() - before)
        if back != byte:
            raise BrokenError(f"the echo of {byte!r} is {back!r}")
    return times


def _readable(fd: int, since: float) -> bool:
    remaining = since + NO_ANSWER_SECONDS - time.perf_counter()
    return bool(select.select([fd], [], [], max(0.0, remaining))[0])


def _rank(times: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return sorted(times)[math.ceil(share * len(times)) - 1]


LEGEND = f"""\
1 byte from a client of a quiet raw port to its device and back, in ms, while one client of another
port sends without pause. data: p99 as a multiple of that under plain data. >: no answer in
{NO_ANSWER_SECONDS:.0f} s. The device takes all at once, a slow one {SLOW_DEVICE} bytes a second.
unread: the client does not read the answers."""

Results = Mapping[str, Mapping[str, Row]]
"""For each flood the numbers of each server."""

_HEADS = ("p50", "p99", "max", "data")
_FIRST, _WIDTH = max(len(flood.name) for flood in FLOODS), 8


def text(results: Results) -> str:
    """The table."""
    servers = list(results[DATA.name])
    lines = [
        LEGEND,
        "",
        " " * _FIRST + "".join(f"{name:>{len(_HEADS) * _WIDTH}}" for name in servers),
        " " * _FIRST + "".join(f"{head:>{_WIDTH}}" for head in _HEADS) * len(servers),
    ]
    for flood, rows in results.items():
        cells = (
            f"{cell:>{_WIDTH}}"
            for server, row in rows.items()
            for cell in _cells(row, results[DATA.name][server])
        )
        lines.append(f"{flood:{_FIRST}}" + "".join(cells))
    return "\n".join(lines)


def _cells(row: Row, data: Row) -> list[str]:
    ratio = _number(row["p99"] / data["p99"])
    return [*(_milliseconds(row[key]) for key in _HEADS[:3]), _at_least(row["p99"], ratio)]


def _milliseconds(seconds: float) -> str:
    return _at_least(seconds, _number(seconds * 1e3))


def _at_least(seconds: float, shown: str) -> str:
    return f">{shown}" if seconds >= NO_ANSWER_SECONDS else shown


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 1000 else f"{value:.0f}"
