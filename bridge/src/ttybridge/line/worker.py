"""What a driver may take long for, done in a thread of its own: the event loop never waits for it.

An adapter that hangs keeps an ioctl for up to five seconds (ftdi_sio, cp210x), and opening takes
several of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

# Seconds that a thread waits for the next job before it ends: modem lines are asked for ten times a
# second.
LINGER_SECONDS = 1.0

# A job that takes so many seconds is not waited for: its driver hangs.
STUCK_SECONDS = 0.5

Then = Callable[[Exception | None], None]
"""Called in the event loop once a job has ended, with what it has raised."""


@dataclass(frozen=True, eq=False)
class _Job:
    run: Callable[[], None]
    then: Then
    holds: bool


class Worker:
    """Does jobs one after the other; the next begins once the `then` of the one before has run.

    Jobs run in a thread, all else in the event loop. While a job with `holds` runs, nobody else may
    touch the tty: `on_hold` is called when that begins and ends.
    """

    def __init__(self) -> None:
        self.on_hold: Callable[[bool], None] = lambda on: None
        self._jobs: deque[_Job] = deque()
        """The first is under way, while `_is_busy`."""
        self._is_busy = False
        self._holds = False
        self._began_at = 0.0
        self._lock = threading.Lock()
        """Between the event loop, which gives work, and a thread that is about to end."""
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._has_thread = False

    @property
    def is_busy(self) -> bool:
        """Whether a job is under way or waits."""
        return self._is_busy

    @property
    def busy_for(self) -> float:
        """Seconds since the job began that is under way; 0.0 where none is."""
        return time.monotonic() - self._began_at if self._is_busy else 0.0

    @property
    def is_stuck(self) -> bool:
        """Whether the driver does not answer."""
        return self.busy_for > STUCK_SECONDS

    def do(self, run: Callable[[], None], then: Then | None = None, holds: bool = False) -> None:
        """Do a job after those before it; without `then`, what it raises is logged."""
        self._jobs.append(_Job(run, then or _log, holds))
        if not self._is_busy:
            self._begin()

    def forget(self) -> None:
        """Drop the jobs that wait, and tell nobody of the one that is under way."""
        self.on_hold = lambda on: None
        under_way = self._jobs.popleft() if self._is_busy else None
        self._jobs.clear()
        if under_way:
            self._jobs.append(_Job(under_way.run, _log, under_way.holds))

    def _begin(self) -> None:
        self._is_busy, self._began_at = True, time.monotonic()
        job, loop = self._jobs[0], asyncio.get_running_loop()
        self._hold(job.holds)

        def work() -> None:
            error = None
            try:
                job.run()
            except Exception as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._ended, error)

        self._give(work)

    def _ended(self, error: Exception | None) -> None:
        job = self._jobs.popleft()
        try:
            if not (self._jobs and self._jobs[0].holds):
                self._hold(False)
            job.then(error)
        finally:
            self._is_busy = False
            if self._jobs:
                self._begin()

    def _hold(self, on: bool) -> None:
        if self._holds != on:
            self._holds = on
            self.on_hold(on)

    def _give(self, work: Callable[[], None]) -> None:
        with self._lock:
            self._work.put(work)
            if self._has_thread:
                return
            self._has_thread = True
        try:
            # A daemon: the end of the process does not wait for an adapter that hangs.
            threading.Thread(target=self._run, name="line", daemon=True).start()
        except RuntimeError:  # no more threads (TasksMax=): slow is better than not at all
            self._has_thread = False
            self._work.get_nowait()()

    def _run(self) -> None:
        while True:
            try:
                work = self._work.get(timeout=LINGER_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._work.empty():
                        self._has_thread = False
                        return
            else:
                work()


def _log(error: Exception | None) -> None:
    if error:
        log.error("a device cannot be set: %s", error, exc_info=error)
