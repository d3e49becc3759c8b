"""pyserial's clients: `socket://` and `rfc2217://`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import serial

from .cable import Cable
from .servers import ENGINES, Served
from .wait import TIMEOUT, assert_carries, wait_until

pytestmark = pytest.mark.filterwarnings(r"ignore:set(Daemon|Name)\(\):DeprecationWarning")


@pytest.mark.parametrize("engine", ENGINES)
def test_socket(engine: str, serve: Callable[..., Served], cable: Cable) -> None:
    sw = serve(engine)
    with serial.serial_for_url(f"socket://{sw.address}", timeout=TIMEOUT) as client:
        assert_carries(client, cable)
        assert_carries(cable, client)


# Without ign_set_control ser2net does not get on with a tty that has no modem lines.
@pytest.mark.parametrize(
    ("engine", "options"),
    [("bridge", ""), ("bridge", "?ign_set_control"), ("ser2net", "?ign_set_control")],
)
def test_rfc2217(engine: str, options: str, serve: Callable[..., Served], cable: Cable) -> None:
    sw = serve(engine, protocol="rfc2217")
    url = f"rfc2217://{sw.address}{options}"
    with serial.serial_for_url(url, baudrate=57600, timeout=TIMEOUT) as client:
        assert cable.baudrate() == 57600
        assert_carries(client, cable)
        assert_carries(cable, client)
        client.baudrate, client.stopbits, client.xonxoff = 115200, 2, True
        assert (cable.baudrate(), cable.stopbits(), cable.xonxoff()) == (115200, 2, True)
        client.xonxoff = False
        assert_carries(client, cable)
        assert_carries(cable, client)
    wait_until(
        lambda: (cable.baudrate(), cable.stopbits(), cable.xonxoff()) == (9600, 1, False),
        "the settings restored",
    )


def test_rfc2217_break_and_modem_lines(serve: Callable[..., Served], cable: Cable) -> None:
    sw = serve("bridge", protocol="rfc2217")
    with serial.serial_for_url(f"rfc2217://{sw.address}", timeout=TIMEOUT) as client:
        client.send_break(0)
        assert sw.breaks() == 1
        client.dtr = client.rts = False
        # Whatever they are, the server has told: pyserial raises where it has not.
        assert {client.cts, client.dsr, client.ri, client.cd} <= {False, True}
        assert_carries(client, cable)
