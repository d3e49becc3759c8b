"""`ttybridge ssh`: what sshd runs for an account that gets consoles and nothing else.

sshd leaves what the client asked for in SSH_ORIGINAL_COMMAND (ForceCommand in sshd_config(5)): the
words of a command, the program of a subsystem such as SFTP, or nothing. No shell and no parser of
options sees it; it is a port and a few wishes, or it is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ttybridge.model.ports import Port
from ttybridge.model.values import kinds_of, label

USAGE = "write ssh -t USER@HOST [PORT] [--watch | --take] [--replay BYTES]"


class SshError(ValueError):
    """What the client asked for is not a console; the message says what may be asked for."""


@dataclass(frozen=True)
class Wishes:
    """What a person asked for; `port` is None to choose from a list, `replay` is in bytes."""

    port: str | None = None
    watch: bool = False
    take: bool = False
    replay: int | None = None


def wishes(command: str) -> Wishes:
    """Return what a person asks for with the words after `ssh HOST`. Raises `SshError`."""
    port, replay, way = None, None, ""
    words = iter(command.split())
    for word in words:
        if word in ("--watch", "--take") and not way:
            way = word
        elif word == "--replay" and replay is None:
            replay = _size(next(words, ""))
        elif port is None and _is_a_name(word):
            port = word
        else:
            raise SshError(f"{label(word)}: this account gets serial consoles only: {USAGE}")
    return Wishes(port, way == "--watch", way == "--take", replay)


def _is_a_name(word: str) -> bool:
    try:
        return bool(kinds_of(Port)["name"].parse(word))
    except ValueError:
        return False


def _size(word: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", word):
        raise SshError(f"--replay {label(word)}: write a whole number of bytes: {USAGE}")
    return int(word)
