"""Every fault in a port map, each with its place, its key, the value and what to write."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttybridge.model.ports import (
    BESIDES_BYTES,
    BY_NAME,
    ENGINE_DEFAULTS,
    ENGINE_HONOURS,
    FIREWALL_HONOURS,
    IDENTITY,
    INHERITED,
    KEYS,
    LINE_SETTINGS,
    LOG_DIRECTORIES,
    SER2NET_SINCE,
    SEVERAL_CLIENTS,
    SINGLE_CLIENT_SHARING,
    DialTls,
    Listener,
    Log,
    Port,
    Tls,
    clients_at_once,
    tls_files,
)
from ttybridge.model.values import (
    ANY,
    LOCAL,
    Listen,
    ListenAddress,
    WrittenListener,
    as_written,
    did_you_mean,
    kinds_of,
    label,
    parse_keys,
    shown,
)

# Folders that the systemd units of the roles hide from an engine: ProtectHome=, PrivateTmp=.
_HIDDEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")

# The role bridge copies TLS files that are beside the inventory to this folder of the host.
TLS_DIRECTORY = "/etc/ttybridge/tls"

_ABSENT = object()

# Other tools' words for our keys, for the hint at an unknown key.
_SYNONYMS = {
    "user": "users",
    "groups": "users",
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
_HINTS = did_you_mean(_SYNONYMS)


@dataclass(frozen=True)
class Site:
    """What the controller knows of the host that gets a port map.

    `files` is the folder of the inventory, None if the inventory is no file. `reserved` are
    addresses of the host where no port can listen, each with what has it. `firewall` is whether the
    host has the firewall of `serial_firewall`.
    """

    files: Path | None = None
    reserved: tuple[tuple[Listen, str], ...] = ()
    firewall: bool = False


@dataclass(frozen=True)
class Fault:
    """One fault in a port map: the port (`place`), the key, and the value with what to write."""

    place: str
    key: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place}: {self.key}: {self.problem}"


class PortMapError(ValueError):
    """A port map with faults; `faults` holds every one."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True)
class _Draft:
    """An entry that is being checked: its place, its good values, the keys that were written."""

    place: str
    number: int
    values: Mapping[str, Any]
    written: Mapping[str, str]  # key -> where it was written
    faulty: frozenset[str] = frozenset()  # keys with a value that could not be used
    in_a_list: bool = False  # whether `listen` is a list

    @property
    def listeners(self) -> list[tuple[str, WrittenListener]]:
        """Every listener, each with what a message calls it."""
        listen = self.values.get("listen", ())
        return [
            (f"listen[{number}]" if self.in_a_list else "listen", one)
            for number, one in enumerate(listen, start=1)
        ]

    @property
    def logs(self) -> dict[str, Log]:
        """The logs of the port and of its listeners, by their keys."""
        own = {f"{key}.log": dict(one.own).get("log") for key, one in self.listeners}
        return {key: log for key, log in {"log": self.get("log"), **own}.items() if log}

    def get(self, name: str) -> Any:
        return self.values.get(name)

    @property
    def path(self) -> str | None:
        """Where the device is, as far as the entry says."""
        symlink = f"{BY_NAME}/{self.get('name')}" if self.get("usb") else None
        return self.get("device") or symlink

    def source(self, name: str) -> str:
        """Where a key was written, if not in the entry, to follow its value in a message.

        Of a key in a table, or of a listener, the part in front says it.
        """
        where = self.written.get(name.partition(".")[0])
        return f" (from {where})" if where else ""


