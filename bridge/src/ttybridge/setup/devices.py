"""The kinds of device that a unit must be allowed to open: see systemd.resource-control(5)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

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


def _kinds_of(port: Mapping[str, Any]) -> set[str]:
    """The drivers that the device of a port may have; a link may lead to any of those known."""
    if port["usb"]:
        return {*_OF_ADAPTERS}
    named = re.fullmatch(r"/dev/((?:tty|rfcomm)[A-Za-z0-9]*?)[0-9]+", str(port["path"]))
    if not named:
        return {*_KNOWN}
    return {named[1]} if named[1] in _KNOWN else {named[1], *_KNOWN}
