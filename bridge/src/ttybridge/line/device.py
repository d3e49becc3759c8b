"""One tty through pyserial: open with its line settings, read, write, close.

Reading, writing, and asking for what the tty holds and for line errors never block: the kernel
answers from memory. All else may wait for the adapter at the other end of the USB cable, so it is
a job for the device's worker. While a driver changes line settings, the kernel keeps everybody else
out: whoever read, wrote, polled or asked for the settings would wait as well (tty_ioctl.c,
`tty_set_termios`).
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import math
import os
import struct
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import serial
from serial.rs485 import RS485Settings
from serial.serialposix import CMSPAR, TCGETS2, TCSETS2

from ttybridge.line.lock import PTY_MAJORS, Holder, Lock, who_has_open
from ttybridge.line.worker import Worker
from ttybridge.model.ports import LINE_SETTINGS, Port, Rs485, character_seconds

# One read takes all that the line discipline holds; a larger buffer would stay empty.
READ_SIZE = 65536

# asm-generic/ioctls.h
_TIOCSBRK, _TIOCCBRK, _TIOCGICOUNT = 0x5427, 0x5428, 0x545D
_TIOCSRS485 = 0x542F
# Room for struct serial_struct (linux/serial.h), the place of its flags, and one of them.
_SERIAL_SIZE, _SERIAL_FLAGS, _ASYNC_LOW_LATENCY = 128, 16, 1 << 13
_NO_RS485 = bytes(32)  # struct serial_rs485 (linux/serial.h) without SER_RS485_ENABLED

# struct termios2 (asm-generic/termbits.h): the flags for input, output, control and local, the line
# discipline, the control characters, both speeds.
_TERMIOS2 = struct.Struct("4IB19s2I")
_N_TTY = 0
_LINE_FLAGS = (
    termios.CBAUD
    | termios.CSIZE
    | termios.CSTOPB
    | termios.PARENB
    | termios.PARODD
    | CMSPAR
    | termios.CRTSCTS
)
# The kernel's defaults (INIT_C_CC in asm-generic/termios.h), in the order of their places: intr,
# quit, erase, kill, eof, time, min, swtc, start, stop, susp, eol, reprint, discard, werase, lnext.
_CONTROL_CHARACTERS = b"\x03\x1c\x7f\x15\x04\x00\x01\x00\x11\x13\x1a\x00\x12\x0f\x17\x16".ljust(
    19, b"\0"
)

# Of struct serial_icounter_struct (linux/serial.h): our names and the places of the counts.
_COUNTS = {"frame": 6, "overrun": 7, "parity": 8, "break": 9, "buffer_overrun": 10}


ModemLine = Literal["dtr", "rts"]
_MODEM_LINES = {"dtr": termios.TIOCM_DTR, "rts": termios.TIOCM_RTS}

# Seconds between two searches for who has a device open that cannot be opened: each looks at every
# process.
SEARCH_SECONDS = 10.0

# Seconds that DTR and RTS are down at least. A modem waits as long as its register S25 says before
# it hangs up: 0.05 s by default.
HANGUP_SECONDS = 0.25

_BUSY = (errno.EBUSY, errno.EAGAIN)
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


@dataclass
class Line:
    """How the line is set, or will be while the device is away; settings by the port map's names.

    It begins as the port map says; RFC 2217 clients change it.
    """

    settings: dict[str, Any]
    dtr: bool
    rts: bool
    break_on: bool = False

    @classmethod
    def of(cls, port: Port, hung_up: bool = False) -> Line:
        """The line as the port map says, or with DTR and RTS down."""
        settings = {name: getattr(port, name) for name in LINE_SETTINGS}
        # The kernel raises both when a tty is opened, so `keep` means on.
        dtr, rts = port.dtr != "off", port.rts != "off"
        return cls(settings, dtr=dtr and not hung_up, rts=rts and not hung_up)


class Device:
    """The device of one port, open or not."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._tty: serial.Serial | None = None
        self._fd = -1
        self.worker = Worker()
        """Does what may block: the methods that call themselves a job."""
        self.worker.on_hold = self._hold
        self.on_ready: Callable[[bool], None] = lambda ready: None
        """Called when an open device can no longer be read and written, and when it can again."""
        self.is_open = False
        """Whether the port has it."""
        self.is_ready = False
        """Whether it can be read and written now: it is open, and its line is not being set."""
        self._known: dict[str, Any] = {}
        """The line settings that the kernel named when it was last asked."""
        self._refused_rs485 = False
        self._lock = Lock()
        self.holder: Holder | None = None
        """Who uses the device, if it cannot be opened because another program uses it."""
        self._another_port_has_it = False
        self._searched_at = -math.inf
        self.line = Line.of(port)
        self.configured = Line.of(port)
        """How the line is while no RFC 2217 client changes it."""
        self.hung_up = False
        """Whether DTR and RTS are to be down, as nobody is there."""
        self._down_since = -math.inf
        """When one of them was dropped, by CLOCK_MONOTONIC."""

    def exists(self) -> bool:
        """Whether something has the device's name; cheap enough to ask often."""
        return os.path.exists(self._port.path)

    def is_another(self) -> bool:
        """Whether its name leads to another device than the one that is open."""
        with contextlib.suppress(OSError):
            return self.is_open and os.fstat(self._fd).st_rdev != os.stat(self._port.path).st_rdev
        return False

    def fileno(self) -> int:
        """The open tty's descriptor."""
        return self._fd

    def _hold(self, on: bool) -> None:
        if self.is_open:
            self.is_ready = not on
            self.on_ready(self.is_ready)

    def change(self, port: Port) -> None:
        """Go on with another entry, whose device is the same. A job that keeps others out.

        The line settings stay: line control (comport.py) knows when they may change. DTR and RTS
        stay until the device is opened again.
        """
        before, self._port = self._port, port
        if self._tty is None:
            return
        if port.rs485 != before.rs485:
            self._refused_rs485 = not _change_rs485(self._tty, port.rs485)
        if port.low_latency != before.low_latency:
            _set_low_latency(self._fd, port.low_latency)
        with contextlib.suppress(OSError):  # gone: the next read says so
            _set_other_flags(self._fd, port)

    def _configure_modem_lines(self) -> None:
        """DTR and RTS as the entry says now, where no client has set them otherwise."""
        now, before = Line.of(self._port, self.hung_up), self.configured
        if self.line.dtr == before.dtr:
            self.line.dtr = now.dtr
        if self.line.rts == before.rts:
            self.line.rts = now.rts
        before.dtr, before.rts = now.dtr, now.rts

    def open(self) -> None:
        """Open the device and set the line; `DeviceError` where that fails."""
        self.acquire()
        self.use()

    def acquire(self) -> None:
        """The part of `open` that is a job: after it, `use` the device, or `close` it."""
        path = self._port.path
        # Before the tty is touched: to open it may reset what is at its other end.
        if holder := self._lock.take(path):
            self.holder = holder
            raise DeviceError(_busy_words(path, holder))
        self._configure_modem_lines()
        tty = serial.Serial()
        tty.port = path
        tty.exclusive = True
        tty.dtr, tty.rts = self.line.dtr, self.line.rts
        try:
            _open_with(tty, _pyserial_settings(self.line.settings))
            self._refused_rs485 = not _set_rs485(tty, self._port.rs485)
            _set_other_flags(tty.fileno(), self._port)
            _set_low_latency(tty.fileno(), self._port.low_latency)
            _keep_to_ourselves(tty.fileno())
        except (OSError, ValueError, termios.error) as error:
            tty.close()
            self._not_opened(path, error)
            raise DeviceError(_words(path, error, self.holder)) from error
        self.holder = None
        self._tty, self._fd = tty, tty.fileno()
        self._ask_for_settings()
        if self.line.break_on:
            self._ioctl(_TIOCSBRK)

    def use(self) -> None:
        """Read and write it from now on."""
        self.is_open = self.is_ready = True

    def disuse(self) -> None:
        """Touch it no more: `close` is to follow, in the order of jobs."""
        self.is_open = self.is_ready = False

    def _not_opened(self, path: str, error: Exception) -> None:
        """Find out who has the tty, if somebody has; give up its lock file."""
        if _code(error) not in _BUSY:
            self.holder = None
            self._lock.give_up()
            return
        now, known = time.monotonic(), self.holder is not None and not self.holder.is_gone
        if not known or now - self._searched_at > SEARCH_SECONDS:
            self._searched_at = now
            found = who_has_open([path])[path]
            self.holder = next(iter(found), Holder())
            self._another_port_has_it = {each.pid for each in found} == {os.getpid()}
        # Another port has opened the tty since this one wrote the file: now it is that port's.
        self._lock.give_up(keep=self._another_port_has_it)

    @property
    def lock_problem(self) -> str:
        """Why other programs cannot see that the device is in use; "" where they can."""
        return self._lock.problem if self.is_open else ""

    def hand_over(self) -> None:
        """The next process goes on with the open tty, and writes a lock file of its own."""
        self._lock.release()

    def adopt(self, fd: int) -> None:
        """Go on with the open tty of an earlier process, which has left it as `line` says.

        If the device's name now leads to another device, close the tty and raise `DeviceError`.
        `complete` is to follow.
        """
        path = self._port.path
        try:
            if os.fstat(fd).st_rdev != os.stat(path).st_rdev:
                raise DeviceError(f"{path} is another device now")
            self._fd = fd
            self.use()
            # A process that was killed may have set the line and not said so.
            actual = {name: self.setting(name) for name in LINE_SETTINGS}
            self._tty = _opened(fd, _pyserial_settings(actual))
        except BaseException as error:
            self.disuse()
            os.close(fd)
            if isinstance(error, OSError):
                raise DeviceError(_words(path, error, None)) from error
            raise
        if holder := self._lock.take(path):
            self._lock.problem = f"{holder} has written one"

    def complete(self) -> None:
        """Set what an earlier process may have left otherwise: it may be an older version.

        A job that keeps others out.
        """
        if self._tty is None:
            return
        with contextlib.suppress(OSError):  # gone: the next read says so
            _set_other_flags(self._fd, self._port)
        _set_low_latency(self._fd, self._port.low_latency)
        self._refused_rs485 = not _set_rs485(self._tty, self._port.rs485)
        # A break ends in time only while somebody counts: the earlier process may have been killed.
        self._ioctl(_TIOCSBRK if self.line.break_on else _TIOCCBRK)

    @property
    def bytes_per_second(self) -> float:
        """What the line carries, with a start and a stop bit for each byte."""
        return float(self.line.settings["baudrate"]) / 10

    @property
    def character_seconds(self) -> float:
        """How long the line takes for a character as it is set now, in seconds."""
        return character_seconds(self.line.settings)

    def line_settings(self) -> dict[str, Any]:
        """The current line settings by the port map's names; empty while it is not open."""
        if self.is_ready:
            self._ask_for_settings()
        return self._known if self.is_open else {}

    def _ask_for_settings(self) -> None:
        try:
            self._known = _line_settings(self._fd)
        except OSError:
            self._known = {}

    def refused_settings(self) -> list[str]:
        """Line settings that the device did not take, such as "bytesize 7"."""
        refused = [
            f"{name} {self.line.settings[name]}"
            for name, actual in self.line_settings().items()
            if not _near(name, actual, self.line.settings[name])
        ]
        return [*refused, "rs485"] if self._refused_rs485 else refused

    def setting(self, name: str) -> Any:
        """The current line setting; while the device is away, the one that it will get.

        If the clock only comes near a baudrate, the answer is the baudrate that was asked for:
        clients take any other answer for a refusal.
        """
        wanted = self.line.settings[name]
        actual = self.line_settings().get(name, wanted)
        return wanted if _near(name, actual, wanted) else actual

    def has(self, name: str, value: Any) -> bool:
        """Whether a line setting is wanted already, and the device has it."""
        return bool(self.line.settings[name] == value == self.setting(name))

    def set(self, name: str, value: Any) -> None:
        """Change a line setting; what the device refuses stays as it is.

        A job that keeps others out.
        """
        if self._tty is not None:
            self._ask_for_settings()
        current = self.setting(name)
        self.line.settings[name] = value
        if current == value or not self.is_open or self._tty is None:
            return
        _set_each(self._tty, _pyserial_settings(self.line.settings))
        with contextlib.suppress(OSError):  # gone: the next read says so
            _set_other_flags(self._fd, self._port)
        self._ask_for_settings()
        actual = self._known.get(name, value)
        self.line.settings[name] = value if _near(name, actual, value) else actual

    def set_modem_line(self, name: ModemLine, on: bool) -> None:
        """Raise or drop DTR or RTS; a tty without modem lines only remembers it. A job."""
        if getattr(self.line, name) == on:
            return
        setattr(self.line, name, on)
        if not on:
            self._down_since = time.monotonic()
        bits = struct.pack("I", _MODEM_LINES[name])
        self._ioctl(termios.TIOCMBIS if on else termios.TIOCMBIC, bits)

    def set_break(self, on: bool) -> None:
        """Begin or end a break (TIOCSBRK, TIOCCBRK). A job."""
        if self.line.break_on != on:
            self.line.break_on = on
            self._ioctl(_TIOCSBRK if on else _TIOCCBRK)

    def restore(self) -> None:
        """Set the line back to its configuration. A job that keeps others out."""
        configured = self.configured
        self.set_break(False)
        for name in LINE_SETTINGS:
            self.set(name, configured.settings[name])
        # With what the device refuses, so that status says it.
        self.line.settings = {**configured.settings}
        self.set_modem_line("dtr", configured.dtr)
        self.set_modem_line("rts", configured.rts)

    def pick_up(self) -> None:
        """Set DTR and RTS as configured once the device has seen them down.

        A job that keeps others out: nothing is sent to a device that hangs up.
        """
        self.set_modem_line("dtr", False)
        self.set_modem_line("rts", False)
        if self._tty is not None:
            time.sleep(max(0.0, self._down_since + HANGUP_SECONDS - time.monotonic()))
        self.set_modem_line("dtr", self.configured.dtr)
        self.set_modem_line("rts", self.configured.rts)

    def modem_lines(self) -> int | None:
        """TIOCM_CTS, TIOCM_DSR, TIOCM_RI and TIOCM_CD as they are; None where there are none.

        A job: ftdi_sio and cp210x ask the adapter each time.
        """
        bits = self._ioctl(termios.TIOCMGET, bytes(4))
        return struct.unpack("I", bits)[0] if bits else None

    def line_errors(self) -> dict[str, int] | None:
        """Errors and breaks since the driver took the device; None where it does not count."""
        counts = self._ioctl(_TIOCGICOUNT, bytes(80)) if self.is_open else None
        if not counts:
            return None
        numbers = struct.unpack("20i", counts)
        return {name: numbers[place] for name, place in _COUNTS.items()}

    def purge(self, received: bool, unsent: bool) -> None:
        """Discard what the tty has received or not yet sent (tcflush), after jobs under way."""
        queue = {
            (True, False): termios.TCIFLUSH,
            (False, True): termios.TCOFLUSH,
            (True, True): termios.TCIOFLUSH,
        }.get((received, unsent))
        if self.is_ready and queue is not None:
            self._flush(queue)
        elif self.is_open and queue is not None:
            self.worker.do(partial(self._flush, queue), holds=True)

    def _flush(self, queue: int) -> None:
        if self._tty is not None:
            with contextlib.suppress(termios.error):
                termios.tcflush(self._fd, queue)

    def _ioctl(self, request: int, argument: bytes | int = 0) -> bytes | None:
        """Return the answer, None where the device is away or has no such thing (a pty)."""
        if self._tty is None:
            return None
        try:
            answer = fcntl.ioctl(self._fd, request, argument)
        except OSError:
            return None
        return answer if isinstance(answer, bytes) else None

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

    @property
    def tells_unsent(self) -> bool:
        """Whether `unsent` is right: a pty says that it holds nothing, whatever it holds."""
        return os.major(os.fstat(self._fd).st_rdev) not in PTY_MAJORS

    def unsent(self) -> int:
        """Bytes that the tty took and the line has not yet carried (TIOCOUTQ)."""
        count = array.array("i", [0])
        try:
            fcntl.ioctl(self._fd, termios.TIOCOUTQ, count)
        except OSError:
            return 0
        return count[0]

    def close(self) -> None:
        """Close and discard what the line has not carried, since close(2) would wait for it.

        A job: with `hangup` at 1200 baud and below, it may take two seconds. Before it: `disuse`.
        """
        self.disuse()
        if self._tty is None:
            return
        # Only with unsent bytes: on a pty, where close never waits, tcflush would discard what the
        # other end has not read yet.
        if self.unsent():
            self._flush(termios.TCOFLUSH)
        tty, self._tty = self._tty, None
        unlock(self._fd)
        with contextlib.suppress(OSError):
            tty.close()
        self._lock.release()


