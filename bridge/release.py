#!/usr/bin/env python3
"""Make a release of this tree: the collection, the program, what they are made of, checksums.

    python release.py FOLDER

The bill of materials is CycloneDX 1.6, in JSON. It names both files with their checksums, the
packages that they need on a Pi (whose apt decides on the versions), and those of the controller, in
the versions of requirements.txt, which has their checksums.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[1]

# What a Pi installs, and what for.
DEBIAN = {
    "python3-serial": "ttybridge",
    "python3-uvloop": "ttybridge, faster",
    "python3-prometheus-client": "bridge_metrics",
    "ssl-cert": "ports with tls",
    "ser2net": "ports with engine: ser2net",
    "nftables": "serial_firewall",
    "openssh-server": "serial_users",
    "ansible-core": "serial_pull",
    "git": "serial_pull",
    "openssh-client": "serial_pull",
    "avahi-daemon": "serial_announce",
}

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def version() -> str:
    """The version of the release; fails if the tree does not agree on it."""
    files = {
        "galaxy.yml": r"^version: (\S+)$",
        "bridge/src/ttybridge/__init__.py": r'^__version__ = "(.+)"$',
        "CHANGELOG.md": r"^## (\d\S*) - \d{4}-\d\d-\d\d$",
    }
    found = {}
    for name, pattern in files.items():
        match = re.search(pattern, (TREE / name).read_text(encoding="utf-8"), re.MULTILINE)
        found[name] = match[1] if match else "none"
    if len({*found.values()}) > 1:
        said = ", ".join(f"{name} {value}" for name, value in found.items())
        sys.exit(f"error: the versions differ: {said}: write one version into all of them")
    return found["galaxy.yml"]


def bundled(tree: Path = TREE) -> Iterator[dict[str, Any]]:
    """Code of others that is part of the collection: NAME.js in files/, beside its NAME.LICENSE."""
    for licence in sorted((tree / "files").rglob("*.LICENSE")):
        text = {"content": licence.read_text(encoding="utf-8")}
        yield {
            "type": "library",
            "name": licence.stem,
            "licenses": [{"license": {"name": licence.name, "text": text}}],
            "hashes": [{"alg": "SHA-256", "content": _sha256(licence.with_suffix(".js"))}],
            "scope": "optional",
            "description": f"in {licence.parent.relative_to(tree)}/ of the collection, unchanged",
        }


def pinned() -> Iterator[dict[str, Any]]:
    """What requirements.txt pins: a controller without an Ansible of its own installs that."""
    text = (TREE / "requirements.txt").read_text(encoding="utf-8")
    for name, number in _PIN.findall(text):
        yield {
            "type": "library",
            "name": name,
            "version": number,
            "purl": f"pkg:pypi/{name.lower()}@{number}",
            "scope": "optional",
            "description": "on the controller, if it has no Ansible of its own",
        }


def packages() -> Iterator[dict[str, Any]]:
    """The packages of Debian that a Pi needs; which version, its own apt decides."""
    for name, purpose in DEBIAN.items():
        yield {
            "type": "library",
            "name": name,
            "purl": f"pkg:deb/debian/{name}",
            "scope": "required" if name == "python3-serial" else "optional",
            "description": f"on a Pi: {purpose}",
        }


def bill(number: str, files: list[Path]) -> dict[str, Any]:
    """The bill of materials of a release with these files. The same files give the same bill."""
    made = [
        {
            "type": "file",
            "name": file.name,
            "version": number,
            "licenses": [{"license": {"id": "MIT"}}],
            "hashes": [{"alg": "SHA-256", "content": _sha256(file)}],
        }
        for file in files
    ]
    components = [*made, *bundled(), *packages(), *pinned()]
    about = {"type": "application", "name": "ttyfleet", "version": number}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(components)).urn,
        "version": 1,
        "metadata": {"component": {**about, "licenses": [{"license": {"id": "MIT"}}]}},
        "components": components,
    }


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def main(folder: Path) -> None:
    """Make the release in a folder, which is empty or not there yet."""
    number = version()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        sys.exit(f"error: {folder} is not empty: remove what is in it")
    built = subprocess.check_output([sys.executable, TREE / "bridge" / "build.py"], text=True)
    program = Path(built.strip())
    shutil.copy(program, folder / program.name)
    galaxy = Path(sys.executable).with_name("ansible-galaxy")
    command = [str(galaxy), "collection", "build", str(TREE), "--output-path", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    made = bill(number, sorted(folder.iterdir()))
    (folder / f"ttyfleet-{number}.cdx.json").write_text(json.dumps(made, indent=2) + "\n")
    sums = [f"{_sha256(file)}  {file.name}\n" for file in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
