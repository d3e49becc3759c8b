"""The capture of a port: real files, real limits of the system."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import until
from ttybridge.line import capture as module
from ttybridge.line.capture import CLIENT, DEVICE, PENDING_LIMIT, Capture, CaptureState
from ttybridge.model.ports import Log

on_disk = settings(deadline=None)  # how long a disk takes says nothing

NOON = datetime(2026, 11, 22, 12, 0, 0, 250_000).astimezone().timestamp()
STAMP = datetime.fromtimestamp(NOON).astimezone().isoformat(timespec="milliseconds")
KIB = 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the capture file is to be."""
    return tmp_path / "sw.log"


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds as hundredths: nothing here depends on how long an interval is."""
    monkeypatch.setattr(module, "DURABLE", module._Pace(0.01, PENDING_LIMIT // 4))
    monkeypatch.setattr(module, "VOLATILE", module._Pace(0.05, 65536))
    monkeypatch.setattr(module, "WRITE_RETRY_SECONDS", 0.05)


def make(path: Path, **keys: Any) -> Capture:
    """A capture at a noon that lasts."""
    return Capture(Log(file=str(path), **keys), "sw", clock=lambda: NOON)


def rotated(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def content(path: Path) -> bytes:
    """What is in the two files, in order."""
    return b"".join(one.read_bytes() for one in (rotated(path), path) if one.exists())


def size(path: Path) -> int:
    return len(content(path))


async def record(path: Path, sent: Iterable[tuple[bytes, bytes]], **keys: Any) -> bytes:
    """Return what the file holds after bytes from DEVICE and CLIENT."""
    capture = make(path, **keys)
    for source, data in sent:
        (capture.device_sent if source == DEVICE else capture.client_sent)(data)
    await capture.close()
    assert capture.problem is None
    assert capture.lost == 0
    return content(path)


async def from_device(path: Path, *parts: bytes, **keys: Any) -> str:
    """Return what the file holds after bytes from the device."""
    return (await record(path, [(DEVICE, part) for part in parts], **keys)).decode()


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The parts of data between places; some may be empty."""
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A path for one example of hypothesis, whose examples share a test's tmp_path.

    In RAM where that can be: hundreds of files that are synced keep a disk busy.
    """
    ram = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=ram) as directory:
        yield Path(directory) / "sw.log"


@contextlib.contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """A disk that takes no more: files of this process do not grow beyond `limit` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def forbidden(directory: Path) -> Iterator[None]:
    """A directory that may not be written; root, who may write everywhere, is nobody meanwhile."""
    root = os.geteuid() == 0
    directory.chmod(0o500)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        directory.chmod(0o700)


# Text.


async def test_a_line_has_the_local_time_of_its_first_byte(path: Path) -> None:
    times = iter([NOON, NOON + 1, NOON + 2])
    capture = Capture(Log(file=str(path)), "sw", clock=lambda: next(times))
    for part in (b"log", b"in: ", b"root\r", b"\nPassword: "):
        capture.device_sent(part)
    await capture.close()
    first, second = path.read_text().splitlines()
    assert first == f"{STAMP} login: root"
    time_of_second, text = second.split(" ", 1)
    assert text == "Password: "
    assert datetime.fromisoformat(time_of_second) - datetime.fromisoformat(STAMP) == timedelta(
        seconds=1
    )


