"""The measurements of a server. Its lines are ptys; the harness has their far ends."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from benchmarks.servers import (
    CERTIFICATE,
    BrokenError,
    Line,
    Running,
    Server,
    free_tcp_ports,
    running,
)
from benchmarks.wire import Client

# Only a server that hangs takes nearly as long.
DEADLINE_SECONDS = 60

# The first round trips find cold caches and sleeping processors.
WARM_UP = 20

# Ends by itself where the harness is killed.
_BUSY = f"""
import os, time
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
end = time.monotonic() + {DEADLINE_SECONDS}
while time.monotonic() < end:
    pass
"""

# How long a server may still allocate after its clients have connected.
SETTLE_SECONDS = 0.3

MANY_PORTS = 32

# The name under which the harness measures itself.
BARE = "bare pty"

Row = dict[str, float]
"""One server's numbers, by the keys of `report.COLUMNS`."""


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Rounds, round trips at most and seconds for them, bytes each way; seconds for each flood.
    """

    rounds: int
    round_trips: int
    seconds: float
    size: int
    flood_seconds: float


FULL = Effort(rounds=20, round_trips=1000, seconds=0.7, size=8_000_000, flood_seconds=3.0)
QUICK = Effort(rounds=1, round_trips=300, seconds=0.3, size=2_000_000, flood_seconds=0.5)


class Pty:
    """A serial line: `path` for the server, `far` for the device at its other end."""

    def __init__(self) -> None:
        # Keep the near end open: else the far end sees EIO until the server has opened it.
        self.far, self.near = os.openpty()
        tty.setraw(self.near)
        self.path = os.ttyname(self.near)

    def close(self) -> None:
        """Unplug it."""
        os.close(self.near)
        os.close(self.far)


def one_round(server: Server, effort: Effort, folder: Path) -> Row:
    """Start a server and measure all but memory; `BrokenError` where it does not work."""
    data = random.Random(1).randbytes(effort.size)
    megabytes = effort.size / 1e6
    with _serving(server, 1, folder) as (run, [line], [client]):
        times = _round_trips(
            effort,
            lambda byte: client.sock.sendall(byte),
            lambda: _write_all(line.far, os.read(line.far, 1)),
            client.receive_byte,
        )
        wire = client.encode(data)
        before = run.cpu_seconds()
        seconds_up = _timed(
            lambda: _write_all(line.far, data),
            lambda: client.receive(len(wire)),
            lambda received: client.is_right(received, data),
        )
        between = run.cpu_seconds()
        seconds_down = _timed(
            lambda: client.sock.sendall(wire),
            lambda: _read(line.far, len(data)),
            lambda received: received == data,
        )
        after = run.cpu_seconds()
        return {
            **_round_trip_row(times),
            "up": megabytes / seconds_up,
            "down": megabytes / seconds_down,
            "cpu_up": (between - before) * 1e3 / megabytes,
            "cpu_down": (after - between) * 1e3 / megabytes,
            "start": run.start_seconds * 1e3,
        }


def bare_round(effort: Effort) -> Row:
    """Measure a pty without any server: the most that the harness can measure."""
    data = random.Random(1).randbytes(effort.size)
    with _pty() as line, _deadline():
        times = _round_trips(
            effort,
            lambda byte: _write_all(line.near, byte),
            lambda: _write_all(line.far, os.read(line.far, 1)),
            lambda: os.read(line.near, 1),
        )
        seconds_up = _timed(
            lambda: _write_all(line.far, data),
            lambda: _read(line.near, len(data)),
            lambda received: received == data,
        )
        seconds_down = _timed(
            lambda: _write_all(line.near, data),
            lambda: _read(line.far, len(data)),
            lambda received: received == data,
        )
    return {
        **_round_trip_row(times),
        "up": effort.size / 1e6 / seconds_up,
        "down": effort.size / 1e6 / seconds_down,
    }


def memory_row(server: Server, folder: Path) -> Row:
    """Measure the memory of a server in bytes, with one port and with many."""
    return {
        "memory_1": _memory(server, 1, folder),
        "memory_many": _memory(server, MANY_PORTS, folder),
    }


def _memory(server: Server, ports: int, folder: Path) -> float:
    """Measure with a client on each port, after an answer to each client."""
    with _serving(server, ports, folder) as (run, lines, clients):
        for line, client in zip(lines, clients, strict=True):
            client.sock.sendall(b"x")
            _write_all(line.far, os.read(line.far, 1))
            if client.receive_byte() != b"x":
                raise BrokenError("an echo of one byte is wrong")
        time.sleep(SETTLE_SECONDS)
        return float(run.memory())


@contextlib.contextmanager
def _serving(
    server: Server, ports: int, folder: Path
) -> Iterator[tuple[Running, list[Pty], list[Client]]]:
    """A server, its lines, and a client on each."""
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(_pty()) for _ in range(ports)]
        tcp_ports = free_tcp_ports(ports)
        served = [Line(line.path, port) for line, port in zip(lines, tcp_ports, strict=True)]
        run = stack.enter_context(running(server, served, folder))
        stack.enter_context(_deadline())
        clients = []
        for tcp_port in tcp_ports:
            clients.append(Client(server.protocol, tcp_port, folder / CERTIFICATE))
            stack.callback(clients[-1].close)
        yield run, lines, clients


@contextlib.contextmanager
def _pty() -> Iterator[Pty]:
    made = Pty()
    try:
        yield made
    finally:
        made.close()


def _round_trips(
    effort: Effort,
    send: Callable[[bytes], object],
    echo: Callable[[], object],
    receive: Callable[[], bytes],
) -> list[float]:
    """Seconds from a byte's departure until its echo is back."""
    times: list[float] = []
    with _processors_awake():
        end = time.perf_counter() + effort.seconds
        while len(times) < WARM_UP + effort.round_trips and time.perf_counter() < end:
            byte = bytes([len(times) % 255])  # never 255, which telnet doubles
            before = time.perf_counter()
            send(byte)
            echo()
            back = receive()
            times.append(time.perf_counter() - before)
            if back != byte:
                raise BrokenError(f"the echo of {byte!r} is {back!r}")
    return times[WARM_UP:]


