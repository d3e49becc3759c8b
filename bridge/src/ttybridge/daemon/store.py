"""systemd's file-descriptor store, seen from the event loop: FDSTORE=1 in sd_notify(3)."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Iterable

from ttybridge.daemon import systemd

log = logging.getLogger(__name__)

# Short, because all names go into one variable of the environment: with more than 128 KiB the next
# process could not start.
_NAME = re.compile("[a-z]([0-9a-f]+)")


class Store:
    """Descriptors that outlive this process; `names` are those that are in it already.

    systemd's socket takes about ten messages until systemd has read them. Then the others wait
    here: the event loop never does.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        numbers = [int(found[1], 16) for name in names if (found := _NAME.fullmatch(name))]
        self._last = max(numbers, default=0)
        self._waiting: deque[tuple[str, int | None]] = deque()
        """What systemd has not been told: a name, with the descriptor if it is to be kept."""
        self._sock = systemd.connected()
        self._sock.setblocking(False)
        self._waits = False

    def put(self, kind: str, descriptor: int) -> str:
        """Keep a descriptor from now on; return the name that it has there."""
        self._last += 1
        name = f"{kind[0]}{self._last:x}"
        self.keep(name, descriptor)
        return name

    def keep(self, name: str, descriptor: int) -> None:
        """Keep a descriptor by a name that is given."""
        self._tell(name, descriptor)

    def drop(self, name: str) -> None:
        """Keep it no more. Called before the descriptor is closed here."""
        for told in self._waiting:
            if told[0] == name and told[1] is not None:  # it never got there
                self._waiting.remove(told)
                return
        self._tell(name, None)

    def _tell(self, name: str, descriptor: int | None) -> None:
        self._waiting.append((name, descriptor))
        if not self._waits:
            self._send()

    def _send(self) -> None:
        while self._waiting:
            try:
                systemd.send_to_store(self._sock, *self._waiting[0])
            except BlockingIOError:
                self._wait()
                return
            except OSError as error:
                name, _ = self._waiting[0]
                log.warning("cannot tell systemd of descriptor %s: %s", name, error.strerror)
            self._waiting.popleft()
        self._go_on()

    def _wait(self) -> None:
        if not self._waits:
            self._waits = True
            asyncio.get_running_loop().add_writer(self._sock.fileno(), self._send)

    def _go_on(self) -> None:
        if self._waits:
            self._waits = False
            asyncio.get_running_loop().remove_writer(self._sock.fileno())

    def settle(self) -> None:
        """Return once systemd has been told everything; `OSError` where it does not answer."""
        self._go_on()
        self._sock.settimeout(systemd.BARRIER_SECONDS)
        while self._waiting:
            systemd.send_to_store(self._sock, *self._waiting.popleft())
        systemd.wait_until_read()
