"""Client programs, each in a terminal as a person has it, or between pipes as a script has it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
from collections.abc import Iterator

from .wait import Stream, wait_until


class Program(Stream):
    """A running client."""

    def __init__(self, stdin: int, stdout: int) -> None:
        super().__init__(stdout)
        self._stdin = stdin

    def write(self, data: bytes) -> None:
        """Type, or pipe in."""
        assert os.write(self._stdin, data) == len(data)

    def ended(self) -> bool:
        """Whether nobody has its terminal open any more."""
        events = select.poll()
        events.register(self._stdin, 0)
        return bool(events.poll(0))

    def wait_for_character_mode(self) -> None:
        """Wait until its terminal hands it each key at once, and shows none by itself."""
        wait_until(lambda: not self._line_mode(), "the terminal in character mode")

    def wait_for_line_mode(self) -> None:
        """Wait until its terminal shows and edits a line, and makes signals of keys."""
        wait_until(
            lambda: self._line_mode() == termios.ICANON | termios.ECHO | termios.ISIG,
            "the terminal in line mode",
        )

    def _line_mode(self) -> int:
        flags: int = termios.tcgetattr(self._stdin)[3]
        return flags & (termios.ICANON | termios.ECHO | termios.ISIG)


@contextlib.contextmanager
def in_terminal(*words: str) -> Iterator[Program]:
    """A program in a terminal of its own for the length of a block."""
    master, slave = pty.openpty()
    with _started(words, slave, slave, slave):
        os.close(slave)
        try:
            yield Program(master, master)
        finally:
            os.close(master)


@contextlib.contextmanager
def between_pipes(*words: str) -> Iterator[Program]:
    """A program without a terminal for the length of a block."""
    with _started(words, subprocess.PIPE, subprocess.PIPE, None) as process:
        assert process.stdin
        assert process.stdout
        yield Program(process.stdin.fileno(), process.stdout.fileno())


@contextlib.contextmanager
def _started(
    words: tuple[str, ...], stdin: int, stdout: int, stderr: int | None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program with none of its user's settings; at the end its children go with it."""
    environment = {**os.environ, "TERM": "dumb", "HOME": "/nonexistent"}
    with subprocess.Popen(
        words,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        start_new_session=True,
        preexec_fn=_take_terminal,
    ) as process:
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _take_terminal() -> None:
    """Get the signals of the terminal's keys, where there is a terminal."""
    if os.isatty(0):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
