"""The serial line of a test: two ptys that socat joins."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

from .wait import Stream, wait_until

_TCGETS2 = 0x802C542A  # linux/asm-generic/ioctls.h: x86 and Arm


class Cable:
    """The server under test opens `near`; the test is the device at the far end."""

    def __init__(self, near: Path, near_fd: int, far_fd: int) -> None:
        self.near = near
        self._near_fd, self._far_fd = near_fd, far_fd
        self._far = Stream(far_fd)

    def write(self, data: bytes) -> None:
        """Send from the far end."""
        assert os.write(self._far_fd, data) == len(data)

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes that arrived at the far end, or fewer where no more come."""
        return self._far.read(size)

    def heard(self, seconds: float) -> bytes:
        """Return what arrived at the far end, or the first of what does within a time."""
        return self._far.heard(seconds)

    def baudrate(self) -> int:
        """The near tty's baudrate: `c_ospeed` of struct termios2."""
        settings = fcntl.ioctl(self._near_fd, _TCGETS2, bytes(44))
        return int(struct.unpack_from("I", settings, 40)[0])

    def stopbits(self) -> int:
        """The near tty's stop bits."""
        return 2 if termios.tcgetattr(self._near_fd)[2] & termios.CSTOPB else 1

    def xonxoff(self) -> bool:
        """Whether the near tty stops at XOFF."""
        return bool(termios.tcgetattr(self._near_fd)[0] & termios.IXON)


@contextlib.contextmanager
def laid_cable(folder: Path) -> Iterator[Cable]:
    """A cable for the length of a block."""
    near, far = folder / "near", folder / "far"
    ends = [f"pty,raw,echo=0,b9600,link={end}" for end in (near, far)]
    with subprocess.Popen(["socat", *ends]) as socat:
        try:
            wait_until(lambda: near.exists() and far.exists(), "socat's two ptys")
            # Held open, as a real tty is by its driver: socat leaves when a pty is closed by all.
            near_fd, far_fd = (os.open(end, os.O_RDWR | os.O_NOCTTY) for end in (near, far))
            tty.setraw(far_fd)
            yield Cable(near, near_fd, far_fd)
            os.close(near_fd)
            os.close(far_fd)
        finally:
            socat.kill()
