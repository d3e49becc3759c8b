"""socat: between pipes, and as the program that makes a tty of a port."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import serial

from .cable import Cable
from .programs import between_pipes
from .servers import ENGINES, Served
from .wait import TIMEOUT, assert_carries, wait_until


@pytest.mark.parametrize("engine", ENGINES)
def test_socat(engine: str, serve: Callable[..., Served], cable: Cable) -> None:
    sw = serve(engine)
    with between_pipes("socat", "-", f"TCP:{sw.address}") as client:
        assert_carries(client, cable)
        assert_carries(cable, client)


@pytest.mark.parametrize("engine", ENGINES)
def test_socat_makes_a_tty(
    engine: str, serve: Callable[..., Served], cable: Cable, tmp_path: Path
) -> None:
    sw, link = serve(engine), tmp_path / "remote"
    with between_pipes("socat", f"PTY,raw,echo=0,link={link}", f"TCP:{sw.address}"):
        wait_until(lambda: os.path.exists(link), "socat's tty")
        with serial.Serial(str(link), timeout=TIMEOUT) as client:
            assert_carries(client, cable)
            assert_carries(cable, client)
