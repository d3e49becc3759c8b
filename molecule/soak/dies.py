#!/usr/bin/python3 -I
"""ttybridge that dies when it would say that it is ready: it has taken over all sessions then.

The link `real` beside this file leads to the program.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().with_name("real").resolve()))

from ttybridge.cli import main
from ttybridge.daemon import systemd


def _die(*lines: str) -> None:
    if "READY=1" in lines:
        raise RuntimeError("thrown at the start by the soak")


systemd.notify = _die
sys.exit(main())
