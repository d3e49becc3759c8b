"""One client floods a port with commands: the daemon and the clients of other ports survive.

    FLOOD_SECONDS=60 pytest -s molecule/faults/tests/test_command_floods.py \
      --ansible-inventory=molecule/faults/inventory

prints how long a byte takes there and back on another port. No time fails the test.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from client import receive
from ttybridge.model.check import parse_portmap
from ttybridge.model.ports import Port

testinfra_hosts = ["ansible://serial_servers"]

ROOT = Path(__file__).resolve().parents[3]

# For all kinds of floods together.
SECONDS = float(os.environ.get("FLOOD_SECONDS", "10"))

# Kinds of benchmarks/floods.py.
KINDS = [
    "x NOP",
    "BRK",
    "NOP",
    "AYT",
    "WILL/WONT BINARY",
    "WILL/WONT COM-PORT",
    "DO/DONT ECHO",
    "SIGNATURE",
    "SET-BAUDRATE, two",
    "DTR on/off",
    "PURGE-DATA",
    "SB, endless",
]

# Nothing here takes nearly as long, unless the daemon hangs.
HANGS_SECONDS = 120


@pytest.fixture
def ports(host: Host) -> dict[str, Port]:
    variables: dict[str, Any] = dict(host.ansible.get_variables())
    parsed = parse_portmap(variables["serial_ports"], variables.get("serial_ports_defaults"))
    return {port.name: port for port in parsed}


@pytest.fixture
def address(host: Host) -> str:
    return str(host.check_output("echo $SSH_CONNECTION").split()[2])


def connected(address: str, port: Port) -> socket.socket:
    """A client of a port."""
    return socket.create_connection((address, port.listeners[0].at.port), HANGS_SECONDS)


def process(host: Host) -> str:
    """The daemon's process number, and how often systemd has restarted it."""
    return str(host.check_output("systemctl show --property MainPID,NRestarts ttybridge"))


@contextlib.contextmanager
def flood(kind: str, address: str, port: Port) -> Iterator[None]:
    """A client that floods a port for the length of a block."""
    flooder = begun(kind, address, port)
    try:
        yield
    finally:
        flooder.terminate()
        flooder.communicate(timeout=HANGS_SECONDS)


def begun(kind: str, address: str, port: Port) -> subprocess.Popen[str]:
    """Start a flood; try again while the previous client's input still holds the port."""
    tcp_port = str(port.listeners[0].at.port)
    words = [sys.executable, "-m", "benchmarks.flooder", kind, tcp_port, address]
    end = time.monotonic() + HANGS_SECONDS
    while time.monotonic() < end:
        flooder = subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert flooder.stdout
        if flooder.stdout.readline() == "begun\n":
            return flooder
        _, problem = flooder.communicate(timeout=HANGS_SECONDS)
        time.sleep(0.2)
    raise AssertionError(f"the client that floods with {kind} could not begin: {problem}")


def round_trips(client: socket.socket, seconds: float) -> list[float]:
    """How long bytes take there and back, one after the other, for this many seconds."""
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or not times:
        before = time.monotonic()
        client.sendall(b"x")
        assert receive(client, 1) == b"x"
        times.append(time.monotonic() - before)
    return sorted(times)


def figures(times: list[float]) -> str:
    p50, p99 = (times[math.ceil(share * len(times)) - 1] for share in (0.5, 0.99))
    return f"p50 {p50 * 1e3:8.2f} ms, p99 {p99 * 1e3:8.2f} ms, max {times[-1] * 1e3:8.2f} ms"


def test_floods_of_commands_end_neither_the_daemon_nor_the_sessions_of_others(
    host: Host, address: str, ports: dict[str, Port]
) -> None:
    before = process(host)
    with (
        connected(address, ports["low-port"]) as quiet,
        connected(address, ports["router"]) as idle,
    ):
        print(f"\n{host.backend.host}, {SECONDS:.0f} s of floods")
        print(f"{'no flood':20} {figures(round_trips(quiet, 1.0))}")
        for kind in KINDS:
            with flood(kind, address, ports["com-port"]):
                print(f"{kind:20} {figures(round_trips(quiet, SECONDS / len(KINDS)))}")
        idle.sendall(b"\r")
        answer = b""
        while b"router" not in answer:
            answer += receive(idle, 1)
    assert process(host) == before
