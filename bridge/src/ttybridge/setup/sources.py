"""Finds the modules that a program on a Pi needs: a module of ttybridge and all that it imports.

This reads the import statements in the sources, also those inside functions. They must be absolute
and begin a line, as everywhere in ttybridge.
"""

from __future__ import annotations

import ast
import base64
import gzip
import re
from pathlib import Path

# The folder that the package ttybridge is in.
ROOT = Path(__file__).resolve().parents[2]

# A statement that imports from a package, alone on its lines as ruff writes it.
_IMPORT = r"^[ \t]*((?:from|import) {}\b[^(\n]*(?:\([^)]*\))?)"

_SCRIPT = '''\
"""Modules of ttybridge, one of which runs."""

import importlib.abc, importlib.util, runpy, sys

SOURCES = {sources!r}


class Sources(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    def find_spec(self, name, path, target=None):
        return importlib.util.spec_from_loader(name, self) if name in SOURCES else None

    def get_source(self, name):
        return SOURCES[name]

    def is_package(self, name):
        return any(other.startswith(f"{{name}}.") for other in SOURCES)


sys.argv[1:] = {arguments!r}
sys.meta_path.insert(0, Sources())
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
'''


def needed(module: str, root: Path = ROOT) -> dict[str, Path]:
    """Return the files of a module and of all that it imports of its package, by module name.

    `root` is the folder that the package is in. The names are sorted; a package's file is its
    `__init__.py`, and a module brings the packages that it is in.
    """
    package = module.partition(".")[0]
    found: dict[str, Path] = {}
    wanted = {module}
    while wanted:
        name = wanted.pop()
        file = _file(name, root)
        if file is None or name in found:
            continue
        found[name] = file
        wanted |= {name.rpartition(".")[0], *_imported(file, package)}
    return dict(sorted(found.items()))


def as_command(module: str, *arguments: str, root: Path = ROOT) -> str:
    """Return a command line for sh(1) that runs a module, and what it imports, as a program.

    It needs no file of ttybridge where it runs, but Python, base64(1) and gzip(1). It is packed,
    because Linux limits a command line to 128 KiB.
    """
    sources = {
        name: file.read_text(encoding="utf-8") for name, file in needed(module, root).items()
    }
    script = _SCRIPT.format(sources=sources, module=module, arguments=list(arguments))
    packed = base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()
    return f"echo {packed} | base64 -d | gzip -d | /usr/bin/python3 -I -"


def _file(module: str, root: Path) -> Path | None:
    """The file of a module; None where the name is not a module's."""
    path = root.joinpath(*module.split("."))
    files = (path / "__init__.py", path.with_name(f"{path.name}.py"))
    return next((file for file in files if file.is_file()), None)


def _imported(file: Path, package: str) -> set[str]:
    """The names of a package that a file imports; not all of them are modules."""
    names: set[str] = set()
    # Parsing whole files would take the build five times as long, and each host has a build.
    for statement in re.findall(_IMPORT.format(package), file.read_text("utf-8"), re.MULTILINE):
        (node,) = ast.parse(statement).body
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}", *(f"{node.module}.{each.name}" for each in node.names)}
    return names
