"""The kinds of device that ports have, and adapters of which Linux makes no device.

What a unit must be allowed to open: systemd.resource-control(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ttybridge.setup.discover.machine import DRIVERS
from ttybridge.setup.udev import ATTRIBUTES

# By number where the number is fixed: a name counts only if its driver is loaded when the unit
# starts, and the driver of an adapter is loaded when the adapter is first plugged in.
_FIXED = {"ttyS": 4, "pts": 136, "ttyACM": 166, "ttyUSB": 188, "ttyAMA": 204, "rfcomm": 216}

# Drivers that adapters have; beside those of Linux, their makers' own.
_OF_ADAPTERS = ("ttyACM", "ttyUSB", "ttyXRUSB", "ttyCH343USB", "ttyCH9344USB", "ttyMXUSB")

# UARTs at SPI and I2C, and the Pi's own USB gadget.
_OTHERS = ("ttySC", "ttyMAX", "ttyGS")

_KNOWN = (*_FIXED, *_OF_ADAPTERS, *_OTHERS)


def device_allow(ports: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the kinds of device that ports may have, as `DeviceAllow=` names them.

    `ports` are as the role serial_ports returns them. A pty is always among them: anything can be
    simulated with it.
    """
    kinds = {"pts"}.union(*(_kinds_of(port) for port in ports))
    numbers = sorted(_FIXED[kind] for kind in kinds if kind in _FIXED)
    names = sorted(kind for kind in kinds if kind not in _FIXED)
    return [f"char-{kind}" for kind in (*numbers, *names)]


def without_driver(
    ports: Iterable[Mapping[str, Any]], driverless: Iterable[Mapping[str, str]]
) -> list[str]:
    """Return a line for each port whose adapter is there, but has no driver and so no device.

    `driverless` are USB devices without a driver, as files/read_host.sh says them.
    """
    lines = [
        f"port {port['name']}: no driver of this host has taken its adapter "
        f"{device['idVendor']}:{device['idProduct']} at USB path {device['path']}: "
        f"{_cure(device['idVendor'])}"
        for port in ports
        if port["usb"]
        for device in driverless
        if _is_meant(port["usb"], device)
    ]
    return list(dict.fromkeys(lines))


def _is_meant(usb: Mapping[str, Any], device: Mapping[str, str]) -> bool:
    """Whether an entry names a USB device, by something else than an interface or port."""
    names = {"path": "path", **ATTRIBUTES}
    given = {name: usb[key] for key, name in names.items() if usb[key] is not None}
    return bool(given) and all(device[name] == value for name, value in given.items())


def _cure(vendor: str) -> str:
    if vendor in DRIVERS:
        return f"sudo modprobe {DRIVERS[vendor]}; if that does not help, install its maker's driver"
    return "install its maker's driver, and name it in /etc/modules"


def _kinds_of(port: Mapping[str, Any]) -> set[str]:
    """The drivers that the device of a port may have; a link may lead to any of those known."""
    if port["usb"]:
        return {*_OF_ADAPTERS}
    named = re.fullmatch(r"/dev/((?:tty|rfcomm)[A-Za-z0-9]*?)[0-9]+", str(port["path"]))
    if not named:
        return {*_KNOWN}
    return {named[1]} if named[1] in _KNOWN else {named[1], *_KNOWN}