def parse_portmap(
    entries: object, defaults: object = None, where: str = "serial_ports"
) -> tuple[Port, ...]:
    """Return the ports of a port map, every key filled in.

    `entries` is the list that a person wrote, `defaults` the mapping with values for every port.
    `where` (the host, or the file) is what messages call the map.
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

    With a `site` three more kinds of fault are found: what the systemd units keep from the engines,
    TCP ports that the host needs itself, and files that are missing.
    """
    faults: list[Fault] = []
    common = _parse_defaults(defaults, f"{where}: serial_ports_defaults", faults)
    if not isinstance(entries, Sequence) or isinstance(entries, str | bytes):
        is_no_list = "" if entries is None else " is not a list"
        cure = "write one entry a port, each with a name, or [] for none"
        problem = f"{shown(entries)}{is_no_list}: {cure}"
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
    earlier = _Earlier()
    for draft in drafts:
        near = earlier.near(draft)
        faults.extend(_clashes(draft, near))
        if site:
            faults.extend(_tls_files_of_one_name(draft, [*near, draft]))
        earlier.add(draft)
    # In the order of the map; within an entry, in the order in which they were found.
    order = {place: number for number, place in enumerate(places)}
    faults.sort(key=lambda fault: order.get(fault.place, -1))
    faulty = {fault.place for fault in faults}
    return tuple(_port(draft) for draft in drafts if draft.place not in faulty), faults


def _places(entries: Sequence[Any], where: str) -> list[str]:
    """What messages call each entry: by its name, and its number if two have the name."""
    names = [entry.get("name") if isinstance(entry, Mapping) else None for entry in entries]
    times = Counter(name for name in names if isinstance(name, str))
    places = []
    for number, name in enumerate(names, start=1):
        if not isinstance(name, str):
            places.append(f"{where}: port number {number}")
        elif times[name] > 1:
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
    values, bad = parse_keys(written, KEYS, _HINTS)
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
    users = entry.get("users", common.get("users"))
    if "listen" not in entry and "connect" not in entry and not users:
        one = (
            f"listen ({ListenAddress.allowed}), connect ({KEYS['connect'].allowed}) "
            "or users (for a port without a TCP side)"
        )
        faults.append(Fault(place, "listen", f"missing: write {one}"))
    if "listen" in entry and "connect" in entry:
        both = f"{shown(entry['connect'])} stands beside listen {shown(entry['listen'])}"
        faults.append(Fault(place, "connect", f"{both}: write one of the two"))
    if ("usb" in entry) == ("device" in entry):
        faults.append(_usb_or_device(entry, place))
    written = dict.fromkeys(common, "serial_ports_defaults") | dict.fromkeys(values, "")
    faulty = frozenset(name for name in KEYS if name in entry and name not in values)
    listen = entry.get("listen")
    in_a_list = isinstance(listen, Sequence) and not isinstance(listen, str)
    return _Draft(place, number, {**common, **values}, written, faulty, in_a_list)


def _usb_or_device(entry: Mapping[Any, Any], place: str) -> Fault:
    if "usb" in entry:
        both = f"{shown(entry['device'])} stands beside usb {shown(entry['usb'])}"
        return Fault(place, "device", f"{both}: write one of the two")
    return Fault(place, "usb", "missing: write usb (what the adapter is) or device (a path)")


def _check_draft(draft: _Draft) -> Iterator[Fault]:
    """Faults between the values of one entry. A value that is itself faulty causes no more."""
    yield from _too_many_clients(draft)
    yield from _listener_keys_without_listener(draft)
    yield from _half_a_certificate(draft)
    yield from _names_without_certificates(draft)
    yield from _line_settings_of_watchers(draft)
    yield from _log_of_nothing(draft)
    yield from _listeners_that_overlap(draft)
    if "engine" in draft.faulty:
        return
    engine = draft.values.get("engine", "bridge")
    yield from _not_honoured(draft, engine)
    yield from _not_kept_from(draft, engine)
    if engine == "ser2net" and "," in (draft.values.get("device") or ""):
        value = shown(draft.values["device"])
        problem = f"{value}: engine ser2net cannot open a path with a comma"
        yield Fault(draft.place, "device", f"{problem}: write usb, or a path without one")


