"""The control socket: one JSON request and answer per connection, or a session after it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ttybridge.daemon.people import person_of
from ttybridge.model.people import Person
from ttybridge.net.attach import attach, user_of
from ttybridge.net.connection import Connection
from ttybridge.net.sockets import is_reserved

NAME = "control.sock"
SYSTEM_DIRECTORY = Path("/run/ttybridge")
ANSWER_SECONDS = 5.0

# Requests of one user that are open at the same time, so that nobody takes all descriptors; and the
# bytes of one request.
ASKED_AT_ONCE = 16
REQUEST_LIMIT = 65536

# How long `ttybridge release` may give a device away, in seconds.
RELEASE_SECONDS = range(1, 86_401)
RELEASE_SECONDS_WORDS = "write a whole number from 1 to 86400"


class ControlError(Exception):
    """The daemon cannot be asked; the message says why and what to do."""


class NoDaemon(ControlError):
    """There is no daemon to ask."""


def own_path() -> Path:
    """Where a daemon makes its socket: systemd's RuntimeDirectory=, else /run or the user's own."""
    if "RUNTIME_DIRECTORY" in os.environ:
        return Path(os.environ["RUNTIME_DIRECTORY"]) / NAME
    if os.geteuid() == 0 or "XDG_RUNTIME_DIR" not in os.environ:
        return SYSTEM_DIRECTORY / NAME
    return Path(os.environ["XDG_RUNTIME_DIR"]) / "ttybridge" / NAME


def system_or_own_path() -> Path:
    """Where to ask: the system's daemon where there is one, else the user's own."""
    if "RUNTIME_DIRECTORY" not in os.environ and SYSTEM_DIRECTORY.is_dir():
        return SYSTEM_DIRECTORY / NAME
    return own_path()


@dataclass(frozen=True)
class Attachment:
    """An answer after which the socket becomes a client's connection."""

    answer: dict[str, Any]
    connection: Connection


Answer = dict[str, Any] | Attachment

Command = Callable[[dict[str, Any], Person], Awaitable[Answer]]
"""Answers a request of a person, who sees a `CommandError`."""

Commands = Mapping[str, Command]


class CommandError(Exception):
    """The daemon cannot do what a request asks; the message says why."""


async def serve(path: Path, commands: Commands) -> asyncio.Server:
    """Answer `{"command": ...}` on a Unix socket until the server is closed."""
    loop = asyncio.get_running_loop()
    desk = _Desk(commands)
    return await loop.create_unix_server(lambda: _Conversation(desk), sock=_bind(path))


