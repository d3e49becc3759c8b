"""Lines that are alike do not fill the journal, and what is left out is counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from conftest import Adapter, on_each_loop, until
from process import StartDaemon, entry
from ttybridge.daemon import limiter
from ttybridge.daemon.limiter import MOST_LINES, Limiter


@pytest.fixture
def journal() -> Iterator[list[str]]:
    """What a limited handler lets through."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Handler()
    handler.addFilter(Limiter())
    root = logging.getLogger()
    root.addHandler(handler)
    yield lines
    root.removeHandler(handler)


log = logging.getLogger("test")


async def test_lines_of_one_kind_are_few_and_the_rest_is_counted(
    journal: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "MINUTE_SECONDS", 3.0)
    for number in range(100):
        log.warning("%s: client %s left", "sw", number)
    assert journal == [f"sw: client {number} left" for number in range(MOST_LINES)]
    words = f"sw: client {MOST_LINES} left (and {100 - MOST_LINES} more such lines in a minute"
    await until(lambda: journal[-1].startswith(words), "the rest is counted")
    log.warning("%s: client %s left", "sw", "again")
    assert journal[-1] == "sw: client again left"


async def test_other_kinds_and_other_ports_are_not_left_out(journal: list[str]) -> None:
    for number in range(1000):
        log.warning("%s: client %s left", "sw", number)
    log.warning("%s: client %s left", "other", 1)
    log.warning("%s: device lost: %s", "sw", "hung up")
    assert journal[MOST_LINES:] == ["other: client 1 left", "sw: device lost: hung up"]


async def test_a_line_may_bring_its_own_limit(journal: list[str]) -> None:
    for _ in range(1000):
        log.warning("%s: cannot accept", "sw", extra={"most_a_minute": 1})
    assert journal == ["sw: cannot accept"]


async def test_slow_lines_are_all_written(
    journal: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "MINUTE_SECONDS", 0.3)
    for number in range(2 * MOST_LINES):
        log.warning("%s: %d", "sw", number)
        await asyncio.sleep(0.02)
    assert len(journal) == 2 * MOST_LINES


@on_each_loop
async def test_a_loop_of_connections_does_not_fill_the_journal(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path))
    process = await daemon(sw)
    for _ in range(500):
        (await process.socket_soon(sw)).close()
    await process.has_clients(0)
    assert process.log.count(" connected") == MOST_LINES
    assert process.log.count("\n") < 4 * MOST_LINES