def unlock(fd: int) -> None:
    """Let other programs use a tty that is about to be closed."""
    with contextlib.suppress(OSError):
        # If another program has it open too, it stays exclusive when this one closes it.
        fcntl.ioctl(fd, termios.TIOCNXCL)
    with contextlib.suppress(OSError):
        # The service manager may keep it open for a moment, and with it the lock.
        fcntl.flock(fd, fcntl.LOCK_UN)


def _pyserial_settings(line: dict[str, Any]) -> dict[str, Any]:
    return {
        "baudrate": line["baudrate"],
        "bytesize": line["bytesize"],
        "parity": _PARITIES[line["parity"]],
        "stopbits": line["stopbits"],
        "rtscts": line["flow"] == "rtscts",
        "xonxoff": line["flow"] == "xonxoff",
    }


def _open_with(tty: serial.Serial, settings: dict[str, Any]) -> None:
    """Open with all settings; if the device refuses some, with the others.

    A console with one wrong setting may still help; a port that is not served does not.
    """
    tty.apply_settings(settings)
    try:
        tty.open()
    except (termios.error, ValueError):
        plain = serial.Serial().get_settings()
        tty.apply_settings({name: plain[name] for name in settings})
        tty.open()
        _set_each(tty, settings)


def _opened(fd: int, settings: dict[str, Any]) -> serial.Serial:
    """Wrap a tty that is open already. pyserial's open() would discard what it has received."""
    tty = serial.Serial()
    tty.apply_settings(settings)
    tty.fd = fd
    tty.pipe_abort_read_r, tty.pipe_abort_read_w = os.pipe()
    tty.pipe_abort_write_r, tty.pipe_abort_write_w = os.pipe()
    tty.is_open = True
    return tty


