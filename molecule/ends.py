"""What the two ends of the streams of molecule/soak share: far_end.py and sessions.py.

Each is a process that gets commands on its standard input and answers on its standard output, a
line of JSON each.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

# A sender writes a piece, and then waits: so a pause is measured to about this.
INTERVAL_SECONDS = 0.05

Command = Callable[..., Awaitable[dict[str, Any]]]


async def answer(commands: dict[str, Command]) -> None:
    """Do each command that is read, until there are no more: `{"do": NAME, ...}`."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        request = json.loads(line)
        print(json.dumps(await commands[request.pop("do")](**request)), flush=True)


def to_device(port: str) -> str:
    """The stream that a client of a port sends."""
    return f"{port} to device"


def to_client(port: str) -> str:
    """The stream that the device of a port sends."""
    return f"{port} to client"
