"""What is wrong in a port map: every fault of a host, each with its place, key, value and cure."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttybridge.model.ports import (
    BY_NAME,
    ENGINE_HONOURS,
    FIREWALL_HONOURS,
    IDENTITY,
    KEYS,
    LOG_DIRECTORIES,
    SER2NET_SINCE,
    SINGLE_CLIENT_SHARING,
    Port,
)
from ttybridge.model.values import Listen, as_written, label, parse_keys, shown

# What those units hide from an engine: systemd's ProtectHome= and PrivateTmp=.
_HIDDEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")

# Where the role bridge copies the TLS files that are beside the inventory.
TLS_DIRECTORY = "/etc/ttybridge/tls"

_ABSENT = object()


# Other tools' words for our keys, for the hint at an unknown key.
_SYNONYMS = {
    "speed": "baudrate",
    "databits": "bytesize",
    "data_bits": "bytesize",
    "timeout": "idle_timeout",
    "port": "listen",
    "tcp_port": "listen",
    "tty": "device",
    "match": "usb",
    "mode": "protocol",
    "max_connections": "max_clients",
    "remote": "connect",
    "ssl": "tls",
    "trace": "log",
}


@dataclass(frozen=True)
class Site:
    """Where a port map shall be provisioned, as far as the controller knows.

    `files` is the folder of the inventory, None where that is no file. `reserved` are listeners of
    the host that no port can have, each with what it is. `firewall` is whether the host has the
    firewall of `serial_firewall`.
    """

    files: Path | None = None
    reserved: tuple[tuple[Listen, str], ...] = ()
    firewall: bool = False


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong in a port map: where it is, what was written, what to write."""

    place: str
    key: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place}: {self.key}: {self.problem}"


