"""What it costs that sessions outlive the daemon's process, on container Pis.

`script/bench restart` runs this: the daemon's memory with 32 ports, systemd's processor time for
short connections with and without its file-descriptor store, and the time from SIGKILL to the first
echo.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.measure import DEADLINE_SECONDS, MANY_PORTS
from benchmarks.pis import LAB, ROOT, lab, play

SUITES = ("bookworm", "trixie")
CONNECTIONS = 1_000
KILLS = 9

# Where an ended session is tried again, so long after the last try.
_AGAIN_SECONDS = 0.01

_FIRST_PORT = 10001
_PORT = "      - {{name: p{0}, device: /dev/serial/by-name/p{0}, listen: {1}, sharing: shared}}\n"
_HOSTS = """\
serial_servers:
  hosts: {{{name}: {{}}}}
  vars:
    ansible_user: pi
    ansible_ssh_common_args: -F "{lab}/ssh_config"
    ansible_control_path_dir: "{lab}/cp"
    serial_ports:
{ports}"""

# Answers commands on a Pi, as root, with a line of JSON each.
_ON_THE_PI = """
import json, os, signal, subprocess, sys, time

def daemon():
    show = ["systemctl", "show", "--property=MainPID", "--value", "ttybridge"]
    return int(subprocess.check_output(show))

def memory():
    lines = open(f"/proc/{daemon()}/smaps_rollup").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))

def cpu():
    seconds = lambda pid: int(open(f"/proc/{pid}/schedstat").read().split()[0]) / 1e9
    return [seconds(1), seconds(daemon())]

def kill():
    # Else the unit waits before the sixth start in a row, and longer before each further one.
    open("/run/ttybridge.starts", "w").close()
    os.kill(daemon(), signal.SIGKILL)
    return time.monotonic()  # the same clock as outside of the container

def sh(script):
    return subprocess.check_output(script, shell=True, text=True)

for line in sys.stdin:
    name, *words = json.loads(line)
    print(json.dumps(globals()[name](*words)), flush=True)
