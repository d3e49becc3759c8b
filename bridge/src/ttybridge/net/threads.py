"""Work that may block (a name server, a directory of users) beside the event loop."""

from __future__ import annotations

import asyncio
import contextlib
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

    def settle(result: Result | None, error: Exception | None) -> None:
        if done.done():  # who waited has given up
            return
        if error:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:  # it belongs to who waits
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, failure)

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError:
        raise OSError("cannot start a thread: raise the unit's TasksMax=") from None
    return await done