def _too_many_clients(draft: _Draft) -> Iterator[Fault]:
    if "sharing" in draft.faulty:
        return
    sharing = draft.values.get("sharing", "exclusive")
    clients = {"max_clients": draft.values.get("max_clients", 1)}
    for key, listener in draft.listeners:
        own = dict(listener.own)
        if own.get("access") != "watch" and "max_clients" in own:
            clients[f"{key}.max_clients"] = own["max_clients"]
    most = clients["max_clients"] if "max_clients" in draft.values else clients_at_once(sharing)
    for key, number in clients.items():
        if sharing in SINGLE_CLIENT_SHARING and number > 1:
            problem = f"{number}{draft.source(key)} clients, but sharing is {sharing}"
            yield Fault(draft.place, key, f"{problem}: write sharing: shared or observed")
        elif number > most and "max_clients" not in draft.faulty:
            problem = f"{number} clients, but the port takes {most}"
            cure = f"write max_clients: {number} in the port's entry"
            yield Fault(draft.place, key, f"{problem}: {cure}")


def _half_a_certificate(draft: _Draft) -> Iterator[Fault]:
    """A certificate without its key, or a key without its certificate, for `connect`."""
    tls = draft.get("connect") and draft.get("connect").tls
    if tls and bool(tls.certificate) != bool(tls.key):
        there, missing = ("certificate", "key") if tls.certificate else ("key", "certificate")
        problem = f"missing beside {there}: write the PEM file, or leave {there} out"
        yield Fault(draft.place, f"connect.tls.{missing}", problem)


def _names_without_certificates(draft: _Draft) -> Iterator[Fault]:
    """Listeners with `allow_names` that ask nobody for a certificate."""
    if {"allow_names", "tls", "engine"} & draft.faulty or draft.get("engine") == "ser2net":
        return
    for key, listener in draft.listeners:
        own = {name: draft.get(name) for name in ("allow_names", "tls")} | dict(listener.own)
        names, tls = own["allow_names"], own["tls"]
        if names and not (tls and tls.client_ca):
            name = f"{key}.allow_names" if "allow_names" in dict(listener.own) else "allow_names"
            problem = f"{shown(as_written(names))}{draft.source(name)}: {listener.at} asks nobody"
            cure = "write tls with client_ca there, or allow_names: []"
            yield Fault(draft.place, name, f"{problem} for a certificate: {cure}")


def _line_settings_of_watchers(draft: _Draft) -> Iterator[Fault]:
    """Line settings of a listener whose clients only watch."""
    for key, listener in draft.listeners:
        own = dict(listener.own)
        if own.get("access") == "watch":
            for name in [name for name in LINE_SETTINGS if name in own]:
                problem = f"{shown(as_written(own[name]))}: clients that watch set nothing"
                cure = "leave it out, or write access: write"
                yield Fault(draft.place, f"{key}.{name}", f"{problem}: {cure}")


def _log_of_nothing(draft: _Draft) -> Iterator[Fault]:
    for key, log in draft.logs.items():
        if not log.output and not log.input:
            problem = f"'off'{draft.source(key)} beside log.input 'off' leaves nothing to log"
            yield Fault(
                draft.place, f"{key}.output", f"{problem}: write log.input: on, or log: off"
            )


def _listeners_that_overlap(draft: _Draft) -> Iterator[Fault]:
    """Listeners of one port that one host cannot both have."""
    listeners = draft.listeners
    for place, (key, listener) in enumerate(listeners):
        for other_key, other in listeners[:place]:
            if listener.at.overlaps(other.at):
                problem = f"{listener.at} is taken by {other_key} ({other.at})"
                yield Fault(draft.place, key, f"{problem}: write another TCP port")


def _listener_keys_without_listener(draft: _Draft) -> Iterator[Fault]:
    """Keys for a port that listens, in the entry of one that dials out or is for `users` only."""
    if draft.get("listen") or not (draft.get("connect") or draft.get("users")):
        return
    nothing: dict[str, Any] = {"allow": (), "allow_names": (), "tls": None, "guard": False}
    if draft.get("connect"):
        nothing |= {"sharing": "exclusive", "max_clients": 1}
    for name, value in nothing.items():
        # A value in serial_ports_defaults is for the ports that listen.
        if draft.written.get(name) == "" and draft.get(name) != value:
            problem = f"{shown(as_written(draft.get(name)))}: it is for a port that listens"
            yield Fault(draft.place, name, f"{problem}: leave it out, or write listen")


