"""The port map: every serial port of one host and how it is served.

The daemon's configuration loader and the Ansible filters both come here, so a rule about ports is
written once. Nothing is imported but the standard library: the controller has no pyserial.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttybridge.values import (
    Choice,
    Integer,
    Kind,
    Listen,
    ListenAddress,
    Networks,
    OffOr,
    Remote,
    RemoteAddress,
    StopBits,
    Switch,
    Table,
    Template,
    Text,
    UsbId,
    as_written,
    kinds_of,
    label,
    parse_keys,
    setting,
    shown,
)

BY_NAME = "/dev/serial/by-name"

# Without what udev rules, systemd units or TOML would read as something else.
_NAME = r'(?!\.\.?(?:/|$))[^\s\x00-\x1f\x7f"\\*?\[\]|$%/]+'
_ABSOLUTE_PATH = rf"(?:/{_NAME})+"

# A file on the host, or on the controller, from where it is copied there.
_TLS_FILE = Text(
    "an absolute path, or one beside the inventory, such as tls/pi.pem",
    rf"(?:/{_NAME})+|(?:\.\./)*{_NAME}(?:/{_NAME})*",
)

# udev's link to a USB serial adapter (60-serial.rules).
_BY_ID = r"/dev/serial/by-id/usb-(.+)-if([0-9a-f]{2})(?:-port([0-9]+))?"

# What a banner may tell of its port.
BANNER_FIELDS = ("name", "device", "baudrate", "bytesize", "parity", "stopbits", "flow")

# Where the units that the roles write let an engine write: systemd's LogsDirectory=.
LOG_DIRECTORIES = {"bridge": "/var/log/ttybridge", "ser2net": "/var/log/ser2net"}

# What those units hide from an engine: systemd's ProtectHome= and PrivateTmp=.
_HIDDEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")

# Where the role bridge copies the TLS files that are beside the inventory.
TLS_DIRECTORY = "/etc/ttybridge/tls"

_ABSENT = object()


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
class UsbMatch:
    """What an adapter is, as udev sees it; an adapter must have all that is given."""

    vendor: str | None = setting(UsbId(), "USB vendor id, as lsusb shows it", default=None)
    product: str | None = setting(UsbId(), "USB product id, as lsusb shows it", default=None)
    serial: str | None = setting(
        Text(
            "the USB serial number in quotes, without spaces and *?[]|",
            r'[^\s*?\[\]|"\\$%{}\x00-\x1f\x7f]+',
            hint_for_numbers="YAML read it as a number: write the USB serial number in quotes",
        ),
        "USB serial number",
        default=None,
    )
    path: str | None = setting(
        Text("the USB path of the adapter, such as 1-1.2", r"[0-9]+-[0-9]+(\.[0-9]+)*"),
        "where it is plugged in",
        default=None,
    )
    interface: int | None = setting(
        Integer(0, 255), "interface of an adapter with several ports", default=None
    )
    port: int | None = setting(
        Integer(0, 255), "port of an interface with several ports", default=None
    )

    def given(self) -> dict[str, Any]:
        """The keys that were written."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def overlaps(self, other: UsbMatch) -> bool:
        """Whether one adapter is known to be able to satisfy both.

        Two matches that have nothing in common (one by serial number, one by path) can name two
        adapters; two that agree in something and differ in nothing cannot be told apart.
        """
        mine, theirs = self.given(), other.given()
        common = mine.keys() & theirs.keys()
        alike = all(mine[k] == theirs[k] for k in common)
        of_adapter = common - {"interface", "port"}
        return alike and (bool(of_adapter) or common in (mine.keys(), theirs.keys()))

    def is_at(self, device: str) -> bool:
        """Whether a device by udev's by-id link is known to satisfy this.

        The link has the adapter's serial number, interface and port, and its model in words only.
        """
        link = re.fullmatch(_BY_ID, device)
        if not link or self.serial is None or self.vendor or self.product or self.path:
            return False
        numbers = (self.interface, int(link[2], 16)), (self.port, int(link[3] or 0))
        return link[1].endswith(f"_{self.serial}") and all(
            given in (None, linked) for given, linked in numbers
        )


@dataclass(frozen=True)
class Rs485:
    """RS-485 direction control by RTS (Linux serial_rs485)."""

    rts_on_send: bool = setting(
        Switch(), "level of RTS while sending; the other one after it", default=True
    )
    rx_during_tx: bool = setting(Switch(), "receive while sending", default=False)
    delay_before_send: int = setting(
        Integer(0, 1000), "milliseconds from RTS to the first bit", default=0
    )
    delay_after_send: int = setting(
        Integer(0, 1000), "milliseconds from the last bit to RTS", default=0
    )