@pytest.mark.parametrize(
    ("zone", "stamp"),
    [
        ("UTC0", "2026-11-22T11:00:00.250+00:00"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "2026-11-22T12:00:00.250+01:00"),
        ("IST-5:30", "2026-11-22T16:30:00.250+05:30"),
    ],
)
async def test_the_time_names_its_zone(
    monkeypatch: pytest.MonkeyPatch, path: Path, zone: str, stamp: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    module._local_time.cache_clear()

    try:
        capture = Capture(Log(file=str(path)), "sw", clock=lambda: 1795345200.25)
        capture.device_sent(b"x\n")
        await capture.close()
    finally:
        monkeypatch.undo()
        time.tzset()
        module._local_time.cache_clear()
    assert path.read_text() == f"{stamp} x\n"


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"one\ntwo\n", "one\ntwo\n"),
        (b"one\r\ntwo\r\r\n", "one\ntwo\n"),
        (b"\r\n\r\n", "\n\n"),
        (b"10%\r20%\r\n", "10%\\x0d20%\n"),
        (b"\r\r\r\n", "\\x0d\n"),
        (b"end\r", "end\\x0d"),
        (b"end\n\r", "end\n\\x0d"),
        (b"a\tb \x1b[1mbold\x1b[0m", "a\tb \x1b[1mbold\x1b[0m"),
        (b"\x00\x07\x08\x0b\x7f", "\\x00\\x07\\x08\\x0b\\x7f"),
        ("Gerät 21 °C 電源 🔌".encode(), "Gerät 21 °C 電源 🔌"),
        (b"\xff\xc3(\xe2\x82\r\n", "\\xff\\xc3(\\xe2\\x82\n"),
        (b"\xed\xa0\x80 \xc0\xaf", "\\xed\\xa0\\x80 \\xc0\\xaf"),
        (b"half \xe2\x82", "half \\xe2\\x82"),
        # A C1 control as one byte is no UTF-8; as UTF-8 it is two.
        (b"\x9b31m \xc2\x9b31m \xc2\x85 \xc2\xa0", "\\x9b31m \\u009b31m \\u0085 \xa0"),
        (
            "a\u202eb\u202cc \u2066d\u2069 \u200ee\u200f \u061cf \u200d".encode(),
            "a\\u202eb\\u202cc \\u2066d\\u2069 \\u200ee\\u200f \\u061cf \u200d",
        ),
    ],
)
async def test_what_cannot_be_shown_is_written_in_hex(path: Path, sent: bytes, text: str) -> None:
    assert await from_device(path, sent, timestamps=False, input=True) == "".join(
        f"< {line}" for line in text.splitlines(keepends=True)
    )


@on_disk
@given(st.lists(st.binary(max_size=40)))
async def test_a_reader_never_sees_a_byte_that_is_not_text(parts: list[bytes]) -> None:
    with scratch() as path:
        text = await from_device(path, *parts)
    assert not re.search("[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e]", text)


# Few letters, so that what belongs together meets: CR LF, the bytes of a character, both sources.
tricky = st.lists(
    st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"\x00", b"\xff", "é".encode(), "🔌".encode()])
).map(b"".join)
anything = st.one_of(tricky, st.binary(max_size=40))


