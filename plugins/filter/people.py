"""The filters of the role people; all rules are in ttybridge.setup.accounts (bridge/src)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bridge" / "src"))

from ttybridge.setup import accounts
from ttybridge.setup.inventory import inert


def people(written: Any, authorities: Any) -> list[dict[str, Any]]:
    """The accounts of serial_users, as `accounts.as_variables` returns them."""
    return list(inert(accounts.as_variables(written, authorities)))


def people_plan(users: Sequence[Mapping[str, Any]], read: Mapping[str, Any]) -> dict[str, Any]:
    """What differs in the accounts of a host: see `accounts.plan`."""
    return dict(inert(accounts.plan(users, read)))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """The filters by their names: playbooks write ttyfleet.serial. before them."""
        return {"people": people, "people_plan": people_plan}
