"""The status socket: one JSON request a connection, one JSON answer, for root and the group."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAME = "control.sock"
ANSWER_SECONDS = 5.0


class ControlError(Exception):
    """The daemon cannot be asked; the message says why and what to do."""


def socket_path() -> Path:
    """Where the daemon's socket is: systemd's RuntimeDirectory=, else the user's own, else /run."""
    runtime = os.environ.get("RUNTIME_DIRECTORY")
    if runtime:
        return Path(runtime) / NAME
    if os.geteuid() != 0 and "XDG_RUNTIME_DIR" in os.environ:
        return Path(os.environ["XDG_RUNTIME_DIR"]) / "ttybridge" / NAME
    return Path("/run/ttybridge") / NAME


async def serve(path: Path, status: Callable[[], dict[str, Any]]) -> asyncio.Server:
    """Answer `{"command": "status"}` on a Unix socket until the server is closed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                request = await reader.readline()
                writer.write(json.dumps(_answer(request, status)).encode() + b"\n")
                await writer.drain()
        except (TimeoutError, OSError, ValueError):
            pass  # the asker hung, left or sent too long a line: nobody to answer
        finally:
            writer.close()

    return await asyncio.start_unix_server(answer, sock=_bind(path))


def _bind(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    path.chmod(0o660)
    return sock


def _answer(request: bytes, status: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        command = json.loads(request)["command"]
    except (ValueError, KeyError, TypeError):
        return {"error": 'write {"command": "status"}'}
    if command == "status":
        return status()
    return {"error": f"unknown command {command!r}"}


def ask(path: Path, command: str) -> dict[str, Any]:
    """Return the daemon's answer to a command; `ControlError` where there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(ANSWER_SECONDS)
        try:
            sock.connect(str(path))
            sock.sendall(json.dumps({"command": command}).encode() + b"\n")
            with sock.makefile("rb") as stream:
                answer = json.loads(stream.readline())
        except PermissionError:
            raise ControlError(
                f"{path}: permission denied: use sudo, or join group dialout"
            ) from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise ControlError(
                f"no daemon answers at {path}: systemctl status ttybridge says why"
            ) from None
        except (OSError, ValueError) as error:
            raise ControlError(f"the daemon at {path} did not answer: {error}") from None
    if "error" in answer:
        raise ControlError(str(answer["error"]))
    return dict(answer)
