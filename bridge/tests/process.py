"""The daemon as a process of its own, on each event loop that it can run on."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import Any

from conftest import LOOPS, TIMEOUT, TcpClient, Watched, free_tcp_port, until

SOURCE = Path(__file__).parent.parent / "src"
FASTEST = list(LOOPS)[-1]

# Has done the imports, which are nearly all of a start, and forks itself into each command that it
# is asked for. Each has a parent of its own, which is forked too and tells its pid and how it ends.
# Where the tests measure coverage, so does each of them that ends by itself.
_NURSERY = """
import contextlib, gc, json, os, signal, socket, sys

measured = None
if len(sys.argv) > 1:
    import coverage
    measured = coverage.Coverage(sys.argv[1], data_suffix=True)
    measured.start()

import ttybridge.daemon.main
from ttybridge.cli import main
with contextlib.suppress(ImportError):
    import uvloop

def become(words, loop, env, constants, fds):
    fds = [os.open(os.devnull, os.O_RDONLY), *fds]
    for place, fd in enumerate(fds):  # out of the way, then where they belong
        os.dup2(fd, 300 + place)
    for place in range(len(fds)):
        os.dup2(300 + place, place)
    os.closerange(len(fds), 1024)
    os.environ.clear()
    os.environ.update(env)
    if "LISTEN_FDS" in env:
        os.environ["LISTEN_PID"] = str(os.getpid())
    if loop != "uvloop":
        sys.modules["uvloop"] = None
    ours = [each for name, each in sys.modules.items() if name.startswith("ttybridge.")]
    for name, value in constants.items():
        having = [module for module in ours if hasattr(module, name)]
        assert having, f"no constant is called {name}"
        for module in having:
            setattr(module, name, value)
    try:
        sys.exit(main(words))
    finally:
        if measured:
            measured.stop()
            measured.save()

