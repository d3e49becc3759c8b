"""Which modules a program has, and that a module runs as one text."""

from __future__ import annotations

import ast
import functools
import shutil
import subprocess
from pathlib import Path

import pytest

from ttybridge.setup.sources import ROOT, as_command, needed

MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in (ROOT / "ttybridge").rglob("*.py")
}


@functools.cache
def imported(file: Path) -> set[str]:
    """The modules of ttybridge that a file imports, by a look at every node of it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found |= {f"{node.module}", *(f"{node.module}.{each.name}" for each in node.names)}
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
    return found & MODULES.keys()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_comes_with_what_it_imports(module: str) -> None:
    files = needed(module)
    assert list(files) == sorted(files)
    assert module in files
    for name, file in files.items():
        assert file == MODULES[name]
        assert imported(file) | ({name.rpartition(".")[0]} - {""}) <= files.keys()


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A folder with a package of which a module uses another one; a third one is not used."""
    files = {
        "__init__": "",
        "room/__init__": "",
        "room/lazy": "WORDS = 'quotes: \\' \\\\ {x} é'\n",
        "room/stranger": "",
        "door": "import household\n\ndef f():\n    from house.room import (\n    lazy,\n    )\n",
        "main": "import sys\n\nfrom house import door\n\n"
        "if __name__ == '__main__':\n    print(sys.argv[1:], door.f())\n",
    }
    for name, text in files.items():
        file = tmp_path / "house" / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return tmp_path


def test_what_nothing_imports_stays_out(house: Path) -> None:
    assert list(needed("house.main", house)) == [
        *("house", "house.door", "house.main", "house.room", "house.room.lazy")
    ]


def test_a_module_runs_as_a_command(house: Path, tmp_path: Path) -> None:
    (house / "house" / "door.py").write_text(
        "from house.room import lazy\n\nf = lambda: lazy.WORDS\n"
    )
    command = as_command("house.main", "a", "it's", root=house)
    shutil.rmtree(house / "house")
    # Another package of that name is not taken.
    (house / "house.py").write_text("raise SystemExit('another one')\n")
    done = subprocess.run(["sh", "-c", command], capture_output=True, cwd=house, check=True)
    assert done.stdout.decode() == "['a', \"it's\"] quotes: ' \\ {x} é\n"
