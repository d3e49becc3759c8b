"""ser2net with a configuration that the role renders, or with any other, on lines of ptys."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import subprocess
import termios
import time
import tty
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jinja2

from ttybridge.model.ports import Port, as_entry, as_variables

from .servers import ROOT
from .wait import TIMEOUT, wait_until


def _version() -> tuple[int, ...]:
    said = subprocess.run(["ser2net", "-v"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in said.split()[-1].split(".")[:2])


# ser2net 4.5 and later have only one form: nothing of the other can be served there, or rendered.
READS_CLASSIC = _version() < (4, 5)
FORMS = ["conf", "yaml"] if READS_CLASSIC else ["yaml"]

SETTLED_SECONDS = 0.3


def rendered(ports: Iterable[Port], form: str) -> str:
    """What the role writes for ser2net."""
    template = _environment().get_template(f"ser2net.{form}.j2")
    return template.render(ser2net_ports=[as_variables(port) for port in ports])


def toml(ports: Iterable[Port]) -> str:
    """What the role writes for ttybridge."""
    template = _environment().get_template("ttybridge.toml.j2")
    served = [{"name": port.name, "path": port.path, "entry": as_entry(port)} for port in ports]
    return template.render(bridge_ports=served, bridge_metrics="")


def _environment() -> jinja2.Environment:
    """Ansible's Jinja has these two extensions."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT / "templates"),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.tests["match"] = lambda text, pattern: re.match(pattern, text) is not None
    environment.filters["to_json"] = json.dumps
    return environment


class Line:
    """A serial line: ser2net opens `path`, the test is the device at the far end."""

    def __init__(self, far: int, near: int) -> None:
        self.path = os.ttyname(near)
        self.far, self._near = far, near

    def settings(self) -> list[Any]:
        """All that termios says: modes, speeds, without the control characters."""
        return termios.tcgetattr(self._near)[:6]

    def settled(self) -> list[Any]:
        """The settings once they stay as they are: ser2net serves before it has set all."""
        settings, since = self.settings(), time.monotonic()
        while time.monotonic() - since < SETTLED_SECONDS:
            time.sleep(0.01)
            now = self.settings()
            if now != settings:
                settings, since = now, time.monotonic()
        return settings

    def read(self, size: int) -> bytes:
        """The next `size` bytes, or fewer where no more come."""
        data = b""
        while len(data) < size and select.select([self.far], [], [], TIMEOUT)[0]:
            data += os.read(self.far, size - len(data))
        return data


@contextlib.contextmanager
def laid_line() -> Iterator[Line]:
    """A line for the length of a block."""
    far, near = pty.openpty()
    tty.setraw(near)
    try:
        yield Line(far, near)
    finally:
        os.close(far)
        os.close(near)


@contextlib.contextmanager
def running(text: str, folder: Path, numbers: Iterable[int], *options: str) -> Iterator[None]:
    """ser2net with a configuration, listening on these TCP ports, for the length of a block."""
    file = folder / ("ser2net.yaml" if text.startswith("%YAML") else "ser2net.conf")
    file.write_text(text)
    # Debug output instead of syslog.
    words = ["ser2net", "-d", *options, "-c", str(file)]
    with (folder / "said").open("wb") as said, subprocess.Popen(words, stderr=said) as process:
        try:
            wait_until(lambda: all(map(listening, numbers)), f"listens: {text}")
            yield
        finally:
            process.terminate()
            try:
                process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def listening(number: int) -> list[str]:
    """Where something listens on a TCP port (proc_net_tcp(5))."""
    tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
    pattern = rf"\d+: (\w+:{number:04X}) \w+:0000 0A"
    return [address for table in tables for address in re.findall(pattern, table)]
