"""What one client has sent and the daemon has not handled yet. It is handled in turns.

However much a client sends, the other clients and all devices get their turns of the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from ttybridge.protocol.telnet import Data
from ttybridge.serve.session import Event, Session

# How long one client's commands may take in one turn of the event loop, in seconds.
TURN_SECONDS = 0.0003

# Input up to this many bytes is parsed at once, without a look at the clock.
QUICK_SIZE = 256

# Seconds between two checks whether a waiting event may go on.
EVENT_POLL_SECONDS = 0.005


class Inbox:
    """Bytes of a client, parsed and handled piece by piece.

    `do` handles an event. `must_wait` says whether an event has to wait for bytes that are still on
    their way. `after_turn` is called at the end of each turn, with whether something is left to do.
    """

    def __init__(
        self,
        session: Session,
        do: Callable[[Event], None],
        must_wait: Callable[[Event], bool],
        after_turn: Callable[[bool], None],
    ) -> None:
        self._session = session
        self._do = do
        self._must_wait = must_wait
        self._after_turn = after_turn
        self._loop = asyncio.get_running_loop()
        self._input: deque[bytes] = deque()
        self._parsed = 0
        """How much of the first piece of `_input` is parsed."""
        self._events: deque[Event] = deque()
        self._timer: asyncio.Handle | None = None
        self._is_held = False
        self.in_turn = False

    @property
    def busy(self) -> bool:
        """Whether something is left to do."""
        return bool(self._events or self._input or self._is_held)

    def hold(self, on: bool) -> None:
        """Handle nothing more until what is under way is done, or go on."""
        was_held, self._is_held = self._is_held, on
        if was_held and not on and not self.in_turn:
            self._take_turn()

    def add(self, data: bytes) -> None:
        """Handle bytes, now or in later turns."""
        if self._timer or self.in_turn or self._is_held:
            self._input.append(data)
            return
        if len(data) <= QUICK_SIZE:
            events = self._session.receive(data)
            if len(events) == 1 and isinstance(events[0], Data):  # by far the most common
                self._do(events[0])
                return
            self._events.extend(events)
        else:
            self._input.append(data)
        self._take_turn()

    def clear(self) -> None:
        """Drop what is not handled yet."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._is_held = False
        self._events.clear()
        self._input.clear()
        self._parsed = 0

    def _take_turn(self) -> None:
        self._timer, self.in_turn = None, True
        pause = self._work()
        self.in_turn = False
        if pause is not None:
            # No timer for the very next turn: those of uvloop count milliseconds.
            self._timer = (
                self._loop.call_later(pause, self._take_turn)
                if pause
                else self._loop.call_soon(self._take_turn)
            )
        self._after_turn(self.busy)

    def _work(self) -> float | None:
        """Return the seconds to pause before the next turn, None where there is none for now."""
        began = time.monotonic()  # uvloop's own time moves only between turns
        while self._may_go_on:
            if not self._events:
                self._events.extend(self._session.receive(self._next_piece()))
            elif self._must_wait(self._events[0]):
                return EVENT_POLL_SECONDS
            else:
                self._do(self._events.popleft())
            if time.monotonic() - began > TURN_SECONDS and self._may_go_on:
                return 0.0
        return None

    @property
    def _may_go_on(self) -> bool:
        return bool(self._events or self._input) and not self._is_held

    def _next_piece(self) -> bytes:
        data, start = self._input[0], self._parsed
        size = self._session.slice_size(data, start)
        self._parsed += size
        if self._parsed == len(data):
            self._input.popleft()
            self._parsed = 0
        return data if size == len(data) else data[start : start + size]