@dataclass(frozen=True)
class Tls:
    """TLS of a listener: PEM files; a client CA makes it mutual."""

    certificate: str = setting(_TLS_FILE, "PEM file of the certificate and its chain")
    key: str = setting(
        _TLS_FILE,
        "PEM file of the private key; on the host the group ssl-cert must be able to read it",
    )
    client_ca: str | None = setting(
        _TLS_FILE,
        "PEM file of the CA that signs clients' certificates, which they then need",
        default=None,
    )


@dataclass(frozen=True)
class Log:
    """A capture file of what the device sends."""

    file: str = setting(
        Text("an absolute path", _ABSOLUTE_PATH),
        f"the file, of this port alone, directly in {LOG_DIRECTORIES['bridge']}; "
        f"with ser2net in {LOG_DIRECTORIES['ser2net']}",
    )
    timestamps: bool = setting(Switch(), "the time at the start of each line", default=True)
    input: bool = setting(Switch(), "also what clients send", default=False)
    max_size: int = setting(
        Integer(0, 2**30), "bytes on the disk at most, in two files; 0 = no limit", default=1048576
    )
    volatile: bool = setting(
        Switch(), "kept in RAM and written at intervals, to spare an SD card", default=False
    )


@dataclass(frozen=True)
class Probe:
    """What the provisioning check sends through a port, and what must come back."""

    send: str = setting(Text('text, such as "\\r"'), "text sent to the device")
    expect: str = setting(Text("text that the answer holds", r"[^\x00]+"), "text in the answer")


@dataclass(frozen=True)
class Port:
    """One serial device and its TCP side. The fields are the keys of a port map's entry."""

    name: str = setting(
        Text(
            "letters, digits, '-', '_' and '.', beginning with a letter or digit",
            r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}",
        ),
        f"name of the port, unique on the host; its device is {BY_NAME}/NAME",
    )
    listen: Listen | None = setting(
        ListenAddress(), "where clients connect to; this or connect", default=None
    )
    connect: Remote | None = setting(
        RemoteAddress(), "a listener elsewhere that the port connects to itself", default=None
    )
    usb: UsbMatch | None = setting(
        Table(UsbMatch), "the adapter, by what it is; this or device", default=None
    )
    device: str | None = setting(
        Text("an absolute path, such as /dev/ttyAMA0", _ABSOLUTE_PATH),
        "the device, by a fixed path",
        default=None,
    )
    protocol: str = setting(
        Choice(("raw", "telnet", "rfc2217")),
        "what is spoken on the TCP side; rfc2217 is telnet with remote line settings",
        default="raw",
    )
    engine: str = setting(Choice(("bridge", "ser2net")), "what serves the port", default="bridge")
    baudrate: int = setting(Integer(50, 4_000_000), "bits per second", default=9600)
    bytesize: int = setting(Integer(5, 8), "data bits", default=8)
    parity: str = setting(
        Choice(("none", "even", "odd", "mark", "space")), "parity bit", default="none"
    )
    stopbits: float = setting(StopBits(), "stop bits", default=1.0)
    flow: str = setting(Choice(("none", "rtscts", "xonxoff")), "flow control", default="none")
    dtr: str = setting(
        Choice(("on", "off", "keep")),
        "DTR when the device is opened; off keeps a board from being reset by it",
        default="on",
    )
    rts: str = setting(Choice(("on", "off", "keep")), "RTS when the device is opened", default="on")
    hangup: bool = setting(Switch(), "drop DTR and RTS when the device is closed", default=False)
    rs485: Rs485 | None = setting(
        OffOr(Table(Rs485)), "RS-485 direction control by RTS", default=None
    )
    sharing: str = setting(
        Choice(("exclusive", "replace", "shared", "observed")),
        "what becomes of a second client: refused; the newest wins; all read and write; "
        "the first writes and the rest watch",
        default="exclusive",
    )
    max_clients: int = setting(
        Integer(1, 1024), "clients at once; 8 for shared and observed, else 1", default=0
    )
    allow: tuple[str, ...] = setting(
        Networks(), "networks that may connect; empty = any", default=()
    )
    tls: Tls | None = setting(OffOr(Table(Tls)), "TLS of the listener", default=None)
    guard: bool = setting(
        Switch(),
        "close a client without TLS that begins with HTTP, TLS or SSH, as a web page's does",
        default=True,
    )
    idle_timeout: int = setting(
        Integer(0, 31_536_000),
        "seconds without traffic before a client is closed; 0 = never",
        default=0,
    )
    half_close_timeout: int = setting(
        Integer(0, 86_400),
        "seconds that the device must be silent before a client that will send no more (nc -N) "
        "is closed",
        default=1,
    )
    keepalive: int = setting(
        Integer(0, 32_767),
        "seconds of silence before TCP keepalive asks; 0 = the kernel's two hours",
        default=60,
    )
    replay: int = setting(
        Integer(0, 16_777_216),
        "bytes of recent output that a new client is shown first, "
        "without what asks a terminal to answer",
        default=0,
    )
    log: Log | None = setting(
        OffOr(Table(Log)), "capture file of what the device sends", default=None
    )
    banner: str = setting(
        Template(BANNER_FIELDS), "text that a new client of a telnet port is shown", default=""
    )
    probe: Probe | None = setting(
        OffOr(Table(Probe)), "what verify.yml sends through the port and expects", default=None
    )

    @property
    def path(self) -> str:
        """Where the device is: the fixed path, or the symlink that udev makes for the adapter."""
        return self.device or f"{BY_NAME}/{self.name}"

    @property
    def greeting(self) -> str:
        """What a new client is shown: the banner filled in, each line ended by CR LF.

        Nothing where the protocol is another than telnet: a program would take it for data.
        """
        if self.protocol != "telnet":
            return ""
        fields = {name: as_written(getattr(self, name)) for name in BANNER_FIELDS}
        text = self.banner.format(**{**fields, "device": self.path})
        return "".join(f"{line}\r\n" for line in text.splitlines())