class PortMapError(ValueError):
    """A port map that cannot be used; `faults` holds all that is wrong with it."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True)
class _Draft:
    """An entry in the making: where it stands, its good values, the keys that were written."""

    place: str
    number: int
    values: Mapping[str, Any]
    written: Mapping[str, str]  # key -> where it was written
    faulty: frozenset[str] = frozenset()  # keys with a value that could not be used

    def get(self, name: str) -> Any:
        return self.values.get(name)

    @property
    def path(self) -> str | None:
        """Where the device is, as far as the entry says."""
        symlink = f"{BY_NAME}/{self.get('name')}" if self.get("usb") else None
        return self.get("device") or symlink

    def source(self, name: str) -> str:
        """Where a key was written, if not in the entry, to follow its value in a message."""
        return f" (from {self.written[name]})" if self.written.get(name) else ""


def parse_portmap(
    entries: object, defaults: object = None, where: str = "serial_ports"
) -> tuple[Port, ...]:
    """Return the ports of a port map, every key filled in.

    `entries` is the list a person wrote, `defaults` the mapping with values for every port,
    `where` what to call the map in messages (the host, or the file).
    Raises `PortMapError` with every fault of the map.
    """
    ports, faults = check_portmap(entries, defaults, where)
    if faults:
        raise PortMapError(faults)
    return ports


def check_portmap(
    entries: object, defaults: object = None, where: str = "serial_ports", site: Site | None = None
) -> tuple[tuple[Port, ...], list[Fault]]:
    """Like `parse_portmap`, but return the sound ports and the faults.

    `site` is where the roles shall provision it: then what their units keep from the engines,
    what the host needs itself and files that are not there are faults, too.
    """
    faults: list[Fault] = []
    common = _parse_defaults(defaults, f"{where}: serial_ports_defaults", faults)
    if not isinstance(entries, Sequence) or isinstance(entries, str | bytes):
        problem = f"{shown(entries)} is not a list: write one entry a port, each with a name"
        return (), [*faults, Fault(where, "serial_ports", problem)]
    places = _places(entries, where)
    drafts = [
        _parse_entry(entry, common, number, place, faults)
        for number, (entry, place) in enumerate(zip(entries, places, strict=True), start=1)
    ]
    for draft in drafts:
        faults.extend(_check_draft(draft))
        if site:
            faults.extend(_out_of_the_sandbox(draft))
            faults.extend(_reserved(draft, site))
            faults.extend(_missing_tls_files(draft, site))
            faults.extend(_without_firewall(draft, site))
    for position, draft in enumerate(drafts):
        faults.extend(_clashes(draft, drafts[:position]))
        if site:
            faults.extend(_tls_files_of_one_name(draft, drafts[: position + 1]))
    # As they stand in the map, and in the order in which they were found within an entry.
    faults.sort(key=lambda fault: places.index(fault.place) if fault.place in places else -1)
    faulty = {fault.place for fault in faults}
    return tuple(_port(draft) for draft in drafts if draft.place not in faulty), faults


def _places(entries: Sequence[Any], where: str) -> list[str]:
    """What to call each entry in messages: by its name, by its number where that is not enough."""
    names = [entry.get("name") if isinstance(entry, Mapping) else None for entry in entries]
    places = []
    for number, name in enumerate(names, start=1):
        if not isinstance(name, str):
            places.append(f"{where}: port number {number}")
        elif names.count(name) > 1:
            places.append(f"{where}: port {label(name)} (number {number})")
        else:
            places.append(f"{where}: port {label(name)}")
    return places


def _parse_defaults(defaults: object, place: str, faults: list[Fault]) -> dict[str, Any]:
    if defaults is None:
        return {}
    if not isinstance(defaults, Mapping):
        faults.append(Fault(place, "all", f"{shown(defaults)} is not a mapping of keys"))
        return {}
    for name in IDENTITY:
        if name in defaults:
            problem = f"{shown(defaults[name])} belongs to one port: write it in the port's entry"
            faults.append(Fault(place, name, problem))
    return _parse_keys({k: v for k, v in defaults.items() if k not in IDENTITY}, place, faults)


def _parse_keys(written: Mapping[Any, Any], place: str, faults: list[Fault]) -> dict[str, Any]:
    values, bad = parse_keys(written, KEYS, _SYNONYMS)
    faults += [Fault(place, name, problem) for name, problem in bad]
    return values


def _parse_entry(
    entry: object, common: Mapping[str, Any], number: int, place: str, faults: list[Fault]
) -> _Draft:
    if not isinstance(entry, Mapping):
        faults.append(
            Fault(
                place,
                "entry",
                f"{shown(entry)} is not a mapping: write its keys, such as name, listen and usb",
            )
        )
        return _Draft(place, number, {}, {})
    values = _parse_keys(entry, place, faults)
    if "name" not in entry:
        faults.append(Fault(place, "name", f"missing: write {KEYS['name'].allowed}"))
    if "listen" not in entry and "connect" not in entry:
        one = f"listen ({KEYS['listen'].allowed}) or connect ({KEYS['connect'].allowed})"
        faults.append(Fault(place, "listen", f"missing: write {one}"))
    if "listen" in entry and "connect" in entry:
        both = f"{shown(entry['connect'])} stands beside listen {shown(entry['listen'])}"
        faults.append(Fault(place, "connect", f"{both}: write one of the two"))
    if ("usb" in entry) == ("device" in entry):
        faults.append(_usb_or_device(entry, place))
    written = dict.fromkeys(common, "serial_ports_defaults") | dict.fromkeys(values, "")
    faulty = frozenset(name for name in KEYS if name in entry and name not in values)
    return _Draft(place, number, {**common, **values}, written, faulty)


def _usb_or_device(entry: Mapping[Any, Any], place: str) -> Fault:
    if "usb" in entry:
        both = f"{shown(entry['device'])} stands beside usb {shown(entry['usb'])}"
        return Fault(place, "device", f"{both}: write one of the two")
    return Fault(place, "usb", "missing: write usb (what the adapter is) or device (a path)")


def _check_draft(draft: _Draft) -> Iterator[Fault]:
    """What an entry's values forbid one another; a value that is itself faulty forbids nothing."""
    sharing = draft.values.get("sharing", "exclusive")
    clients = draft.values.get("max_clients", 1)
    if sharing in SINGLE_CLIENT_SHARING and clients > 1 and "sharing" not in draft.faulty:
        problem = f"{clients}{draft.source('max_clients')} clients, but sharing is {sharing}"
        yield Fault(draft.place, "max_clients", f"{problem}: write sharing: shared or observed")
    yield from _banner_without_telnet(draft)
    yield from _listener_keys_without_listener(draft)
    if "engine" in draft.faulty:
        return
    engine = draft.values.get("engine", "bridge")
    for name, honoured in ENGINE_HONOURS[engine].items():
        top = name.partition(".")[0]
        if top in draft.faulty or top not in draft.written:
            continue
        value = _value_at(draft, name)
        if value is not _ABSENT and value not in honoured:
            yield Fault(draft.place, name, _not_honoured(draft, name, value, engine))
    if engine == "ser2net" and {":", ","} & set(draft.values.get("device") or ""):
        value = shown(draft.values["device"])
        problem = f"{value}: engine ser2net cannot open a path with a colon or comma"
        yield Fault(draft.place, "device", f"{problem}: write usb, or a path without one")