def _out_of_the_sandbox(draft: _Draft) -> Iterator[Fault]:
    folder = LOG_DIRECTORIES[draft.values.get("engine", "bridge")]
    for key, log in draft.logs.items():
        if "engine" not in draft.faulty and log.file.rpartition("/")[0] != folder:
            problem = f"{shown(log.file)}{draft.source(key)}: its unit cannot write there"
            yield Fault(draft.place, f"{key}.file", f"{problem}: write {folder}/NAME")
    for name, file in {"device": draft.get("device"), **_tls_files(draft)}.items():
        if file and file.startswith(_HIDDEN):
            problem = f"{shown(file)}{draft.source(name)}: its unit hides"
            yield Fault(
                draft.place, name, f"{problem} {', '.join(_HIDDEN)}: write a path elsewhere"
            )


def _tls_files(draft: _Draft) -> dict[str, str]:
    """The TLS files of an entry and of its listeners, by their keys."""
    files = _files_of(draft.get("tls"), "tls")
    if draft.get("connect"):
        files |= _files_of(draft.get("connect").tls, "connect.tls")
    for key, listener in draft.listeners:
        files |= _files_of(dict(listener.own).get("tls"), f"{key}.tls")
    return files


def _files_of(tls: Tls | DialTls | None, key: str) -> dict[str, str]:
    return {f"{key}.{name}": file for name, file in tls_files(tls).items()}


def _reserved(draft: _Draft, site: Site) -> Iterator[Fault]:
    for key, listener in draft.listeners:
        for taken, what in site.reserved:
            if listener.at.overlaps(taken):
                problem = f"{listener.at} is {what}"
                yield Fault(draft.place, key, f"{problem}: write another TCP port")


def _without_firewall(draft: _Draft, site: Site) -> Iterator[Fault]:
    if draft.get("engine") != "ser2net":
        return
    for name in FIREWALL_HONOURS:
        own = {f"{key}.{name}": dict(one.own).get(name) for key, one in draft.listeners}
        for key, value in {name: draft.get(name), **own}.items():
            said = f"{shown(as_written(value))}{draft.source(key)}: engine ser2net cannot honour"
            if LOCAL in (value or ()):
                cure = f"write engine: bridge, or the networks in place of {LOCAL}"
                yield Fault(draft.place, key, f"{said} {LOCAL}: {cure}")
            elif value and ANY not in value and not site.firewall:
                cure = f"write serial_firewall: true for the host, engine: bridge, or {name}: []"
                yield Fault(draft.place, key, f"{said} it: {cure}")


def _missing_tls_files(draft: _Draft, site: Site) -> Iterator[Fault]:
    for name, file in _tls_files(draft).items():
        if file.startswith("/"):
            continue
        said = f"{shown(file)}{draft.source(name)}"
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
            problem = f"{shown(file)}{draft.source(name)} and {shown(same[0])} would both be"
            yield Fault(
                draft.place, name, f"{problem} {TLS_DIRECTORY}/{_base(file)}: rename one of them"
            )


def _base(file: str) -> str:
    return file.rpartition("/")[2]


def _not_honoured(draft: _Draft, engine: str) -> Iterator[Fault]:
    """Values of an entry, and of its listeners, that its engine cannot honour."""
    written = {
        name: value
        for name, value in draft.values.items()
        if name in draft.written and name not in draft.faulty
    }
    for name, value in _limited(written, engine):
        said = f"{shown(as_written(value))}{draft.source(name)}"
        yield Fault(draft.place, name, f"{said}: {_cure(name, value, engine)}")
    for key, listener in draft.listeners:
        own = {f"listen.{name}": value for name, value in listener.own}
        for name, value in _limited({**dict(listener.own), **own}, engine):
            there = name.removeprefix("listen.")
            said = f"{shown(as_written(value))}: {_cure(name, value, engine)}"
            yield Fault(draft.place, f"{key}.{there}", said)


