"""What the daemon tells systemd, and what systemd keeps for it: sd_notify(3), sd_listen_fds(3)."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import select
import socket
import stat
import time
from collections.abc import Sequence

log = logging.getLogger(__name__)


# How long systemd may take to say that it has what was sent to it, in seconds.
BARRIER_SECONDS = 5.0

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START


def notify(*lines: str) -> None:
    """Send state to the service manager; without one (NOTIFY_SOCKET unset) do nothing."""
    try:
        _send(lines)
    except OSError as error:  # the ports are served anyway
        log.warning("cannot tell systemd %s: %s", lines[0], error.strerror)


def keeps_descriptors() -> bool:
    """Whether the service manager has a file-descriptor store for this process ($FDSTORE)."""
    return bool(os.environ.get("NOTIFY_SOCKET")) and os.environ.get("FDSTORE", "0") != "0"


def send_to_store(sock: socket.socket, name: str, descriptor: int | None) -> None:
    """Have a descriptor kept by a name for the next process; with None keep it no more."""
    if descriptor is None:
        sock.send(f"FDSTOREREMOVE=1\nFDNAME={name}".encode())
        return
    # Do not poll connections: one that has been reset may still hold unread bytes.
    polled = not stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    words = f"FDSTORE=1\nFDNAME={name}\nFDPOLL={polled:d}"
    socket.send_fds(sock, [words.encode()], [descriptor])


def wait_until_read() -> None:
    """Return once the service manager has handled all messages; else raise `OSError`."""
    ours, theirs = os.pipe()
    try:
        try:
            _send(["BARRIER=1"], [theirs])
        finally:
            os.close(theirs)
        barrier = select.poll()
        barrier.register(ours, 0)
        if not barrier.poll(BARRIER_SECONDS * 1000):  # systemd closes its end when it gets there
            raise TimeoutError(errno.ETIMEDOUT, "systemd does not answer")
    finally:
        os.close(ours)


def kept() -> dict[str, int]:
    """Return the descriptors that were kept for this process, by name; once."""
    environment = [os.environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES")]
    pid, count, names = environment
    if pid != str(os.getpid()):
        return {}
    descriptors = range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count))
    found = dict(zip(names.split(":"), descriptors, strict=True))
    for descriptor in found.values():
        os.set_inheritable(descriptor, False)
    return found


def connected() -> socket.socket:
    """Return a socket on which the service manager listens ($NOTIFY_SOCKET)."""
    path = os.environ["NOTIFY_SOCKET"]
    if path.startswith("@"):  # abstract socket
        path = "\0" + path[1:]
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def _send(lines: Sequence[str], descriptors: Sequence[int] = ()) -> None:
    if not os.environ.get("NOTIFY_SOCKET"):
        return
    with connected() as sock:
        socket.send_fds(sock, ["\n".join(lines).encode()], descriptors)


def reloading() -> None:
    """Say that a reload begins; READY=1 ends it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


async def keep_watchdog() -> None:
    """Tell the watchdog that the event loop runs, as often as systemd asks (WATCHDOG_USEC)."""
    interval = int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000
    while interval:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval / 2)
