"""The client that floods a port: a process of its own, so that it takes no time of the harness.

    python3 -m benchmarks.flooder FLOOD PORT [ADDRESS]

It says when it has begun, and at its end, by SIGTERM, how many bytes it has sent.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from benchmarks.floods import BEGUN, FLOODS, Flood
from benchmarks.measure import DEADLINE_SECONDS
from benchmarks.wire import Client, WireError

CHUNK = 256 * 1024

# Seconds in which the server notices that a connection that it has closed has ended.
RETRY_SECONDS = 0.05


class Flooder:
    """One client at a time; when the server closes its connection, the next one."""

    def __init__(self, flood: Flood, tcp_port: int, address: str) -> None:
        self._flood, self._tcp_port, self._address = flood, tcp_port, address
        self._chunk = flood.again * (CHUNK // len(flood.again))
        self.sent = 0

    def run(self, seconds: float) -> None:
        """Flood for `seconds` at most."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            client = Client(self._flood.protocol, self._tcp_port, Path(), self._address)
            with contextlib.closing(client), contextlib.suppress(ConnectionError):
                if self._flood.reads:
                    threading.Thread(target=_discard, args=(client.sock,), daemon=True).start()
                self._send(client.sock, end)
            time.sleep(RETRY_SECONDS)

    def _send(self, sock: socket.socket, end: float) -> None:
        sock.sendall(self._flood.first)
        while time.monotonic() < end:
            view = memoryview(self._chunk)
            while view:
                count = sock.send(view)
                if not self.sent:
                    print(BEGUN, flush=True)
                self.sent += count
                view = view[count:]


def _discard(sock: socket.socket) -> None:
    buffer = bytearray(CHUNK)
    with contextlib.suppress(OSError):
        while sock.recv_into(buffer):
            pass


def main() -> None:
    """Send the flood that the command line names."""
    flood = next(each for each in FLOODS if each.name == sys.argv[1])
    flooder = Flooder(flood, int(sys.argv[2]), *(sys.argv[3:] or ["127.0.0.1"]))

    def stop(_number: int, _frame: FrameType | None) -> None:
        sys.exit()

    signal.signal(signal.SIGTERM, stop)
    try:
        flooder.run(DEADLINE_SECONDS)
    except (WireError, OSError):
        if not flooder.sent:
            raise
        time.sleep(DEADLINE_SECONDS)  # the server hangs or has gone: the harness sees that
    finally:
        print(flooder.sent, flush=True)


if __name__ == "__main__":
    main()
