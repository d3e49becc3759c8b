"""What the rules of udev match. Whether udev means the same: molecule/default/tests."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ttybridge.model.ports import UsbMatch
from ttybridge.setup.udev import pattern, udev_match, udev_match_device

USB = 'SUBSYSTEMS=="usb", ATTRS{bDeviceClass}!="09"'


def usb(**keys: Any) -> dict[str, Any]:
    return dataclasses.asdict(UsbMatch(**keys))


@pytest.mark.parametrize(
    ("keys", "tty", "device"),
    [
        (
            {"vendor": "10c4", "product": "ea60", "serial": "IC-9700 1300 A"},
            'ATTRS{idVendor}=="10c4", ATTRS{idProduct}=="ea60", ATTRS{serial}=="IC-9700 1300 A"',
            'ATTR{idVendor}=="10c4", ATTR{idProduct}=="ea60", ATTR{serial}=="IC-9700 1300 A"',
        ),
        (
            {"manufacturer": "wch.cn", "product_name": "USB Serial", "bcdDevice": "0264"},
            'ATTRS{manufacturer}=="wch.cn", ATTRS{product}=="USB Serial", ATTRS{bcdDevice}=="0264"',
            'ATTR{manufacturer}=="wch.cn", ATTR{product}=="USB Serial", ATTR{bcdDevice}=="0264"',
        ),
        (
            {"path": "1-1.2", "interface": 10, "port": 3},
            'KERNELS=="1-1.2", ENV{ID_USB_INTERFACE_NUM}=="0a", ENV{.TTYFLEET_PORT}=="3"',
            'KERNEL=="1-1.2"',
        ),
        (
            {"id_path": "platform-3f980000.usb-usb-0:1.3:1.0"},
            'ENV{ID_PATH}=="platform-3f980000.usb-usb-0:1.3:1.0"',
            'ENV{ID_PATH}=="platform-3f980000.usb-usb-0:1.3"',
        ),
        ({"interface": 1}, 'ENV{ID_USB_INTERFACE_NUM}=="01"', ""),
    ],
)
def test_what_a_rule_matches(keys: dict[str, Any], tty: str, device: str) -> None:
    assert udev_match(usb(**keys)) == f"{USB}, {tty}"
    assert udev_match_device(usb(**keys)) == (
        f'ATTR{{bDeviceClass}}!="09", {device}' if device else ""
    )


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("A50285BI", "A50285BI"),
        ("a b  c", "a b  c"),
        ("5*[ab]?", "5[*][[]ab][?]"),
        (r'a|b"c\d', "a?b?c?d"),
        ("$%{}", "$%{}"),
    ],
)
def test_the_pattern_of_a_text(text: str, written: str) -> None:
    assert pattern(text) == written