gc.freeze()
signal.signal(signal.SIGINT, signal.SIG_IGN)
nest = socket.socket(fileno=os.dup(0))
while True:
    asked, fds, _, _ = socket.recv_fds(nest, 2**18, 250)
    if not asked:
        break
    if not os.fork():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        pid = os.fork()
        if not pid:
            become(*json.loads(asked), fds[1:])
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        tell = os.dup2(fds[0], 0)
        os.closerange(1, 1024)
        os.write(tell, b"%d\\n" % pid)
        os.write(tell, b"%d\\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os._exit(0)
    for fd in fds:
        os.close(fd)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
"""


def _coverage_file() -> list[str]:
    """Where coverage is written to, if it is measured."""
    if "coverage" not in sys.modules:
        return []
    measured = sys.modules["coverage"].Coverage.current()
    return [os.path.abspath(measured.config.data_file)] if measured else []


@functools.cache
def _nursery() -> socket.socket:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        env = {**os.environ, "PYTHONPATH": str(SOURCE)}
        words = [sys.executable, "-c", _NURSERY, *_coverage_file()]
        process = subprocess.Popen(words, stdin=there.fileno(), env=env)

    def end() -> None:
        here.close()
        process.wait(TIMEOUT)

    atexit.register(end)
    return here


class Process:
    """A command of ttybridge: what is needed of a subprocess.Popen."""

    def __init__(
        self,
        words: Sequence[str],
        env: Mapping[str, str],
        loop: str,
        out: int,
        err: int,
        given: Sequence[int] = (),
        constants: Mapping[str, float | str] | None = None,
    ) -> None:
        """Run `ttybridge WORDS`; `given` are its descriptors from 3 on.

        `constants` are names in its modules, and what they are for this process, such as
        DRAIN_SECONDS.
        """
        self._told, tell = os.pipe()
        request = json.dumps([words, loop, env, constants or {}]).encode()
        socket.send_fds(_nursery(), [request], [tell, out, err, *given])
        os.close(tell)
        self.pid = self._number()
        self.returncode: int | None = None

    def _number(self) -> int:
        digits = b""
        while not digits.endswith(b"\n"):
            byte = os.read(self._told, 1)
            assert byte, "the nursery has gone"
            digits += byte
        return int(digits)

    def poll(self) -> int | None:
        """Return how it ended, None where it has not."""
        return self.wait(0)

    def wait(self, seconds: float = TIMEOUT) -> int | None:
        """Wait for its end; return how it ended, None where it has not."""
        if self.returncode is None and select.select([self._told], [], [], seconds)[0]:
            self.returncode = self._number()
            os.close(self._told)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def environment(runtime: Path, **more: str) -> dict[str, str]:
    """What a command runs with: its status socket is in `runtime`."""
    kept = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    return {**kept, "PYTHONPATH": str(SOURCE), "RUNTIME_DIRECTORY": str(runtime), **more}


def command(*words: str, loop: str = FASTEST) -> list[str]:
    """The words that run `ttybridge WORDS` from the beginning, with all imports."""
    program = ["-m", "ttybridge"] if loop == "uvloop" else ["-c", _WITHOUT_UVLOOP]
    return [sys.executable, *program, *words]


# Without uvloop the daemon takes asyncio's own loop.
_WITHOUT_UVLOOP = (
    "import sys; sys.modules['uvloop'] = None; from ttybridge.cli import main; sys.exit(main())"
)


def run(*words: str, runtime: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = Process(words, environment(runtime), FASTEST, out.fileno(), err.fileno())
        code = process.wait()
        assert code is not None, f"{words} does not end"
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(words, code, out.read(), err.read())


class Daemon(Watched):
    """`ttybridge serve`, its configuration file and its clients."""

    def __init__(self, folder: Path, loop: str = FASTEST) -> None:
        self.config, self.runtime = folder / "ttybridge.toml", folder / "run"
        self._log, self._loop = folder / "log", loop
        self.process: Process | subprocess.Popen[bytes] | None = None
        self.given: dict[str, int] = {}
        """Descriptors that it starts with, by their names."""
        self.locks = folder / "lock"
        """Where it writes its lock files."""
        self.locks.mkdir()
        self.constants: dict[str, float] = {}
        """Names in its modules, and what they are for this process."""
        self.forgiven = False
        """Whether a traceback in its log is to be expected."""
        self._clients: list[TcpClient] = []
        self._hurried = 0
        self._sockets = contextlib.ExitStack()

    @property
    def log(self) -> str:
        """What it has written to standard error."""
        return self._log.read_text() if self._log.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def configure(self, *entries: dict[str, Any], metrics: str = "") -> None:
        """Write the configuration file, as a whole: a reload may read it at any time."""
        tables = (
            "[[port]]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in entry.items())
            for entry in entries
        )
        top = f"metrics = {json.dumps(metrics)}\n" if metrics else ""
        new = self.config.with_suffix(".new")
        new.write_text(top + "".join(tables))
        new.rename(self.config)

    async def start(self, *entries: dict[str, Any], before: str = "", **env: str) -> None:
        """Start, and return when it answers.

        `before` is a shell command to run first: then it starts as a service does, from exec on.
        """
        self.configure(*entries)
        env = environment(self.runtime, **env)
        if self.given:
            names = ":".join(self.given)
            env |= {"LISTEN_FDS": str(len(self.given)), "LISTEN_FDNAMES": names}
        self.process = self._spawn(["serve", "--config", str(self.config)], env, before)
        await until(self._answers_or_has_ended, "the daemon answers")
        assert not self.ended, self.log

    def _spawn(
        self, words: list[str], env: dict[str, str], before: str
    ) -> Process | subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            if before:
                whole = ["sh", "-c", f'{before}; exec "$@"', "sh"]
                whole += command(*words, loop=self._loop)
                return subprocess.Popen(whole, env=env, stderr=log)
            given = list(self.given.values())
            constants: dict[str, float | str] = {
                "LOCK_DIRECTORY": str(self.locks),
                **self.constants,
            }
            return Process(words, env, self._loop, 1, log.fileno(), given, constants)

    async def _answers_or_has_ended(self) -> bool:
        with contextlib.suppress(OSError):
            await self.status()
            return True
        return self.ended

    @property
    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def signal(self, number: Signals) -> None:
        assert self.process
        self.process.send_signal(number)

    async def end(self, number: Signals = SIGTERM) -> int:
        """Ask it to stop; return its exit status."""
        self.signal(number)
        return await self.exit_status()

    async def exit_status(self) -> int:
        """Wait for its end; return its exit status."""
        await until(lambda: self.ended, "the daemon ends")
        assert self.process
        return int(self.process.returncode or 0)

    async def say(self, request: bytes) -> bytes:
        """Return what its status socket answers to a request."""
        place = str(self.runtime / "control.sock")
        client = TcpClient(*await asyncio.open_unix_connection(place))
        try:
            client.write(request)
            client.finish()
            return await client.rest()
        finally:
            client.close()

    async def status(self) -> dict[str, Any]:
        """What it says of itself."""
        answer: dict[str, Any] = json.loads(await self.say(b'{"command": "status"}\n'))
        return answer

    async def port(self, name: str = "sw") -> dict[str, Any]:
        """What it says of one port."""
        ports: list[dict[str, Any]] = (await self.status())["ports"]
        return next(port for port in ports if port["name"] == name)

    async def logs(self, words: str, times: int = 1) -> None:
        """Wait until it has written certain words to its log so many times."""
        await until(lambda: self.log.count(words) >= times, f"{words!r} in the log")

    async def open(self, to: dict[str, Any], **keys: Any) -> TcpClient:
        """Connect to a port; `keys` are those of asyncio.open_connection."""
        client = await TcpClient.connect("127.0.0.1", tcp_port(to), **keys)
        self._clients.append(client)
        return client

    async def connect(self, to: dict[str, Any], **keys: Any) -> TcpClient:
        """Connect to a port, and return when it has taken the client in."""
        client = await self.open(to, **keys)
        await self.until(
            lambda port: client.name in [one["address"] for one in port["clients"]],
            f"{client.name} is taken in",
            to["name"],
        )
        return client

    def socket_to(self, to: dict[str, Any], source: str = "127.0.0.1") -> socket.socket:
        """Connect to a port without an event loop, from an address."""
        made = socket.create_connection(("127.0.0.1", tcp_port(to)), TIMEOUT, (source, 0))
        return self._sockets.enter_context(made)

    async def socket_soon(self, to: dict[str, Any]) -> socket.socket:
        """Connect to a port as one of very many.

        The kernel lets a hundred wait to be accepted, and one more try again a second later: after
        each fifty the daemon may catch up.
        """
        self._hurried += 1
        if self._hurried % 50 == 0:
            await self.status()
        return self.socket_to(to)

    def descriptors(self) -> int:
        """How many file descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory(self) -> int:
        """Resident memory in KiB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))

    def cpu_seconds(self) -> float:
        """Processor time that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End it and its clients; it must never have met an unforeseen error."""
        for client in self._clients:
            client.writer.transport.abort()
        self._sockets.close()
        if self.process and not self.ended:
            self.process.send_signal(SIGKILL)
            self.process.wait(TIMEOUT)
        print(self.log)  # for who looks why a test failed
        assert self.forgiven or "Traceback" not in self.log
        assert self.forgiven or "Exception" not in self.log


StartDaemon = Callable[..., Awaitable[Daemon]]


@contextlib.asynccontextmanager
async def running(
    *entries: dict[str, Any],
    loop: str = FASTEST,
    before: str = "",
    constants: dict[str, float] | None = None,
    **env: str,
) -> AsyncIterator[Daemon]:
    """A running daemon for the length of a block."""
    with tempfile.TemporaryDirectory() as folder:
        made = Daemon(Path(folder), loop)
        made.constants = constants or {}
        with contextlib.closing(made):
            await made.start(*entries, before=before, **env)
            yield made


def toml(value: object) -> str:
    """A value of an entry as TOML has it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def entry(**keys: Any) -> dict[str, Any]:
    """An entry on a free TCP port of 127.0.0.1."""
    return {"name": "sw", "listen": f"127.0.0.1:{free_tcp_port()}", **keys}


def tcp_port(written: dict[str, Any]) -> int:
    """The TCP port of an entry."""
    return int(written["listen"].rpartition(":")[2])
