"""Several listeners of one port, as the role renders them and ser2net serves them."""

from __future__ import annotations

import contextlib
import os
import socket
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from ttybridge.model.check import parse_portmap

from .rendered import FORMS, Line, laid_line, rendered, running
from .servers import free_tcp_port
from .wait import TIMEOUT, wait_until

NEGOTIATION = b"\xff\xfb\x03\xff\xfd\x03\xff\xfb\x01\xff\xfe\x01\xff\xfd\x00\xff\xfb\x00"

# What a client is told while one of another listener has the device; the telnet listener has line
# settings of its own.
IN_USE = {
    "telnet": b"Device open failure: Object was already in use\r\n",
    "rfc2217": b"Port's device already in use\r\n",
}


@contextlib.contextmanager
def served(form: str, folder: Path, sharing: str) -> Iterator[tuple[Line, dict[str, int]]]:
    """A raw listener, and a telnet and an RFC 2217 one that differ from it, on one line."""
    with laid_line() as line:
        raw, telnet, rfc2217 = (free_tcp_port() for _ in range(3))
        # By a name as on a host: gensio makes no lock files for /dev/pts/N.
        device = folder / "tty"
        device.symlink_to(line.path)
        entry = {
            "name": "sw",
            "device": str(device),
            "engine": "ser2net",
            "sharing": sharing,
            "banner": "{name} at {baudrate}",
            "listen": [
                f"127.0.0.1:{raw}",
                {"at": f"127.0.0.1:{telnet}", "protocol": "telnet", "baudrate": 19200}
                | {"stopbits": 2, "flow": "xonxoff"},
                {"at": f"127.0.0.1:{rfc2217}", "protocol": "rfc2217", "banner": ""},
            ],
        }
        text = rendered(parse_portmap([entry]), form)
        # With its lock files, as on a host: they keep a device to one listener.
        with running(text, folder, (raw, telnet, rfc2217)):
            yield line, {"raw": raw, "telnet": telnet, "rfc2217": rfc2217}


def connected(number: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", number), TIMEOUT)


def everything(client: socket.socket) -> bytes:
    """What comes until the connection is closed."""
    with client.makefile("rb") as file:
        return file.read()


def received(client: socket.socket, end: bytes) -> bytes:
    """What comes, up to and with `end`."""
    data = b""
    while not data.endswith(end) and (more := client.recv(1)):
        data += more
    assert data.endswith(end), data
    return data


@contextlib.contextmanager
def let_in(number: int, line: Line) -> Iterator[bytes]:
    """A client that is let in once the one before has left; what it is greeted with."""
    with contextlib.ExitStack() as stack:
        got: list[bytes] = []

        def is_let_in() -> bool:
            client = stack.enter_context(connected(number))
            client.settimeout(0.1)
            data = b""
            for _ in range(round(TIMEOUT / 0.1)):
                # Again and again: the client before may still take it.
                os.write(line.far, b"?")
                with contextlib.suppress(TimeoutError):
                    more = client.recv(65536)
                    if not more:
                        return False
                    data += more
                if data.endswith(b"?"):
                    got.append(data.rstrip(b"?"))
                    return True
            raise AssertionError(f"neither let in nor refused: {data!r}")

        wait_until(is_let_in, "the next client is let in")
        yield got[-1]


@pytest.mark.parametrize("sharing", ["exclusive", "replace", "shared"])
@pytest.mark.parametrize("form", FORMS)
def test_a_device_is_open_for_one_listener_at_a_time(
    form: str, sharing: str, tmp_path: Path
) -> None:
    with served(form, tmp_path, sharing) as (line, at):
        with connected(at["raw"]) as first:
            assert received(first, b"\n") == b"sw at 9600\r\n"
            for other, told in IN_USE.items():
                with connected(at[other]) as client:
                    assert everything(client).endswith(told)
            first.sendall(b"in use")
            assert line.read(6) == b"in use"
        with let_in(at["telnet"], line) as greeting:
            assert greeting == NEGOTIATION + b"sw at 19200\r\n"


@pytest.mark.parametrize("form", FORMS)
def test_each_listener_has_its_own_protocol_banner_and_line(form: str, tmp_path: Path) -> None:
    with served(form, tmp_path, "exclusive") as (line, at):
        with let_in(at["telnet"], line) as greeting:
            assert greeting == NEGOTIATION + b"sw at 19200\r\n"
            input_modes, _, control_modes, _, speed, _ = line.settings()
            assert speed == termios.B19200
            assert input_modes & termios.IXON
            assert control_modes & termios.CSTOPB
        with let_in(at["raw"], line) as greeting:
            assert greeting == b"sw at 9600\r\n"
            input_modes, _, control_modes, _, speed, _ = line.settings()
            assert speed == termios.B9600
            assert not input_modes & termios.IXON
            assert not control_modes & termios.CSTOPB
        with let_in(at["rfc2217"], line) as greeting:
            assert greeting == NEGOTIATION + b"\xff\xfd\x2c"


@pytest.mark.parametrize("form", FORMS)
def test_sharing_holds_among_the_clients_of_a_listener(form: str, tmp_path: Path) -> None:
    with served(form, tmp_path, "replace") as (_, at), connected(at["raw"]) as first:
        assert received(first, b"\n") == b"sw at 9600\r\n"
        with connected(at["raw"]) as second:
            assert received(second, b"\n") == b"sw at 9600\r\n"
            assert everything(first) == b""
    (tmp_path / "shared").mkdir()
    with served(form, tmp_path / "shared", "shared") as (line, at), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connected(at["raw"])) for _ in range(8)]
        for client in clients:
            assert received(client, b"\n") == b"sw at 9600\r\n"
        os.write(line.far, b"to all")
        for client in clients:
            assert received(client, b"to all") == b"to all"
        with connected(at["raw"]) as ninth:
            assert everything(ninth) == b"Port already in use\r\n"
