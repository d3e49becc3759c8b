"""microcom, which speaks a little of RFC 2217."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .cable import Cable
from .programs import in_terminal
from .servers import ENGINES, Served
from .wait import EVERY_BYTE, assert_carries, wait_until

ESCAPE = b"\x1c"
# XON and XOFF are for its own terminal. It doubles no IAC.
TYPED = EVERY_BYTE.translate(None, ESCAPE + b"\x11\x13\xff")
# Its terminal makes CR LF of LF.
SHOWN = EVERY_BYTE.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("engine", ENGINES)
def test_microcom(engine: str, serve: Callable[..., Served], cable: Cable) -> None:
    sw = serve(engine, protocol="rfc2217")
    with in_terminal("microcom", f"--telnet={sw.address}", "--speed=57600") as client:
        client.read_until(b"to get to the prompt.\r\n")
        client.wait_for_character_mode()
        assert_carries(client, cable, TYPED)
        assert_carries(cable, client, EVERY_BYTE, becomes=SHOWN)
        assert cable.baudrate() == 57600
        client.write(ESCAPE)
        client.read_until(b"-> ")
        client.write(b"speed 115200\r")
        client.read_until(b"-> ")
        wait_until(lambda: cable.baudrate() == 115200, "the new baudrate")
        client.write(b"break\r")
        client.read_until(b"-\r\n")
        client.wait_for_character_mode()
        if engine == "bridge":  # the break of ser2net does not show on a pty
            wait_until(lambda: sw.breaks() == 1, "a break")
        assert_carries(client, cable, TYPED)
    wait_until(lambda: cable.baudrate() == 9600, "the settings restored")
