"""What the daemon tells systemd: sd_notify(3) and the watchdog."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time

log = logging.getLogger(__name__)


def notify(*lines: str) -> None:
    """Send state to the service manager; without one (NOTIFY_SOCKET unset) do nothing."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    if path.startswith("@"):  # abstract socket
        path = "\0" + path[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto("\n".join(lines).encode(), path)
        except OSError as error:  # the ports are served all the same
            log.warning("systemd is not told %s: %s", lines[0], error.strerror)


def reloading() -> None:
    """Say that a reload begins; READY=1 ends it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


async def keep_watchdog() -> None:
    """Tell the watchdog that the event loop runs, as often as systemd asks (WATCHDOG_USEC)."""
    interval = int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000
    while interval:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval / 2)
