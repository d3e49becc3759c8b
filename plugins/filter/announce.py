"""The filter of the role announce; all rules are in ttybridge.setup.announce (bridge/src)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bridge" / "src"))

from ttybridge.setup.announce import services
from ttybridge.setup.inventory import inert


def announced(ports: Sequence[Mapping[str, Any]], host: str) -> list[dict[str, Any]]:
    """The services that a host announces: see `services`."""
    return list(inert(services(ports, host)))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """The filter by its name: playbooks write ttyfleet.serial. before it."""
        return {"announced": announced}