def _set_each(tty: serial.Serial, settings: dict[str, Any]) -> None:
    """Set what differs, one setting at a time; what the device refuses stays as it is."""
    for name, value in settings.items():
        before = getattr(tty, name)
        if before == value:
            continue
        try:
            setattr(tty, name, value)
        except (termios.error, ValueError, OSError, OverflowError):
            # pyserial keeps the refused value and would fail the next setting with it.
            with contextlib.suppress(termios.error, ValueError, OSError):
                setattr(tty, name, before)


def _set_rs485(tty: serial.Serial, rs485: Rs485 | None) -> bool:
    """Return whether the device does RS-485 as it is asked to."""
    if rs485 is None:
        return True
    settings = RS485Settings(
        rts_level_for_tx=rs485.rts_on_send,
        rts_level_for_rx=not rs485.rts_on_send,
        loopback=rs485.rx_during_tx,
        # pyserial wants seconds and cuts off what is below a millisecond.
        delay_before_tx=(rs485.delay_before_send + 0.5) / 1000,
        delay_before_rx=(rs485.delay_after_send + 0.5) / 1000,
    )
    try:
        tty.rs485_mode = settings
    except (ValueError, OSError):
        tty.rs485_mode = None
        return False
    return True


def _change_rs485(tty: serial.Serial, rs485: Rs485 | None) -> bool:
    """Like `_set_rs485` for an open tty: without RS-485, the driver ends it."""
    with contextlib.suppress(OSError, ValueError, termios.error):  # it has none, or is gone
        if rs485 is not None:
            return _set_rs485(tty, rs485)
        tty.rs485_mode = None  # this leaves the driver as it is
        fcntl.ioctl(tty.fileno(), _TIOCSRS485, _NO_RS485)
    return rs485 is None


