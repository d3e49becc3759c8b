"""What script/release makes, by bridge/release.py, from this clone."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "bridge" / "release.py"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release") / "dist"
    done = subprocess.run([sys.executable, PROGRAM, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def bill(dist: Path) -> dict[str, Any]:
    (file,) = dist.glob("*.cdx.json")
    made: dict[str, Any] = json.loads(file.read_text())
    return made


def test_what_a_release_consists_of(dist: Path) -> None:
    kinds = [
        r"SHA256SUMS",
        r"ttybridge-\d+\.\d+\.\d+\+[0-9a-f]{8}",
        r"ttyfleet-\d+\.\d+\.\d+\.cdx\.json",
        r"ttyfleet-serial-\d+\.\d+\.\d+\.tar\.gz",
    ]
    names = sorted(file.name for file in dist.iterdir())
    assert len(names) == len(kinds)
    for name, kind in zip(names, kinds, strict=True):
        assert re.fullmatch(kind, name)


def test_the_checksums_are_those_of_all_other_files(dist: Path) -> None:
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(command, cwd=dist, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(list(dist.iterdir())) - 1


def test_the_program_runs(dist: Path) -> None:
    (program,) = dist.glob("ttybridge-*")
    said = subprocess.check_output([program, "--version"], text=True)
    assert program.name.removeprefix("ttybridge-") in said


def test_the_bill_has_both_files(dist: Path, bill: dict[str, Any]) -> None:
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    lines = (dist / "SHA256SUMS").read_text().splitlines()
    sums = {name: value for value, _, name in (line.partition("  ") for line in lines)}
    files = {one["name"]: one["hashes"] for one in bill["components"] if one["type"] == "file"}
    assert files == {
        name: [{"alg": "SHA-256", "content": value}]
        for name, value in sums.items()
        if not name.endswith(".json")
    }


def test_the_bill_has_each_package_that_a_pi_may_install(bill: dict[str, Any]) -> None:
    script = (ROOT / "files" / "read_host.sh").read_text(encoding="utf-8")
    asked = re.search(r"dpkg-query .*?' (.*?) 2>", script.replace("\\\n", " "))
    assert asked
    # A run looks for brltty, and never installs it.
    installed = {*asked[1].split()} - {"brltty"}
    named = {one["purl"] for one in bill["components"] if "pkg:deb/" in one.get("purl", "")}
    assert named == {f"pkg:deb/debian/{name}" for name in installed}


def test_the_bill_has_each_pinned_requirement(bill: dict[str, Any]) -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = {line.split()[0].lower() for line in lines if re.match(r"[A-Za-z0-9]", line)}
    found = [one for one in bill["components"] if "pkg:pypi/" in one.get("purl", "")]
    assert {f"{one['name']}=={one['version']}".lower() for one in found} == pins
    assert len(pins) >= 5


def test_code_of_others_is_named_with_its_licence(tmp_path: Path) -> None:
    (tmp_path / "files" / "web").mkdir(parents=True)
    (tmp_path / "files" / "web" / "term.js").write_text("code")
    (tmp_path / "files" / "web" / "term.LICENSE").write_text("as you like")
    release = runpy.run_path(str(PROGRAM))
    (component,) = release["bundled"](tmp_path)
    assert component["name"] == "term"
    assert component["licenses"][0]["license"]["text"]["content"] == "as you like"
    assert component["hashes"][0]["content"] == hashlib.sha256(b"code").hexdigest()
    assert "files/web/" in component["description"]


def test_a_folder_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = subprocess.run([sys.executable, PROGRAM, tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path} is not empty: remove what is in it\n"


@pytest.mark.parametrize("file", sorted(ROOT.glob("requirements*.in")), ids=lambda file: file.name)
def test_every_requirement_is_pinned_with_hashes(file: Path) -> None:
    made = file.with_suffix(".txt").read_text().replace("\\\n", " ")
    pins = {}
    for line in made.splitlines():
        if line and not line.startswith("#"):
            assert "--hash=sha256:" in line
            pins[plain(line.split()[0])] = line
    wanted = [line for line in file.read_text().splitlines() if not line.startswith(("#", "-r"))]
    assert {plain(line) for line in wanted} <= pins.keys()


def plain(requirement: str) -> str:
    """A requirement with its name as pip compares it."""
    return requirement.lower().replace("_", "-")
