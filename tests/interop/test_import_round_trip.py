"""ser2net with a configuration of its own, and with what becomes of it: imported and rendered."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import termios
from pathlib import Path
from typing import Any

import pytest

from ttybridge.setup.ser2net import importer

from .rendered import FORMS, READS_CLASSIC, Line, laid_line, listening, rendered, running
from .servers import free_tcp_port
from .wait import EVERY_BYTE, TIMEOUT

CLASSIC = r"""
BANNER:hello:Welcome to \p\r\n
TRACEFILE:trace:/var/log/ser2net/trace
DEVICE:named:TTY3
DEFAULT:chardelay-scale:30
127.0.0.1,PORT0:raw:600:TTY0:9600 8DATABITS NONE 1STOPBIT hello
ipv4,tcp,PORT1:telnet:0:TTY1:115200N82 XONXOFF hello
PORT2:telnet:0:TTY2:19200 2STOPBITS \
    remctl kickolduser
::1,PORT3:raw:0:named:12345 RTSCTS max-connections=2 tb=trace
"""

YAML = r"""%YAML 1.1
---
define: &speed 57600n82
connection: &raw
  accepter: tcp,127.0.0.1,PORT0
  timeout: 600
  connector: serialdev,TTY0,*(speed)
connection: &greeted
  accepter: telnet,tcp,0.0.0.0,PORT1
  connector: serialdev,TTY1,9600n81,rtscts
  options:
    banner: 'Hello from \N\r\n'
    max-connections: 3
default:
  name: kickolduser
  value: true
connection: &remote
  accepter: telnet(rfc2217),tcp,PORT2
  connector: serialdev,TTY2,speed=1200n81 xonxoff
connection: &traced
  accepter: tcp,::,PORT3
  connector: TTY3,38400n82
  options:
    trace-read: '/var/log/ser2net/trace'
"""

# One device, and a TCP port for each purpose; each is a connection of ser2net of its own.
ONE_DEVICE = r"""%YAML 1.1
---
connection: &first
  accepter: tcp,127.0.0.1,PORT0
  connector: serialdev,TTY0,9600n81,local
  options:
    openstr: 'first in\r'
    closestr: 'first out\r'
connection: &second
  accepter: tcp,127.0.0.1,PORT1
  connector: serialdev,TTY0,9600n81
  options:
    kickolduser: true
connection: &third
  accepter: tcp,127.0.0.1,PORT2
  connector: serialdev,TTY0,115200n81,local
  options:
    closestr: '\x04'
    trace-write: '/var/log/ser2net/trace'
connection: &fourth
  accepter: tcp,127.0.0.1,PORT3
  timeout: 600
  connector: keepopen,serialdev,TTY0,9600n81,nobreak
