"""The filter of the role uart; all rules are in ttybridge.setup.boot_config (bridge/src)."""

from __future__ import annotations

import base64
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bridge" / "src"))

from ttybridge.model.check import parse_portmap
from ttybridge.setup.boot_config import Boot, plan
from ttybridge.setup.inventory import inert

_TEXTS = ("config", "cmdline", "kept", "running")


def uart_plan(
    boot: Mapping[str, Any], ports: list[dict[str, Any]], bluetooth: Any
) -> dict[str, Any]:
    """What a host must boot with, as a mapping with the fields of `Plan`.

    `boot` is the part of that name of what files/read_host.sh says, with texts in base64. `ports`
    are as the filter `ports` returns them.
    """
    known = {field.name for field in dataclasses.fields(Boot)}
    given = {key: value for key, value in boot.items() if key in known}
    for name in _TEXTS:
        given[name] = base64.b64decode(given[name] or "").decode(errors="surrogateescape")
    # YAML reads a bare off as a boolean.
    use = "off" if bluetooth is False else str(bluetooth)
    wanted = parse_portmap([port["entry"] for port in ports])
    found = vars(plan(Boot(**given), wanted, use))
    lists = {name: list(item) if isinstance(item, tuple) else item for name, item in found.items()}
    return dict(inert(lists))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """The filters by their names: playbooks write ttyfleet.serial. before them."""
        return {"uart_plan": uart_plan}
