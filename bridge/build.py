#!/usr/bin/env python3
"""Build ttybridge as one executable file and print its path.

The file holds `ttybridge.cli` and the modules that it imports; what only the controller needs stays
out. The same sources give the same bytes and the same name on any machine: names are sorted,
nothing is compressed or dated. The name ends in a hash of the sources, so a changed program has
another name. The program knows this name: it is what `ttybridge --version` says.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from ttybridge.setup.sources import needed

HERE = Path(__file__).resolve().parent
ROOT = HERE / "src"
SHEBANG = b"#!/usr/bin/python3 -I\n"
ABOUT = "ttybridge/__init__.py"
MAIN = "import sys\n\nfrom ttybridge.cli import main\n\nsys.exit(main())\n"


def sources() -> dict[str, bytes]:
    """The content of every file of the program, by its name."""
    files = needed("ttybridge.cli", ROOT).values()
    found = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in files}
    return {"__main__.py": MAIN.encode(), **found}


def program(files: dict[str, bytes]) -> bytes:
    """The executable file: a line that names the interpreter, then a zip archive of modules."""
    file = io.BytesIO()
    file.write(SHEBANG)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # Unix, also where this runs elsewhere
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    return file.getvalue()


def build() -> tuple[str, bytes]:
    """Return the program's name, and the program, which has the name's last part in it."""
    files = sources()
    about = files[ABOUT].decode()
    (version,) = re.findall(r'^__version__ = "([^"]+)"$', about, re.MULTILINE)
    # A program cannot hold a hash of itself: this is the hash of what it is without it.
    name = f"{version}+{hashlib.sha256(program(files)).hexdigest()[:8]}"
    about, lines = re.subn("^BUILD = .*$", f'BUILD = "{name}"', about, flags=re.MULTILINE)
    assert lines == 1, f"{ABOUT} has no line BUILD = ..."
    return f"ttybridge-{name}", program({**files, ABOUT: about.encode()})


def write(content: bytes, path: Path) -> None:
    """Write a file, whole or not at all; leave it alone if it has this content already."""
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.chmod(name, 0o755)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def main() -> None:
    """Build in bridge/dist, or in another folder if the clone is read-only."""
    name, content = build()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for folder in (HERE / "dist", cache / "ttyfleet", None):
        path = Path(folder or tempfile.mkdtemp(prefix="ttyfleet-")) / name
        try:
            write(content, path)
        except OSError as error:
            print(f"{path}: {error.strerror}", file=sys.stderr)
            continue
        print(path)
        return
    sys.exit("no folder to write the program to")


if __name__ == "__main__":
    main()
