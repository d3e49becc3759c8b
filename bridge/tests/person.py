"""A person at a terminal of its own (a pty) who uses `ttybridge console`."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import signal
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

from conftest import TcpClient, in_time, until
from process import Daemon, command, environment
from ttybridge.protocol import console as frames


class AtTerminal:
    """A running `ttybridge console`: what is typed, and what is on the screen."""

    def __init__(self, process: subprocess.Popen[bytes], master: int, before: list[object]) -> None:
        self._process, self._master = process, master
        self.before = before
        """The terminal's settings before the program began."""
        self.pid = process.pid
        self.seen = b""
        """Everything that the screen has shown."""
        self._read = 0
        os.set_blocking(master, False)

    def types(self, keys: bytes | str) -> None:
        """Press keys."""
        data = keys.encode() if isinstance(keys, str) else keys
        assert os.write(self._master, data) == len(data)

    def _look(self) -> bytes:
        with contextlib.suppress(OSError):  # nothing new, or the program has gone
            self.seen += os.read(self._master, 65536)
        return self.seen

    async def sees(self, words: bytes | str) -> None:
        """Wait until words are on the screen, after those that were waited for before."""
        wanted = words.encode() if isinstance(words, str) else words
        await until(
            lambda: wanted in self._look()[self._read :],
            f"{wanted!r} on the screen",
            seen=lambda: self.seen[self._read :],
        )
        self._read = self.seen.index(wanted, self._read) + len(wanted)

    @property
    def settings(self) -> list[object]:
        """The terminal's settings (termios)."""
        return termios.tcgetattr(self._master)

    async def has_settings(self, settings: list[object]) -> None:
        """Wait until the terminal has certain settings."""
        await until(lambda: self.settings == settings, "other settings of the terminal")

    async def ends(self) -> int:
        """Wait for its end; return the exit status."""

        def has_ended() -> bool:
            self._look()
            return self._process.poll() is not None

        await until(has_ended, "the program ends", seen=self._look)
        return int(self._process.returncode)

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)


@contextlib.contextmanager
def at_terminal(*words: str, runtime: Path, **env: str) -> Iterator[AtTerminal]:
    """`ttybridge console WORDS` in a terminal for the length of a block."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        # What a shell starts in the background, such as these tests, has SIGINT ignored.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command("console", *words),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(runtime, TERM="xterm", COLUMNS="80", LINES="24", **env),
        start_new_session=True,
        preexec_fn=take_terminal,
    ) as process:
        try:
            yield AtTerminal(process, master, before)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            os.close(slave)
            os.close(master)


class Framed:
    """A session of `ttybridge console` without the program: what the daemon and it exchange."""

    def __init__(self, client: TcpClient) -> None:
        self._client = client
        self._frames = frames.Frames()
        self._got: list[frames.Frame] = []

    @classmethod
    async def attach(cls, process: Daemon, port: str, **wishes: bool | int) -> Framed:
        """Begin a session at a port."""
        place = str(process.runtime / "control.sock")
        client = TcpClient(*await asyncio.open_unix_connection(place))
        client.write(json.dumps({"command": "console", "port": port, **wishes}).encode() + b"\n")
        answer = json.loads(await client.hear(b"\n"))
        assert answer["port"]["name"] == port
        await process.until(
            lambda said: answer["you"] in [one["address"] for one in said["clients"]],
            f"{answer['you']} is taken in",
            port,
        )
        return cls(client)

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._client.write(data)

    def types(self, text: bytes) -> None:
        """Send text for the device."""
        self.write(frames.frame(frames.DATA, text))

    def asks(self, request: bytes) -> None:
        """Send a request."""
        self.write(frames.frame(request))

    async def hears(self, kind: bytes) -> bytes:
        """Return the content of the next frame of a kind; others before it are skipped."""
        while True:
            while self._got:
                got, content = self._got.pop(0)
                if got == kind:
                    return content
            self._got += self._frames.receive(await self._client.receive_some())

    async def gets(self, data: bytes) -> None:
        """Wait until the device's next bytes have come."""
        got = b""
        while len(got) < len(data):
            got += await self.hears(frames.DATA)
        assert got == data

    async def is_closed(self) -> bool:
        """Wait until the daemon closes."""
        with contextlib.suppress(ConnectionError):
            await self._client.rest()
        return True

    def finish(self) -> None:
        """Send no more, and go on reading."""
        self._client.finish()

    def close(self) -> None:
        """Leave."""
        self._client.writer.transport.abort()


async def script(*words: str, runtime: Path, typed: bytes = b"") -> tuple[int, bytes, bytes]:
    """Run `ttybridge console WORDS` between pipes; return exit status, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *command("console", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(runtime),
    )
    async with in_time("a script ends"):
        out, err = await process.communicate(typed)
    assert process.returncode is not None
    return process.returncode, out, err
