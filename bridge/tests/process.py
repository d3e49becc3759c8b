"""The daemon as a process of its own, on each event loop that it can run on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from signal import SIGTERM, Signals
from typing import Any

from conftest import LOOPS as FACTORIES
from conftest import TIMEOUT, eventually, free_tcp_port

_given: set[int] = set()
SOURCE = Path(__file__).parent.parent / "src"
LOOPS = list(FACTORIES)

# Without uvloop the daemon takes asyncio's own loop.
_WITHOUT_UVLOOP = (
    "import sys; sys.modules['uvloop'] = None; from ttybridge.cli import main; sys.exit(main())"
)


def command(*words: str, loop: str = LOOPS[-1]) -> list[str]:
    """The words that run `ttybridge WORDS`."""
    program = ["-m", "ttybridge"] if loop == "uvloop" else ["-c", _WITHOUT_UVLOOP]
    return [sys.executable, *program, *words]


def environment(runtime: Path, **more: str) -> dict[str, str]:
    """What such a command runs with: its status socket is in `runtime`."""
    kept = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    return {**kept, "PYTHONPATH": str(SOURCE), "RUNTIME_DIRECTORY": str(runtime), **more}


def run(*words: str, runtime: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(*words),
        env=environment(runtime),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


class Daemon:
    """`ttybridge serve` and its configuration file."""

    def __init__(self, folder: Path) -> None:
        self.config, self.runtime = folder / "ttybridge.toml", folder / "run"
        self._log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.forgiven = False
        """Whether a traceback in its log is to be expected."""

    @property
    def log(self) -> str:
        """What it has written to standard error."""
        return self._log.read_text() if self._log.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def configure(self, *entries: dict[str, Any], metrics: str = "") -> None:
        """Write the configuration file."""
        tables = (
            "[[port]]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in entry.items())
            for entry in entries
        )
        top = f"metrics = {json.dumps(metrics)}\n" if metrics else ""
        self.config.write_text(top + "".join(tables))

    async def start(
        self, *entries: dict[str, Any], loop: str = LOOPS[-1], before: str = "", **env: str
    ) -> None:
        """Start, and return when it answers; `before` is a shell command to run first."""
        self.configure(*entries)
        words = command("serve", "--config", str(self.config), loop=loop)
        if before:
            words = ["sh", "-c", f'{before}; exec "$@"', "sh", *words]
        self._spawn(words, environment(self.runtime, **env))
        await eventually(lambda: self.process is not None and (self._answers() or self.ended))

    def _spawn(self, words: list[str], env: dict[str, str]) -> None:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(words, env=env, stderr=log)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
            sock.connect(str(self.runtime / "control.sock"))
            return True
        return False

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
        await eventually(lambda: self.ended)
        assert self.process
        return int(self.process.returncode)

    async def status(self) -> dict[str, Any]:
        """What its status socket answers."""
        reader, writer = await asyncio.open_unix_connection(self.runtime / "control.sock")
        writer.write(b'{"command": "status"}\n')
        async with asyncio.timeout(TIMEOUT):
            answer: dict[str, Any] = json.loads(await reader.read())
        writer.close()
        return answer

    async def port(self, name: str = "sw") -> dict[str, Any]:
        """What it says of one port."""
        ports: list[dict[str, Any]] = (await self.status())["ports"]
        return next(port for port in ports if port["name"] == name)

    async def until(self, condition: Callable[[dict[str, Any]], bool], name: str = "sw") -> None:
        """Wait until what it says of a port meets a condition."""
        for _ in range(round(TIMEOUT / 0.05)):
            if condition(await self.port(name)):
                return
            await asyncio.sleep(0.05)
        raise TimeoutError

    async def connect(
        self, entry: dict[str, Any]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a port, and return when it has taken the client in."""
        reader, writer = await asyncio.open_connection("127.0.0.1", tcp_port(entry))
        name = "{}:{}".format(*writer.get_extra_info("sockname"))
        await self.until(
            lambda port: any(client["address"] == name for client in port["clients"]), entry["name"]
        )
        return reader, writer

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


@contextlib.asynccontextmanager
async def daemon(
    *entries: dict[str, Any], loop: str = LOOPS[-1], before: str = "", **env: str
) -> AsyncIterator[Daemon]:
    """A running daemon for the length of a block; it must never have met an unforeseen error."""
    with tempfile.TemporaryDirectory() as folder:
        made = Daemon(Path(folder))
        try:
            async with asyncio.timeout(6 * TIMEOUT):
                await made.start(*entries, loop=loop, before=before, **env)
                yield made
            assert made.forgiven or "Traceback" not in made.log, made.log
            assert made.forgiven or "Exception" not in made.log, made.log
        finally:
            if made.process and not made.ended:
                made.process.kill()
            if made.process:
                made.process.wait(TIMEOUT)


def toml(value: object) -> str:
    """A value of an entry as TOML has it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def entry(**keys: Any) -> dict[str, Any]:
    """An entry on a free TCP port of 127.0.0.1, another one each time."""
    while (number := free_tcp_port()) in _given:
        pass
    _given.add(number)
    return {"name": "sw", "listen": f"127.0.0.1:{number}", **keys}


def tcp_port(written: dict[str, Any]) -> int:
    """The TCP port of an entry."""
    return int(written["listen"].rpartition(":")[2])