@contextlib.contextmanager
def _processors_awake() -> Iterator[None]:
    """Keep every processor awake, with a process on each that gives way to any other.

    The time that a processor takes to wake up is the same for every server, changes from moment to
    moment, and is longer than the differences between servers.
    """
    busy = [
        subprocess.Popen([sys.executable, "-S", "-c", _BUSY]) for _ in range(os.cpu_count() or 1)
    ]
    try:
        while any(os.sched_getscheduler(process.pid) != os.SCHED_IDLE for process in busy):
            time.sleep(0.001)
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def _round_trip_row(times: list[float]) -> Row:
    cuts = statistics.quantiles(times, n=100)
    return {"p50": cuts[49] * 1e6, "p99": cuts[98] * 1e6}


def _timed(
    send: Callable[[], object],
    receive: Callable[[], bytearray],
    is_right: Callable[[bytearray], bool],
) -> float:
    """Seconds until all that is sent has been received; `BrokenError` where a byte is wrong."""
    sender = threading.Thread(target=send, daemon=True)
    before = time.perf_counter()
    sender.start()
    received = receive()
    seconds = time.perf_counter() - before
    if not is_right(received):
        raise BrokenError("bytes are lost, wrong or in another order")
    sender.join()
    return seconds


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:65536]) :]


def _read(fd: int, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        view = view[os.readv(fd, [view]) :]
    return data


@contextlib.contextmanager
def _deadline() -> Iterator[None]:
    """Turn a hang in the block into `BrokenError`."""

    def expired(_number: int, _frame: FrameType | None) -> None:
        raise BrokenError(f"it hangs: not done after {DEADLINE_SECONDS} s")

    previous = signal.signal(signal.SIGALRM, expired)
    signal.alarm(DEADLINE_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
