"""The capture of a port (`log`): what its device sent, and on request its clients, in a file.

When it is written. The event loop only puts bytes into RAM; a thread opens, writes and closes the
file, so a slow disk never delays a port. At most PENDING_LIMIT bytes wait for the disk; what comes
beyond them is lost, counted, and noted where it is missing: "[512 bytes were lost: ...]".

    durable    a second after the first byte that waits, with fdatasync(2)
    volatile   a minute after it, left to the kernel to sync: few writes for an SD card
    both       sooner where much waits, and at the end; nothing waits: no timer, no thread

Where it is written. FILE is appended to; before it grows beyond half of `max_size` it becomes
FILE.1, at the end of a line where there is one, so both together never exceed `max_size`. What an
earlier setting left larger is shortened to its end. The file is opened for every write: one that
was deleted, renamed or truncated is begun again. No symlink is followed at the last component.

What is written. Of one direction, without `timestamps`: its bytes, as they came. Else text:

    2026-11-22T21:23:45.123+01:00 < login:

    2026-11-22T21:23:49.678+01:00 > jane:1: root

The time is when the line's first byte came; "<" is the device and ">" a client, where both are
logged; a client has its name where the port says one. A change between them begins a new line. CRs
before LF are removed (two at most: a tty behind a tty sends "\\r\\r\\n"); TAB, ESC and UTF-8 stay.
But characters that a terminal obeys, or that turn the text around them, are written as \\uNNNN, and
bytes that are no text as \\xNN. A line that has not ended, such as a prompt, is written and later
continued.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ttybridge.model.ports import Log

log = logging.getLogger(__name__)

# Bytes that may wait for the disk; what comes beyond them is lost.
PENDING_LIMIT = 1024 * 1024

# Seconds before a failed write is tried again.
WRITE_RETRY_SECONDS = 10.0

# A write that takes longer than this, in seconds, is a problem to report.
HUNG_SECONDS = 10.0

# How long a stop waits for the disk.
CLOSE_SECONDS = 3.0

DEVICE, CLIENT = b"< ", b"> "

_TOO_SLOW = "the disk is slower than the device"

_TEXT = bytes(range(0x20, 0x7F)) + b"\t\n\x1b"
# C1 controls begin commands of a terminal as ESC does, and no editor shows them. Characters for the
# direction of text make a line look like another one (Unicode, UAX 9, Bidi_Control).
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)

# What cannot be rendered before the next byte is known: a CR (LF may follow), partial UTF-8.
_UNFINISHED = re.compile(
    rb"(?:\r{1,2}|[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z"
)


@dataclass(frozen=True)
class _Pace:
    """When what waits is written: after `seconds`, or as soon as it is `large` (bytes)."""

    seconds: float
    large: int


DURABLE = _Pace(1.0, PENDING_LIMIT // 4)
VOLATILE = _Pace(60.0, 65536)


@dataclass
class CaptureState:
    """All that the next process needs to go on with a capture."""

    pending: bytearray = field(default_factory=bytearray)
    """Rendered bytes that are not in the file yet."""
    source: bytes = DEVICE
    """Who sent the last line: DEVICE, or CLIENT, maybe with its name and ": "."""
    begun: bool = False
    """Whether that line has begun and not ended; its time is in the file or pending."""
    held: bytes = b""
    """Trailing bytes that cannot be rendered yet (a lone CR, partial UTF-8)."""
    dropped: int = 0
    """Lost bytes that the file does not mention yet."""
    lost: int = 0
    """Bytes lost since the start."""
    foreign: bool = False
    """Whether an earlier capture wrote the file: if it ends mid-line, start with a newline."""


class Capture:
    """The capture of one port."""

    def __init__(
        self,
        settings: Log,
        name: str,
        state: CaptureState | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        plain = _is_plain(settings)
        self.state = state or CaptureState(foreign=not plain)
        self._settings = settings
        self._name = name
        self._clock = clock
        self._plain = plain
        self._pace = VOLATILE if settings.volatile else DURABLE
        self._problem: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        """Set while no write is under way."""
        self._idle.set()
        self._write_began = 0.0
        self._closed = False
        if self.state.pending:
            self._schedule()

    def change(self, settings: Log) -> None:
        """Go on in the same file with other settings."""
        old, self._settings = self._settings, settings
        if _form(old) != _form(settings):
            self._change_form()
        self._pace = VOLATILE if settings.volatile else DURABLE
        self._cancel_timer()
        self._schedule()

    def _change_form(self) -> None:
        """Let what comes from now on begin a line of its own, in the form of the settings."""
        state = self.state
        was_plain = self._plain
        self._plain = _is_plain(self._settings)
        if not was_plain:
            state.pending += self._end_line()
        elif state.pending and not state.pending.endswith(b"\n"):
            state.pending += b"\n"
        else:
            state.foreign = not state.pending

    @property
    def file(self) -> str:
        """Where it is written."""
        return self._settings.file

    @property
    def problem(self) -> str | None:
        """Why nothing can be written now, in words with what to do, or None."""
        if not self._idle.is_set() and time.monotonic() - self._write_began > HUNG_SECONDS:
            return f"{self._settings.file}: the disk does not answer: see what the kernel says"
        return self._problem

    def status(self) -> dict[str, Any]:
        """The log as `ttybridge status --json` shows it."""
        return {"file": self._settings.file, "problem": self.problem, "lost": self.lost}

    @property
    def lost(self) -> int:
        """Bytes that could not be kept."""
        return self.state.lost

    @property
    def wants_output(self) -> bool:
        """Whether it keeps what the device sends."""
        return self._settings.output

    def device_sent(self, data: bytes) -> None:
        """Keep what the device has sent, where the port's `log` says so."""
        if self.wants_output:
            self._take(DEVICE, data)

    def client_sent(self, data: bytes, name: str = "") -> None:
        """Keep what a client has sent, where the port's `log` says so; "" = it is not named."""
        if self._settings.input:
            self._take(CLIENT + f"{name}: ".encode() if name else CLIENT, data)

    async def close(self) -> None:
        """Write all that is pending; give up after CLOSE_SECONDS."""
        state = self.state
        state.pending += _printable(state.held)
        state.held = b""
        await self.leave()
        if state.pending:
            log.warning(
                "%s: log.file: %s: %d bytes are lost at the end: %s",
                self._name,
                self._settings.file,
                len(state.pending),
                self._problem or "the disk does not answer",
            )
            state.lost += len(state.pending)
            state.pending.clear()

    async def leave(self) -> None:
        """Write what can be written; the next process goes on with `state`."""
        self._closed = True
        self._cancel_timer()
        state = self.state
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._idle.wait()
                while state.pending:
                    self._start_write()
                    await self._idle.wait()
                    if self._problem:
                        break

    # From bytes to lines of the file.

    def _take(self, source: bytes, data: bytes) -> None:
        state = self.state
        if self._closed or not data:
            return
        if state.dropped or len(state.pending) >= PENDING_LIMIT:
            self._drop(len(data))
            return
        state.pending += data if self._plain else self._lines(source, data)
        if self._timer is None or len(state.pending) >= self._pace.large:
            self._schedule()

    def _lines(self, source: bytes, data: bytes) -> bytes:
        """Return what to write for bytes from `source`."""
        state = self.state
        turn = self._end_line() if source != state.source else b""
        state.source = source
        data = state.held + data
        unfinished = _UNFINISHED.search(data, max(0, len(data) - 3))
        end = unfinished.start() if unfinished else len(data)
        text, state.held = data[:end], data[end:]
        text = _printable(text.replace(b"\r\n", b"\n").replace(b"\r\n", b"\n"))
        begun, state.begun = state.begun, bool(state.held) or not text.endswith(b"\n")
        if begun and b"\n" not in text:
            return turn + text
        prefix = self._prefix(source)
        last = b"" if state.begun else b"\n"
        lines = text[: len(text) - len(last)].replace(b"\n", b"\n" + prefix)
        return turn + (lines if begun else prefix + lines) + last

    def _end_line(self) -> bytes:
        """Return what ends the line that has begun, if one has."""
        state = self.state
        end = _printable(state.held) + b"\n" if state.begun else b""
        state.held, state.begun = b"", False
        return end

    def _prefix(self, source: bytes) -> bytes:
        stamp = _stamp(self._clock()) if self._settings.timestamps else b""
        return stamp + (source if _has_marks(self._settings) else source[len(CLIENT) :])

    def _drop(self, size: int) -> None:
        state = self.state
        if not state.dropped:
            reason = self.problem or f"{self._settings.file}: {_TOO_SLOW}"
            log.warning("%s: log.file: bytes are lost: %s", self._name, reason)
        state.dropped += size
        state.lost += size

    def _note_dropped(self, reason: str) -> None:
        """Note in the file how many bytes are missing here."""
        state = self.state
        end = b"\n" if self._plain else self._end_line() + self._prefix(b"")
        note = f"[{state.dropped} bytes were lost: {reason}]\n"
        state.pending += end + note.encode()
        state.dropped = 0

    # From RAM to the disk.

    def _schedule(self) -> None:
        """Write what is pending, now or soon; a write under way calls this at its end."""
        pending = len(self.state.pending)
        if not self._idle.is_set() or not pending:
            return
        if pending >= self._pace.large and not self._problem:
            self._start_write()
        elif self._timer is None:
            wait = max(self._pace.seconds, WRITE_RETRY_SECONDS if self._problem else 0.0)
            self._timer = asyncio.get_running_loop().call_later(wait, self._start_write)

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _start_write(self) -> None:
        self._cancel_timer()
        self._idle.clear()
        self._write_began = time.monotonic()
        # Not an executor: Python's exit waits for an executor's threads, on a hung disk for ever.
        thread = threading.Thread(
            target=self._write,
            args=(asyncio.get_running_loop(), bytes(self.state.pending)),
            name=f"capture of {self._name}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as error:
            self._write_ended(0, f"{self._settings.file}: {error}: raise the unit's TasksMax=")

    def _write(self, loop: asyncio.AbstractEventLoop, data: bytes) -> None:
        """In a thread: write, and tell the event loop."""
        written, problem = _append(self._settings, data, self.state.foreign)
        with contextlib.suppress(RuntimeError):  # the loop has ended: close() has given up
            loop.call_soon_threadsafe(self._write_ended, written, problem)

    def _write_ended(self, written: int, problem: str | None) -> None:
        state = self.state
        del state.pending[:written]
        if written:
            state.foreign = False
        if problem != self._problem:
            if problem:
                log.warning("%s: log.file: %s", self._name, problem)
            else:
                log.info("%s: log.file: %s is written again", self._name, self._settings.file)
        if state.dropped and not problem:
            self._note_dropped(self._problem or _TOO_SLOW)
        self._problem = problem
        self._idle.set()
        if not self._closed:
            self._schedule()


def _form(settings: Log) -> tuple[bool, bool, bool]:
    return settings.timestamps, settings.input, settings.output


def _has_marks(settings: Log) -> bool:
    """Whether a mark says which way a line went: where both ways are logged."""
    return settings.input and settings.output


def _is_plain(settings: Log) -> bool:
    """Whether the file has the bytes of one direction as they came."""
    return not settings.timestamps and not _has_marks(settings)


def _printable(data: bytes) -> bytes:
    """Return data with every byte that is not text as \\xNN."""
    if not data.translate(None, _TEXT):
        return data
    text = data.decode("utf-8", "backslashreplace")
    return _CONTROL.sub(_escape, text).encode()


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


def _stamp(seconds: float) -> bytes:
    """Return a time as local ISO 8601 with milliseconds and zone offset, and a space."""
    whole = int(seconds)
    local, zone = _local_time(whole)
    return b"%s.%03d%s " % (local, (seconds - whole) * 1000, zone)


@functools.lru_cache(maxsize=1)  # several lines come in one second, and each wants it
def _local_time(seconds: int) -> tuple[bytes, bytes]:
    text = datetime.fromtimestamp(seconds).astimezone().isoformat().encode()
    return text[:19], text[19:]


def _append(settings: Log, data: bytes, own_line: bool) -> tuple[int, str | None]:
    """Append to the file; return how many bytes of `data` are in it, and what stopped the rest.

    `own_line`: if the file ends mid-line, start with a newline.
    """
    path, limit = settings.file, settings.max_size // 2
    todo = data
    try:
        for old in (path, _rotated(path)):
            _shorten(old, limit)
        if own_line and _ends_within_line(path):
            todo = b"\n" + data
        while todo:
            # Do not sync what the rest of the data will push out of FILE.1.
            sync = not settings.volatile and len(todo) <= 2 * limit
            todo = todo[_append_some(path, todo, limit, sync) :]
    except OSError as error:
        return max(0, len(data) - len(todo)), _words(path, error)
    return len(data), None


def _append_some(path: str, data: bytes, limit: int, sync: bool) -> int:
    """Append what fits; rotate where nothing does. Return how many bytes were written."""
    with _opened(path) as fd:
        size = os.fstat(fd).st_size
        fits = _fitting(data, limit - size, whole_file=size == 0)
        if fits:
            written = os.write(fd, data[:fits])
            if sync:
                os.fdatasync(fd)
            return written
    os.replace(path, _rotated(path))
    return 0


def _fitting(data: bytes, room: int, whole_file: bool) -> int:
    """How many bytes to write where there is room for `room`: whole lines, if not all."""
    if len(data) <= room:
        return len(data)
    lines = data.rfind(b"\n", 0, max(0, room)) + 1
    return lines or (room if whole_file else 0)


def _rotated(path: str) -> str:
    return f"{path}.1"


def _ends_within_line(path: str) -> bool:
    with _opened(path) as fd:
        size = os.fstat(fd).st_size
        return size > 0 and os.pread(fd, 1, size - 1) != b"\n"


def _shorten(path: str, limit: int) -> None:
    """Keep the end of a file that is too large, in place: the disk may have no room for a copy."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    surplus = status.st_size - limit
    if not stat.S_ISREG(status.st_mode) or surplus <= 0:
        return
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        for start in range(0, limit, 65536):
            size = min(65536, limit - start)
            os.pwrite(fd, os.pread(fd, size, surplus + start), start)
        os.ftruncate(fd, limit)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    """The descriptor of the file, made where it is missing; `OSError` where it is no plain file.

    It follows no symlink, and waits for no FIFO or tty (open(2): O_NOFOLLOW, O_NONBLOCK).
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), 0o750, exist_ok=True)
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o640)
        os.fchmod(fd, 0o640)  # whatever the umask is
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), path)
        yield fd
    finally:
        os.close(fd)


_WORDS = {
    errno.ENOSPC: "the disk is full: free some room, or write a smaller log.max_size",
    errno.EDQUOT: "the disk quota is used up: free some room, or write a smaller log.max_size",
    errno.EROFS: "the file system is read-only: write a path below the unit's LogsDirectory= "
    "or ReadWritePaths=, or mount it writable",
    errno.EACCES: "permission denied: let the daemon's user write file and directory",
    errno.EPERM: "not permitted: let the daemon's user write file and directory",
    errno.ELOOP: "it is a symlink, which is not followed: write the path that it leads to",
    errno.EISDIR: "it is a directory: move it away, or write the path of a file",
    errno.ENOTDIR: "a part of the path is not a directory: write another path",
    errno.ENXIO: "it is not a regular file: move it away, or write another path",
    errno.EIO: "the disk is faulty: see what the kernel says",
}


def _words(path: str, error: OSError) -> str:
    place = error.filename2 or error.filename or path
    words = _WORDS.get(error.errno or 0) or f"{error.strerror}: fix that, or write another path"
    return f"{place}: {words}"
