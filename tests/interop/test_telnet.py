"""The telnet command of GNU inetutils, which Debian and Ubuntu install as `telnet`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from .cable import Cable
from .programs import Program, in_terminal
from .servers import Served
from .wait import EVERY_BYTE, assert_carries

ESCAPE = b"\x1d"
TYPED = EVERY_BYTE.replace(ESCAPE, b"")

telnet_ports = pytest.mark.parametrize(
    ("engine", "protocol"), [("bridge", "telnet"), ("bridge", "rfc2217"), ("ser2net", "telnet")]
)


@contextmanager
def telnet(sw: Served) -> Iterator[Program]:
    """telnet as far as it gets without the server."""
    with in_terminal("telnet", "127.0.0.1", str(sw.tcp_port)) as client:
        client.read_until(b"Escape character is '^]'.\r\n")
        yield client


def command(client: Program, words: bytes) -> None:
    """Give telnet itself a command, and return when it hands on keys again."""
    client.write(ESCAPE)
    client.read_until(b"telnet> ")
    client.write(words + b"\r")
    client.read_until(words + b"\r\n")
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
