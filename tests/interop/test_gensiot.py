"""gensiot, the client of ser2net's makers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .cable import Cable
from .programs import between_pipes
from .servers import ENGINES, Served
from .wait import EVERY_BYTE, assert_carries, wait_until

ESCAPE = b"\x1c"


@pytest.mark.parametrize("engine", ENGINES)
def test_gensiot(engine: str, serve: Callable[..., Served], cable: Cable) -> None:
    sw = serve(engine, protocol="rfc2217")
    stack = f"telnet(rfc2217),tcp,127.0.0.1,{sw.tcp_port}"
    with between_pipes("gensiot", "-e", str(ESCAPE[0]), "-i", "stdio(self)", stack) as client:
        typed = EVERY_BYTE.replace(ESCAPE, 2 * ESCAPE)
        assert_carries(client, cable, typed, becomes=EVERY_BYTE)
        assert_carries(cable, client)
        client.write(ESCAPE + b"s115200\r")
        wait_until(lambda: cable.baudrate() == 115200, "the new baudrate")
        client.write(ESCAPE + b"d")
        client.read_until(b"Speed: 115200N81\r\n")
        if engine == "bridge":  # the break of ser2net does not show on a pty
            client.write(ESCAPE + b"b")
            wait_until(lambda: sw.breaks() == 1, "a break")
        assert_carries(client, cable, typed, becomes=EVERY_BYTE)
        assert_carries(cable, client)
    wait_until(lambda: cable.baudrate() == 9600, "the settings restored")
