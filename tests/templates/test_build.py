"""The program that the controller builds for the Pis."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

BRIDGE = Path(__file__).resolve().parents[2] / "bridge"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    shutil.copytree(BRIDGE / "src", tmp_path / "src")
    shutil.copy(BRIDGE / "build.py", tmp_path)
    return tmp_path


def build(clone: Path, **environment: str) -> Path:
    command = [sys.executable, str(clone / "build.py")]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )
    return Path(done.stdout.strip())


def test_same_sources_give_the_same_bytes(
    clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = build(clone)
    other = tmp_path_factory.mktemp("other") / "somewhere" / "else"
    shutil.copytree(clone / "src", other / "src", copy_function=shutil.copyfile)
    shutil.copy(clone / "build.py", other)
    (other / "src" / "ttybridge" / "__pycache__").mkdir(exist_ok=True)
    (other / "src" / "ttybridge" / "__pycache__" / "cli.cpython-399.pyc").write_bytes(b"x")
    second = build(other)
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_an_unchanged_program_is_not_written_again(clone: Path) -> None:
    first = build(clone)
    os.utime(first, (0, 0))
    assert build(clone).stat().st_mtime == 0


def test_a_changed_program_has_another_name(clone: Path) -> None:
    first = build(clone)
    with (clone / "src" / "ttybridge" / "cli.py").open("a") as file:
        file.write("# changed\n")
    assert build(clone).name != first.name


def test_it_runs_by_itself(clone: Path, tmp_path: Path) -> None:
    program = build(clone)
    assert program.name.startswith("ttybridge-0.1.0+")
    assert stat.S_IMODE(program.stat().st_mode) == 0o755
    assert program.read_bytes().startswith(b"#!/usr/bin/python3 -I\n")
    configuration = tmp_path / "ttybridge.toml"
    configuration.write_text('[[port]]\nname = "a"\ndevice = "/dev/ttyS0"\nlisten = "9999"\n')
    # By this Python: /usr/bin/python3 need not be one that is new enough.
    command = [sys.executable, "-I", str(program), "check", "--config", str(configuration)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_clone_that_cannot_be_written_to(clone: Path, tmp_path: Path) -> None:
    (clone / "dist").write_text("in the way")
    program = build(clone, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert program.parent == tmp_path / "cache" / "ttyfleet"
    assert program.exists()