@on_disk
@given(st.lists(st.tuples(st.sampled_from([DEVICE, CLIENT]), anything)), st.data())
async def test_text_is_the_same_wherever_it_was_split(
    sent: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    keys = {"timestamps": data.draw(st.booleans()), "input": True}
    whole = [
        (source, b"".join(part for _, part in group))
        for source, group in itertools.groupby(sent, key=lambda item: item[0])
    ]
    split = [
        (source, part)
        for source, message in whole
        for part in cut(message, data.draw(st.lists(st.integers(0, 200))))
    ]
    with scratch() as one, scratch() as two:
        assert await record(one, whole, **keys) == await record(two, split, **keys)


async def test_a_client_is_told_from_the_device(path: Path) -> None:
    sent = [
        (DEVICE, b"login: "),
        (CLIENT, b"root\r"),
        (DEVICE, b"root\r\nPassword: "),
        (DEVICE, b"\r\n"),
        (CLIENT, b"\xe2"),
        (DEVICE, b"# "),
    ]
    assert (await record(path, sent, timestamps=False, input=True)).decode().splitlines() == [
        "< login: ",
        "> root\\x0d",
        "< root",
        "< Password: ",
        "> \\xe2",
        "< # ",
    ]


async def test_clients_that_are_named_have_lines_of_their_own(path: Path) -> None:
    capture = make(path, timestamps=False, input=True)
    for name, data in (
        ("jane:1", b"show "),
        ("jane:1", b"ver\r\n"),
        ("[::1]:7", b"no"),
        ("", b"x"),
    ):
        capture.client_sent(data, name)
    capture.device_sent(b"ok\n")
    await capture.close()
    assert path.read_text() == "> jane:1: show ver\n> [::1]:7: no\n> x\n< ok\n"


@pytest.mark.parametrize("timestamps", [True, False])
async def test_a_log_of_the_client_side_alone_has_no_marks(path: Path, timestamps: bool) -> None:
    capture = make(path, timestamps=timestamps, input=True, output=False)
    capture.device_sent(b"login: ")
    capture.client_sent(b"ro", "jane:1")
    capture.device_sent(b"ro")
    capture.client_sent(b"ot\n", "jane:1")
    await capture.close()
    assert path.read_text() == (f"{STAMP} jane:1: root\n" if timestamps else "root\n")


async def test_time_comes_before_the_direction(path: Path) -> None:
    sent = [(DEVICE, b"login: "), (CLIENT, b"root\n")]
    text = f"{STAMP} < login: \n{STAMP} > root\n"
    assert (await record(path, sent, input=True)).decode() == text


@pytest.mark.parametrize("timestamps", [True, False])
async def test_what_a_client_sent_is_not_kept_unasked(path: Path, timestamps: bool) -> None:
    sent = [(DEVICE, b"Password: "), (CLIENT, b"secret"), (DEVICE, b"\n")]
    text = (await record(path, sent, timestamps=timestamps)).decode()
    assert text == (f"{STAMP} " if timestamps else "") + "Password: \n"


@pytest.mark.usefixtures("fast")
async def test_a_prompt_is_in_the_file_and_continued_there(path: Path) -> None:
    capture = make(path)
    capture.device_sent(b"login: ")
    await until(lambda: content(path) == f"{STAMP} login: ".encode(), "the prompt is written")
    capture.device_sent(b"root\n")
    await until(lambda: content(path) == f"{STAMP} login: root\n".encode(), "the line is written")
    await capture.close()


async def test_a_line_of_another_run_is_not_continued(path: Path) -> None:
    await from_device(path, b"login: ")
    assert await from_device(path, b"login: ") == f"{STAMP} login: \n{STAMP} login: "


async def test_a_successor_goes_on_within_a_line(path: Path) -> None:
    settings = Log(file=str(path), input=True)
    first = Capture(settings, "sw", clock=lambda: NOON)
    first.device_sent(b"21 \xc2")
    assert first.state == CaptureState(
        pending=bytearray(f"{STAMP} < 21 ".encode()), begun=True, held=b"\xc2", foreign=True
    )
    await asyncio.to_thread(path.write_bytes, first.state.pending)
    first.state.pending.clear()
    first.state.foreign = False
    second = Capture(settings, "sw", first.state, clock=lambda: NOON)
    second.device_sent(b"\xb0C\r\n")
    await second.close()
    assert path.read_text() == f"{STAMP} < 21 °C\n"


# The file.


many_bytes = st.builds(lambda data, times: data * times, st.binary(), st.integers(1, 300))


@on_disk
@given(st.lists(many_bytes), st.sampled_from([4096, 5001, 1048576]), st.booleans())
async def test_plain_is_exactly_what_the_device_sent(
    parts: list[bytes], max_size: int, runs: bool
) -> None:
    sent = b"".join(parts)
    with scratch() as path:
        for run in parts if runs else [sent]:
            await record(path, [(DEVICE, run)], timestamps=False, max_size=max_size)
        kept = content(path)
    assert sent.endswith(kept)
    assert len(kept) <= max_size
    if len(sent) <= max_size // 2:
        assert kept == sent


@on_disk
@given(
    st.lists(st.integers(0, 9000), max_size=8),
    st.integers(4096, 12000),
    st.integers(0, 20000),
    st.integers(0, 20000),
    st.sampled_from([b"\n", b"x", b"some text\n", b"x" * 3000 + b"\n"]),
    st.booleans(),
)
async def test_the_disk_never_holds_more_than_the_cap(
    bursts: list[int], max_size: int, old: int, older: int, text: bytes, timestamps: bool
) -> None:
    sizes: list[int] = []

    def watched(path: Path) -> Callable[[int, bytes], int]:
        write = os.write

        def write_and_look(fd: int, data: bytes) -> int:
            written = write(fd, data)
            sizes.append(size(path))
            return written

        return write_and_look

    with scratch() as path, pytest.MonkeyPatch.context() as patch:
        path.write_bytes(b"o" * old)
        rotated(path).write_bytes(b"O" * older)
        patch.setattr(os, "write", watched(path))
        for burst in bursts:  # each is a run of its own, so all that is pending is one block
            capture = make(path, max_size=max_size, timestamps=timestamps)
            capture.device_sent((text * burst)[:burst])
            await capture.close()
            assert capture.lost == 0
    assert all(total <= max_size for total in sizes)
    assert bool(sizes) == any(bursts)


async def test_a_burst_of_a_hundred_times_the_cap(path: Path) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(50000))
    kept = await record(path, [(DEVICE, lines)], timestamps=False, max_size=4096)
    assert lines.endswith(kept)
    assert 3000 < len(kept) <= 4096


