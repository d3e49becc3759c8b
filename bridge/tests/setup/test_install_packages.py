"""How packages are installed on a host, with an apt that behaves as the real one was seen to."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "files" / "install_packages.sh"

LISTS = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt)"
DPKG = (
    "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt)\n"
    "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), "
    "is another process using it?"
)
UNREACHABLE = "W: Failed to fetch http://mirror.invalid/  Could not resolve 'mirror.invalid'"
OLD_LISTS = "W: Some index files failed to download. They have been ignored, or old ones used."
UNKNOWN = "E: Unable to locate package b"


class Host:
    """A host: the folder with its commands, and its note."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._command("sleep", "")
        # Each call of apt-get takes the next answer of its kind: a status and words.
        self._command(
            "apt-get",
            f"""cd {folder}
            for word; do case $word in update|install) kind=$word ;; esac; done
            echo "$kind" >>calls
            next=$(ls | grep "^$kind[.]" | head -n 1)
            [ -n "$next" ] || exit 0
            cat "$next"; rm "$next"
            case $next in *.100) exit 100 ;; esac""",
        )
        self._command(
            "dpkg-query", f'for name; do :; done; grep -q "$name" {folder}/has && echo -n installed'
        )
        (folder / "has").touch()
        self._answers = 0

    def _command(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def answer(self, kind: str, said: str, status: int) -> None:
        self._answers += 1
        (self.folder / f"{kind}.{self._answers}.{status}").write_text(f"Reading...\n{said}\n")

    def has(self, *packages: str) -> None:
        (self.folder / "has").write_text("\n".join(packages))

    def install(self, patience: int = 300) -> tuple[int, list[str]]:
        done = subprocess.run(
            ["sh", "-c", SCRIPT.read_text()],
            env={
                "PATH": f"{self.folder}:{os.environ['PATH']}",
                "PACKAGES": "a b",
                "PATIENCE": str(patience),
                "NOTES": str(self.folder / "notes"),
            },
            capture_output=True,
            text=True,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().split()

    @property
    def noted(self) -> str:
        return (self.folder / "notes" / "packages").read_text()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_packages_are_noted_once(host: Host) -> None:
    host.has("a", "b")
    assert host.install() == (0, [])
    assert host.install() == (0, [])
    assert host.noted == "a\nb\n"


def test_it_waits_for_each_lock(host: Host) -> None:
    host.has("a", "b")
    host.answer("update", LISTS, 100)
    host.answer("install", DPKG, 100)
    host.answer("install", "dpkg: error: dpkg database lock was locked by another process", 100)
    assert host.install() == (0, [])
    assert host.calls == ["update", "update", "install", "install", "install"]


def test_it_does_not_wait_for_ever(host: Host) -> None:
    host.answer("update", LISTS, 100)
    host.answer("install", DPKG, 100)
    assert host.install(patience=0) == (1, [LISTS, *DPKG.splitlines()])
    assert host.calls == ["update", "install"]


def test_a_source_that_has_none_of_the_packages_may_fail(host: Host) -> None:
    host.has("a", "b")
    host.answer("update", f"{UNREACHABLE}\n{OLD_LISTS}", 0)
    assert host.install() == (0, [])


@pytest.mark.parametrize(
    ("update", "install", "said"),
    [
        ("", UNKNOWN, [UNKNOWN]),
        (f"{UNREACHABLE}\n{OLD_LISTS}", UNKNOWN, [UNREACHABLE, OLD_LISTS, UNKNOWN]),
        (
            "E: The list of sources could not be read.",
            "E: The list of sources could not be read.",
            ["E: The list of sources could not be read."],
        ),
        (
            "",
            "E: Sub-process /usr/bin/dpkg returned an error code (2)\ndpkg: error: no space",
            ["dpkg: error: no space", "E: Sub-process /usr/bin/dpkg returned an error code (2)"],
        ),
    ],
)
def test_the_reason_comes_first(host: Host, update: str, install: str, said: list[str]) -> None:
    host.has("a")
    host.answer("update", update, 0)
    host.answer("install", install, 100)
    assert host.install() == (1, said)
