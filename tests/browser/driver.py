"""Debian's Chromium, driven by its chromedriver: the few commands of WebDriver that the tests need.

https://www.w3.org/TR/webdriver2/ has them. A person's click and key, not JavaScript's.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

# How long a page may take on a loaded machine, in seconds.
PATIENCE = 60.0

# The name of an element in WebDriver's JSON.
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

# Keys without a character.
ENTER, CONTROL = "\ue007", "\ue009"


class WebDriverError(Exception):
    """The browser cannot do that; the message is its own."""


def until(what: str, look: Callable[[], Result]) -> Result:
    """Return what `look` finds as soon as it is true; `what` says what is waited for."""
    end = time.monotonic() + PATIENCE
    seen: object = None
    while time.monotonic() < end:
        try:
            found = look()
            if found:
                return found
            seen = found
        except WebDriverError as error:  # the page is just being made again
            seen = error
        time.sleep(0.1)
    raise AssertionError(f"{what}: not seen within {PATIENCE:g} s: {seen!r}")


class Browser:
    """One window."""

    def __init__(self, server: str, size: tuple[int, int], dark: bool, downloads: Path) -> None:
        self._server = server
        arguments = [
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            f"--window-size={size[0]},{size[1]}",
            *(["--force-dark-mode"] if dark else []),
        ]
        chrome: dict[str, Any] = {
            "binary": shutil.which("chromium"),
            "args": arguments,
            "prefs": {"download.default_directory": str(downloads)},
        }
        if size[0] < 600:
            metrics = {"width": size[0], "height": size[1], "pixelRatio": 1, "touch": True}
            chrome["mobileEmulation"] = {"deviceMetrics": metrics}
        wanted = {"acceptInsecureCerts": True, "goog:chromeOptions": chrome}
        session = self._call("POST", "", capabilities={"alwaysMatch": wanted})
        self._server = f"{server}/{session['sessionId']}"

    def _call(self, method: str, path: str, **body: Any) -> Any:
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(self._server + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=2 * PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise WebDriverError(json.load(error)["value"]["message"]) from None

    def quit(self) -> None:
        """Close the window."""
        self._call("DELETE", "")

    def open(self, url: str) -> None:
        """Go to an address."""
        self._call("POST", "/url", url=url)

    @property
    def url(self) -> str:
        """Where the window is."""
        return str(self._call("GET", "/url"))

    def _element(self, css: str) -> str:
        found = self._call("POST", "/element", using="css selector", value=css)
        return f"/element/{found[_ELEMENT]}"

    def count(self, css: str) -> int:
        """How many elements there are."""
        return len(self._call("POST", "/elements", using="css selector", value=css))

    def text(self, css: str) -> str:
        """The text of an element as it is seen; "" where it is hidden."""
        return str(self._call("GET", self._element(css) + "/text"))

    def is_seen(self, css: str) -> bool:
        """Whether there is such an element to be seen."""
        return self.count(css) > 0 and bool(self._call("GET", self._element(css) + "/displayed"))

    def wait_for(self, css: str, text: str = "") -> str:
        """Return the text of an element, once it is seen and has a text in it."""

        def look() -> str:
            here = self.text(css) if self.is_seen(css) else ""
            return (here or css) if text in here and self.is_seen(css) else ""

        return until(f"{css} with {text!r}", look)

    def click(self, css: str) -> None:
        """Click on an element, once it can be clicked."""

        def try_it() -> bool:
            self._call("POST", self._element(css) + "/click")
            return True

        until(f"a click on {css}", try_it)

    def type(self, css: str, text: str) -> None:
        """Put the cursor into an element and type."""

        def try_it() -> bool:
            self._call("POST", self._element(css) + "/value", text=text)
            return True

        until(f"keys for {css}", try_it)

    def press(self, *keys: str) -> None:
        """Type one key after the other where the cursor is; keys such as CONTROL stay down."""
        steps = [{"type": "keyDown", "value": key} for key in keys]
        steps += [{"type": "keyUp", "value": key} for key in reversed(keys)]
        actions = [{"type": "key", "id": "keyboard", "actions": steps}]
        self._call("POST", "/actions", actions=actions)

    def say(self, text: str) -> None:
        """Type a text where the cursor is."""
        for letter in text:
            self.press(letter)

    def accept(self) -> str:
        """Answer a question of the page with yes; return the question."""

        def try_it() -> str:
            words = str(self._call("GET", "/alert/text"))
            self._call("POST", "/alert/accept")
            return words

        return until("a question", try_it)

    def enter_frame(self, css: str) -> None:
        """Go on in a frame of the page."""

        def try_it() -> bool:
            element = self._call("POST", "/element", using="css selector", value=css)
            self._call("POST", "/frame", id=element)
            return True

        until(f"the frame {css}", try_it)

    def run(self, script: str) -> Any:
        """Return what a script says: to look, never to click."""
        return self._call("POST", "/execute/sync", script=script, args=[])

    def picture(self, path: Path) -> None:
        """Write what the window shows as a PNG file."""
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))


@contextlib.contextmanager
def chromedriver(log: Path) -> Iterator[str]:
    """Run chromedriver for the length of a block; yields the address where it takes sessions."""
    with (
        log.open("wb") as said,
        subprocess.Popen(["chromedriver", "--port=0"], stdout=said, stderr=said) as process,
    ):
        try:

            def port() -> str:
                assert process.poll() is None, log.read_text()
                _, found, rest = log.read_text().partition("started successfully on port ")
                return rest.partition(".")[0] if found else ""

            yield f"http://127.0.0.1:{until('the port of chromedriver', port)}/session"
        finally:
            process.terminate()
