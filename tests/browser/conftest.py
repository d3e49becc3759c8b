"""Debian's Chromium, up once for all tests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from .driver import Browser, chromedriver

# Width and height of a window.
DESKTOP, PHONE = (1200, 700), (390, 780)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chromedriver(tmp_path_factory.mktemp("driver") / "log") as address:
        yield address


Open = Callable[..., AbstractContextManager[Browser]]


@pytest.fixture
def window(server: str, tmp_path: Path) -> Open:
    """Opens a window of the browser; what it downloads is in the test's folder."""

    @contextlib.contextmanager
    def opened(size: tuple[int, int] = DESKTOP, dark: bool = False) -> Iterator[Browser]:
        browser = Browser(server, size, dark, tmp_path)
        try:
            yield browser
        finally:
            browser.quit()

    return opened


def keep(browser: Browser, name: str) -> None:
    """Write a picture of the window for the documents, where PICTURES names a folder for them."""
    if folder := os.environ.get("PICTURES"):
        browser.picture(Path(folder) / f"{name}.png")
