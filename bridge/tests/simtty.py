"""A pty that is a UART to this process: modem lines, parity, breaks, counters of errors, RS-485.

The daemon and pyserial ask fcntl, termios and os; here they are answered as a driver would answer
them. What a pty can do goes on to the pty. The far end of the line stays that of the adapter.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serial.serialposix import CMSPAR, TCGETS2, TCSETS2

from conftest import Adapter

DTR, RTS = termios.TIOCM_DTR, termios.TIOCM_RTS
CTS, DSR, CD, RI = termios.TIOCM_CTS, termios.TIOCM_DSR, termios.TIOCM_CD, termios.TIOCM_RI

# Places in struct serial_icounter_struct (linux/serial.h).
FRAME, OVERRUN, PARITY, BREAK, BUFFER_OVERRUN = range(6, 11)


class Request:
    """What is asked of a tty (asm-generic/ioctls.h) and termios does not name."""

    SBRK, CBRK, GICOUNT, GRS485, SRS485 = 0x5427, 0x5428, 0x545D, 0x542E, 0x542F
    GETS2, SETS2 = TCGETS2, TCSETS2


# What a pty refuses to change: it has eight bits and no parity.
_FRAME = termios.CSIZE | termios.PARENB | termios.PARODD | CMSPAR

_TTYS_MAJOR = 4  # Linux, Documentation/admin-guide/devices.txt


class Uart:
    """The near end of an adapter, as a UART."""

    def __init__(self, adapter: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inputs = 0
        """CTS, DSR, CD and RI, as the device at the far end has set them."""
        self.outputs = 0
        """DTR and RTS, as they are."""
        self.counts = [0] * 20
        """What TIOCGICOUNT says."""
        self.done: list[str] = []
        """What the daemon has asked of DTR, RTS and the break, in its order."""
        self.on_break: Callable[[], object] = lambda: None
        """Called when a break begins or ends."""
        self.rs485: list[tuple[int, ...]] = []
        """What the daemon has asked of RS-485."""
        self.serial = bytes(72)
        """Its struct serial_struct (linux/serial.h)."""
        self.missing: set[int] = set()
        """Requests that this driver does not know."""
        self._adapter = adapter
        self._frame = termios.CS8
        self._opened: set[int] = set()
        self._unsent = 0

        def replace(module: Any, name: str, by: Any) -> Any:
            original = getattr(module, name)
            monkeypatch.setattr(module, name, by)
            return original

        self._real_ioctl = replace(fcntl, "ioctl", self._ioctl)
        self._real_tcgetattr = replace(termios, "tcgetattr", self._tcgetattr)
        self._real_tcsetattr = replace(termios, "tcsetattr", self._tcsetattr)
        self._real_tcflush = replace(termios, "tcflush", self._tcflush)
        self._real_open = replace(os, "open", self._open)
        self._real_close = replace(os, "close", self._close)
        self._real_write = replace(os, "write", self._write)
        self._real_major = replace(os, "major", self._major)
        self._real_read = replace(adapter, "read", self._read)

    # The device at the far end.

    @property
    def frame(self) -> str:
        """Bits, parity and stop bits of a character, such as 8N1."""
        cflag = self._termios()[2]
        bits = {termios.CS5: 5, termios.CS6: 6, termios.CS7: 7}.get(cflag & termios.CSIZE, 8)
        odd, stick = bool(cflag & termios.PARODD), bool(cflag & CMSPAR)
        parity = {(0, 0): "E", (1, 0): "O", (0, 1): "S", (1, 1): "M"}[odd, stick]
        more = "1.5" if bits == 5 else "2"  # serial_core.c, uart_update_timeout
        stop_bits = more if cflag & termios.CSTOPB else "1"
        return f"{bits}{parity if cflag & termios.PARENB else 'N'}{stop_bits}"

    @property
    def low_latency(self) -> bool:
        """Whether it passes on at once what it has received (ASYNC_LOW_LATENCY)."""
        (flags,) = struct.unpack_from("I", self.serial, 16)
        return bool(flags & 1 << 13)

    async def send_break(self) -> None:
        """Break the line (n_tty.c, n_tty_receive_break)."""
        self.counts[BREAK] += 1
        iflag = self._termios()[0]
        if not iflag & (termios.IGNBRK | termios.BRKINT):
            await self._adapter.send(b"\xff\0\0" if iflag & termios.PARMRK else b"\0")

    async def send_garbled(self, byte: bytes) -> None:
        """Send a byte with a wrong parity bit (n_tty.c, n_tty_receive_parity_error)."""
        iflag, _, cflag, *_ = self._termios()
        checked = bool(cflag & termios.PARENB)
        self.counts[PARITY] += checked
        if not checked or not iflag & termios.INPCK:
            await self._adapter.send(byte)
        elif not iflag & termios.IGNPAR:
            await self._adapter.send(b"\xff\0" + byte if iflag & termios.PARMRK else b"\0")

    def _read(self) -> bytes:
        """What has come over the line: a UART with flow control sends nothing without CTS."""
        if self._termios()[2] & termios.CRTSCTS and not self.inputs & CTS:
            return b""
        data: bytes = self._real_read()
        self._unsent -= len(data)
        return data

    def _termios(self) -> list[Any]:
        return self._tcgetattr(self._adapter.near)

    # The daemon at the near end.

    def _is_ours(self, fd: int) -> bool:
        if self._adapter.far < 0:
            return False
        try:
            return os.fstat(fd).st_rdev == os.fstat(self._adapter.near).st_rdev
        except OSError:
            return False

    def _open(self, path: Any, *words: Any, **keys: Any) -> int:
        fd: int = self._real_open(path, *words, **keys)
        if isinstance(path, str) and Path(path) == self._adapter.path:
            if not self._opened:  # tty_port.c, tty_port_block_til_ready
                self.outputs, self._unsent = DTR | RTS, 0
            self._opened.add(fd)
        return fd

    def _close(self, fd: int) -> None:
        if fd in self._opened:
            self._opened.remove(fd)
            hangs_up = self._is_ours(fd) and self._termios()[2] & termios.HUPCL
            if not self._opened and hangs_up:
                self.outputs = 0
        self._real_close(fd)

    def _write(self, fd: int, data: Any) -> int:
        count: int = self._real_write(fd, data)
        if fd in self._opened:
            self._unsent += count
        return count

    def _major(self, device: int) -> int:
        ours = self._adapter.far >= 0 and device == os.fstat(self._adapter.near).st_rdev
        return _TTYS_MAJOR if ours else self._real_major(device)

    def _tcgetattr(self, fd: Any) -> list[Any]:
        attributes: list[Any] = self._real_tcgetattr(fd)
        if self._is_ours(fd):
            attributes[2] = attributes[2] & ~_FRAME | self._frame
        return attributes

    def _tcsetattr(self, fd: Any, when: int, attributes: list[Any]) -> None:
        if self._is_ours(fd):
            self._frame = attributes[2] & _FRAME
            attributes = [*attributes[:2], attributes[2] & ~_FRAME | termios.CS8, *attributes[3:]]
        self._real_tcsetattr(fd, when, attributes)

    def _tcflush(self, fd: Any, queue: int) -> None:
        self._real_tcflush(fd, queue)
        if self._is_ours(fd) and queue != termios.TCIFLUSH:
            while self._real_read():
                pass
            self._unsent = 0

    def _ioctl(self, fd: Any, request: int, argument: Any = 0, *more: Any) -> Any:
        if not self._is_ours(fd if isinstance(fd, int) else fd.fileno()):
            return self._real_ioctl(fd, request, argument, *more)
        if request in self.missing:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        match request:
            case termios.TIOCMGET:
                return struct.pack("I", self.inputs | self.outputs)
            case termios.TIOCMBIS | termios.TIOCMBIC:
                (lines,) = struct.unpack("I", argument)
                self._set_outputs(lines, on=request == termios.TIOCMBIS)
            case Request.SBRK | Request.CBRK:
                self.on_break()
                self.done.append("break" if request == Request.SBRK else "break ends")
            case Request.GICOUNT:
                return struct.pack("20i", *self.counts)
            case termios.TIOCOUTQ:
                argument[0] = self._unsent
            case Request.SRS485:
                self.rs485.append(tuple(array.array("i", bytes(argument))))
            case termios.TIOCGSERIAL:
                return self.serial.ljust(len(argument), b"\0")
            case termios.TIOCSSERIAL:
                self.serial = bytes(argument[: len(self.serial)])
            case Request.GRS485 | termios.TIOCEXCL:  # on a pty, that would outlast the test
                pass
            case Request.GETS2:
                return self._get_flags(self._real_ioctl(fd, request, argument, *more), argument)
            case Request.SETS2:
                return self._real_ioctl(fd, request, self._without_frame(argument))
            case _:
                return self._real_ioctl(fd, request, argument, *more)
        return 0

    def _set_outputs(self, lines: int, on: bool) -> None:
        self.outputs = self.outputs | lines if on else self.outputs & ~lines
        for bit, name in ((DTR, "dtr"), (RTS, "rts")):
            if lines & bit:
                self.done.append(f"{name} {'on' if on else 'off'}")

    # struct termios2 (asm-generic/termbits.h): the third number is the flags for control.

    def _get_flags(self, answer: Any, argument: Any) -> Any:
        """What is said of the flags: into an array, or else as an answer."""
        flags = argument if isinstance(argument, array.array) else array.array("I", answer)
        flags[2] = flags[2] & ~_FRAME | self._frame
        return answer if flags is argument else flags.tobytes()

    def _without_frame(self, argument: Any) -> bytes:
        """What a pty can do of the flags that are to be set."""
        flags = array.array("I", bytes(argument))
        self._frame = flags[2] & _FRAME
        flags[2] = flags[2] & ~_FRAME | termios.CS8
        return flags.tobytes()


def tty_settings(path: Path) -> dict[str, int | bool]:
    """What the kernel says of a tty, or a `Uart` in its place."""
    with path.open("rb", buffering=0) as tty:
        raw = fcntl.ioctl(tty, Request.GETS2, bytes(44))
    iflag, _, cflag, _ = struct.unpack_from("4I", raw)
    (speed,) = struct.unpack_from("I", raw, 40)
    return {
        "speed": speed,
        "two stop bits": bool(cflag & termios.CSTOPB),
        "rtscts": bool(cflag & termios.CRTSCTS),
        "xonxoff": bool(iflag & termios.IXON),
        "parity": bool(cflag & termios.PARENB),
        "eight bits": cflag & termios.CSIZE == termios.CS8,
    }
