"""A playbook, run by the tests of all scenarios as a user runs it."""

from __future__ import annotations

import os
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
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(clone / "ansible.cfg"),
            # Molecule asks for colours, which would come between the words.
            "ANSIBLE_FORCE_COLOR": "false",
            "ANSIBLE_SSH_COMMON_ARGS": f'-F "{lab}/ssh_config"',
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(lab / "cp"),
        },
        capture_output=True,
        text=True,
    )
