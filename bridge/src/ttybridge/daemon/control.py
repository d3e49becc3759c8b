"""The control socket: one JSON request and answer per connection, for root and the group."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pwd
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

NAME = "control.sock"
SYSTEM_DIRECTORY = Path("/run/ttybridge")
ANSWER_SECONDS = 5.0

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


Command = Callable[[dict[str, Any], str], Awaitable[dict[str, Any]]]
Commands = Mapping[str, Command]
"""For each command the function that answers a request of somebody; the asker sees a
`CommandError`."""


class CommandError(Exception):
    """The daemon cannot do what a request asks; the message says why."""


async def serve(path: Path, commands: Commands) -> asyncio.Server:
    """Answer `{"command": ...}` on a Unix socket until the server is closed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                request = await reader.readline()
                uid = _user(writer.get_extra_info("socket"))
                writer.write(json.dumps(await _answer(request, uid, commands)).encode() + b"\n")
                await writer.drain()
        except (TimeoutError, OSError, ValueError, asyncio.CancelledError):
            # The asker hung, left or sent a line that is too long, or the daemon ends.
            writer.transport.abort()
        finally:
            writer.close()

    return await asyncio.start_unix_server(answer, sock=_bind(path))


def _bind(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        if other.connect_ex(str(path)) == 0:
            raise OSError(errno.EADDRINUSE, "another ttybridge answers there")
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        path.chmod(0o660)
    except OSError:
        sock.close()
        raise
    return sock


def _user(sock: socket.socket) -> int:
    """Return the user id of who asks (SO_PEERCRED, unix(7))."""
    pid_uid_gid = struct.Struct("iII")
    said = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, pid_uid_gid.size)
    return int(pid_uid_gid.unpack(said)[1])


def _asker(uid: int, asked: dict[str, Any]) -> str:
    """Return who asks, for the journal; root may say for whom."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid {uid}"
    sudo = asked.get("sudo_user")
    return f"{sudo} ({name})" if uid == 0 and isinstance(sudo, str) and sudo else name


async def _answer(request: bytes, uid: int, commands: Commands) -> dict[str, Any]:
    try:
        asked = json.loads(request)
        command = commands[str(asked["command"])]
    except (ValueError, KeyError, TypeError, RecursionError):
        words = " or ".join(f'{{"command": "{name}"}}' for name in commands)
        return {"error": f"write {words}"}
    try:
        return await command(asked, _asker(uid, asked))
    except CommandError as error:
        return {"error": str(error)}


def ask(path: Path, command: str, **arguments: str | float | None) -> dict[str, Any]:
    """Return the daemon's answer to a command; `ControlError` where there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(ANSWER_SECONDS)
        try:
            sock.connect(str(path))
            sudo = {"sudo_user": os.environ["SUDO_USER"]} if "SUDO_USER" in os.environ else {}
            sock.sendall(json.dumps({"command": command, **sudo, **arguments}).encode() + b"\n")
            with sock.makefile("rb") as stream:
                answer = json.loads(stream.readline())
        except PermissionError:
            raise ControlError(
                f"{path}: permission denied: use sudo, or join group dialout"
            ) from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise NoDaemon(
                f"no daemon answers at {path}: systemctl status ttybridge says why"
            ) from None
        except (OSError, ValueError) as error:
            raise ControlError(f"the daemon at {path} did not answer: {error}") from None
    if "error" in answer:
        raise ControlError(str(answer["error"]))
    return dict(answer)
