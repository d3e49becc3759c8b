"""One tty through pyserial: open with its line settings, read, write, close. Never blocks."""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import struct
import termios
from typing import Any

import serial
from serial.serialposix import CMSPAR, TCGETS2

from ttybridge.portmap import Port

# One read takes what the line discipline holds; more would only be a larger empty buffer.
READ_SIZE = 65536

# A pty stays exclusive while its other end is open, so one killed daemon would lock out the next.
_PTY_MAJORS = range(136, 144)  # Linux, Documentation/admin-guide/devices.txt

_GONE = (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO)

_PARITIES = {
    "none": serial.PARITY_NONE,
    "even": serial.PARITY_EVEN,
    "odd": serial.PARITY_ODD,
    "mark": serial.PARITY_MARK,
    "space": serial.PARITY_SPACE,
}


class DeviceError(Exception):
    """The device cannot be used now; the message says why and what to do."""


class DeviceLost(Exception):
    """The device went away while it was open."""


class Device:
    """The device of one port, open or not."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._tty: serial.Serial | None = None
        self._fd = -1

    @property
    def is_open(self) -> bool:
        """Whether it can be read and written."""
        return self._tty is not None

    def exists(self) -> bool:
        """Whether something has the device's name; cheap enough to ask often."""
        return os.path.exists(self._port.path)

    def fileno(self) -> int:
        """The open tty's descriptor."""
        return self._fd

    def open(self) -> None:
        """Open the device and set the line; `DeviceError` where that fails."""
        path = self._port.path
        tty = serial.Serial()
        tty.port = path
        tty.exclusive = True
        try:
            _open_with(tty, _pyserial_settings(self._port))
            _finish(tty.fileno(), hangup=self._port.hangup)
        except (OSError, ValueError, termios.error) as error:
            tty.close()
            raise DeviceError(_words(path, error)) from error
        self._tty, self._fd = tty, tty.fileno()

    def line_settings(self) -> dict[str, Any]:
        """The line settings in force, by the port map's names; none where it is not open."""
        if not self.is_open:
            return {}
        try:
            return _line_settings(self._fd)
        except OSError:
            return {}

    def refused_settings(self) -> list[str]:
        """Line settings of the port that the device did not take, such as "bytesize 7"."""
        refused = []
        for name, actual in self.line_settings().items():
            wanted = getattr(self._port, name)
            # A clock is divided down to a baudrate; what is near enough works.
            near = name == "baudrate" and abs(actual - wanted) * 100 <= 3 * wanted
            if actual != wanted and not near:
                refused.append(f"{name} {wanted}")
        return refused

    def read(self) -> bytes:
        """Return what is there, b"" where nothing is; `DeviceLost` where the device is gone."""
        try:
            data = os.read(self._fd, READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError as error:
            raise DeviceLost(error.strerror) from error
        if not data:  # with VMIN=1 only a hung-up tty reads as empty
            raise DeviceLost("hung up")
        return data

    def write(self, data: bytes | memoryview) -> int:
        """Return how many bytes the tty took; `DeviceLost` where the device is gone."""
        try:
            return os.write(self._fd, data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise DeviceLost(error.strerror) from error

    def unsent(self) -> int:
        """Bytes that the tty took and the line has not yet carried (TIOCOUTQ)."""
        count = array.array("i", [0])
        try:
            fcntl.ioctl(self._fd, termios.TIOCOUTQ, count)
        except OSError:
            return 0
        return count[0]

    def close(self) -> None:
        """Close; what the tty still holds is discarded, since close would wait for it."""
        if self._tty is None:
            return
        tty, self._tty = self._tty, None
        with contextlib.suppress(termios.error, OSError):
            termios.tcflush(self._fd, termios.TCOFLUSH)
        with contextlib.suppress(OSError):
            tty.close()


def _pyserial_settings(port: Port) -> dict[str, Any]:
    return {
        "baudrate": port.baudrate,
        "bytesize": port.bytesize,
        "parity": _PARITIES[port.parity],
        "stopbits": port.stopbits,
        "rtscts": port.flow == "rtscts",
        "xonxoff": port.flow == "xonxoff",
    }


def _open_with(tty: serial.Serial, settings: dict[str, Any]) -> None:
    """Open with all settings; where the device refuses some, with the others.

    A console with one wrong setting may still help; a port that is not served never does.
    """
    tty.apply_settings(settings)
    try:
        tty.open()
        return
    except (termios.error, ValueError):
        plain = serial.Serial().get_settings()
        tty.apply_settings({name: plain[name] for name in settings})
        tty.open()
    for name, value in settings.items():
        before = getattr(tty, name)
        try:
            setattr(tty, name, value)
        except (termios.error, ValueError, OSError):
            # pyserial keeps the refused value and would fail the next setting with it.
            setattr(tty, name, before)


def _finish(fd: int, hangup: bool) -> None:
    """Settings that pyserial has no name for.

    VMIN=1 tells "nothing to read" (EAGAIN) from "hung up" (empty). TIOCEXCL keeps other programs
    from opening the device, also those that know nothing of pyserial's lock.
    """
    if os.major(os.fstat(fd).st_rdev) not in _PTY_MAJORS:
        fcntl.ioctl(fd, termios.TIOCEXCL)
    attributes = termios.tcgetattr(fd)
    attributes[6][termios.VMIN] = 1
    if hangup:
        attributes[2] |= termios.HUPCL
    else:
        attributes[2] &= ~termios.HUPCL
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def _line_settings(fd: int) -> dict[str, Any]:
    """What the kernel says of a tty: some drivers ignore what they cannot do (termios(3))."""
    iflag, _, cflag, _ = struct.unpack_from("4I", raw := fcntl.ioctl(fd, TCGETS2, bytes(44)))
    (baudrate,) = struct.unpack_from("I", raw, 40)
    parity = "none"
    if cflag & termios.PARENB:
        odd, stick = bool(cflag & termios.PARODD), bool(cflag & CMSPAR)
        parity = {(0, 0): "even", (1, 0): "odd", (0, 1): "space", (1, 1): "mark"}[odd, stick]
    bytesize = {termios.CS5: 5, termios.CS6: 6, termios.CS7: 7}.get(cflag & termios.CSIZE, 8)
    stopbits = 1.0
    if cflag & termios.CSTOPB:
        stopbits = 1.5 if bytesize == 5 else 2.0
    flow = "rtscts" if cflag & termios.CRTSCTS else "xonxoff" if iflag & termios.IXON else "none"
    return {
        "baudrate": baudrate,
        "bytesize": bytesize,
        "parity": parity,
        "stopbits": stopbits,
        "flow": flow,
    }


def _words(path: str, error: Exception) -> str:
    # pyserial wraps a termios.error, which is not an OSError, in an exception without errno.
    causes = (error, error.__context__)
    code = next((c.args[0] for c in causes if c and c.args and isinstance(c.args[0], int)), 0)
    if code in _GONE:
        return f"{path} does not answer: {os.strerror(code)}"
    if code == errno.EACCES:
        return f"{path}: permission denied: the daemon's user must be in the device's group"
    if code == errno.EPERM:
        return f"{path}: not permitted: the unit's DeviceAllow= must name this kind of device"
    if code in (errno.EBUSY, errno.EAGAIN):
        return f"{path} is in use by another program: end it (fuser {path} shows it)"
    if code in (errno.ENOTTY, errno.EISDIR):
        return f"{path} is not a serial device"
    return f"{path}: {os.strerror(code) if code else error}"
