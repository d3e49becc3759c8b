"""One TCP connection, with a stand-in for asyncio's side of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ttybridge.net.connection import Connection


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self, tls: object) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "ssl_object": tls})
        self.written = bytearray()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written += data


class Owner:
    """Wants to send answers to who will send no more, or does not."""

    def __init__(self, answers: bool) -> None:
        self.answers = answers

    def arrived(self, connection: Connection) -> None:
        pass

    def received(self, connection: Connection, data: bytes) -> None:
        pass

    def writable(self, connection: Connection) -> None:
        pass

    def finished(self, connection: Connection) -> bool:
        return self.answers

    def gone(self, connection: Connection, error: Exception | None) -> None:
        pass


@pytest.mark.parametrize(
    ("answers", "tls", "stays"),
    [(True, None, True), (False, None, False), (True, object(), False)],
)
async def test_nothing_is_written_after_an_end_that_closes_the_connection(
    answers: bool, tls: object, stays: bool
) -> None:
    # asyncio would log each such write of a TLS connection for as long as the client reads nothing.
    connection, transport = Connection(Owner(answers), keepalive=0), Transport(tls)
    connection.connection_made(transport)
    assert connection.eof_received() == stays
    connection.write(b"x")
    assert bytes(transport.written) == (b"x" if stays else b"")


async def test_one_with_tls_that_has_just_ended_is_dead() -> None:
    # asyncio has no socket of it any more, one turn of the loop before it says so.
    connection = Connection(Owner(answers=True), keepalive=60)
    connection.connection_made(Transport(tls=object()))
    assert connection.is_dead(blocked=False)