async def test_files_are_rotated_between_lines(path: Path) -> None:
    for number in range(400):
        await record(path, [(DEVICE, b"line %d\n" % number)], max_size=4096)
    assert path.stat().st_size <= 2048
    for one in (path, rotated(path)):
        assert all(line.startswith(f"{STAMP} line ") for line in one.read_text().splitlines())
    assert content(path).endswith(b"line 399\n")
    assert rotated(path).stat().st_size > 1900


async def test_a_long_line_without_an_end_is_no_problem(path: Path) -> None:
    kept = await from_device(path, *[b"x" * 60000] * 5, max_size=8192)
    assert set(kept) == {"x"}
    assert 4096 < len(kept) <= 8192


async def test_the_end_of_a_file_that_was_too_large_is_kept(path: Path) -> None:
    path.write_bytes(b"".join(b"%06d\n" % number for number in range(100_000)))
    kept = await from_device(path, b"new\n", timestamps=False, max_size=400_000)
    assert kept.endswith("099998\n099999\nnew\n")
    assert len(kept) == 200_000 + len("new\n")


async def test_a_new_file_is_for_owner_and_group_in_a_new_directory(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "sw.log"
    umask = os.umask(0o077)
    try:
        await from_device(path, b"x")
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o640


async def test_a_file_that_is_there_is_appended_to_and_keeps_its_mode(path: Path) -> None:
    path.write_text("before\n")
    path.chmod(0o604)
    assert await from_device(path, b"after\n", timestamps=False) == "before\nafter\n"
    assert path.stat().st_mode & 0o777 == 0o604


TAKEN_AWAY: dict[str, Callable[[Path], object]] = {
    "deleted": os.unlink,
    "renamed": lambda path: path.rename(path.with_name("kept")),
    "truncated": lambda path: os.truncate(path, 0),
}


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("how", TAKEN_AWAY)
async def test_a_file_that_was_taken_away_is_made_anew(path: Path, how: str) -> None:
    capture = make(path, timestamps=False)
    capture.device_sent(b"one\n")
    await until(lambda: content(path) == b"one\n", "the first line is written")
    TAKEN_AWAY[how](path)
    capture.device_sent(b"two\n")
    await until(lambda: content(path) == b"two\n", "the second line is written")
    await capture.close()


# When it is written.


class Timers:
    """The timers that a test's event loop is given."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        self._loop, self._call_at = loop, loop.call_at
        self._known: list[asyncio.TimerHandle] = []
        monkeypatch.setattr(loop, "call_at", self._watched)

    def _watched(self, *args: Any, **keys: Any) -> asyncio.TimerHandle:
        handle = self._call_at(*args, **keys)
        self._known.append(handle)
        return handle

    def to_come(self) -> list[float]:
        """In how many seconds each timer is due."""
        now = self._loop.time()
        live = (timer for timer in self._known if not timer.cancelled())
        return [timer.when() - now for timer in live if timer.when() > now]


@pytest.fixture
async def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    return Timers(asyncio.get_running_loop(), monkeypatch)


@pytest.mark.parametrize(("volatile", "seconds"), [(False, 1), (True, 60)])
async def test_one_timer_while_something_is_pending(
    timers: Timers, path: Path, volatile: bool, seconds: int
) -> None:
    capture = make(path, volatile=volatile)
    assert timers.to_come() == []
    for _ in range(100):
        capture.device_sent(b"line\n")
    (wait,) = timers.to_come()
    assert seconds - 1 < wait <= seconds
    await capture.close()
    assert timers.to_come() == []


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("volatile", [False, True])
async def test_nothing_runs_once_all_is_written(timers: Timers, path: Path, volatile: bool) -> None:
    capture = make(path, volatile=volatile)
    capture.device_sent(b"line\n")
    await until(lambda: size(path) > 0 and not capture.state.pending, "all is written")
    assert timers.to_come() == []
    await until(
        lambda: not any("capture of" in one.name for one in threading.enumerate()),
        "its thread ends",
    )
    await capture.close()


@pytest.mark.parametrize(("volatile", "seconds"), [(False, 10), (True, 60)])
async def test_what_failed_is_tried_again_later_however_much_waits(
    timers: Timers, path: Path, volatile: bool, seconds: int
) -> None:
    path.mkdir()
    capture = make(path, volatile=volatile)
    capture.device_sent(b"line\n" * 100_000)
    await until(lambda: capture.problem is not None, "it fails")
    capture.device_sent(b"line\n" * 100_000)
    (wait,) = timers.to_come()
    assert seconds - 1 < wait <= seconds
    await capture.close()


async def test_volatile_stays_in_ram_until_it_is_large(path: Path) -> None:
    capture = make(path, volatile=True, timestamps=False)
    capture.device_sent(b"x" * 60000)
    await asyncio.sleep(1.2)
    assert size(path) == 0
    capture.device_sent(b"x" * 6000)
    await until(lambda: size(path) == 66000, "all but the last is written")
    capture.device_sent(b"last")
    await capture.close()
    assert size(path) == 66004


@pytest.mark.parametrize("volatile", [False, True])
async def test_only_durable_waits_for_the_disk(
    monkeypatch: pytest.MonkeyPatch, path: Path, volatile: bool
) -> None:
    synced: list[int] = []
    sync = os.fdatasync

    def watched(fd: int) -> None:
        sync(fd)
        synced.append(os.fstat(fd).st_size)

    monkeypatch.setattr(os, "fdatasync", watched)
    await from_device(path, b"line\n", timestamps=False, volatile=volatile)
    assert synced == ([] if volatile else [5])


# What goes wrong.


def symlink(path: Path) -> None:
    path.with_name("other").write_text("untouched")
    path.symlink_to(path.with_name("other"))


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def rotated_is_directory(path: Path) -> None:
    rotated(path).mkdir()
    path.write_bytes(b"x" * 524288)


OBSTACLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "symlink": (symlink, "it is a symlink, which is not followed: write the path"),
    "dangling": (dangling, "it is a symlink, which is not followed: write the path"),
    "directory": (lambda path: path.mkdir(), "it is a directory: move it away, or write"),
    "fifo": (lambda path: os.mkfifo(path), "it is not a regular file: move it away, or write"),
    "rotated": (rotated_is_directory, "sw.log.1: it is a directory: move it away"),
}


def remove(path: Path) -> None:
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("obstacle", OBSTACLES)
async def test_an_obstacle_is_named_once_and_passed_when_it_is_gone(
    path: Path, caplog: pytest.LogCaptureFixture, obstacle: str
) -> None:
    caplog.set_level(logging.INFO)
    place, words = OBSTACLES[obstacle]
    place(path)
    capture = make(path, timestamps=False)
    capture.device_sent(b"one\n")
    await until(lambda: capture.problem is not None, "it fails")
    assert str(path) in str(capture.problem)
    assert words in str(capture.problem)
    await asyncio.sleep(0.3)  # some more tries
    assert [r.getMessage() for r in caplog.records] == [f"sw: log.file: {capture.problem}"]
    capture.device_sent(b"two\n")
    remove(rotated(path) if obstacle == "rotated" else path)
    await until(lambda: capture.problem is None, "what failed is done")
    await capture.close()
    assert content(path).endswith(b"one\ntwo\n")
    assert caplog.messages[1:] == [f"sw: log.file: {path} is written again"]
    if obstacle == "symlink":
        assert path.with_name("other").read_text() == "untouched"


@pytest.mark.usefixtures("fast")
async def test_a_directory_that_may_not_be_written(tmp_path: Path, path: Path) -> None:
    capture = make(path, timestamps=False)
    with forbidden(tmp_path):
        capture.device_sent(b"kept\n")
        await until(lambda: capture.problem is not None, "it fails")
        assert f"{path}: permission denied: let the daemon's user" in str(capture.problem)
    await until(lambda: capture.problem is None, "what failed is done")
    await capture.close()
    assert content(path) == b"kept\n"


@pytest.mark.usefixtures("fast")
async def test_a_disk_that_takes_a_part_gets_the_rest_later_and_nothing_twice(path: Path) -> None:
    sent = os.urandom(400 * KIB)
    capture = make(path, timestamps=False, max_size=4096 * KIB)
    with file_size_limit(100 * KIB):
        capture.device_sent(sent)
        await until(lambda: capture.problem is not None, "it fails")
        assert content(path) == sent[: 100 * KIB]
        assert len(capture.state.pending) == 300 * KIB
    await until(lambda: capture.problem is None, "what failed is done")
    await capture.close()
    assert capture.lost == 0
    assert content(path) == sent


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("timestamps", [True, False])
async def test_what_a_full_disk_costs_is_bounded_counted_noted_and_logged_once(
    path: Path, caplog: pytest.LogCaptureFixture, timestamps: bool
) -> None:
    caplog.set_level(logging.INFO)
    line = b"x" * 999 + b"\n"

    capture = make(path, timestamps=timestamps, max_size=16384 * KIB)
    with file_size_limit(0):
        capture.device_sent(line)
        await until(lambda: capture.problem is not None, "it fails")
        for _ in range(3000):
            capture.device_sent(line)
        assert PENDING_LIMIT <= len(capture.state.pending) <= PENDING_LIMIT + 2 * len(line)
        assert capture.lost >= 1900 * len(line)
    await until(lambda: capture.problem is None, "what failed is done")
    capture.device_sent(b"after\n")
    await capture.close()
    lost = capture.lost
    assert path.exists()
    *kept, note, after = [text for text in content(path).decode().split("\n") if text]
    stamp = f"{STAMP} " if timestamps else ""
    assert set(kept) == {stamp + "x" * 999}
    assert len(kept) * len(line) + lost == 3001 * len(line)
    assert note.startswith(f"{stamp}[{lost} bytes were lost: {path}: File too large")
    assert after == f"{stamp}after"
    assert [message for message in caplog.messages if "bytes are lost" in message] == [
        f"sw: log.file: bytes are lost: {path}: File too large: fix that, or write another path"
    ]


@pytest.mark.usefixtures("fast")
async def test_after_a_loss_nothing_is_kept_before_it_is_noted(path: Path) -> None:
    capture = make(path, timestamps=False, max_size=16384 * KIB)
    with file_size_limit(0):
        capture.device_sent(b"x" * PENDING_LIMIT)
        capture.device_sent(b"lost 1")
        await until(lambda: capture.problem is not None, "it fails")
        with file_size_limit(100 * KIB):  # full again, but less is pending
            await until(lambda: len(capture.state.pending) < PENDING_LIMIT, "some of it is written")
            capture.device_sent(b"lost 2")
    await until(lambda: capture.problem is None, "what failed is done")
    capture.device_sent(b"kept")
    await capture.close()
    assert capture.lost == 12
    kept, note, after = content(path).split(b"\n")
    assert kept == b"x" * PENDING_LIMIT
    assert note.startswith(b"[12 bytes were lost: ")
    assert after == b"kept"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full: free some room, or write a smaller log.max_size"),
        (errno.EROFS, "the file system is read-only: write a path below the unit's LogsDirectory="),
        (errno.ENAMETOOLONG, "File name too long: fix that, or write another path"),
    ],
)
async def test_each_fault_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, path: Path, code: int, words: str
) -> None:
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", fail)
    capture = make(path)
    capture.device_sent(b"x")
    await capture.close()
    assert str(capture.problem).startswith(f"{path}: {words}")


async def test_what_could_not_be_written_at_the_end_is_told(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.mkdir()
    capture = make(path, timestamps=False)
    capture.device_sent(b"12345")
    await capture.close()
    assert capture.lost == 5
    capture.device_sent(b"too late")
    await capture.close()
    assert capture.lost == 5
    assert f"sw: log.file: {path}: 5 bytes are lost at the end: {path}: it is" in caplog.text


async def test_where_no_thread_can_be_started_nothing_ends(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    capture = make(path)
    capture.device_sent(b"x")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    await capture.close()
    assert "can't start new thread: raise the unit's TasksMax=" in str(capture.problem)


async def test_a_disk_that_hangs_delays_nobody(
    monkeypatch: pytest.MonkeyPatch, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answer, asked = threading.Event(), threading.Event()
    write = os.write

    def hang(fd: int, data: bytes) -> int:
        if not path.exists() or fd not in descriptors(path):
            return write(fd, data)
        asked.set()
        answer.wait()
        return write(fd, data)

    monkeypatch.setattr(os, "write", hang)
    capture = make(path, timestamps=False, max_size=16384 * KIB)
    capture.device_sent(b"x" * (PENDING_LIMIT - 1))
    await until(asked.is_set, "the disk is asked")
    capture.device_sent(b"yy")
    capture.device_sent(b"lost")
    assert capture.lost == 4
    monkeypatch.setattr(module, "HUNG_SECONDS", 0.0)
    assert capture.problem == f"{path}: the disk does not answer: see what the kernel says"
    answer.set()
    await until(lambda: capture.problem is None and not capture.state.pending, "all is written")
    await capture.close()
    words = b"[4 bytes were lost: the disk is slower than the device]"
    assert content(path) == b"x" * (PENDING_LIMIT - 1) + b"yy" + b"\n" + words + b"\n"
    assert f"bytes are lost: {path}: the disk is slower than the device" in caplog.text


def descriptors(path: Path) -> list[int]:
    """The descriptors of this process that are open on a file."""
    wanted = path.stat()
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(int(name)), wanted):
                found.append(int(name))
    return found


HANGS_FOR_EVER = """
import asyncio, logging, os, sys, threading
from ttybridge.line import capture
from ttybridge.model.ports import Log

async def scenario():
    one = capture.Capture(Log(file=sys.argv[1]), "sw")
    one.device_sent(b"lost")
    await one.close()
    print(one.lost > 0)

logging.basicConfig()
capture.os.fdatasync = lambda fd: threading.Event().wait()
asyncio.run(scenario())
"""


def test_a_disk_that_hangs_for_ever_does_not_keep_the_daemon_from_ending(path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGS_FOR_EVER, str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stdout == "True\n"
    assert "bytes are lost at the end: the disk does not answer" in ended.stderr


@pytest.mark.parametrize("written_before", [True, False])
async def test_another_form_begins_on_a_line_of_its_own(
    written_before: bool, path: Path, fast: None
) -> None:
    log = make(path, timestamps=False)

    async def says(words: bytes, **keys: Any) -> None:
        log.device_sent(words)
        if written_before:
            await until(lambda: not log.state.pending, "it is written")
        log.change(Log(file=str(path), **keys))

    await says(b"plain", timestamps=True)
    await says(b"at noon", timestamps=False, input=True)
    await says(b"marked", timestamps=False)
    log.device_sent(b"plain again")
    await log.close()
    assert path.read_text() == f"plain\n{STAMP} at noon\n< marked\nplain again"