def _limited(values: Mapping[str, Any], engine: str) -> Iterator[tuple[str, Any]]:
    """Each key, or key of a table as `a.b`, with a value that an engine cannot honour."""
    for name, honoured in ENGINE_HONOURS[engine].items():
        table, _, inner = name.partition(".")
        value = values.get(name, _ABSENT)
        if value is _ABSENT and values.get(table) is not None:
            value = getattr(values[table], inner, _ABSENT)
        if value is not _ABSENT and value not in honoured:
            yield name, value


def _not_kept_from(draft: _Draft, engine: str) -> Iterator[Fault]:
    """What is forbidden, and ser2net does for every client that speaks the protocol for it."""
    if engine != "ser2net" or {"forbid", "protocol"} & draft.faulty:
        return
    for key, listener in draft.listeners:
        own = dict(listener.own)
        protocol = own.get("protocol", draft.values.get("protocol", "raw"))
        for name, value in ("forbid", draft.get("forbid")), (f"{key}.forbid", own.get("forbid")):
            forbidden = set(value or ())
            if forbidden & set(BESIDES_BYTES[protocol]):
                able = next(
                    other
                    for other in ("telnet", "raw")
                    if not forbidden & set(BESIDES_BYTES[other])
                )
                said = f"{shown(as_written(value))}{draft.source(name)}: engine ser2net cannot keep"
                cure = f"write engine: bridge, protocol: {able}, or forbid: []"
                yield Fault(draft.place, name, f"{said} clients of {listener.at} from it: {cure}")


def _cure(name: str, value: Any, engine: str) -> str:
    able = [
        other
        for other, limits in ENGINE_HONOURS.items()
        if name not in limits or value in limits[name]
    ]
    cure = f"write engine: {able[0]}, or " if able else "write "
    honoured = ENGINE_HONOURS[engine][name]
    if not honoured:
        one = f"engine {engine} has one for all listeners of a port"
        return f"{one}: {cure}write it in the port's entry"
    if isinstance(honoured, range):
        words = f"{honoured.start} to {honoured.stop - 1}"
    else:
        words = " or ".join(label(as_written(value)) for value in honoured)
    instead = "listen" if name == "connect" else f"{name.removeprefix('listen.')}: {words}"
    return f"engine {engine} cannot honour it: {cure}{instead}"


class _Earlier:
    """The entries that were checked already, by what another one can clash with.

    To compare every entry with every other one takes seconds for a thousand of them.
    """

    def __init__(self) -> None:
        self._by: dict[tuple[object, ...], list[_Draft]] = {}

    def add(self, draft: _Draft) -> None:
        """Add an entry below those that are here."""
        for key in self._claims(draft):
            self._by.setdefault(key, []).append(draft)

    def near(self, draft: _Draft) -> list[_Draft]:
        """Return those that may clash with an entry, in their order; the others do not."""
        found = {
            other.number: other
            for key in self._claims(draft, looks=True)
            for other in self._by.get(key, ())
        }
        return [found[number] for number in sorted(found)]

    def _claims(self, draft: _Draft, looks: bool = False) -> Iterator[tuple[object, ...]]:
        """Where an entry is found; with `looks`, where it finds what it may clash with."""
        usb, fixed = draft.get("usb"), draft.get("device")
        yield "name", draft.get("name")
        yield "device", draft.path
        for _, listener in draft.listeners:
            yield "TCP port", listener.at.port
        for log in draft.logs.values():
            yield "log", log.file
        for file in _tls_files(draft).values():
            yield "TLS file", _base(file)
        for pair in usb.given().items() if usb else ():
            yield "usb", *pair
        # udev's link holds the serial number by which another entry can name the same adapter.
        if usb and usb.serial:
            yield ("link",) if looks else ("serial number",)
        if fixed and fixed.startswith("/dev/serial/by-id/"):
            yield ("serial number",) if looks else ("link",)


