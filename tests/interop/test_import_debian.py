"""Debian's own configuration of ser2net, imported for each engine, beside ser2net with the file."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ttybridge.setup.ser2net import importer

from .rendered import FORMS, Line, laid_line, listening, rendered, running, toml
from .servers import ROOT, free_tcp_port
from .wait import EVERY_BYTE, TIMEOUT, wait_until

# What Debian 12 and 13 ship is this, with comments: four TCP ports for two devices.
DEBIANS = r"""%YAML 1.1
---
define: &banner \r\nser2net port \p device \d [\B] (Debian GNU/Linux)\r\n\r\n
"""
CONNECTION = """
connection: &con{number}
    accepter: tcp,localhost,{tcp}
    enable: on
    options:
      banner: *banner
      kickolduser: true
      telnet-brk-on-sync: true
    connector: serialdev,
              {device},
              {speed}n81,local
"""
PLACES = [("/dev/ttyS0", 9600), ("/dev/ttyS1", 9600), ("/dev/ttyS0", 19200), ("/dev/ttyS1", 19200)]
PACKAGED = Path("/etc/ser2net.yaml")


def debians(devices: dict[str, str], numbers: list[int]) -> str:
    """The file, with other devices and TCP ports."""
    return DEBIANS + "".join(
        CONNECTION.format(number=index, tcp=tcp, device=devices[device], speed=speed)
        for index, (tcp, (device, speed)) in enumerate(zip(numbers, PLACES, strict=True))
    )


@pytest.mark.parametrize("engine", ["ser2net", "bridge"])
def test_all_ports_of_the_packages_file_are_taken(engine: str, tmp_path: Path) -> None:
    same = {device: device for device, _ in PLACES}
    text = debians(same, [2000, 2001, 3000, 3001])
    written = importer.parse(text, "ser2net.yaml", engine)
    assert (written.taken, written.written, written.complete) == (4, 4, True)
    if "con0096" in PACKAGED.read_text():  # nobody has changed it
        packaged = importer.load(PACKAGED, engine)
        assert (packaged.taken, packaged.written, packaged.complete) == (4, 4, True)
    file = tmp_path / "ser2net.yaml"
    file.write_text(text)
    words = [sys.executable, "-m", "ttybridge", "import", "--engine", engine, str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "bridge" / "src")}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 ports" in done.stderr


@pytest.mark.parametrize("engine", [*FORMS, "bridge"])
def test_bytes_banners_and_settings_are_those_of_ser2net(engine: str, tmp_path: Path) -> None:
    numbers = [free_tcp_port() for _ in PLACES]
    with contextlib.ExitStack() as stack:
        lines = {device: stack.enter_context(laid_line()) for device, _ in PLACES}
        text = debians({device: line.path for device, line in lines.items()}, numbers)
        of_port = [lines[device] for device, _ in PLACES]
        folders = [tmp_path / "before", tmp_path / "after"]
        for folder in folders:
            folder.mkdir()
        with running(text, folders[0], numbers, "-u"):
            before = [_seen(line, number) for line, number in zip(of_port, numbers, strict=True)]
        which = "bridge" if engine == "bridge" else "ser2net"
        imported = importer.parse(text, "ser2net.yaml", which)
        assert imported.complete, imported.lines("ser2net.yaml")
        with _serving(imported, engine, folders[1], numbers):
            after = [_seen(line, number) for line, number in zip(of_port, numbers, strict=True)]
    if engine == "bridge":
        # ser2net 4.3 begins the settings of \B with a comma, and turns HUPCL off; 4.6 does neither,
        # and Linux gives a tty HUPCL.
        for one in before:
            one["banner"] = one["banner"].replace(b"[,", b"[").replace(b",HANGUP_WHEN_DONE", b"")
    assert after == before
    assert all(b"(Debian GNU/Linux)\r\n\r\n" in one["banner"] for one in before)
    assert [one["speed"] for one in before] == [termios.B9600] * 2 + [termios.B19200] * 2


@contextlib.contextmanager
def _serving(
    imported: importer.Imported, engine: str, folder: Path, numbers: list[int]
) -> Iterator[None]:
    if engine != "bridge":
        with running(rendered(imported.ports, engine), folder, numbers, "-u"):
            yield
        return
    file = folder / "ttybridge.toml"
    file.write_text(toml(imported.ports))
    words = [sys.executable, "-m", "ttybridge", "serve", "--config", str(file)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "bridge" / "src"),
        "RUNTIME_DIRECTORY": str(folder),
    }
    with subprocess.Popen(words, env=environment) as process:
        try:
            wait_until(lambda: all(map(listening, numbers)), "ttybridge listens")
            yield
        finally:
            process.terminate()
            process.wait(TIMEOUT)


def _seen(line: Line, number: int) -> dict[str, Any]:
    """What a client and the device at the far end see of a TCP port."""
    # ser2net closes a device some time after its client has gone; then the next one gets it.
    wait_until(lambda: _banner(number) != b"", f"{number} has its device")
    with socket.create_connection(("127.0.0.1", number), TIMEOUT) as client:
        banner = _until(client, b"(Debian GNU/Linux)\r\n\r\n")
        os.write(line.far, b"from the device")
        heard = _until(client, b"from the device")
        client.sendall(EVERY_BYTE)
        to_device = line.read(len(EVERY_BYTE))
        iflag, _, cflag, _, _, speed = line.settled()
    flags = termios.CSIZE | termios.CSTOPB | termios.PARENB | termios.CRTSCTS | termios.CLOCAL
    return {
        "banner": banner,
        "heard": heard,
        "to_device": to_device,
        "line": cflag & flags,
        "xonxoff": iflag & (termios.IXON | termios.IXOFF),
        "speed": speed,
    }


def _banner(number: int) -> bytes:
    """The banner that a client gets; nothing while the device is in use."""
    with socket.create_connection(("127.0.0.1", number), TIMEOUT) as client:
        said = _until(client, b"(Debian GNU/Linux)\r\n\r\n")
    return b"" if re.search(rb"in use|failure", said) else said


def _until(client: socket.socket, end: bytes) -> bytes:
    """All that comes up to and with `end`, or until the connection is closed."""
    data = b""
    while not data.endswith(end):
        try:
            more = client.recv(1)
        except ConnectionResetError:
            break
        if not more:
            break
        data += more
    return data
