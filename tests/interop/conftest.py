"""A cable for each test, and what serves it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .cable import Cable, laid_cable
from .servers import Served, served


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    """The serial line: the server has the near end, the test the far one."""
    with laid_cable(tmp_path) as laid:
        yield laid


@pytest.fixture
def serve(cable: Cable, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Serve the cable with an engine and keys of the port map, until the end of the test."""
    with contextlib.ExitStack() as stack:

        def start(engine: str, **keys: object) -> Served:
            return stack.enter_context(served(engine, tmp_path, device=str(cable.near), **keys))

        yield start
