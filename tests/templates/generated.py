"""Files that are made from others: compared, or written again with UPDATE_GOLDEN=1."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml


class _Indented(yaml.SafeDumper):
    """YAML as yamllint wants it: the items of a list further in than its name."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        del indentless
        super().increase_indent(flow, False)


def as_yaml(value: Any, width: int = 120) -> str:
    """A value as YAML, its keys in the order that they have."""
    return yaml.dump(value, Dumper=_Indented, sort_keys=False, width=width, allow_unicode=True)


def up_to_date(file: Path, text: str) -> bool:
    """Whether a file holds this text."""
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return file.exists() and file.read_text() == text
