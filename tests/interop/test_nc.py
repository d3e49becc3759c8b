"""netcat, the least of all clients."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from .cable import Cable
from .programs import between_pipes
from .servers import ENGINES, Served
from .wait import TIMEOUT, assert_carries


@pytest.mark.parametrize("engine", ENGINES)
def test_nc(engine: str, serve: Callable[..., Served], cable: Cable) -> None:
    sw = serve(engine)
    with between_pipes("nc", "127.0.0.1", str(sw.tcp_port)) as client:
        assert_carries(client, cable)
        assert_carries(cable, client)


@pytest.mark.parametrize(
    ("engine", "words"),
    [("bridge", b"ttybridge: port sw is in use by 127.0.0.1:"), ("ser2net", b"already in use")],
)
def test_a_second_nc_is_told_why_it_is_refused(
    engine: str, words: bytes, serve: Callable[..., Served], cable: Cable
) -> None:
    sw = serve(engine)
    nc = "nc", "127.0.0.1", str(sw.tcp_port)
    with between_pipes(*nc) as first:
        assert_carries(first, cable)
        with between_pipes(*nc) as second:
            second.read_until(words)
        assert_carries(cable, first)


def test_nc_that_only_looks_throws_nobody_off(serve: Callable[..., Served], cable: Cable) -> None:
    sw = serve("bridge", sharing="replace")
    nc = "nc", "127.0.0.1", str(sw.tcp_port)
    with between_pipes(*nc) as client:
        assert_carries(client, cable)
        for _ in range(5):
            subprocess.run(["nc", "-z", *nc[1:]], check=True, timeout=TIMEOUT)
            assert_carries(client, cable)
            assert_carries(cable, client)
        with between_pipes(*nc) as newer:
            assert_carries(newer, cable)
            assert_carries(cable, newer)
