"""The servers to compare: how each one is configured and started."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.wire import Protocol, WireError

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 20.0
STOP_SECONDS = 5.0

CERTIFICATE, KEY = "certificate.pem", "key.pem"

# Without uvloop the daemon takes asyncio's own loop.
_WITHOUT_UVLOOP = (
    "import sys; sys.modules['uvloop'] = None; from ttybridge.cli import main; sys.exit(main())"
)

# What the role of ser2net writes: no hold-back of answers, and buffers larger than 64 bytes.
_TUNED = {"chardelay": "false", "dev-to-net-bufsize": "65536", "net-to-dev-bufsize": "65536"}


class BrokenError(Exception):
    """A server did not start, went away or lost bytes; the message says which and how."""


@dataclass(frozen=True)
class Line:
    """One serial line to serve: the tty's path and the TCP port on 127.0.0.1.

    With `rfc2217` it speaks that, whatever the other lines of the server speak.
    """

    device: str
    tcp_port: int
    rfc2217: bool = False


# Writes configuration into a folder and returns the command of each process to start.
Configure = Callable[[Sequence[Line], Path], list[list[str]]]


@dataclass(frozen=True)
class Server:
    """One way to serve serial lines over TCP."""

    name: str
    about: str
    configure: Configure
    protocol: Protocol = "raw"


def _ttybridge(*program: str, **keys: object) -> Configure:
    def configure(lines: Sequence[Line], folder: Path) -> list[list[str]]:
        tls = {"certificate": str(folder / CERTIFICATE), "key": str(folder / KEY)}
        tables = []
        for line in lines:
            entry = {
                "name": f"port{line.tcp_port}",
                "device": line.device,
                "listen": f"127.0.0.1:{line.tcp_port}",
                "baudrate": 115200,
                **{key: tls if key == "tls" else value for key, value in keys.items()},
                **({"protocol": "rfc2217"} if line.rfc2217 else {}),
            }
            tables.append("[[port]]\n" + "".join(f"{k} = {_toml(v)}\n" for k, v in entry.items()))
        file = folder / "ttybridge.toml"
        file.write_text("".join(tables))
        return [[sys.executable, *program, "serve", "--config", str(file)]]

    return configure


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def _ser2net(tuned: bool = False, rfc2217: bool = False) -> Configure:
    def configure(lines: Sequence[Line], folder: Path) -> list[list[str]]:
        options = _TUNED if tuned else {}
        if _ser2net_version() < (4, 5):
            file, text = folder / "ser2net.conf", _classic(lines, options, rfc2217)
        else:
            file, text = folder / "ser2net.yaml", _yaml(lines, options, rfc2217)
        file.write_text(text)
        return [["ser2net", "-n", "-c", str(file)]]

    return configure


def _classic(lines: Sequence[Line], options: dict[str, str], rfc2217: bool) -> str:
    text = "".join(f"DEFAULT:{name}:{value}\n" for name, value in options.items())
    for line in lines:
        state, remctl = ("telnet", " remctl") if rfc2217 or line.rfc2217 else ("raw", "")
        text += (
            f"127.0.0.1,{line.tcp_port}:{state}:0:{line.device}:"
            f"115200 8DATABITS NONE 1STOPBIT{remctl}\n"
        )
    return text


def _yaml(lines: Sequence[Line], options: dict[str, str], rfc2217: bool) -> str:
    text = "%YAML 1.1\n---\n"
    for name, value in options.items():
        text += f"default:\n  name: {name}\n  value: {value}\n"
    for line in lines:
        telnet = "telnet(rfc2217)," if rfc2217 or line.rfc2217 else ""
        text += (
            f"connection: &port{line.tcp_port}\n"
            f"  accepter: {telnet}tcp,127.0.0.1,{line.tcp_port}\n"
            f"  connector: serialdev,{line.device},115200n81\n"
        )
    return text


def _ser2net_version() -> tuple[int, int]:
    done = subprocess.run(["ser2net", "-v"], capture_output=True, text=True, check=False)
    match = re.search(r"version (\d+)\.(\d+)", done.stdout + done.stderr)
    if not match:
        raise BrokenError("ser2net -v does not say its version")
    return int(match[1]), int(match[2])


def _socat(lines: Sequence[Line], _: Path) -> list[list[str]]:
    return [
        [
            "socat",
            f"TCP-LISTEN:{line.tcp_port},bind=127.0.0.1,reuseaddr,fork,nodelay",
            f"OPEN:{line.device},b115200,raw,echo=0",
        ]
        for line in lines
    ]


def _ser2tcp(lines: Sequence[Line], folder: Path) -> list[list[str]]:
    ports = [
        {
            "serial": {"port": line.device, "baudrate": 115200},
            "servers": [{"address": "127.0.0.1", "port": line.tcp_port, "protocol": "tcp"}],
        }
        for line in lines
    ]
    file = folder / "ser2tcp.json"
    file.write_text(json.dumps({"ports": ports}))
    return [[str(Path(sys.executable).parent / "ser2tcp"), "-c", str(file)]]


def _redirect(lines: Sequence[Line], _: Path) -> list[list[str]]:
    script = str(Path(__file__).parent / "redirect.py")
    return [[sys.executable, script, line.device, str(line.tcp_port)] for line in lines]


SERVERS = [
    Server("ttybridge", "raw TCP, on uvloop", _ttybridge("-m", "ttybridge")),
    Server("ttybridge-asyncio", "the same without uvloop", _ttybridge("-c", _WITHOUT_UVLOOP)),
    Server(
        "ttybridge-telnet",
        "protocol telnet",
        _ttybridge("-m", "ttybridge", protocol="telnet"),
        "telnet",
    ),
    Server(
        "ttybridge-rfc2217",
        "protocol rfc2217",
        _ttybridge("-m", "ttybridge", protocol="rfc2217"),
        "rfc2217",
    ),
    Server("ttybridge-tls", "raw over TLS", _ttybridge("-m", "ttybridge", tls=True), "tls"),
    Server("ser2net", "as distributed: the article's line", _ser2net()),
    Server("ser2net-tuned", "no chardelay, buffers of 64 KiB", _ser2net(tuned=True)),
    Server("ser2net-rfc2217", "tuned, telnet with remctl", _ser2net(True, True), "rfc2217"),
    Server("socat", "TCP-LISTEN,fork,nodelay", _socat),
    Server("ser2tcp", "from PyPI, protocol tcp", _ser2tcp),
    Server("pyserial", "a thread and a loop, as tcp_serial_redirect", _redirect),
]


class Running:
    """A server that listens, and its processes."""

    def __init__(self, server: Server, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        self.server = server
        self.start_seconds = 0.0
        """From the start of the first process until the server listens for all lines."""
        self._processes = processes

    @property
    def ended(self) -> bool:
        """Whether one of its processes has ended by itself."""
        return any(process.poll() is not None for process in self._processes)

    def _pids(self) -> list[int]:
        """Its processes and their children."""
        pids = [process.pid for process in self._processes]
        for pid in pids:  # the list grows in the loop: grandchildren count, too
            for task in Path(f"/proc/{pid}/task").iterdir():
                pids += [int(child) for child in (task / "children").read_text().split()]
        return pids

    def cpu_seconds(self) -> float:
        """Processor time used so far, to the nanosecond: a tick of /proc/PID/stat is 10 ms."""
        # A process's CPU clock by its id, as clock_getcpuclockid(3) makes it on Linux.
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self._pids())

    def memory(self) -> int:
        """Bytes of memory: PSS, in which a page that processes share counts once."""
        return sum(_pss(pid) for pid in self._pids())


def _pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


@contextlib.contextmanager
def running(server: Server, lines: Sequence[Line], folder: Path) -> Iterator[Running]:
    """Run a server for the length of a block, which begins when it listens for every line.

    `folder` takes its configuration and its log, and holds the TLS certificate. `BrokenError`
    where the server does not start; an error of the block carries the end of the log.
    """
    log = folder / f"{server.name}.log"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "bridge" / "src"),
        "RUNTIME_DIRECTORY": str(folder),
    }
    commands = server.configure(lines, folder)
    before = time.perf_counter()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with log.open("wb") as output:
            for command in commands:
                # A group of its own, so that what it forks ends with it.
                processes.append(
                    subprocess.Popen(
                        command,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                        start_new_session=True,
                    )
                )
        made = Running(server, processes)
        _wait_for_listeners(made, lines)
        made.start_seconds = time.perf_counter() - before
        yield made
        if made.ended:
            raise BrokenError("it ended by itself")
    except (BrokenError, WireError, OSError) as error:
        words = log.read_text(errors="replace").strip() if log.exists() else ""
        tail = "".join(f"\n  | {line}" for line in words.splitlines()[-15:])
        raise BrokenError(f"{server.name}: {error}{tail}") from error
    finally:
        for process in processes:
            _end(process)


def _wait_for_listeners(server: Running, lines: Sequence[Line]) -> None:
    wanted = {line.tcp_port for line in lines}
    end = time.monotonic() + START_SECONDS
    while not wanted <= _listening():
        if server.ended:
            raise BrokenError("it did not start")
        if time.monotonic() > end:
            raise BrokenError(f"it does not listen {START_SECONDS:.0f} s after its start")
        time.sleep(0.001)


def _listening() -> set[int]:
    """TCP ports with a listener. A connection would occupy a port that takes one client."""
    rows = [
        line.split()
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        if os.path.exists(table)
        for line in Path(table).read_text().splitlines()[1:]
    ]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
            return


def free_tcp_ports(count: int) -> list[int]:
    """Different TCP ports of 127.0.0.1 that nothing listens on."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]


def make_certificate(folder: Path) -> None:
    """A self-signed certificate for 127.0.0.1, for the servers of one run."""
    openssl = shutil.which("openssl")
    if not openssl:
        raise BrokenError("openssl is missing: sudo apt install openssl")
    words = (
        f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    files = ["-out", str(folder / CERTIFICATE), "-keyout", str(folder / KEY)]
    subprocess.run([*words.split(), *files], check=True, capture_output=True)
