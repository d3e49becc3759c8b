"""A connection that has begun as something else: a local program's, on a Unix socket."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from ttybridge.net.connection import Connection

_PID_UID_GID = struct.Struct("iII")


def user_of(sock: Any) -> int:
    """Return the user id of the program at the other end (SO_PEERCRED, unix(7))."""
    said = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PID_UID_GID.size)
    return int(_PID_UID_GID.unpack(said)[1])


def attach(transport: asyncio.Transport, connection: Connection, received: bytes) -> None:
    """Go on with a transport as a connection; `received` is what has come for it already."""
    transport.set_protocol(connection)
    connection.connection_made(transport)
    if received and not transport.is_closing():
        connection.data_received(received)
