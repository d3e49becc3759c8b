"""The filters for udev's rules; what they mean is in ttybridge.setup.udev."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bridge" / "src"))

from ttybridge.setup import udev
from ttybridge.setup.inventory import inert


def udev_match(usb: Mapping[str, Any]) -> str:
    """What a rule for the tty of an adapter matches."""
    return str(inert(udev.udev_match(usb)))


def udev_match_device(usb: Mapping[str, Any]) -> str:
    """What a rule for the adapter itself matches; "" if `usb` says nothing of it."""
    return str(inert(udev.udev_match_device(usb)))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """The filters by their names: playbooks write ttyfleet.serial. before them."""
        return {"udev_match": udev_match, "udev_match_device": udev_match_device}