def _banner_without_telnet(draft: _Draft) -> Iterator[Fault]:
    protocol = draft.values.get("protocol", "raw")
    # A banner for all ports is meant for those that speak telnet.
    own = draft.written.get("banner") == ""
    if own and draft.get("banner") and protocol != "telnet" and "protocol" not in draft.faulty:
        problem = f"{shown(draft.get('banner'))}: only a telnet client is shown text"
        yield Fault(
            draft.place, "banner", f"{problem}; this port is {protocol}: write protocol: telnet"
        )


def _listener_keys_without_listener(draft: _Draft) -> Iterator[Fault]:
    """Keys that say who may connect, on a port that connects to others itself."""
    if not draft.get("connect"):
        return
    nothing = {"allow": (), "tls": None, "guard": False, "sharing": "exclusive", "max_clients": 1}
    for name, value in nothing.items():
        # What is written for all ports is meant for those that listen.
        if draft.written.get(name) == "" and draft.get(name) != value:
            problem = f"{shown(as_written(draft.get(name)))}: it is for a port that listens"
            yield Fault(draft.place, name, f"{problem}: leave it out, or write listen")


def _out_of_the_sandbox(draft: _Draft) -> Iterator[Fault]:
    log = draft.get("log")
    folder = LOG_DIRECTORIES[draft.values.get("engine", "bridge")]
    if log and "engine" not in draft.faulty and log.file.rpartition("/")[0] != folder:
        problem = f"{shown(log.file)}{draft.source('log')}: its unit cannot write there"
        yield Fault(draft.place, "log.file", f"{problem}: write {folder}/NAME")
    for name, file in {"device": draft.get("device"), **_tls_files(draft)}.items():
        if file and file.startswith(_HIDDEN):
            problem = f"{shown(file)}{draft.source(name.partition('.')[0])}: its unit hides"
            yield Fault(
                draft.place, name, f"{problem} {', '.join(_HIDDEN)}: write a path elsewhere"
            )


def _tls_files(draft: _Draft) -> dict[str, str]:
    tls = draft.get("tls")
    return {f"tls.{name}": file for name, file in vars(tls).items() if file} if tls else {}


def _reserved(draft: _Draft, site: Site) -> Iterator[Fault]:
    listen = draft.get("listen")
    for taken, what in site.reserved:
        if listen and listen.overlaps(taken):
            yield Fault(draft.place, "listen", f"{listen} is {what}: write another TCP port")


def _without_firewall(draft: _Draft, site: Site) -> Iterator[Fault]:
    if site.firewall or draft.get("engine") != "ser2net":
        return
    for name in FIREWALL_HONOURS:
        if draft.get(name):
            said = f"{shown(as_written(draft.get(name)))}{draft.source(name)}"
            cure = f"write serial_firewall: true for the host, engine: bridge, or {name}: []"
            yield Fault(draft.place, name, f"{said}: engine ser2net cannot honour it: {cure}")


def _missing_tls_files(draft: _Draft, site: Site) -> Iterator[Fault]:
    for name, file in _tls_files(draft).items():
        if file.startswith("/"):
            continue
        said = f"{shown(file)}{draft.source('tls')}"
        instead = "an absolute path for a file that is on the host"
        if site.files is None:
            problem = f"{said} is to be beside the inventory, which is no file: write {instead}"
            yield Fault(draft.place, name, problem)
        elif not os.path.isfile(site.files / file):
            problem = f"{said} is no file in {site.files}: put it there, or write {instead}"
            yield Fault(draft.place, name, problem)


