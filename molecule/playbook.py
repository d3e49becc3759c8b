"""A playbook, run by the tests of all scenarios as a user runs it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAB = ROOT / ".lab"


def run_playbook(
    name: str, inventory: str | Path, *arguments: str, lab: Path = LAB, clone: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run a playbook of `clone`, with the ansible.cfg that ships.

    `lab` has the ssh_config for the hosts of `inventory`.
    """
    return subprocess.run(
        ["ansible-playbook", name, "-i", str(inventory), *arguments],
        cwd=clone,
        env=environment(lab, clone),
        capture_output=True,
        text=True,
    )


def environment(lab: Path = LAB, clone: Path = ROOT) -> dict[str, str]:
    """The environment in which ansible-playbook reaches the machines of a lab."""
    return {
        **os.environ,
        "ANSIBLE_CONFIG": str(clone / "ansible.cfg"),
        # Molecule asks for colours, which would come between the words.
        "ANSIBLE_FORCE_COLOR": "false",
        "ANSIBLE_SSH_COMMON_ARGS": f'-F "{lab}/ssh_config"',
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(lab / "cp"),
    }


def other_clone(folder: Path, version: str) -> Path:
    """A copy of this clone in `folder`, whose program has another version."""
    clone = folder / "ttyfleet"
    shutil.copytree(ROOT, clone, symlinks=True, ignore=shutil.ignore_patterns(".*", "molecule"))
    init = clone / "bridge" / "src" / "ttybridge" / "__init__.py"
    init.write_text(re.sub('__version__ = ".*"', f'__version__ = "{version}"', init.read_text()))
    return clone