def _bind(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        if other.connect_ex(str(path)) == 0:
            raise OSError(errno.EADDRINUSE, "another ttybridge answers there")
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        path.chmod(0o666)  # `commands.py` decides who may do what
    except OSError:
        sock.close()
        raise
    return sock


class _Desk:
    """Who is being answered now, and the commands."""

    def __init__(self, commands: Commands) -> None:
        self.commands = commands
        self.tasks: set[asyncio.Task[None]] = set()
        self.asking: Counter[int] = Counter()
        """For each user id, how many requests are open."""


class _Conversation(asyncio.Protocol):
    """One connection to the control socket: a line with a request, and the answer."""

    def __init__(self, desk: _Desk) -> None:
        self._desk = desk
        self._line = bytearray()
        self._asked = self._has_place = False
        self._uid = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has connected."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        self._uid = user_of(sock)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(ANSWER_SECONDS, self._transport.abort)
        if words := self._why_not_now(sock.fileno()):
            self._asked = True
            self._say({"error": words})
            return
        self._has_place = True
        self._desk.asking[self._uid] += 1

    def _why_not_now(self, descriptor: int) -> str | None:
        """Return why a request cannot be taken, in words; None if it can."""
        if self._desk.asking[self._uid] >= ASKED_AT_ONCE:
            return "too many requests at once: try again"
        if self._uid not in (0, os.geteuid()) and is_reserved(descriptor):
            return "the daemon has no room for more connections (LimitNOFILE=): try again"
        return None

    def data_received(self, data: bytes) -> None:
        """More of a request has come, or of what follows it."""
        self._line += data
        if self._asked:
            return
        if b"\n" in data:
            self._begin_to_answer()
        elif len(self._line) > REQUEST_LIMIT:
            self._transport.abort()

    def eof_received(self) -> bool:
        """The asker sends no more; it still gets its answer."""
        if not self._asked:
            self._begin_to_answer()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The asker has left, or has its answer."""
        self._end()

    def _end(self) -> None:
        self._timer.cancel()
        if self._has_place:
            self._has_place = False
            self._desk.asking[self._uid] -= 1
            if not self._desk.asking[self._uid]:
                del self._desk.asking[self._uid]

    def _begin_to_answer(self) -> None:
        self._asked = True
        self._transport.pause_reading()
        task = asyncio.get_running_loop().create_task(self._answer())
        self._desk.tasks.add(task)
        task.add_done_callback(self._desk.tasks.discard)

    async def _answer(self) -> None:
        line, _, rest = self._line.partition(b"\n")
        answer = await self._answer_to(bytes(line))
        if self._transport.is_closing():
            return
        if isinstance(answer, dict):
            self._say(answer)
            return
        self._transport.write(_line(answer.answer))
        self._end()
        attach(self._transport, answer.connection, bytes(rest))
        self._transport.resume_reading()

    async def _answer_to(self, line: bytes) -> Answer:
        commands = self._desk.commands
        try:
            request = dict(json.loads(line))
            command = commands[str(request["command"])]
        except (ValueError, KeyError, TypeError, RecursionError):
            words = " or ".join(f'{{"command": "{name}"}}' for name in commands)
            return {"error": f"write {words}"}
        try:
            person = await person_of(self._uid, request)
            if self._transport.is_closing():
                return {}
            return await command(request, person)
        except CommandError as error:
            return {"error": str(error)}
        except OSError as error:
            return {"error": f"cannot look up who asks: {error}"}

    def _say(self, answer: dict[str, Any]) -> None:
        self._transport.write(_line(answer))
        self._transport.close()


def _line(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"


def ask(path: Path, command: str, **arguments: Any) -> dict[str, Any]:
    """Return the daemon's answer to a command; `ControlError` where there is none."""
    sock, answer, _ = begin(path, command, **arguments)
    sock.close()
    return answer


def begin(
    path: Path, command: str, **arguments: Any
) -> tuple[socket.socket, dict[str, Any], bytes]:
    """Ask the daemon, and return the socket, the answer, and what has come after it already."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        answer, rest = _asked(sock, path, {"command": command, **_told(), **arguments})
        if "error" in answer:
            raise ControlError(str(answer["error"]))
        sock.settimeout(None)
    except BaseException:
        sock.close()
        raise
    return sock, answer, rest


def _asked(
    sock: socket.socket, path: Path, request: dict[str, Any]
) -> tuple[dict[str, Any], bytes]:
    sock.settimeout(2 * ANSWER_SECONDS)
    try:
        sock.connect(str(path))
        sock.sendall(_line(request))
        said = bytearray()
        while b"\n" not in said and (data := sock.recv(65536)):
            said += data
        line, _, rest = said.partition(b"\n")
        return dict(json.loads(line)), bytes(rest)
    except PermissionError:
        raise ControlError(f"{path}: permission denied: use sudo, or join group dialout") from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise NoDaemon(
            f"no daemon answers at {path}: systemctl status ttybridge says why"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise ControlError(f"the daemon at {path} did not answer: {error}") from None


def _told() -> dict[str, str]:
    """What the daemon cannot see by itself of who asks, as far as it is known here."""
    told = {}
    if "SUDO_USER" in os.environ:
        told["sudo_user"] = os.environ["SUDO_USER"]
    if "SSH_CONNECTION" in os.environ:
        told["by"] = "ssh"
        told["address"] = os.environ["SSH_CONNECTION"].partition(" ")[0]
    return told
