"""A real terminal (tmux), which answers what it is asked as if its user typed it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .cable import Cable
from .programs import between_pipes
from .servers import Served
from .wait import wait_until

# What tmux answers, also where it comes in disguise: cursor, status, what it is, which version, its
# size; with a line feed, or a letter that is not ASCII, in the middle; between two other sequences.
QUESTIONS = (
    b"\x1b7\x1b[999;999H\x1b[6n\x1b8\x1b[5n\x1b[c\x1b[>c\x1b[>q\x1b[18t\x1b[1;18t\x1bZ\x05"
    b"\x1b[6\nn\x1b[6\xc3\xa4n\x1b\xe9[6n\x1b[\x1b[c6n\x1bP\x1b[6n\x1b\\\x1b]10;?\x07"
)


class Terminal:
    """A tmux of its own."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def command(self, *words: str) -> str:
        """Give tmux a command, and return what it says."""
        return subprocess.run(
            ["tmux", "-S", str(self._socket), "-f", "/dev/null", *words],
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def shows(self, words: str) -> bool:
        """Whether words are on its screen."""
        return words in self.command("capture-pane", "-p")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A tmux, in which nothing runs yet."""
    made = Terminal(tmp_path / "tmux")
    try:
        yield made
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            made.command("kill-server")


def test_a_terminal_answers_what_is_asked_now_and_nothing_of_the_replay(
    terminal: Terminal, serve: Callable[..., Served], cable: Cable
) -> None:
    sw = serve("bridge", protocol="telnet", sharing="shared", replay="4096")
    with between_pipes("nc", "127.0.0.1", str(sw.tcp_port)) as first:
        cable.write(b"U-Boot\r\n" + QUESTIONS + b"\r\nlogin: ")
        first.read_until(b"login: ")
        telnet = f"telnet 127.0.0.1 {sw.tcp_port}"
        terminal.command("new-session", "-d", "-x", "80", "-y", "24", telnet)
        wait_until(lambda: terminal.shows("login:"), "the replay on the screen")
        terminal.command("send-keys", "root")
        assert cable.read(4) == b"root"
        cable.write(b"\x1b[1;1H\x1b[6n")
        assert cable.read(6) == b"\x1b[1;1R"
