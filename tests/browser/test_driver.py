"""The browser does what a person does, and says what is there to be seen."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from .conftest import DESKTOP, PHONE, Open
from .driver import CONTROL, ENTER, WebDriverError

PAGE = """
<meta name="viewport" content="width=device-width">
<title>A page</title>
<form onsubmit="said.textContent = word.value; return false"><input id="word"></form>
<button onclick="said.textContent = confirm('Sure?')">Ask</button>
<a download="said.txt" href="data:text/plain,said">Save</a>
<p id="said"></p>
<p id="hidden" hidden>unseen</p>
"""
ADDRESS = "data:text/html," + quote(PAGE)


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_keys_and_clicks_reach_a_page(window: Open, size: tuple[int, int], tmp_path: Path) -> None:
    with window(size) as browser:
        browser.open(ADDRESS)
        assert browser.run("return window.innerWidth") == size[0]
        browser.type("#word", "one")
        browser.press(CONTROL, "a")
        browser.say("two")
        browser.press(ENTER)
        browser.wait_for("#said", "two")
        browser.click("button")
        assert browser.accept() == "Sure?"
        browser.wait_for("#said", "true")
        browser.picture(tmp_path / "page.png")
        assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_hidden_is_not_seen(window: Open) -> None:
    with window() as browser:
        browser.open(ADDRESS)
        assert browser.count("p") == 2
        assert not browser.is_seen("#hidden")
        assert browser.text("#hidden") == ""
        assert not browser.is_seen("#missing")
        with pytest.raises(WebDriverError, match="no such element"):
            browser.text("#missing")
