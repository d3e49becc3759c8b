"""plink, PuTTY without its window: raw and telnet."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .cable import Cable
from .programs import between_pipes, in_terminal
from .servers import ENGINES, Served
from .wait import assert_carries


@pytest.mark.parametrize("engine", ENGINES)
def test_plink_raw(engine: str, serve: Callable[..., Served], cable: Cable) -> None:
    sw = serve(engine)
    with between_pipes("plink", "-batch", "-raw", "-P", str(sw.tcp_port), "127.0.0.1") as client:
        assert_carries(client, cable)
        assert_carries(cable, client)


@pytest.mark.parametrize(
    ("engine", "protocol"), [("bridge", "telnet"), ("bridge", "rfc2217"), ("ser2net", "telnet")]
)
def test_plink_telnet(
    engine: str, protocol: str, serve: Callable[..., Served], cable: Cable
) -> None:
    sw = serve(engine, protocol=protocol)
    with in_terminal("plink", "-telnet", "-P", str(sw.tcp_port), "127.0.0.1") as client:
        client.wait_for_character_mode()
        for key in b"a\r\x03\xff":
            assert_carries(client, cable, bytes([key]))
        assert_carries(client, cable)
        assert_carries(cable, client)


def test_plink_telnet_that_sends_before_anything_is_agreed(
    serve: Callable[..., Served], cable: Cable
) -> None:
    sw = serve("bridge", protocol="telnet")
    with between_pipes("plink", "-batch", "-telnet", "-P", str(sw.tcp_port), "127.0.0.1") as client:
        assert_carries(client, cable)
        # There and back: by then plink's answer to WILL BINARY has come. Before, NUL follows CR.
        assert_carries(cable, client, b"agreed?")
        assert_carries(client, cable, b"agreed")
        assert_carries(cable, client)
