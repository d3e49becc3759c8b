"""The terminal of `ttybridge console`: each key at once, and put back at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from types import FrameType

# What ends the program without a word: then the terminal is put back first.
_DEADLY = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@contextlib.contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Have the terminal hand over each key at once for the length of a block.

    Also a signal that ends or stops the program puts the terminal back.
    """
    before = termios.tcgetattr(descriptor)

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)  # through every `finally`

    def stop(_number: int, _frame: FrameType | None) -> None:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        os.kill(os.getpid(), signal.SIGSTOP)
        tty.setraw(descriptor, termios.TCSADRAIN)  # it goes on

    handlers = {each: signal.signal(each, end) for each in _DEADLY}
    handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, stop)
    try:
        # Not TCSAFLUSH: what is typed already is meant for the device.
        tty.setraw(descriptor, termios.TCSADRAIN)
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal has gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def write(descriptor: int, data: bytes) -> None:
    """Write all bytes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
