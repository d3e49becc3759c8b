"""The filters of the role pull; all rules are in ttybridge.setup.pull (bridge/src)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bridge" / "src"))

from ttybridge.setup import pull
from ttybridge.setup.inventory import inert


def pull_files(written: Any, host: str, reboot: Any) -> list[dict[str, Any]]:
    """The files of a host that pulls, those that are secret, too: see `pull.files`."""
    return list(inert(pull.files(host, written, reboot)))


def pull_public(files: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same files, with checksums in the place of secrets."""
    return list(inert(pull.without_secrets(files)))


def pull_faults(read: Mapping[str, Any]) -> list[str]:
    """Why a host cannot pull."""
    return list(inert(pull.faults(str(read["release"]))))


def pull_pending(read: Mapping[str, Any], now: int) -> list[str]:
    """What is wrong with the pulls of a host, at a time in seconds since 1970."""
    return list(inert(pull.pending(read, now)))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """The filters by their names: playbooks write ttyfleet.serial. before them."""
        return {
            "pull_faults": pull_faults,
            "pull_files": pull_files,
            "pull_pending": pull_pending,
            "pull_public": pull_public,
        }
