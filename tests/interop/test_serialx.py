"""serialx, Home Assistant's serial library: `rfc2217://`, as a plain and as an asyncio client.

Only to the bridge: ser2net does not acknowledge the masks, which serialx waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import serialx

from .cable import Cable
from .servers import Served
from .wait import EVERY_BYTE, TIMEOUT, wait_until


def test_serialx(serve: Callable[..., Served], cable: Cable) -> None:
    sw = serve("bridge", protocol="rfc2217")
    url = f"rfc2217://{sw.address}"
    with serialx.serial_for_url(url, baudrate=57600, read_timeout=TIMEOUT) as client:
        assert cable.baudrate() == 57600
        client.write(EVERY_BYTE)
        assert cable.read(256) == EVERY_BYTE
        cable.write(EVERY_BYTE)
        assert client.readexactly(256) == EVERY_BYTE
        client.reconfigure_port(baudrate=115200, stopbits=2)
        assert (cable.baudrate(), cable.stopbits()) == (115200, 2)
    wait_until(lambda: (cable.baudrate(), cable.stopbits()) == (9600, 1), "the settings restored")


def test_serialx_with_asyncio(serve: Callable[..., Served], cable: Cable) -> None:
    sw = serve("bridge", protocol="rfc2217")

    async def talk() -> None:
        client = serialx.async_serial_for_url(f"rfc2217://{sw.address}", baudrate=57600)
        async with asyncio.timeout(TIMEOUT), client:
            assert cable.baudrate() == 57600
            await client.write(EVERY_BYTE)
            assert await asyncio.to_thread(cable.read, 256) == EVERY_BYTE
            cable.write(EVERY_BYTE)
            assert await client.readexactly(256) == EVERY_BYTE
            await client.reconfigure_port(baudrate=115200)
            assert cable.baudrate() == 115200
            await client.set_modem_pins(dtr=False)
            await client.flush()

    asyncio.run(talk())
    wait_until(lambda: cable.baudrate() == 9600, "the settings restored")