KEYS: dict[str, Kind] = kinds_of(Port)

# Keys that say which port an entry is, so that no default can hold them.
IDENTITY = ("name", "listen", "connect", "usb", "device")

SINGLE_CLIENT_SHARING = ("exclusive", "replace")

# The values of a key that an engine honours; a key that is not named is honoured whatever it holds.
# A key inside a table is named `table.key`. docs/port-map.md says what was measured of ser2net.
ENGINE_HONOURS: dict[str, dict[str, tuple[Any, ...] | range]] = {
    "bridge": {"log.max_size": range(4096, 2**30 + 1)},
    "ser2net": {
        "connect": (None,),
        "stopbits": (1.0, 2.0),
        "sharing": ("exclusive", "replace", "shared"),
        # It raises both again when its client leaves, so a board is reset all the same.
        "dtr": ("on",),
        "rts": ("on",),
        "tls": (None,),
        "half_close_timeout": (0,),
        "guard": (False,),
        "keepalive": (0,),
        "replay": (0,),
        "log.timestamps": (False,),
        "log.max_size": (0,),
        "log.volatile": (False,),
    },
}

# The value of a key that ser2net honours from a version on, which only the host knows.
SER2NET_SINCE: dict[str, tuple[Any, tuple[int, int]]] = {
    # Before (gensio 2.8), it takes HUPCL back before it closes the device.
    "hangup": (True, (4, 6)),
}

# What ser2net cannot honour and the host's firewall can, which only the host's variables tell of.
FIREWALL_HONOURS = ("allow",)

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


def as_entry(port: Port, always: Collection[str] = ()) -> dict[str, Any]:
    """The shortest entry that parses to this port: only plain types, no key at its default.

    The keys `always` are in it also at their defaults, so that `serial_ports_defaults` cannot
    change them.
    """
    plain = Port(name=port.name)
    alone = port.sharing in SINGLE_CLIENT_SHARING
    implied = {"max_clients": 1 if alone else 8}
    return {
        name: as_written(value)
        for name, value in vars(port).items()
        if name in ("name", *always) or value != implied.get(name, getattr(plain, name))
    }


def as_variables(port: Port) -> dict[str, Any]:
    """Every key of a port for a template, in plain types, with what is derived from them.

    `listen` is {address, port} and `connect` {host, port}, one of them null; `endpoint` is the one
    that there is, for people; `path` is where the device is; `greeting` is the banner as it is
    sent; tables are mappings or null.
    """
    return {
        **dataclasses.asdict(port),
        "allow": list(port.allow),
        "endpoint": str(port.listen) if port.listen else f"-> {port.connect}",
        "path": port.path,
        "greeting": port.greeting,
    }
