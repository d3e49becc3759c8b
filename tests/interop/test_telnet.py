"""The telnet command of GNU inetutils, which Debian and Ubuntu install as `telnet`.

What depends on how a telnet treats its user's keys is seen with netkit's (`telnet-ssl`), too, and
with busybox's, which never agrees to BINARY.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from .cable import Cable
from .programs import Program, in_terminal
from .servers import Served
from .wait import EVERY_BYTE, assert_carries, wait_until

ESCAPE = b"\x1d"
TYPED = EVERY_BYTE.replace(ESCAPE, b"")

telnet_ports = pytest.mark.parametrize(
    ("engine", "protocol"), [("bridge", "telnet"), ("bridge", "rfc2217"), ("ser2net", "telnet")]
)


@contextmanager
def telnet(sw: Served, program: str = "telnet") -> Iterator[Program]:
    """telnet as far as it gets without the server."""
    with in_terminal(program, "127.0.0.1", str(sw.tcp_port)) as client:
        client.read_until(b"Escape character is '^]'.\r\n")
        yield client


def command(client: Program, words: bytes, program: str = "telnet") -> None:
    """Give telnet itself a command, and return when it hands on keys again."""
    client.write(ESCAPE)
    client.read_until(program.encode() + b"> ")
    client.write(words + b"\r")
    client.read_until(words + b"\r\n")
    if words == b"mode line":
        client.wait_for_line_mode()
    else:
        client.wait_for_character_mode()


@telnet_ports
def test_telnet(engine: str, protocol: str, serve: Callable[..., Served], cable: Cable) -> None:
    with telnet(serve(engine, protocol=protocol)) as client:
        client.wait_for_character_mode()
        for key in b"a\r\x03\xff":
            assert_carries(client, cable, bytes([key]))
        assert_carries(client, cable, TYPED)
        assert_carries(cable, client)


@telnet_ports
def test_telnet_send_brk(
    engine: str, protocol: str, serve: Callable[..., Served], cable: Cable
) -> None:
    sw = serve(engine, protocol=protocol)
    with telnet(sw) as client:
        client.wait_for_character_mode()
        command(client, b"send brk")
        assert_carries(client, cable, TYPED)
        if engine == "bridge":  # the break of ser2net does not show on a pty
            assert sw.breaks() == 1


@pytest.mark.parametrize("protocol", ["telnet", "rfc2217"])
def test_telnet_send_ayt(protocol: str, serve: Callable[..., Served], cable: Cable) -> None:
    with telnet(serve("bridge", protocol=protocol)) as client:
        client.wait_for_character_mode()
        command(client, b"send ayt")
        client.read_until(b"sw: here")
        assert_carries(client, cable, TYPED)


def test_telnet_shows_the_banner(serve: Callable[..., Served], cable: Cable) -> None:
    sw = serve("bridge", protocol="telnet", banner="{name} at {baudrate}", baudrate="19200")
    with telnet(sw) as client:
        assert client.read_until(b"\r\n") == b"sw at 19200\r\n"
        client.wait_for_character_mode()
        assert_carries(client, cable, TYPED)


@pytest.mark.parametrize(
    ("engine", "words"),
    [("bridge", b"ttybridge: port sw is in use by 127.0.0.1:"), ("ser2net", b"already in use")],
)
def test_a_second_telnet_is_told_why_it_is_refused(
    engine: str, words: bytes, serve: Callable[..., Served], cable: Cable
) -> None:
    sw = serve(engine, protocol="telnet")
    with telnet(sw) as first:
        first.wait_for_character_mode()
        assert_carries(first, cable, TYPED)
        with telnet(sw) as second:
            second.read_until(words)
            second.read_until(b"Connection closed by foreign host.\r\n")
        assert_carries(cable, first)


@pytest.mark.parametrize("program", ["telnet", "telnet-ssl"])
def test_a_telnet_in_line_mode_shows_what_comes_after_each_ctrl_c(
    program: str, serve: Callable[..., Served], cable: Cable
) -> None:
    """It throws away what comes until its timing mark is answered."""
    with telnet(serve("bridge", protocol="telnet"), program) as client:
        client.wait_for_character_mode()
        command(client, b"mode line", program)
        # At its prompt a Ctrl-C is telnet's own. In line mode and BINARY, Return is LF.
        assert_carries(client, cable, b"here\r", b"here\n")
        for number in range(4):
            assert_carries(client, cable, b"\x03")
            # What it is sent before the mark is lost, so the device says it until it is shown.
            wait_until(partial(shows, client, cable, f"{number}: interrupted\r\n".encode()), "it")


def shows(client: Program, cable: Cable, words: bytes) -> bool:
    """Let the device say something, and see whether its client has shown it yet."""
    cable.write(words)
    return client.has(words)


@pytest.mark.parametrize("program", ["telnet", "telnet-ssl"])
def test_commands_of_telnet_that_stand_for_keys(
    program: str, serve: Callable[..., Served], cable: Cable
) -> None:
    keys = {"ip": b"\x03", "ec": b"\x7f", "el": b"\x15", "susp": b"\x1a", "eof": b"\x04"}
    with telnet(serve("bridge", protocol="telnet"), program) as client:
        client.wait_for_character_mode()
        for name, key in {**keys, "abort": b"\x1c"}.items():
            command(client, f"send {name}".encode(), program)
            assert cable.read(1) == key
        assert_carries(client, cable, b"and others")


@pytest.mark.parametrize("mode", [b"mode character", b"mode line"])
@pytest.mark.parametrize("program", ["telnet", "telnet-ssl"])
def test_return_is_one_cr_outside_of_binary(
    program: str, mode: bytes, serve: Callable[..., Served], cable: Cable
) -> None:
    with telnet(serve("bridge", protocol="telnet"), program) as client:
        client.wait_for_character_mode()
        command(client, b"toggle binary", program)
        command(client, mode, program)
        for line in (b"show version\r", b"\r", b"quit\r"):
            assert_carries(client, cable, line)


def test_return_of_busybox_is_one_cr(serve: Callable[..., Served], cable: Cable) -> None:
    sw = serve("bridge", protocol="telnet")
    with in_terminal("busybox", "telnet", "127.0.0.1", str(sw.tcp_port)) as client:
        client.wait_for_character_mode()
        for line in (b"show version\r", b"\r", b"quit\r"):
            assert_carries(client, cable, line)