def _set_low_latency(fd: int, on: bool) -> None:
    """Let the driver pass on at once what it receives (ASYNC_LOW_LATENCY), where it can.

    ftdi_sio then sets the adapter's latency timer to 1 ms; most other drivers always do so.
    """
    with contextlib.suppress(OSError):  # it has no such setting, or is gone
        state = fcntl.ioctl(fd, termios.TIOCGSERIAL, bytes(_SERIAL_SIZE))
        (flags,) = struct.unpack_from("I", state, _SERIAL_FLAGS)
        wanted = flags | _ASYNC_LOW_LATENCY if on else flags & ~_ASYNC_LOW_LATENCY
        if wanted != flags:
            changed = bytearray(state)
            struct.pack_into("I", changed, _SERIAL_FLAGS, wanted)
            fcntl.ioctl(fd, termios.TIOCSSERIAL, bytes(changed))


def _near(name: str, actual: Any, wanted: Any) -> bool:
    """Whether a line setting is as wanted; baudrates divide a clock, so 3 % is near enough."""
    if name == "baudrate":
        return bool(abs(actual - wanted) * 100 <= 3 * wanted)
    return bool(actual == wanted)


def _keep_to_ourselves(fd: int) -> None:
    """Keep other programs out (TIOCEXCL), also those that ignore locks."""
    # A pty stays so while its other end is open: a killed daemon would lock the next one out.
    if os.major(os.fstat(fd).st_rdev) not in PTY_MAJORS:
        fcntl.ioctl(fd, termios.TIOCEXCL)


