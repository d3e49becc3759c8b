"""The port map: every serial port of one host and how it is served.

The daemon's configuration loader and the Ansible filters both come here, so a rule about ports is
written once. Nothing is imported but the standard library: the controller has no pyserial.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ttybridge.model.values import (
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
    setting,
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
