"""The journal stays readable: of lines that are alike, each port writes only some in a minute."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass

# Lines of one kind that a port may write in a minute.
MOST_LINES = 20
MINUTE_SECONDS = 60.0

log = logging.getLogger(__name__)


@dataclass
class _Window:
    """A minute of one kind of line."""

    ends: float
    lines: int = 0


class Limiter(logging.Filter):
    """Counts the lines of each kind and port, and says how many it has left out.

    A kind is the text before its values are filled in; the first value is the port. A record may
    bring its own limit as `most_a_minute`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[tuple[object, str], _Window] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is written."""
        port = record.args[0] if isinstance(record.args, tuple) and record.args else None
        kind, now = (str(port), str(record.msg)), time.monotonic()
        window = self._windows.get(kind)
        if window is None or now >= window.ends:
            self._forget_old(now)
            window = self._windows[kind] = _Window(now + MINUTE_SECONDS)
        window.lines += 1
        most = int(getattr(record, "most_a_minute", MOST_LINES))
        if window.lines == most + 1:
            with contextlib.suppress(RuntimeError):  # a thread, or before the event loop runs
                loop = asyncio.get_running_loop()
                loop.call_later(window.ends - now, self._tell, kind, window, record, most)
        return window.lines <= most

    def _forget_old(self, now: float) -> None:
        self._windows = {kind: one for kind, one in self._windows.items() if now < one.ends}

    def _tell(
        self, kind: tuple[object, str], window: _Window, record: logging.LogRecord, most: int
    ) -> None:
        if self._windows.get(kind) is window:
            del self._windows[kind]
        log.log(
            record.levelno,
            "%s (and %d more such lines in a minute, left out)",
            record.getMessage(),
            window.lines - most,
        )
