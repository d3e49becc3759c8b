"""A daemon under a stand-in for systemd, which keeps its descriptors when it ends."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Any

from conftest import TIMEOUT, until
from process import Daemon


class Kept(Daemon):
    """A daemon under a service manager that keeps its descriptors over a restart."""

    def __init__(self, folder: Path, loop: str) -> None:
        super().__init__(folder, loop)
        self.store = self.given
        """What the service manager keeps: descriptors by their names."""
        self.entries: tuple[dict[str, Any], ...] = ()
        self.answers = True
        """Whether it says that it has read what was sent to it."""
        self._unanswered: list[int] = []
        self._awake = threading.Lock()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(folder / "notify"))
        self._thread = threading.Thread(target=self._keep)
        self._thread.start()

    async def serve(self, *entries: dict[str, Any]) -> None:
        """Start, with what is in the store."""
        self.entries = entries
        await self._has_read_all()
        await self.start(*entries, NOTIFY_SOCKET=self._sock.getsockname(), FDSTORE="4096")

    async def _has_read_all(self) -> None:
        """systemd reads what a process has said before it notices its end."""
        ours, theirs = os.pipe()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(self._sock.getsockname())
            socket.send_fds(sock, [b"BARRIER=1"], [theirs])
        os.close(theirs)
        await until(lambda: bool(select.select([ours], [], [], 0)[0]), "all of it is read")
        os.close(ours)

    async def stop(self) -> None:
        """End it; what it leaves is kept."""
        assert await self.end() == 0
        assert "Traceback" not in self.log, self.log

    async def restart(self) -> None:
        """As systemctl restart does."""
        await self.stop()
        await self.serve(*self.entries)

    async def kill(self) -> None:
        """As a crash does, after which systemd starts it again."""
        assert await self.end(SIGKILL) == -SIGKILL
        await self.serve(*self.entries)

    def has(self, kind: str) -> int:
        """How many descriptors of a kind are kept: record, listener, tty, client."""
        return sum(name[0] == kind[0] and name != "state" for name in [*self.store])

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """It reads nothing for the length of a block."""
        with self._awake:
            yield

    def _keep(self) -> None:
        while True:
            select.select([self._sock], [], [])
            with self._awake:
                pass
            data, received, _, _ = socket.recv_fds(self._sock, 4096, 8)
            if not data:
                return
            message = dict(line.split("=", 1) for line in data.decode().splitlines())
            if "FDSTORE" in message:
                (self.store[message["FDNAME"]],) = received
                continue
            if "BARRIER" in message and not self.answers:
                self._unanswered += received
                continue
            for descriptor in received:  # of a BARRIER
                os.close(descriptor)
            if "FDSTOREREMOVE" in message:
                os.close(self.store.pop(message["FDNAME"]))

    def forget(self) -> None:
        """As systemd does for a unit that is stopped for good."""
        for name in tuple(self.store):
            os.close(self.store.pop(name))

    def close(self) -> None:
        try:
            super().close()
        finally:
            with contextlib.suppress(OSError):  # not connected, it says, and does it
                self._sock.shutdown(socket.SHUT_RDWR)
            self._thread.join(TIMEOUT)
            self._sock.close()
            self.forget()
            for descriptor in self._unanswered:
                os.close(descriptor)


StartKept = Callable[..., Awaitable[Kept]]
