"""export.yml as a person runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, *options: str) -> tuple[int, str]:
    """Export the example inventory from a folder."""
    words = ["-i", str(ROOT / "inventory/example"), str(ROOT / "export.yml"), *options]
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), *words],
        cwd=folder,
        env={**os.environ, "PWD": str(folder), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, "-e", "format=conserver")[0] == 0
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["conserver.cf"]
    code, said = run(tmp_path, "-e", "format=conserver")
    assert (code, "changed=1" in said) == (0, False)


def test_an_unknown_format_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    code, said = run(tmp_path, "-e", "format=xml", "-e", "export_dir=there")
    assert code != 0
    assert "format=xml: write ssh_config, conserver," in said
    assert [*tmp_path.iterdir()] == []
