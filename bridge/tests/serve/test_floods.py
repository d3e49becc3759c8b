"""One client that floods its port with commands: the loop still turns for everybody else.

No test looks at a clock: a machine that is busy makes nothing fail here.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from conftest import Adapter, Bench, MakeAdapter, MakePort, Serve, TcpClient, until
from rfc2217_client import (
    AYT,
    BAUDRATE,
    BINARY,
    BRK,
    COM_PORT,
    CONTROL,
    DO,
    DONT,
    ECHO,
    LINESTATE,
    LINESTATE_MASK,
    MODEMSTATE,
    MODEMSTATE_MASK,
    NOP,
    PURGE,
    RESUME,
    SIGNATURE,
    SUSPEND,
    WILL,
    WONT,
    Rfc2217Client,
    baudrate,
    com_port,
)
from simtty import Uart
from ttybridge.model.ports import Port

# As much as the loop reads from one client at a time.
SIZE = 256 * 1024

# Calls of Python and C functions in one turn of the loop: a small time's worth of commands stays
# far below, and the whole of each flood takes more than twice as many. How many turns are looked
# at: a flood that takes long is not waited for.
MOST_CALLS = 100_000
ENOUGH_CALLS = 2 * MOST_CALLS

TIMING_MARK, TERMINAL_TYPE = 6, 24
SE, END = b"\xff\xf0", b"end"

# Nothing here takes nearly as long: only a daemon that hangs.
HANGS_SECONDS = 120


def say(*pairs: tuple[int, int]) -> bytes:
    """Verbs with their options."""
    return b"".join(bytes((255, *pair)) for pair in pairs)


def whole(again: bytes) -> bytes:
    """As much of a flood as the loop reads at a time, and then the word that ends it."""
    return again * (SIZE // len(again)) + SE + END


TELNET = {
    "BRK": BRK,
    "BRK between bytes": b"x" + BRK,
    "NOP": NOP,
    "NOP between bytes": b"x" + NOP,
    "NOP between doubled IAC": b"\xff\xff" * 9 + NOP,
    "AYT": AYT,
    "WILL and WONT": say((WILL, BINARY), (WONT, BINARY)),
    "WILL and WONT of COM-PORT-OPTION": say((WILL, COM_PORT), (WONT, COM_PORT)),
    "WILL and WONT of what is refused": say((WILL, TERMINAL_TYPE), (WONT, TERMINAL_TYPE)),
    "WILL again": say((WILL, BINARY)),
    "DO and DONT": say((DO, ECHO), (DONT, ECHO)),
    "DO TIMING-MARK": say((DO, TIMING_MARK)),
    "empty subnegotiations": b"\xff\xfa\xff\xf0",
}
RFC2217 = {
    "SIGNATURE": com_port(SIGNATURE),
    "SET-BAUDRATE again": com_port(*baudrate(115200)),
    "SET-BAUDRATE of two": com_port(*baudrate(9600)) + com_port(*baudrate(115200)),
    "SET-BAUDRATE asked": com_port(BAUDRATE, 0, 0, 0, 0),
    "DTR": com_port(CONTROL, 8) + com_port(CONTROL, 9),
    "break on and off": com_port(CONTROL, 5) + com_port(CONTROL, 6),
    "flow control": com_port(CONTROL, 1) + com_port(CONTROL, 3),
    "PURGE-DATA": com_port(PURGE, 3),
    "NOTIFY-LINESTATE": com_port(LINESTATE),
    "NOTIFY-MODEMSTATE": com_port(MODEMSTATE),
    "masks": com_port(LINESTATE_MASK, 0) + com_port(MODEMSTATE_MASK, 255),
    "SUSPEND and RESUME": com_port(SUSPEND) + com_port(RESUME),
    "an option that has nothing to say": com_port(),
    "subnegotiations cut off": b"\xff\xfa,\0",
}
ENDLESS = b"\xff\xfa," + b"x" * SIZE + SE + END
FLOODS = {name: whole(again) for name, again in (TELNET | RFC2217).items()} | {
    "an endless subnegotiation": ENDLESS
}


class Turns:
    """What the loop does in its turns, counted in calls of functions."""

    def __init__(self) -> None:
        self.most = 0
        """The calls in the longest turn."""
        self.calls = self._before = 0
        """All calls so far."""
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.Handle | None = None

    def _turn(self) -> None:
        self.most = max(self.most, self.calls - self._before)
        self._before = self.calls
        self._next = self._loop.call_soon(self._turn)

    def _count(self, _frame: FrameType, event: str, _argument: Any) -> None:
        self.calls += event in ("call", "c_call")

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count for the length of a block."""
        before = sys.getprofile()
        self._turn()
        sys.setprofile(self._count)
        try:
            yield
        finally:
            sys.setprofile(before)
            assert self._next
            self._next.cancel()


async def flooding_client(bench: Bench, port: Port) -> tuple[TcpClient, asyncio.Task[None]]:
    """Connect a client that agrees on RFC 2217, and a task that discards what it is sent."""
    client = Rfc2217Client(await bench.connect(port))
    await client.agree()

    async def discard() -> None:
        while await client.tcp.reader.read(65536):
            pass

    return client.tcp, asyncio.create_task(discard())


@pytest.fixture
def quiet(make_adapter: MakeAdapter) -> Adapter:
    """The adapter of a port that nobody floods."""
    return make_adapter("quiet")


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_done_in_small_parts_and_others_have_their_turns_between(
    adapter: Adapter,
    quiet: Adapter,
    make_port: MakePort,
    uart: Uart,
    name: str,
    serve: Serve,
) -> None:
    flooded = make_port(protocol="rfc2217")
    other = make_port(name="quiet", device=str(quiet.path))
    bench = await serve(flooded, other)
    beside, turns = await bench.connect(other), Turns()
    client, discarding = await flooding_client(bench, flooded)
    with turns.counted():
        client.write(FLOODS[name])
        beside.write(b"q")
        await until(
            lambda: adapter.read().endswith(END) or turns.calls > ENOUGH_CALLS,
            "the flood is done",
            HANGS_SECONDS,
        )
    discarding.cancel()
    adapter.unplug()  # a stop would wait until what is left of the flood has gone out
    assert turns.most < MOST_CALLS
    assert quiet.read() == b"q"


async def test_all_of_a_flood_is_done_in_its_order_also_when_the_client_sends_no_more(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port, count = make_port(protocol="rfc2217"), 5000
    data = bytes(range(250)) * (count // 250)
    flood = b"".join(bytes((each,)) + NOP + com_port(SIGNATURE) for each in data)
    bench = await serve(port)
    client = Rfc2217Client(await bench.connect(port))
    await client.agree()
    client.tcp.write(flood)
    client.tcp.finish()
    assert await adapter.receive(count) == data
    answers = await client.tcp.rest()
    assert answers == com_port(SIGNATURE + 100, *b"ttybridge") * count
