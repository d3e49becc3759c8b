#!/usr/bin/python3 -I
"""ttybridge with faults on request: SIGUSR1 and SIGUSR2 throw an exception.

The link `real` beside this file leads to the program.
"""

import asyncio
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().with_name("real").resolve()))

from ttybridge.cli import main


def _fail() -> None:
    raise RuntimeError("thrown in a callback by the soak")


def _throw_in_a_callback(*_: object) -> None:
    asyncio.get_running_loop().call_soon(_fail)


def _end() -> None:
    raise SystemExit("thrown out of the loop by the soak")


# By a callback: what a signal handler throws may land where it is swallowed, as in a finalizer.
def _throw_out_of_the_loop(*_: object) -> None:
    asyncio.get_running_loop().call_soon(_end)


signal.signal(signal.SIGUSR1, _throw_in_a_callback)
signal.signal(signal.SIGUSR2, _throw_out_of_the_loop)
sys.exit(main())