def _set_other_flags(fd: int, port: Port) -> None:
    """Set all flags that pyserial does not set: another program may have changed them.

    What pyserial sets stays: the bits of the line settings, and that XON and XOFF count. A break is
    no byte (IGNBRK): the driver counts it. A byte with a parity or framing error passes as it was
    received (no INPCK), and is counted. VMIN=1 tells "nothing to read" (EAGAIN) from "hung up"
    (empty). The control characters are those of a new tty: XON and XOFF need theirs, and the next
    program finds the others.
    """
    raw = fcntl.ioctl(fd, TCGETS2, bytes(_TERMIOS2.size))
    iflag, _, cflag, _, _, _, ispeed, ospeed = _TERMIOS2.unpack(raw)
    iflag = termios.IGNBRK | iflag & (termios.IXON | termios.IXOFF)
    cflag = cflag & _LINE_FLAGS | termios.CREAD
    cflag |= termios.CLOCAL if port.carrier == "ignore" else 0
    cflag |= termios.HUPCL if port.hangup else 0
    known = _TERMIOS2.pack(iflag, 0, cflag, 0, _N_TTY, _CONTROL_CHARACTERS, ispeed, ospeed)
    if known != raw:
        fcntl.ioctl(fd, TCSETS2, known)


def _line_settings(fd: int) -> dict[str, Any]:
    """What the kernel says about a tty: some drivers ignore what they cannot do (termios(3))."""
    raw = fcntl.ioctl(fd, TCGETS2, bytes(_TERMIOS2.size))
    iflag, _, cflag, _, _, _, _, baudrate = _TERMIOS2.unpack(raw)
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


def _code(error: Exception) -> int:
    # pyserial wraps a termios.error, which is not an OSError, in an exception without errno.
    causes = (error, error.__context__)
    return next((c.args[0] for c in causes if c and c.args and isinstance(c.args[0], int)), 0)


def _busy_words(path: str, holder: Holder) -> str:
    words = f"{path} is in use by {holder}"
    if holder.pid:
        return f"{words}: it is opened once that has ended"
    return f"{words}: end it (sudo ttybridge status names it)"


def _words(path: str, error: Exception, holder: Holder | None) -> str:
    code = _code(error)
    if code in _GONE:
        return f"{path} does not answer: {os.strerror(code)}"
    if code == errno.EACCES:
        return f"{path}: permission denied: the daemon's user must be in the device's group"
    if code == errno.EPERM:
        return f"{path}: not permitted: the unit's DeviceAllow= must name this kind of device"
    if code in _BUSY:
        return _busy_words(path, holder or Holder())
    if code in (errno.ENOTTY, errno.EISDIR):
        return f"{path} is not a serial device"
    return f"{path}: {os.strerror(code) if code else error}"
