"""Each room of ttybridge imports only what the table in docs/architecture.md lets it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "bridge" / "src" / "ttybridge"
MODULES = {
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts): path
    for path in SOURCE.rglob("*.py")
}


def allowed() -> dict[str, set[str]]:
    """The table: each room with the rooms that it may import."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)/` \| [^|]+ \| ([^|]+) \|$", page, re.MULTILINE)
    return {room: set(re.findall(r"`(\w+)/`", may)) for room, may in rows}


def imports(path: Path) -> set[str]:
    """The modules of ttybridge that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
    return {name for name in found if name in MODULES}


def room(module: str) -> str:
    """`serve` of `ttybridge.serve.port`; "" for what lies beside the rooms."""
    parts = module.split(".")
    return parts[1] if (SOURCE / parts[min(1, len(parts) - 1)]).is_dir() and len(parts) > 1 else ""


def test_the_table_has_every_room() -> None:
    assert allowed().keys() == {
        path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()
    }


@pytest.mark.parametrize("module", sorted(name for name in MODULES if room(name)))
def test_a_module_imports_only_what_its_room_may(module: str) -> None:
    may = allowed()[room(module)] | {room(module)}
    strangers = {name for name in imports(MODULES[module]) if room(name) not in {*may, ""}}
    assert strangers == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    rest = {name: imports(path) - {name} for name, path in MODULES.items()}
    while free := {name for name, wanted in rest.items() if not wanted & rest.keys()}:
        rest = {name: wanted for name, wanted in rest.items() if name not in free}
    assert rest == {}


def test_every_file_that_the_page_names_exists() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_/0-9]+\.(?:py|j2|sh))`", page))
    folders = ("bridge", "templates", "files")
    names = {path.name for folder in folders for path in (ROOT / folder).rglob("*.*")}
    paths = {one for one in named if "/" in one}
    bases = [ROOT, SOURCE]
    assert {one for one in paths if not any((base / one).exists() for base in bases)} == set()
    assert {one for one in named - paths if one not in names} == set()
