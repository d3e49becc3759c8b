"""UUCP lock files: how programs tell each other who uses a tty (FHS 3.0, 5.9).

The kernel's own locks do not suffice: cu, minicom and many a flasher look at these files only.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass

# Where the files are. Debian: root:root 1777; /var/lock is a link to it.
LOCK_DIRECTORY = "/run/lock"

# Linux, Documentation/admin-guide/devices.txt
PTY_MAJORS = range(136, 144)

# A program that does not write its lock at once has written it after so many seconds.
BEING_WRITTEN_SECONDS = 5.0


@dataclass(frozen=True)
class Holder:
    """Who uses a tty, as far as is known: 0 and "" stand for what is not."""

    pid: int = 0
    program: str = ""

    def __str__(self) -> str:
        if self.pid == os.getpid():
            return "another port of ttybridge"
        if not self.pid:
            return self.program or "another program"
        return f"{self.program} (PID {self.pid})" if self.program else f"PID {self.pid}"

    @property
    def is_gone(self) -> bool:
        """Whether the process is known to have ended."""
        return self.pid > 0 and not _lives(self.pid)


class Lock:
    """The lock file of one tty, ours while the tty is open."""

    def __init__(self) -> None:
        self._file = ""
        """Where it is; "" if it is not ours."""
        self._is_new = False
        self.problem = ""
        """Why there is no lock file of ours, though the tty may be used."""

    def take(self, path: str) -> Holder | None:
        """Write the lock file of the tty at a path, or return which live process has it."""
        file, self.problem = lock_file(path), ""
        holder = holder_of(file)
        if holder and holder.pid != os.getpid():
            return holder
        # Else an earlier process had our number, or another port of this one has the tty.
        self._is_new = not holder
        try:
            if self._is_new:
                _write(file)
            self._file = file
        except FileExistsError:  # somebody was faster
            return holder_of(file)
        except OSError as error:
            self.problem = f"{error.filename}: {error.strerror}"
        return None

    def release(self) -> None:
        """Remove the lock file, if it is ours."""
        file, self._file = self._file, ""
        holder = holder_of(file) if file else None
        if holder and holder.pid == os.getpid():
            with contextlib.suppress(OSError):
                os.unlink(file)

    def give_up(self, keep: bool = False) -> None:
        """The tty could not be opened: leave the lock as it was before `take`, or `keep` it."""
        if self._is_new and not keep:
            self.release()
        self._file = ""


def lock_file(path: str) -> str:
    """Return the lock file for the tty that a path leads to."""
    name = os.path.realpath(path).removeprefix("/dev/").strip("/").replace("/", "_")
    return os.path.join(LOCK_DIRECTORY, f"LCK..{name}")


def holder_of(file: str) -> Holder | None:
    """Return the live process that a lock file names, None where there is none."""
    try:
        # Everybody may put something there, also a pipe or a link.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            text, status = os.read(descriptor, 64), os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    words = text.decode("ascii", "replace").split()
    pid = int(words[0]) if words and words[0].isdecimal() else 0
    if not pid:
        fresh = abs(time.time() - status.st_mtime) < BEING_WRITTEN_SECONDS
        return Holder(0, "a program that is writing its lock file") if fresh else None
    if not _lives(pid):
        return None
    # minicom and others write their name after the number.
    return Holder(pid, program_of(pid) or (words[1] if words[1:] else ""))


def _write(file: str) -> None:
    """Write our lock file as a whole; `FileExistsError` if another program has written its own."""
    # A new file that is then linked: nobody ever reads half a number.
    descriptor, new = tempfile.mkstemp(prefix="LTMP..", dir=LOCK_DIRECTORY)
    try:
        with open(descriptor, "w", encoding="ascii") as stream:
            stream.write(f"{os.getpid():10d}\n")
            os.fchmod(descriptor, 0o644)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file)  # it is stale: `holder_of` says so
        os.link(new, file)
    finally:
        os.unlink(new)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:  # it belongs to somebody else
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def program_of(pid: int) -> str:
    """Return the program that a process runs, "" where this process may not know it."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def who_has_open(paths: Iterable[str]) -> dict[str, list[Holder]]:
    """Return for each path which processes have its tty open, as far as this one may know.

    root sees all of them, another user only its own.
    """
    found: dict[str, list[Holder]] = {path: [] for path in paths}
    ttys = {path: tty for path in found if (tty := _tty_at(path))}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal()):
        there = _open_ttys(pid) & {*ttys.values()}
        for path in [path for path, tty in ttys.items() if tty in there]:
            found[path].append(Holder(pid, program_of(pid)))
    return found


_Tty = tuple[int, int]


def _tty_at(path: str) -> _Tty | None:
    """Return what tells one tty from all others, None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    # A container has ptys of its own, with the same numbers.
    is_pty = os.major(status.st_rdev) in PTY_MAJORS
    return status.st_rdev, status.st_dev if is_pty else 0


def _open_ttys(pid: int) -> set[_Tty | None]:
    """Return the devices that a process has open."""
    found: set[_Tty | None] = set()
    with contextlib.suppress(OSError):  # it may have ended, or belong to somebody else
        for name in os.listdir(f"/proc/{pid}/fd"):
            file = f"/proc/{pid}/fd/{name}"
            with contextlib.suppress(OSError):
                if os.readlink(file).startswith("/dev/"):
                    found.add(_tty_at(file))
    return found
