"""files/ttybridge.bash-completion, in bash, with a ttybridge that says what its ports are."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ttybridge import cli

FILE = Path(__file__).resolve().parents[2] / "files" / "ttybridge.bash-completion"
SCRIPT = """
source "$1"
shift
COMP_WORDS=(ttybridge "$@")
COMP_CWORD=$#
_ttybridge
printf '%s\\n' "${COMPREPLY[@]}"
"""
CLIENT = {"name": "not a port"}


def completed(folder: Path, *words: str) -> list[str]:
    """What bash offers for the last word."""
    program = folder / "ttybridge"
    ports = [{"name": name, "clients": [CLIENT]} for name in ("router", "rack-1.sw", "ups")]
    status = json.dumps({"pid": 1, "ports": ports}, indent=2)
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{status}\nEND\n")
    program.chmod(0o755)
    path = f"{folder}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-c", SCRIPT, "bash", str(FILE), *words],
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["re"], ["release", "reclaim"]),
        (["console", "r"], ["router", "rack-1.sw"]),
        (["console", "--w"], ["--watch"]),
        (["console", "ups", "--t"], ["--take", "--timeout"]),
        (["kick", "u"], ["ups"]),
        (["kick", "ups", ""], []),
        (["status", "-"], ["--json"]),
        (["nonsense", ""], []),
    ],
)
def test_what_bash_offers(words: list[str], offered: list[str], tmp_path: Path) -> None:
    assert completed(tmp_path, *words) == offered


def test_it_knows_every_command_and_the_options_of_console(tmp_path: Path) -> None:
    commands = next(one for one in cli._parser()._actions if one.choices).choices
    assert isinstance(commands, dict)
    assert sorted(completed(tmp_path, "")) == sorted(commands)
    options = {
        each for one in commands["console"]._actions for each in one.option_strings if each > "--"
    }
    offered = {one for one in completed(tmp_path, "console", "--") if one.startswith("-")}
    assert offered == options - {"--help", "-h"}
