"""One serial line at one TCP port, after the idea of pyserial's tcp_serial_redirect example.

A thread reads the line and sends to the client; a loop receives from the client and writes to the
line; one client at a time.

    python3 redirect.py DEVICE PORT
"""

from __future__ import annotations

import socket
import sys
import threading

import serial


class Redirect:
    """The line, and the client that is connected, if any."""

    def __init__(self, device: str) -> None:
        self._line = serial.Serial(device, 115200, timeout=1)
        self._client: socket.socket | None = None

    def from_line(self) -> None:
        """Send what the line brings to the client, without end."""
        while True:
            data = self._line.read(self._line.in_waiting or 1)
            if data and self._client:
                self._client.sendall(data)

    def serve(self, listener: socket.socket) -> None:
        """Write what clients send to the line, one client after the other."""
        while True:
            self._client, _ = listener.accept()
            self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := self._client.recv(1024):
                self._line.write(data)
            self._client.close()


def main() -> None:
    """Serve the line that the command line names."""
    redirect = Redirect(sys.argv[1])
    threading.Thread(target=redirect.from_line, daemon=True).start()
    with socket.create_server(("127.0.0.1", int(sys.argv[2]))) as listener:
        redirect.serve(listener)


if __name__ == "__main__":
    main()