"""
ORIGINALS = {
    **({"classic": (CLASSIC, [False, False, True, True])} if READS_CLASSIC else {}),
    "yaml": (YAML, [False, True, True, True]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("original", "let_in"), ORIGINALS.values(), ids=ORIGINALS)
def test_imported_ports_behave_as_the_original(
    original: str, let_in: list[bool], form: str, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(laid_line()) for _ in range(4)]
        numbers = [free_tcp_port() for _ in lines]
        text = original
        for index, (line, number) in enumerate(zip(lines, numbers, strict=True)):
            text = text.replace(f"PORT{index}", str(number)).replace(f"TTY{index}", line.path)
        imported = importer.parse(text, "ser2net")
        assert imported.complete, imported.lines("ser2net")
        before = _behaviour(text, tmp_path / "original", lines, numbers)
        after = _behaviour(rendered(imported.ports, form), tmp_path / "imported", lines, numbers)
        assert before == after
        assert b"\r\n" in before[1]["greeting"]
        assert original != CLASSIC or before[0]["greeting"].startswith(b"Welcome to 127.0.0.1,")
        assert b"from the device" in before[3]["log"]
        assert [port["let_in"] for port in before] == let_in
        assert all(port["to_device"] for port in before)


@pytest.mark.parametrize("form", FORMS)
def test_each_connection_of_a_device_behaves_as_the_original(form: str, tmp_path: Path) -> None:
    numbers = [free_tcp_port() for _ in range(4)]
    text = ONE_DEVICE
    for index, number in enumerate(numbers):
        text = text.replace(f"PORT{index}", str(number))
    with laid_line() as line:
        before = _one_after_the_other(text, tmp_path / "original", line, numbers)
    # Another one: where ser2net is told nothing of a setting, it leaves that of the program before.
    with laid_line() as line:
        imported = importer.parse(text.replace("TTY0", "/dev/TTY0"), "ser2net")
        assert imported.complete, imported.lines("ser2net")
        assert [len(port.listeners) for port in imported.ports] == [4]
        text = rendered(imported.ports, form).replace("/dev/TTY0", "TTY0")
        after = _one_after_the_other(text, tmp_path / "imported", line, numbers)
    assert after == before
    assert before["to_device"] == b"first in\r0123"
    assert before["ignores_carrier"] == [True, False, True, False]
    assert before["replaces"] == [False, True, False, False]
    assert before["log"] == b"2"


def _one_after_the_other(text: str, folder: Path, line: Line, numbers: list[int]) -> dict[str, Any]:
    """What the device sees of a client at each TCP port in turn, and what becomes of a second."""
    folder.mkdir()
    # By a name, so that gensio makes lock files: one connection has the device at a time.
    device = folder / "tty"
    device.symlink_to(line.path)
    text = text.replace("TTY0", str(device)).replace("/var/log/ser2net", str(folder))
    log = folder / "trace"
    seen: dict[str, Any] = {"to_device": b"", "ignores_carrier": [], "replaces": []}
    with running(text, folder, numbers):
        for index, number in enumerate(numbers):
            with contextlib.ExitStack() as stack:
                mark = str(index).encode()
                client = _client_whose_byte_comes(stack, line, number, mark, seen)
                seen["ignores_carrier"].append(bool(line.settled()[2] & termios.CLOCAL))
                second = stack.enter_context(socket.create_connection(("127.0.0.1", number)))
                ends = select.select([client, second], [], [], TIMEOUT)[0]
                seen["replaces"].append(client in ends)
    # A device that is closed at once may not have got the last words.
    for words in (b"first out\r", b"\x04"):
        seen["to_device"] = seen["to_device"].replace(words, b"")
    seen["log"] = log.read_bytes() if log.exists() else b""
    return seen


def _client_whose_byte_comes(
    stack: contextlib.ExitStack, line: Line, number: int, mark: bytes, seen: dict[str, Any]
) -> socket.socket:
    """Connect until the device is free for it, which takes ser2net a moment."""
    while True:
        client = stack.enter_context(socket.create_connection(("127.0.0.1", number), TIMEOUT))
        client.sendall(mark)
        both: list[Any] = [client, line.far]
        while client not in (ends := select.select(both, [], [], TIMEOUT)[0]):
            assert ends, f"{number} does nothing"
            seen["to_device"] += os.read(line.far, 1)
            if seen["to_device"].endswith(mark):
                return client


def _behaviour(
    text: str, folder: Path, lines: list[Line], numbers: list[int]
) -> list[dict[str, Any]]:
    """What can be seen of each port while ser2net serves them."""
    folder.mkdir()
    text = text.replace("/var/log/ser2net", str(folder))
    log = folder / "trace"
    # No lock files in the system's folder.
    with running(text, folder, numbers, "-u"):
        return [
            {**_port(line, number), "log": log.read_bytes() if log.exists() else b""}
            for line, number in zip(lines, numbers, strict=True)
        ]


def _port(line: Line, number: int) -> dict[str, Any]:
    listeners = listening(number)
    host = "::1" if any(len(address) > 13 for address in listeners) else "127.0.0.1"
    with socket.create_connection((host, number), TIMEOUT) as first:
        os.write(line.far, b"from the device")
        greeting = _until(first, b"from the device")
        # 0xff means something to telnet, at the start of the negotiation above all.
        data = EVERY_BYTE if greeting == b"from the device" else b"from a client"
        first.sendall(data)
        to_device = line.read(len(data))
        settings = line.settings()
        with socket.create_connection((host, number), TIMEOUT) as second:
            second.sendall(b"2")
            let_in, told = _let_in(second, line)
            os.write(line.far, b"to all")
            return {
                "listeners": listeners,
                "greeting": greeting,
                "to_device": to_device,
                "settings": settings,
                "let_in": let_in,
                "first": _until(first, b"to all"),
                "second": told + (_until(second, b"to all") if let_in else b""),
            }


def _let_in(client: socket.socket, line: Line) -> tuple[bool, bytes]:
    """Whether a client's one byte comes to the device or the client is closed, and what it got."""
    told = b""
    ends = [line.far, client.fileno()]
    while line.far not in (readable := select.select(ends, [], [], TIMEOUT)[0]):
        assert readable, "never: let in or closed"
        more = _received(client)
        if not more:
            return False, told
        told += more
    line.read(1)
    return True, told


def _received(client: socket.socket) -> bytes:
    """The next byte; none where the connection is closed."""
    try:
        return client.recv(1)
    except ConnectionResetError:
        return b""


def _until(client: socket.socket, end: bytes) -> bytes:
    """All that comes up to and with `end`, or until the connection is closed."""
    data = b""
    while not data.endswith(end):
        more = _received(client)
        if not more:
            break
        data += more
    return data
