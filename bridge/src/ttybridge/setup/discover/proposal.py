"""A port map entry for each tty of a machine."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ttybridge.model.ports import KEYS, UsbMatch
from ttybridge.model.values import LOCAL, kinds_of
from ttybridge.setup.discover.machine import RESERVED, Adapter, Machine, Tty

FIRST_TCP_PORT = 10001


@dataclass(frozen=True)
class Match:
    """How an entry names its tty: `keys` hold `usb` or `device`; `alternative` is another way."""

    keys: dict[str, Any]
    why: str
    alternative: dict[str, Any] | None = None
    alternative_why: str = ""


@dataclass(frozen=True)
class Proposal:
    """A port map entry for a tty."""

    tty: Tty
    entry: dict[str, Any]
    match: Match
    warnings: tuple[str, ...]

    @property
    def reserved(self) -> bool:
        """Whether the tty is the machine's own console or belongs to Bluetooth."""
        return any(holder.kind in RESERVED for holder in self.tty.holders)


def propose(machine: Machine) -> list[Proposal]:
    """Return an entry for every tty; together they are a port map without faults."""
    adapters = list(dict.fromkeys(tty.adapter for tty in machine.ttys if tty.adapter))
    proposals: list[Proposal] = []
    names = {name for tty in machine.ttys if (name := _present_name(tty))} | machine.names
    free = (port for port in itertools.count(FIRST_TCP_PORT) if port not in machine.listening)
    # The lowest numbers go to the ttys that ttyfleet does not serve yet.
    listen = {tty: next(free) for tty in sorted(machine.ttys, key=lambda tty: len(tty.by_name))}
    for tty in machine.ttys:
        name = _present_name(tty) or _unused(_new_name(tty, machine, adapters), names)
        names.add(name)
        match = _match(tty, machine, adapters)
        entry = {"name": name, **match.keys, "listen": listen[tty], "allow": [LOCAL]}
        warnings = tuple(_warnings(tty, match, adapters))
        proposals.append(Proposal(tty, entry, match, warnings))
    return proposals


def _match(tty: Tty, machine: Machine, adapters: Sequence[Adapter]) -> Match:
    if not tty.adapter:
        why = "by name, which a UART keeps"
        if "/dev/serial0" not in tty.aliases:
            return Match({"device": tty.device}, why)
        first = "the first UART of the board, whichever that is by config.txt"
        return Match({"device": tty.device}, why, {"device": "/dev/serial0"}, first)
    same = [other for other in machine.ttys if other.adapter == tty.adapter]
    if sum(other.interface == tty.interface for other in same) > 1:
        return _match_link(tty, tty.adapter, adapters)
    keys, why = _match_adapter(tty.adapter, adapters)
    if "path" in keys and not _siblings(tty.adapter, adapters):
        other = {"vendor": tty.adapter.vendor, "product": tty.adapter.product}
        other_why = "wherever it is plugged in, while it has no twin"
    else:
        other = {"path": tty.adapter.path}
        other_why = "whichever adapter is plugged in there"
    interface = {}
    if len(same) > 1:
        interface = {"interface": tty.interface}
        why += f"; by interface, since it has {len(same)} ports"
    return Match({"usb": {**keys, **interface}}, why, {"usb": {**other, **interface}}, other_why)


def _match_adapter(adapter: Adapter, adapters: Sequence[Adapter]) -> tuple[dict[str, Any], str]:
    """The keys of `usb` that match this adapter and no other, and why these."""
    model = {"vendor": adapter.vendor, "product": adapter.product}
    fault = serial_fault(adapter, adapters)
    if fault:
        return {**model, "path": adapter.path}, f"by USB path: {fault}"
    return {**model, "serial": adapter.serial}, "by serial number: wherever it is plugged in"


def _match_link(tty: Tty, adapter: Adapter, adapters: Sequence[Adapter]) -> Match:
    """How to name one of the ports that share an interface: by udev's links, not by `usb`."""
    among = "as one of several ports that share one USB interface"
    by_id, by_path = (
        next(({"device": link} for link in links if _is_good("device", link)), None)
        for links in (tty.by_id, tty.by_path)
    )
    if by_id and not serial_fault(adapter, adapters):
        return Match(by_id, f"by serial number, {among}", by_path, "which is by USB path")
    if by_path:
        return Match(by_path, f"by USB path, {among}")
    return Match({"device": tty.device}, f"by the kernel's name, {among}")


