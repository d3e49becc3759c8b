"""The roles know each other only by what they offer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
FILES = [*ROOT.glob("*.yml"), *ROOT.glob("roles/*/*/*.yml"), *ROOT.glob("templates/*")]

# The template of a role uses what the role has derived for it.
_TEMPLATES = {
    "ttybridge.service.j2": "bridge",
    "ser2net.service.conf.j2": "ser2net",
    "sshd.people.conf.j2": "people",
}


def owner(file: Path) -> str:
    """The role that a file belongs to; "" if it belongs to none."""
    inside = file.relative_to(ROOT).parts
    return inside[1] if inside[0] == "roles" else _TEMPLATES.get(file.name, "")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nobody_reads_a_private_variable_of_another_role(file: Path) -> None:
    names = "|".join(ROLES)
    used = set(re.findall(rf"(?<![a-z0-9_])__({names})_", file.read_text(encoding="utf-8")))
    assert used <= {owner(file)}
