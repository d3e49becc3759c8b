"""docs/errors.md: wrong port maps, each with the message that it gets from the real filter.

`UPDATE_GOLDEN=1 pytest tests/templates` writes the messages anew; look at the difference in git.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from plugins.filter.ttyfleet import faults

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
EXAMPLE = re.compile(r"```yaml\n(?P<written>.*?)```\n\n```text\n(?P<said>.*?)```\n", re.DOTALL)
EXAMPLES = [match["written"] for match in EXAMPLE.finditer(PAGE.read_text())]


def said_of(written: str, inventory: Path) -> str:
    """What is said of a host's variables, one of which may be left out of each example."""
    variables: dict[str, Any] = yaml.safe_load(written)
    found = faults(["pi-rack1"], {"pi-rack1": {"inventory_dir": inventory, **variables}})
    return "".join(f"{fault}\n" for fault in found).replace(str(inventory), "inventory/production")


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "pi.pem").write_text("")
    return tmp_path


def test_the_page_says_what_is_said(inventory: Path) -> None:
    text = PAGE.read_text()

    def with_messages(example: re.Match[str]) -> str:
        said = said_of(example["written"], inventory)
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
def test_every_example_is_wrong_and_says_what_to_do(written: str, inventory: Path) -> None:
    said = said_of(written, inventory).splitlines()
    assert said
    for line in said:
        assert line.startswith("pi-rack1: ")
        assert re.search("write |add |rename |did you mean |the keys are ", line)
