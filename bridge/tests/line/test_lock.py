"""Lock files: written, respected, removed; and who has a device is named as far as is known."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Adapter, MakePort, Serve, another_program
from ttybridge.line import device, lock
from ttybridge.line.device import Device, DeviceError
from ttybridge.line.lock import Holder, Lock, holder_of, lock_file, who_has_open


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process of another program, as long as a test."""
    with another_program() as process:
        yield process


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


def test_a_lock_file_has_the_name_of_the_tty_and_ten_characters(
    adapter: Adapter, make_port: MakePort, lock_directory: Path
) -> None:
    device = Device(make_port())
    device.open()
    file = lock_directory / f"LCK..pts_{os.path.basename(os.ttyname(adapter.near))}"
    assert file.read_text() == f"{os.getpid():10d}\n"
    assert file.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in lock_directory.iterdir()] == [file.name]
    device.close()
    assert not [*lock_directory.iterdir()]


@pytest.mark.parametrize(
    ("path", "name"), [("/dev/ttyUSB0", "LCK..ttyUSB0"), ("/dev/pts/5", "LCK..pts_5")]
)
def test_the_name_of_a_lock_file(path: str, name: str) -> None:
    assert os.path.basename(lock_file(path)) == name


@pytest.mark.parametrize("text", ["{:10d}\n", "{} minicom root\n", "{}"])
def test_the_lock_of_a_live_program_is_respected_and_the_program_is_named(
    text: str, adapter: Adapter, make_port: MakePort, other: subprocess.Popen[bytes]
) -> None:
    port = make_port()
    file = Path(lock_file(port.path))
    file.write_text(text.format(other.pid))
    device = Device(port)
    with pytest.raises(DeviceError, match=rf"is in use by sleep \(PID {other.pid}\): it is opened"):
        device.open()
    assert device.holder == Holder(other.pid, "sleep")
    assert file.read_text() == text.format(other.pid)
    other.kill()
    other.wait()
    device.open()
    assert file.read_text() == f"{os.getpid():10d}\n"
    device.close()


def test_of_a_program_that_cannot_be_looked_up_the_lock_file_may_tell_the_name(
    other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, lock_directory: Path
) -> None:
    monkeypatch.setattr(lock, "program_of", lambda pid: "")
    file = lock_directory / "LCK..ttyUSB0"
    file.write_text(f"{other.pid:10d} minicom root\n")
    assert str(holder_of(str(file))) == f"minicom (PID {other.pid})"
    file.write_text(f"{other.pid:10d}\n")
    assert str(holder_of(str(file))) == f"PID {other.pid}"


@pytest.mark.parametrize("text", ["{:10d}\n", "", "rubbish", "-1", "0", "9" * 30, "\0\xff"])
def test_a_stale_lock_is_replaced(
    text: str, gone: int, adapter: Adapter, make_port: MakePort
) -> None:
    port = make_port()
    file = Path(lock_file(port.path))
    file.write_text(text.format(gone), encoding="latin-1")
    os.utime(file, (0, 0))
    device = Device(port)
    device.open()
    assert file.read_text() == f"{os.getpid():10d}\n"
    device.close()


def test_a_lock_that_is_just_being_written_counts(lock_directory: Path) -> None:
    file = lock_directory / "LCK..ttyUSB0"
    file.touch()
    assert holder_of(str(file))
    past = time.time() - 60
    os.utime(file, (past, past))
    assert holder_of(str(file)) is None


def test_what_is_no_file_is_no_lock(lock_directory: Path) -> None:
    pipe, link = lock_directory / "pipe", lock_directory / "link"
    os.mkfifo(pipe)
    link.symlink_to("/proc/self/stat")
    os.utime(pipe, (0, 0))
    assert holder_of(str(pipe)) is None
    assert holder_of(str(link)) is None


def test_where_no_lock_can_be_written_the_device_is_opened_and_that_is_said(
    adapter: Adapter, make_port: MakePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LOCK_DIRECTORY", "/nonexistent")
    device = Device(make_port())
    device.open()
    assert "No such file" in device.lock_problem
    device.close()


def test_a_lock_that_was_taken_meanwhile_is_not_removed(
    adapter: Adapter, make_port: MakePort, other: subprocess.Popen[bytes]
) -> None:
    port = make_port()
    ours = Lock()
    assert ours.take(port.path) is None
    Path(lock_file(port.path)).write_text(f"{other.pid:10d}\n")
    ours.release()
    assert holder_of(lock_file(port.path)) == Holder(other.pid, "sleep")


async def test_a_device_that_another_port_has_is_named_so_and_stays_locked(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port()
    bench = await serve(port)
    await bench.server.apply([port, make_port(name="rival")])
    problem = bench.status("rival")["device"]["problem"]
    assert "is in use by another port of ttybridge" in problem
    assert bench.status("rival")["device"]["holder"]["pid"] == os.getpid()
    assert holder_of(lock_file(port.path))


def test_of_two_ports_that_open_a_device_at_once_the_one_that_gets_it_keeps_it_locked(
    adapter: Adapter, make_port: MakePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = make_port()
    ours, rival, open_with = Device(port), Device(make_port()), device._open_with

    def late(*words: Any) -> None:
        monkeypatch.setattr(device, "_open_with", open_with)
        ours.open()
        open_with(*words)

    monkeypatch.setattr(device, "_open_with", late)
    with pytest.raises(DeviceError, match="is in use by another port of ttybridge"):
        rival.open()
    assert holder_of(lock_file(port.path))
    ours.close()
    assert not holder_of(lock_file(port.path))


async def test_a_program_that_has_locked_the_device_itself_is_found(
    adapter: Adapter, make_port: MakePort, serve: Serve, lock_directory: Path
) -> None:
    # flock as pyserial does it, without a lock file.
    tty = os.open(adapter.path, os.O_RDWR)
    fcntl.flock(tty, fcntl.LOCK_EX)
    with another_program(stdin=tty) as process:
        os.close(tty)
        bench = await serve(make_port())
        device = bench.status()["device"]
        assert "is in use by" in device["problem"]
        assert not [*lock_directory.iterdir()]
        process.kill()
        process.wait()
        await bench.has_device()
        assert bench.status()["device"]["holder"] is None


def test_who_has_a_tty_open_is_found(adapter: Adapter) -> None:
    with another_program(stdin=adapter.near) as process:
        there = who_has_open([str(adapter.path), "/nonexistent"])
        assert Holder(process.pid, "sleep") in there[str(adapter.path)]
        assert there["/nonexistent"] == []
