"""Work that may block (a name server, a directory of users) beside the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(work: Callable[[], Result]) -> Result:
    """Return what `work` returns, or raise what it raises.

    It runs in a thread of its own: a stop would wait for the event loop's executor, and so for a
    silent server. Raises `OSError` where no thread can be started.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def run() -> None:
        deliver: Callable[[], None]
        try:
            deliver = functools.partial(done.set_result, work())
        except Exception as error:  # it belongs to who waits
            deliver = functools.partial(done.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            # Who waited may have given up.
            loop.call_soon_threadsafe(lambda: None if done.done() else deliver())

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError:
        raise OSError("cannot start a thread: raise the unit's TasksMax=") from None
    return await done
