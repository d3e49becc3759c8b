"""How udev's rules say what adapter an entry of the port map means: see udev(7)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Attributes of a USB device, by the keys of `usb`.
ATTRIBUTES = {
    "vendor": "idVendor",
    "product": "idProduct",
    "serial": "serial",
    "manufacturer": "manufacturer",
    "product_name": "product",
    "bcdDevice": "bcdDevice",
}


def udev_match(usb: Mapping[str, Any]) -> str:
    """Return what a rule for the tty of an adapter matches; `usb` has null for what is not given.

    All of it is about one parent of the tty, or about the tty itself. A rule must not match a hub
    (class 09), because all adapters behind it have it as a parent.
    """
    keys = ['SUBSYSTEMS=="usb"', 'ATTRS{bDeviceClass}!="09"', *_of_adapter(usb, "ATTRS", "KERNELS")]
    if usb["id_path"] is not None:
        keys.append(f'ENV{{ID_PATH}}=="{pattern(usb["id_path"])}"')
    if usb["interface"] is not None:
        keys.append(f'ENV{{ID_USB_INTERFACE_NUM}}=="{usb["interface"]:02x}"')
    if usb["port"] is not None:
        keys.append(f'ENV{{.TTYFLEET_PORT}}=="{usb["port"]}"')
    return ", ".join(keys)


def udev_match_device(usb: Mapping[str, Any]) -> str:
    """Return what a rule for the adapter itself, the USB device, matches.

    It is "" if `usb` says nothing of the adapter, but only of an interface or port.
    """
    keys = _of_adapter(usb, "ATTR", "KERNEL")
    if usb["id_path"] is not None:
        path = re.sub(r":\d+\.\d+$", "", usb["id_path"])
        keys.append(f'ENV{{ID_PATH}}=="{pattern(path)}"')
    return ", ".join(['ATTR{bDeviceClass}!="09"', *keys]) if keys else ""


def _of_adapter(usb: Mapping[str, Any], attribute: str, kernel: str) -> list[str]:
    keys = [
        f'{attribute}{{{name}}}=="{pattern(usb[key])}"'
        for key, name in ATTRIBUTES.items()
        if usb[key] is not None
    ]
    if usb["path"] is not None:
        keys.append(f'{kernel}=="{usb["path"]}"')
    return keys


def pattern(text: str) -> str:
    """Return the pattern of udev that matches a text.

    Of the characters that mean something there, *, ? and [ stand for themselves in brackets. A
    vertical bar, a quotation mark and a backslash cannot be written for sure: any character may be
    in their place.
    """
    return re.sub(r'[|"\\]', "?", re.sub(r"[*?\[]", r"[\g<0>]", text))
