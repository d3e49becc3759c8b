"""Puts the entries of connections together: each device is one port, with all its listeners."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator
from typing import Any

from ttybridge.model.ports import (
    ENGINE_DEFAULTS,
    ENGINE_HONOURS,
    INHERITED,
    Port,
    clients_at_once,
)
from ttybridge.model.values import Listen, Listeners, as_written, shown
from ttybridge.setup.ser2net.entry import Draft

# How a listener takes back what its port has.
_NOTHING: dict[str, Any] = {
    **{each.name: each.default for each in dataclasses.fields(Port) if each.name in INHERITED},
    **{"allow": [], "allow_names": [], "options": []},
    **dict.fromkeys(("tls", "rs485", "log"), "off"),
}

# Keys that a listener takes from its connection; the others must be alike for a whole device.
_OF_A_LISTENER = {
    engine: {key for key in INHERITED if honours.get(f"listen.{key}") != ()}
    for engine, honours in ENGINE_HONOURS.items()
}

# What is not compared: which connection and which port it is, and what `_share` brings together.
_OF_ITS_OWN = {"name", "listen", "device", "engine", "sharing", "max_clients"}


class Gathered:
    """The entries so far. Each look-up takes the same time, however many there are."""

    def __init__(self) -> None:
        self._drafts: dict[str, Draft] = {}  # by device
        self._names: dict[str, int] = {}  # with how often the name was wanted
        self._listeners: dict[tuple[object, ...], str] = {}  # with the names of their ports
        self._logs: dict[str, str] = {}

    @property
    def drafts(self) -> list[Draft]:
        """One for each port."""
        return list(self._drafts.values())

    def name(self, device: str, wanted: str) -> str:
        """Return the name of the port that a device has, or one that no port has."""
        if device in self._drafts:
            return str(self._drafts[device].entry["name"])
        name, number = wanted, self._names.get(wanted, 1)
        while name in self._names:
            number += 1
            name = f"{wanted}-{number}"
        if wanted in self._names:
            self._names[wanted] = number - 1
        return name

    def add(self, draft: Draft, port: Port) -> bool:
        """Add a connection, as a port or as a listener of one; return whether there is room.

        `port` is its entry, parsed. What the port map cannot have becomes a remark of the draft.
        """
        at = port.listen[0].at
        other = next((self._listeners[k] for k in _looks(at) if k in self._listeners), None)
        if other:
            draft.leave_out(f"listen: {at} is taken by port {other}")
            return False
        first = self._drafts.get(port.path)
        if first and len(first.entry["listen"]) == Listeners.most:
            draft.leave_out(f"port {first.entry['name']} of its device has {Listeners.most} others")
            return False
        if not first or draft.is_ser2nets:
            self._own_log(draft)
        if first:
            _add_listener(first, draft)
        else:
            draft.entry["listen"] = [_listener(draft.entry)]
            self._drafts[port.path] = draft
            self._names.setdefault(port.name, 1)
        for key in _claims(at):
            self._listeners.setdefault(key, port.name)
        return True

    def _own_log(self, draft: Draft) -> None:
        """Give a port a log file that no port above has."""
        log, name = draft.entry.get("log"), draft.entry["name"]
        if not log:
            return
        file = log["file"]
        if self._logs.get(file, name) != name:
            words = f"log.file: {shown(file)} is also the log of port {self._logs[file]}"
            file = f"{file}.{name}"
            while self._logs.get(file, name) != name:
                file += ".log"
            draft.note(draft.connection.line, f"{words}: this one is {file}")
            log["file"] = file
        self._logs[file] = name


def _claims(at: Listen) -> Iterator[tuple[object, ...]]:
    """What a listener has: its address, and so some of its family's, and some of the port's."""
    families = (_family(at),) if at.address else (4, 6)
    yield at.port, at.address if not _is_any(at) else "any"
    for family in families:
        if _is_any(at):
            yield at.port, family, "all"
        yield at.port, family


def _looks(at: Listen) -> Iterator[tuple[object, ...]]:
    """Where another listener is, if one host cannot have both (`Listen.overlaps`)."""
    families = (_family(at),) if at.address else (4, 6)
    for family in families:
        yield (at.port, family) if _is_any(at) else (at.port, family, "all")
    if not _is_any(at):
        yield at.port, at.address


def _is_any(at: Listen) -> bool:
    return not at.address or ipaddress.ip_address(at.address).is_unspecified


def _family(at: Listen) -> int:
    return ipaddress.ip_address(at.address).version


def _add_listener(first: Draft, draft: Draft) -> None:
    """Make a connection a listener of the port that its device has."""
    port, own, line = first.entry, draft.entry, draft.connection.line
    what = shown(draft.connection.name)
    draft.note(line, f"{what} is a listener of port {port['name']}, which has the same device")
    _share(first, draft)
    of_a_listener = _OF_A_LISTENER[draft.engine]
    for key in sorted({*port, *own} - _OF_ITS_OWN - of_a_listener):
        if port.get(key) != own.get(key):
            here, there = (shown(as_written(one.get(key, "off"))) for one in (own, port))
            words = f"all listeners of a device have one: {there}, of {port['name']}"
            draft.lose(line, f"{key}: {here}: {words}")
    nothing = {**_NOTHING, **ENGINE_DEFAULTS[draft.engine]}
    differing = {
        key: own.get(key, nothing[key])
        for key in INHERITED
        if key in of_a_listener - _OF_ITS_OWN
        and own.get(key, nothing[key]) != port.get(key, nothing[key])
    }
    port["listen"].append({**_listener(own), **differing})


def _listener(entry: dict[str, Any]) -> dict[str, Any]:
    return {"at": entry["listen"], "max_clients": _clients(entry)}


def _clients(entry: dict[str, Any]) -> int:
    return int(entry.get("max_clients", clients_at_once(entry.get("sharing", "exclusive"))))


def _share(first: Draft, draft: Draft) -> None:
    """Let a port take as many clients as that of its listeners that takes most."""
    port, line = first.entry, draft.connection.line
    rules = [entry.get("sharing", "exclusive") for entry in (port, draft.entry)]
    most = max(_clients(port), _clients(draft.entry))
    if draft.is_ser2nets and rules[0] != rules[1]:
        _replace_for_itself(port)
        _replace_for_itself(draft.entry)
    elif rules[0] != rules[1] and "replace" in rules:
        if most > 1:
            told = f"kickolduser: all listeners of a device share it, here {most} clients"
        else:
            words = f"all listeners of a device have one: {rules[0]}, of {port['name']}"
            told = f"sharing: {rules[1]}: {words}"
        draft.lose(line, told)
    if most > 1:
        port |= {"sharing": "shared", "max_clients": most}


def _replace_for_itself(entry: dict[str, Any]) -> None:
    """Let each connection of ser2net that replaces its client do so by an option."""
    if entry.get("sharing") != "replace":
        return
    entry["sharing"] = "exclusive"
    for one in (entry, *(each for each in _written(entry) if "options" in each)):
        one["options"] = [*one.get("options", ()), "kickolduser=true"]


def _written(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The listeners that an entry has so far; none if it is no port yet."""
    return entry["listen"] if isinstance(entry["listen"], list) else []