def _tls_files_of_one_name(draft: _Draft, others: Sequence[_Draft]) -> Iterator[Fault]:
    """Files of the controller that would overwrite one another on the host."""
    there = [file for other in others for file in _tls_files(other).values() if file[0] != "/"]
    for name, file in _tls_files(draft).items():
        same = [one for one in there if _base(one) == _base(file) and one != file]
        if file[0] != "/" and same:
            problem = f"{shown(file)}{draft.source('tls')} and {shown(same[0])} would both be"
            yield Fault(
                draft.place, name, f"{problem} {TLS_DIRECTORY}/{_base(file)}: rename one of them"
            )


def _base(file: str) -> str:
    return file.rpartition("/")[2]


def _value_at(draft: _Draft, name: str) -> Any:
    """The value of a key, or of a key in a table as `a.b`; _ABSENT where there is no table."""
    top, _, inner = name.partition(".")
    value = draft.values[top]
    if not inner:
        return value
    return _ABSENT if value is None else getattr(value, inner)


def _not_honoured(draft: _Draft, name: str, value: Any, engine: str) -> str:
    source = draft.source(name.partition(".")[0])
    able = [
        other
        for other, limits in ENGINE_HONOURS.items()
        if name not in limits or value in limits[name]
    ]
    cure = f"write engine: {able[0]}, or " if able else "write "
    honoured = ENGINE_HONOURS[engine][name]
    if isinstance(honoured, range):
        words = f"{honoured.start} to {honoured.stop - 1}"
    else:
        words = " or ".join(label(as_written(value)) for value in honoured)
    instead = "listen" if name == "connect" else f"{name}: {words}"
    return f"{shown(as_written(value))}{source}: engine {engine} cannot honour it: {cure}{instead}"


def _clashes(draft: _Draft, earlier: Sequence[_Draft]) -> Iterator[Fault]:
    """What an entry has in common with one above it and must not."""
    for other in earlier:
        one, two = draft.get("name"), other.get("name")
        if one and one == two:
            problem = f"{shown(one)} is also the name of port number {other.number}"
            yield Fault(draft.place, "name", f"{problem}: write another name")
        here, there = draft.get("listen"), other.get("listen")
        if here and there and here.overlaps(there):
            problem = f"{here} is taken by port {_label(other)} (listen {there})"
            yield Fault(draft.place, "listen", f"{problem}: write another TCP port")
        usb, their_usb = draft.get("usb"), other.get("usb")
        if usb and their_usb and usb.overlaps(their_usb):
            problem = (
                f"{shown(usb.given())}: one adapter can satisfy this and port {_label(other)} "
                f"({shown(their_usb.given())})"
            )
            yield Fault(
                draft.place, "usb", f"{problem}: add serial, path, interface or port to both"
            )
        log, their_log = draft.get("log"), other.get("log")
        if log and their_log and log.file == their_log.file:
            problem = f"{shown(log.file)}{draft.source('log')} is also the log of port"
            yield Fault(draft.place, "log.file", f"{problem} {_label(other)}: write another file")
        fixed = draft.get("device") or other.get("device")
        match = usb or their_usb
        if fixed and (draft.path == other.path or match and match.is_at(fixed)):
            problem = f"{shown(fixed)} is also the device of port {_label(other)}"
            yield Fault(draft.place, "device", f"{problem}: write another device")


def _label(draft: _Draft) -> str:
    return draft.get("name") or f"number {draft.number}"


def _port(draft: _Draft) -> Port:
    values = dict(draft.values)
    if not values.get("max_clients"):
        alone = values.get("sharing", "exclusive") in SINGLE_CLIENT_SHARING
        values["max_clients"] = 1 if alone else 8
    return Port(**values)


def check_ser2net(ports: Sequence[Port], version: str) -> list[Fault]:
    """What ports served by ser2net ask for that its installed `version`, as dpkg shows it, lacks.

    Only the host knows its version, so this comes after `check_portmap`.
    """
    number = re.match(r"(?:\d+:)?(\d+)\.(\d+)", version)
    installed = (int(number[1]), int(number[2])) if number else (0, 0)
    return [
        Fault(
            f"port {port.name}",
            name,
            f"{shown(as_written(value))}: ser2net {version} cannot honour it, "
            f"{'.'.join(map(str, since))} can: write engine: bridge, or leave {name} out",
        )
        for port in ports
        for name, (value, since) in SER2NET_SINCE.items()
        if port.engine == "ser2net" and getattr(port, name) == value and installed < since
    ]