def serial_fault(adapter: Adapter, adapters: Sequence[Adapter]) -> str:
    """Why the serial number does not identify an adapter; "" if it does."""
    serial = adapter.serial
    if not serial:
        return "it has no serial number"
    if is_placeholder(serial):
        return f"its serial number {serial} is one that many adapters have"
    # What cannot be printed was read as a question mark.
    if "?" in serial or not _is_good("serial", serial):
        return "its serial number holds characters that a port map cannot hold"
    if any(other.serial == serial for other in _siblings(adapter, adapters)):
        return f"another of its model has the serial number {serial}, too"
    return ""


def is_placeholder(serial: str) -> bool:
    """Whether a serial number is a placeholder: 0001, 12345678, FFFF, a controller's address."""
    text = serial.lower()
    rows = ("0123456789abcdef", "1234567890", "abcdef", "9876543210")
    return (
        text.lstrip("0") in ("", "1")
        or len(set(text)) == 1
        or any(row.startswith(text) for row in rows)
        or re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", text) is not None
        or re.sub(r"[^a-z]", "", text) in ("none", "na", "serial", "serialnumber", "defaultstring")
    )


def _siblings(adapter: Adapter, adapters: Sequence[Adapter]) -> list[Adapter]:
    """The other adapters of the same model."""
    model = (adapter.vendor, adapter.product)
    return [one for one in adapters if one != adapter and (one.vendor, one.product) == model]


def _warnings(tty: Tty, match: Match, adapters: Sequence[Adapter]) -> Iterator[str]:
    if tty.adapter and serial_fault(tty.adapter, adapters):
        twins = [a for a in _siblings(tty.adapter, adapters) if a.serial == tty.adapter.serial]
        if twins:
            where = ", ".join(twin.path for twin in twins)
            yield f"its twin is at {where}: only the socket tells them apart, so label both"
    if tty.adapter and match.keys.get("device") == tty.device:
        yield "another adapter may get this name after a boot: udev made no link to it here"
    if ":" in match.keys.get("device", ""):
        yield "engine ser2net cannot open a path with a colon"
    if tty.driver == "bcm2835-aux-uart":
        yield "a mini UART: no parity, and its baudrate moves with the core clock: enable_uart=1"


def _is_good(key: str, value: str) -> bool:
    """Whether a key of an entry, or of its `usb`, may have a value."""
    try:
        (KEYS | kinds_of(UsbMatch))[key].parse(value)
    except ValueError:
        return False
    return True


def _present_name(tty: Tty) -> str:
    """The name of a tty that ttyfleet serves already; "" for others."""
    names = (os.path.basename(link) for link in tty.by_name)
    return next((name for name in names if _is_good("name", name)), "")


def _new_name(tty: Tty, machine: Machine, adapters: Sequence[Adapter]) -> str:
    """A short form of the adapter's name in lsusb, with what tells it from twins, if any."""
    adapter = tty.adapter
    if not adapter:
        return tty.name
    name = _word(adapter)
    if any(_word(other) == name for other in adapters if other != adapter):
        unique = adapter.path if serial_fault(adapter, adapters) else adapter.serial[-12:]
        name = f"{name}-{re.sub(r'[^A-Za-z0-9.-]', '', unique)}"
    same = [other for other in machine.ttys if other.adapter == adapter]
    if len({other.interface for other in same}) > 1:
        name += f"-{tty.interface}"
    if len({other.port_number for other in same}) > 1:
        name += f"-{tty.port_number}"
    return name


def _word(adapter: Adapter) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", adapter.model.lower()).strip("-")
    while len(words) > 24 and "-" in words:
        words = words.rpartition("-")[0]
    return words[:24] or f"{adapter.vendor}-{adapter.product}"


def _unused(name: str, names: set[str]) -> str:
    number = 2
    free = name
    while free in names:
        free = f"{name}-{number}"
        number += 1
    return free