"""

_PLUG = """
mkdir -p /etc/lab
for number in $(seq {number}); do echo KIND=echo >/etc/lab/p$number; done
systemctl start $(seq -f lab-adapter@p%g {number})
"""
_NO_STORE = """
mkdir -p /run/systemd/system/ttybridge.service.d
printf '[Service]\\nEnvironment=FDSTORE=0\\n' >/run/systemd/system/ttybridge.service.d/bench.conf
systemctl daemon-reload
# It does not take what its store holds.
systemctl stop ttybridge
systemctl start ttybridge
"""


@dataclass(frozen=True)
class Connections:
    """Seconds for short connections: wall clock; processor of PID 1 and of the daemon."""

    wall: float
    systemd: float
    daemon: float


@dataclass(frozen=True)
class Figures:
    """What was measured on one Pi: bytes, and seconds from SIGKILL to the first echo."""

    memory: int
    stored: Connections
    not_stored: Connections
    back: list[float]
    dropped: int
    """How many of the killed sessions had to connect again."""


class Pi:
    """A container Pi, and a process of root on it for the length of a block."""

    def __init__(self, name: str) -> None:
        self._ssh = ["ssh", "-F", str(LAB / "ssh_config"), name]
        words = [*self._ssh, f"sudo python3 -uc {shlex.quote(_ON_THE_PI)}"]
        self._root = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._address = str(self.ask("sh", "hostname -I")).split()[0]

    def __enter__(self) -> Pi:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._root.communicate()

    def ask(self, *command: str) -> Any:
        """What it answers; `EOFError` where the command failed."""
        assert self._root.stdin
        assert self._root.stdout
        print(json.dumps(command), file=self._root.stdin, flush=True)
        if not (line := self._root.stdout.readline()):
            raise EOFError(f"failed on the Pi: {command[0]}")
        return json.loads(line)

    def connect(self, number: int = 1) -> socket.socket:
        """A client of a port, once a byte has come back."""
        client = socket.create_connection(
            (self._address, _FIRST_PORT + number - 1), DEADLINE_SECONDS
        )
        _echo(client)
        return client


def measure(pi: Pi) -> Figures:
    """Measure a Pi that serves its ports; at the end its daemon stores no descriptors."""
    with contextlib.ExitStack() as stack:
        for number in range(1, MANY_PORTS + 1):
            stack.enter_context(pi.connect(number))
        memory = int(pi.ask("memory"))
    back, dropped = zip(*(_kill(pi) for _ in range(KILLS)), strict=True)
    stored = _connections(pi)
    pi.ask("sh", _NO_STORE)
    return Figures(memory, stored, _connections(pi), list(back), sum(dropped))


def text(found: dict[str, Figures]) -> str:
    """A paragraph for each release."""
    parts = []
    for suite, one in found.items():
        back = [seconds * 1e3 for seconds in one.back]
        lines = [
            suite,
            f"memory of the daemon, {MANY_PORTS} ports with a client each: "
            f"{one.memory / 2**20:.1f} MiB (PSS)",
            f"SIGKILL to the first echo, {len(back)} times: median {statistics.median(back):.0f} "
            f"ms, {min(back):.0f} to {max(back):.0f} ms; sessions dropped: {one.dropped}",
            f"{CONNECTIONS} short connections, seconds:"
            f"{'wall':>10}{'CPU of PID 1':>15}{'of the daemon':>15}",
        ]
        for words, cost in (("descriptors stored", one.stored), ("FDSTORE=0", one.not_stored)):
            lines.append(
                f"  {words:<33}{cost.wall:>10.2f}{cost.systemd:>15.2f}{cost.daemon:>15.2f}"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def main(arguments: Sequence[str]) -> int:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(prog="script/bench restart", description=__doc__)
    parser.add_argument("suites", nargs="*", default=SUITES, help=f"of {', '.join(SUITES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures, for programs")
    options = parser.parse_args(arguments)
    print(f"{os.cpu_count()} cores; load before: {os.getloadavg()[0]:.1f}\n", flush=True)
    found = {}
    for suite in options.suites:
        with _provisioned(suite) as name, Pi(name) as pi:
            found[suite] = measure(pi)
    print(text(found))
    if options.json:
        figures = {suite: asdict(one) for suite, one in found.items()}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def _connections(pi: Pi) -> Connections:
    """Connect, exchange a byte and leave, one after the other."""
    pi.connect().close()
    before, begin = pi.ask("cpu"), time.monotonic()
    for _ in range(CONNECTIONS):
        pi.connect().close()
    wall, after = time.monotonic() - begin, pi.ask("cpu")
    return Connections(wall, after[0] - before[0], after[1] - before[1])


def _kill(pi: Pi) -> tuple[float, bool]:
    """Seconds from SIGKILL until a byte comes back, and whether the session was dropped."""
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(pi.connect())
        killed = float(pi.ask("kill"))
        dropped = False
        while True:
            try:
                if dropped:
                    client = stack.enter_context(pi.connect())
                else:
                    _echo(client)
                return time.monotonic() - killed, dropped
            except OSError:
                dropped = True
                time.sleep(_AGAIN_SECONDS)


def _echo(client: socket.socket) -> None:
    """Send a byte, and wait until it is back; `ConnectionError` where the session ends."""
    client.settimeout(DEADLINE_SECONDS)
    client.sendall(b"x")
    if client.recv(1) != b"x":
        raise ConnectionError("closed")


@contextlib.contextmanager
def _provisioned(suite: str) -> Iterator[str]:
    """A container Pi that serves its ports, each with an echo at the far end of its line."""
    name = f"restart-{suite}"
    numbers = range(1, MANY_PORTS + 1)
    ports = "".join(_PORT.format(each, _FIRST_PORT + each - 1) for each in numbers)
    try:
        lab("up", f"{name}={suite}")
        with Pi(name) as pi:
            pi.ask("sh", _PLUG.format(number=MANY_PORTS))
        with tempfile.TemporaryDirectory() as folder:
            inventory = Path(folder) / "hosts.yml"
            inventory.write_text(_HOSTS.format(name=name, lab=LAB, ports=ports))
            print(f"{suite}: playbook.yml", file=sys.stderr)
            play(ROOT, "playbook.yml", inventory)
        yield name
    finally:
        lab("down", name)