def _clashes(draft: _Draft, earlier: Sequence[_Draft]) -> Iterator[Fault]:
    """What an entry and an earlier one cannot both have."""
    for other in earlier:
        one, two = draft.get("name"), other.get("name")
        if one and one == two:
            problem = f"{shown(one)} is also the name of port number {other.number}"
            yield Fault(draft.place, "name", f"{problem}: write another name")
        for key, here in draft.listeners:
            for their_key, there in other.listeners:
                if here.at.overlaps(there.at):
                    problem = f"{here.at} is taken by port {_label(other)} ({their_key} {there.at})"
                    yield Fault(draft.place, key, f"{problem}: write another TCP port")
        usb, their_usb = draft.get("usb"), other.get("usb")
        if usb and their_usb and usb.overlaps(their_usb):
            problem = (
                f"{shown(usb.given())}: one adapter can satisfy this and port {_label(other)} "
                f"({shown(their_usb.given())})"
            )
            yield Fault(
                draft.place, "usb", f"{problem}: add serial, path, interface or port to both"
            )
        taken = {log.file for log in other.logs.values()}
        for key, log in draft.logs.items():
            if log.file in taken:
                problem = f"{shown(log.file)}{draft.source(key)} is also the log of port"
                cure = f"{_label(other)}: write another file"
                yield Fault(draft.place, f"{key}.file", f"{problem} {cure}")
        fixed = draft.get("device") or other.get("device")
        match = usb or their_usb
        if fixed and (draft.path == other.path or match and match.is_at(fixed)):
            problem = f"{shown(fixed)} is also the device of port {_label(other)}"
            yield Fault(draft.place, "device", f"{problem}: write another device")


def _label(draft: _Draft) -> str:
    return draft.get("name") or f"number {draft.number}"


def _port(draft: _Draft) -> Port:
    values = dict(draft.values)
    implied = ENGINE_DEFAULTS[values.get("engine", "bridge")]
    values = {**implied, **values}
    values.setdefault("max_clients", clients_at_once(values.get("sharing", "exclusive")))
    telnet_banner = ""
    # A banner in serial_ports_defaults is for people, who use telnet: a program reads it as data.
    if draft.written.get("banner") and not _is_all_telnet(draft):
        telnet_banner = values.pop("banner")
    port = Port(**values)
    listen = tuple(_shortest(port, listener, telnet_banner) for listener in port.listen)
    return dataclasses.replace(port, listen=listen)


def _is_all_telnet(draft: _Draft) -> bool:
    """Whether every listener of a port, or what the port connects to, speaks telnet."""
    protocol = draft.values.get("protocol", "raw")
    spoken = [dict(one.own).get("protocol", protocol) for _, one in draft.listeners]
    return set(spoken or [protocol]) == {"telnet"}


def _shortest(port: Port, listener: WrittenListener, telnet_banner: str) -> WrittenListener:
    """A listener without the values that it would have anyway.

    `telnet_banner` is the banner of serial_ports_defaults, if the listeners of the port differ in
    their protocol.
    """
    own = dict(listener.own)
    if telnet_banner and own.get("protocol", port.protocol) == "telnet":
        own.setdefault("banner", telnet_banner)
    implied = {name: getattr(port, name) for name in INHERITED} | {"access": "write", "forbid": ()}
    if own.get("access") == "watch":
        implied["max_clients"] = SEVERAL_CLIENTS
    kept = {name: value for name, value in own.items() if value != implied[name]}
    ordered = tuple((name, kept[name]) for name in kinds_of(Listener) if name in kept)
    return WrittenListener(listener.at, ordered)


def check_ser2net(ports: Sequence[Port], version: str) -> list[Fault]:
    """Every fault of a port whose ser2net lacks what it asks for.

    `version` is that of the installed ser2net, as dpkg shows it. Only the host knows it, so
    `check_portmap` cannot find these faults.
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
        if port.engine == "ser2net"
        and installed < since
        and any(getattr(one, name) == value for one in port.listeners)
    ]
