"""The filters for devices, in udev and in units; the rules are in ttybridge.setup."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bridge" / "src"))

from ttybridge.setup import devices, udev
from ttybridge.setup.inventory import inert


def udev_match(usb: Mapping[str, Any]) -> str:
    """What a rule for the tty of an adapter matches."""
    return str(inert(udev.udev_match(usb)))


def udev_match_device(usb: Mapping[str, Any]) -> str:
    """What a rule for the adapter itself matches; "" if `usb` says nothing of it."""
    return str(inert(udev.udev_match_device(usb)))


def device_allow(ports: Sequence[Mapping[str, Any]]) -> list[str]:
    """The kinds of device that the ports of a unit may have."""
    return list(inert(devices.device_allow(ports)))


def without_driver(
    ports: Sequence[Mapping[str, Any]], driverless: Sequence[Mapping[str, str]]
) -> list[str]:
    """A line for each port whose adapter has no driver."""
    return list(inert(devices.without_driver(ports, driverless)))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """The filters by their names: playbooks write ttyfleet.serial. before them."""
        return {
            "device_allow": device_allow,
            "udev_match": udev_match,
            "udev_match_device": udev_match_device,
            "without_driver": without_driver,
        }
