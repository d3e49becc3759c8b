"""docs/errors.md: wrong port maps, each with the message that it gets from the real filter.

`UPDATE_GOLDEN=1 pytest tests/templates` writes the messages again; look at the difference in git.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ttybridge.setup.fleet import Run, check_fleet, unreadable

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
EXAMPLE = re.compile(r"```yaml\n(?P<written>.*?)```\n\n```text\n(?P<said>.*?)```\n", re.DOTALL)
EXAMPLES = [match["written"] for match in EXAMPLE.finditer(PAGE.read_text())]

# An example with files begins each with its name.
FILE = re.compile(r"^# (inventory/production/\S+)\n", re.MULTILINE)
INVENTORY = Path("inventory/production")
PORT_MAP = "serial_ports:\n  - {name: sw, device: /dev/ttyAMA0, listen: 9999}\n"
# Files that an example does not show.
FILES = {
    f"{INVENTORY}/hosts.yml": "serial_servers:\n  hosts:\n    pi-rack1:\n    pi-rack2:\n",
    f"{INVENTORY}/host_vars/pi-rack1.yml": PORT_MAP,
    f"{INVENTORY}/host_vars/pi-rack2.yml": PORT_MAP,
}
DO = "write |add |rename |did you mean |the keys are |keep one|move it |put it |look at "


def said_of(written: str) -> str:
    """What is said of a host's variables, one of which may be left out of each example."""
    if files := FILE.split(written)[1:]:
        lines = said_of_files(dict(zip(files[::2], files[1::2], strict=True)))
    else:
        variables = {"inventory_dir": INVENTORY, **yaml.safe_load(written)}
        lines = check_fleet(["pi-rack1"], {"pi-rack1": variables}).lines
    return "".join(f"{line}\n" for line in lines)


def said_of_files(files: dict[str, str]) -> list[str]:
    for name, text in {**FILES, **files}.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    hosts = yaml.safe_load(Path(INVENTORY, "hosts.yml").read_text())["serial_servers"]["hosts"]
    groups = {"all": [*hosts], "serial_servers": [*hosts]}
    run = Run([str((INVENTORY / "hosts.yml").resolve())], "", groups)
    if broken := unreadable(run):
        return broken
    hostvars = {host: {**(own or {}), **host_vars(host)} for host, own in hosts.items()}
    return check_fleet([*hosts], hostvars, run).lines


def host_vars(host: str) -> dict[str, Any]:
    file = INVENTORY / "host_vars" / f"{host}.yml"
    return yaml.safe_load(file.read_text()) if file.exists() else {"serial_ports": []}


@pytest.fixture(autouse=True)
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / INVENTORY / "tls").mkdir(parents=True)
    (tmp_path / INVENTORY / "tls" / "pi.pem").write_text("")


@pytest.fixture
def emptied(tmp_path: Path) -> Callable[[], None]:
    """Removes the files of the example before."""

    def empty() -> None:
        for folder in ("host_vars", "group_vars", "hostvars"):
            shutil.rmtree(tmp_path / INVENTORY / folder, ignore_errors=True)

    return empty


def test_the_page_says_what_is_said(emptied: Callable[[], None]) -> None:
    text = PAGE.read_text()

    def with_messages(example: re.Match[str]) -> str:
        emptied()
        said = said_of(example["written"])
        return f"```yaml\n{example['written']}```\n\n```text\n{said}```\n"

    now = EXAMPLE.sub(with_messages, text)
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(now)
        text = now
    assert now == text


def test_every_block_belongs_to_an_example() -> None:
    assert len(EXAMPLES) >= 40
    assert PAGE.read_text().count("```") == 4 * len(EXAMPLES)


@pytest.mark.parametrize("written", EXAMPLES)
def test_every_example_is_wrong_and_says_what_to_do(written: str) -> None:
    said = said_of(written).splitlines()
    assert said
    for line in said:
        assert line.startswith(("pi-rack1: ", "pi-rack2: ", "inventory/production/"))
        assert re.search(DO, line)
