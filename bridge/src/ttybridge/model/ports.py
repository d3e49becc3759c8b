"""The port map: every serial port of one host and how it is served.

The daemon's configuration loader and the Ansible filters both use this module, so a rule about
ports is written once. It imports only the standard library: the controller has no pyserial.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ttybridge.model.values import (
    ANY,
    LOCAL,
    NAMES_IN_CERTIFICATES,
    USERS,
    Choice,
    Dialled,
    EscapedText,
    Integer,
    Kind,
    Listen,
    ListenAddress,
    Listeners,
    Named,
    Networks,
    Number,
    OffOr,
    Options,
    Patterns,
    Remote,
    Several,
    StopBits,
    Switch,
    Table,
    Template,
    Text,
    UsbId,
    WrittenListener,
    as_written,
    keys_of,
    kinds_of,
    one_line,
    setting,
    short_texts,
)

BY_NAME = "/dev/serial/by-name"

# Without the characters that have a meaning in udev rules, systemd units or TOML.
_NAME = r'(?!\.\.?(?:/|$))[^\s\x00-\x1f\x7f"\\*?\[\]|$%/]+'
_ABSOLUTE_PATH = rf"(?:/{_NAME})+"

# A file on the host, or a file on the controller that the role bridge copies to the host.
_TLS_FILE = Text(
    "an absolute path, or one beside the inventory, such as tls/pi.pem",
    rf"(?:/{_NAME})+|(?:\.\./)*{_NAME}(?:/{_NAME})*",
)

# udev's link to a USB serial adapter (60-serial.rules).
_BY_ID = r"/dev/serial/by-id/usb-(.+)-if([0-9a-f]{2})(?:-port([0-9]+))?"

# Text for a device. A control character ends many a session: Ctrl-D is \x04.
_WORDS = EscapedText('text of at most 1024 characters, such as "exit\\r"', r"[^\x00]{0,1024}")

# The fields of a port that a banner can name.
BANNER_FIELDS = ("name", "device", "baudrate", "bytesize", "parity", "stopbits", "flow")

# The one folder where an engine may write: LogsDirectory= of the systemd units of the roles.
LOG_DIRECTORIES = {"bridge": "/var/log/ttybridge", "ser2net": "/var/log/ser2net"}


LINE_SETTINGS = ("baudrate", "bytesize", "parity", "stopbits", "flow")

# What clients can do besides sending bytes, and `forbid` keeps them from.
FORBIDDABLE = {
    "break": "send a break",
    "line_settings": "change line settings",
    "modem_lines": "change DTR and RTS",
}

# Which of it clients can do, by the protocol that they speak.
BESIDES_BYTES: dict[str, tuple[str, ...]] = {
    "raw": (),
    "telnet": ("break",),
    "rfc2217": tuple(FORBIDDABLE),
}

# Options of ser2net that can stay as they are (ser2net.yaml.5, its connections; `nobreak` is one of
# gensio's serialdev).
SER2NET_OPTIONS = (
    *("banner", "signature", "openstr", "closestr", "closeon", "sendon", "telnet-brk-on-sync"),
    *(f"trace-{which}" for which in ("read", "write", "both", "hexdump", "timestamp")),
    *(
        f"trace-{which}-{what}"
        for which in ("read", "write", "both")
        for what in ("hexdump", "timestamp")
    ),
    *(
        "no-con-to-acc",
        "no-acc-to-con",
        "kickolduser",
        "timeout-on-os-queue",
        "chardelay",
        "connback",
        "connback-timeout",
        "nobreak",
    ),
    *("mdns", "mdns-sysattrs", "mdns-interface", "mdns-nettype", "mdns-name", "mdns-type"),
    *("mdns-domain", "mdns-host", "mdns-port", "mdns-txt"),
)

# Seconds without input after which a session of `ttybridge console` is closed, where the port has
# no idle_timeout: a forgotten one would hold the port.
PEOPLE_IDLE_SECONDS = 1800

# What is shown in place of a TCP port where only people on the host come to a port.
CONSOLE = "console"

# How many characters ser2net gives a driver to pass on the next ones: at most so many lie in a
# FIFO of a UART until then.
SER2NET_LUMP = 16

SINGLE_CLIENT_SHARING = ("exclusive", "replace")

# The default of max_clients, for a port whose sharing lets in several clients, and for a listener
# whose clients only watch.
SEVERAL_CLIENTS = 8


def _usb_text(allowed: str) -> Text:
    """Text that an adapter says of itself: of one line, at most 126 characters."""
    hint = f"YAML read it as a number: write {allowed}"
    return Text(allowed, r"[^\x00-\x1f\x7f]{1,126}", hint_for_numbers=hint)


# The keys of `usb` that no two adapters of a host share.
_OF_ONE_ADAPTER = frozenset({"serial", "path", "id_path"})


@dataclass(frozen=True)
class UsbMatch:
    """What an adapter is, as udev sees it; an adapter must have everything that is given."""

    vendor: str | None = setting(
        UsbId(), "USB vendor id, as lsusb shows it", touches="port", default=None
    )
    product: str | None = setting(
        UsbId(), "USB product id, as lsusb shows it", touches="port", default=None
    )
    serial: str | None = setting(
        _usb_text("the USB serial number in quotes"),
        "USB serial number",
        touches="port",
        default=None,
    )
    path: str | None = setting(
        Text("the USB path of the adapter, such as 1-1.2", r"[0-9]+-[0-9]+(\.[0-9]+)*"),
        "where it is plugged in",
        touches="port",
        default=None,
    )
    id_path: str | None = setting(
        Text(
            "udev's ID_PATH, such as platform-3f980000.usb-usb-0:1.3:1.0", r"[A-Za-z0-9#+.:=@_-]+"
        ),
        "where it is plugged in, by udev's path, with the interface",
        touches="port",
        default=None,
    )
    manufacturer: str | None = setting(
        _usb_text("the name in quotes, as dmesg shows it"),
        "what it calls its manufacturer",
        touches="port",
        default=None,
    )
    product_name: str | None = setting(
        _usb_text("the name in quotes, as dmesg shows it"),
        "what it calls itself",
        touches="port",
        default=None,
    )
    bcdDevice: str | None = setting(
        UsbId('four digits in quotes, such as "0264" for what lsusb -v shows as 2.64'),
        "its release number",
        touches="port",
        default=None,
    )
    interface: int | None = setting(
        Integer(0, 255),
        "interface of an adapter with several ports",
        touches="port",
        default=None,
    )
    port: int | None = setting(
        Integer(0, 255),
        "port of an interface with several ports",
        touches="port",
        default=None,
    )

    def given(self) -> dict[str, Any]:
        """The keys that were written."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def overlaps(self, other: UsbMatch) -> bool:
        """Whether one adapter is known to be able to satisfy both.

        Two matches without a common key can mean two adapters, and so can two that each have
        something else that is of one adapter only (one by serial number, one by path). Two that
        share a key and differ in none cannot be told apart.
        """
        mine, theirs = self.given(), other.given()
        of_mine, of_theirs = mine.keys() & _OF_ONE_ADAPTER, theirs.keys() & _OF_ONE_ADAPTER
        if of_mine and of_theirs and not of_mine & of_theirs:
            return False
        common = mine.keys() & theirs.keys()
        alike = all(mine[k] == theirs[k] for k in common)
        of_adapter = common - {"interface", "port"}
        return alike and (bool(of_adapter) or common in (mine.keys(), theirs.keys()))

    def is_at(self, device: str) -> bool:
        """Whether a device, given as udev's by-id link, is known to satisfy this.

        The link holds the adapter's serial number, interface and port. Vendor and product are in it
        as words, not as numbers.
        """
        link = re.fullmatch(_BY_ID, device)
        others = self.given().keys() - {"serial", "interface", "port"}
        if not link or self.serial is None or others:
            return False
        numbers = (self.interface, int(link[2], 16)), (self.port, int(link[3] or 0))
        # As udev writes it: one underscore for blanks, and for each other character that it avoids.
        serial = re.sub(r"[^A-Za-z0-9#+.:=@_-]", "_", re.sub(r"\s+", "_", self.serial.strip()))
        return link[1].endswith(f"_{serial}") and all(
            given in (None, linked) for given, linked in numbers
        )


@dataclass(frozen=True)
class Rs485:
    """RS-485 direction control by RTS (Linux serial_rs485)."""

    rts_on_send: bool = setting(
        Switch(),
        "level of RTS while sending; the other one after it",
        touches="live",
        default=True,
    )
    rx_during_tx: bool = setting(Switch(), "receive while sending", touches="live", default=False)
    delay_before_send: int = setting(
        Integer(0, 1000), "milliseconds from RTS to the first bit", touches="live", default=0
    )
    delay_after_send: int = setting(
        Integer(0, 1000), "milliseconds from the last bit to RTS", touches="live", default=0
    )


@dataclass(frozen=True)
class Pack:
    """What the device says without a pause goes to the clients in one piece."""

    idle: float = setting(
        Number(0.5, 1000),
        "the pause after which a piece ends, in times that a character takes",
        touches="live",
        default=3.5,
    )
    max: int = setting(
        Integer(2, 65_536), "bytes after which a piece ends anyway", touches="live", default=256
    )


@dataclass(frozen=True)
class Tls:
    """TLS of a listener: PEM files. With a client CA, clients need a certificate, too."""

    certificate: str = setting(
        _TLS_FILE, "PEM file of the certificate and its chain", touches="live"
    )
    key: str = setting(
        _TLS_FILE,
        "PEM file of the private key; on the host the group ssl-cert must be able to read it",
        touches="live",
    )
    client_ca: str | None = setting(
        _TLS_FILE,
        "PEM file of the CA that signs clients' certificates, which they then need; maybe with its "
        "revocation list (CRL)",
        touches="listener",
        default=None,
    )


@dataclass(frozen=True)
class DialTls:
    """TLS of the connection that a port makes: PEM files, and the name in the certificate there."""

    ca: str = setting(
        _TLS_FILE,
        "PEM file of the CA that signs the certificate of the other side; maybe with its "
        "revocation list (CRL)",
        touches="listener",
    )
    certificate: str | None = setting(
        _TLS_FILE, "PEM file of the port's own certificate", touches="listener", default=None
    )
    key: str | None = setting(
        _TLS_FILE, "PEM file of its private key", touches="listener", default=None
    )
    server_name: str | None = setting(
        Text("a host name or IP address", r"[A-Za-z0-9._:-]{1,253}"),
        "the name in the certificate of the other side; the host in `at` if there is none",
        touches="listener",
        default=None,
    )


# The keys of TLS tables that name files.
TLS_FILES = ("certificate", "key", "client_ca", "ca")


def tls_files(tls: Tls | DialTls | None) -> dict[str, str]:
    """The files that TLS uses, by their keys."""
    given = vars(tls) if tls else {}
    return {name: file for name, file in given.items() if file and name in TLS_FILES}


@dataclass(frozen=True)
class Log:
    """A capture file of what the device sends."""

    file: str = setting(
        Text("an absolute path", _ABSOLUTE_PATH),
        f"the file, of this port alone, directly in {LOG_DIRECTORIES['bridge']}; "
        f"with ser2net in {LOG_DIRECTORIES['ser2net']}",
        touches="live",
    )
    timestamps: bool = setting(
        Switch(), "the time at the start of each line", touches="live", default=True
    )
    input: bool = setting(Switch(), "also what clients send", touches="live", default=False)
    output: bool = setting(
        Switch(),
        "what the device sends; off leaves a log of what clients send",
        touches="live",
        default=True,
    )
    max_size: int = setting(
        Integer(0, 2**30),
        "bytes on the disk at most, in two files; 0 = no limit",
        touches="live",
        default=1048576,
    )
    volatile: bool = setting(
        Switch(),
        "kept in RAM and written at intervals, to spare an SD card",
        touches="live",
        default=False,
    )
    journal: bool = setting(
        Switch(),
        "also in the journal of the host, with the fields PORT and USER",
        touches="live",
        default=False,
    )

    @property
    def trace(self) -> str:
        """What ser2net calls it: what passes a port is read from the device, or written to it."""
        return "write" if not self.output else "both" if self.input else "read"


@dataclass(frozen=True)
class Probe:
    """What the provisioning check sends through a port, and the answer that it expects."""

    send: str = setting(
        EscapedText('text, such as "\\r"'), "text sent to the device", touches="live"
    )
    expect: str = setting(
        EscapedText("text that the answer holds", r"[^\x00]+"),
        "text in the answer",
        touches="live",
    )


# Kinds of the keys that a port has and each of its listeners can have.
_PROTOCOL = Choice(("raw", "telnet", "rfc2217"))
_ALLOW = Networks()
_TLS = OffOr(Table(Tls, "{certificate: tls/pi.pem, key: tls/pi.key}"))
_MAX_CLIENTS = Integer(1, 1024)
_BANNER = Template(BANNER_FIELDS)
_BAUDRATE = Integer(50, 12_000_000)
_BYTESIZE = Integer(5, 8)
_PARITY = Choice(("none", "even", "odd", "mark", "space"))
_STOPBITS = StopBits()
_OPTIONS = Options(SER2NET_OPTIONS)
_FORBID = Several(
    Text(
        "a list with one or more of break, line_settings and modem_lines, such as [break]",
        "|".join(FORBIDDABLE),
    ),
    most=len(FORBIDDABLE),
)
_FLOW = Choice(("none", "rtscts", "xonxoff"))
_ON_OR_OFF = Switch()
_MODEM_LINE = Choice(("on", "off", "keep"))
_CARRIER = Choice(("ignore", "follow"))
_RS485 = OffOr(Table(Rs485, "{delay_before_send: 1}"))
_IDLE_TIMEOUT = Integer(0, 31_536_000)
_AWAY = Choice(("keep", "refuse", "drop"))
_LOG = OffOr(Table(Log, f"{{file: {LOG_DIRECTORIES['bridge']}/NAME}}"))


def _own_with_ser2net(kind: Kind, default: Any) -> Any:
    """A key that each listener of ser2net can have for itself; ttybridge has one for a port."""
    about = "as for the port, at this listener; engine ser2net only"
    return setting(kind, about, touches="live", inherited=True, default=default)


@dataclass(frozen=True)
class Listener:
    """One TCP listener of a port, with every value filled in.

    The fields, except `greeting`, are the keys of a listener in a port map. `Port.listeners` makes
    them; a key that is not written has the port's value.
    """

    at: Listen = setting(ListenAddress(), "where clients connect to", touches="listener")
    protocol: str = setting(
        _PROTOCOL, "what is spoken there", touches="listener", inherited=True, default="raw"
    )
    access: str = setting(
        Choice(("write", "watch")),
        "whether clients there write, or only see what the device says",
        touches="live",
        default="write",
    )
    forbid: tuple[str, ...] = setting(
        _FORBID,
        "what clients there may not do, in addition to what the port forbids",
        touches="live",
        default=(),
    )
    allow: tuple[str, ...] = setting(
        _ALLOW,
        "networks that may connect there",
        touches="live",
        inherited=True,
        default=(),
    )
    allow_names: tuple[str, ...] = setting(
        NAMES_IN_CERTIFICATES,
        "whose certificates of tls.client_ca come in there",
        touches="live",
        inherited=True,
        default=(),
    )
    tls: Tls | None = setting(_TLS, "TLS there", touches="listener", inherited=True, default=None)
    max_clients: int = setting(
        _MAX_CLIENTS,
        f"clients there at once; {SEVERAL_CLIENTS} with `access: watch`",
        touches="live",
        inherited=True,
        default=1,
    )
    banner: str = setting(
        _BANNER, "text that a new client is shown", touches="live", inherited=True, default=""
    )
    baudrate: int = setting(
        _BAUDRATE,
        "bits per second while a client of this listener is the only one",
        touches="live",
        inherited=True,
        default=9600,
    )
    bytesize: int = setting(
        _BYTESIZE, "data bits, likewise", touches="live", inherited=True, default=8
    )
    parity: str = setting(
        _PARITY, "parity bit, likewise", touches="live", inherited=True, default="none"
    )
    stopbits: float = setting(
        _STOPBITS, "stop bits, likewise", touches="live", inherited=True, default=1.0
    )
    flow: str = setting(
        _FLOW, "flow control, likewise", touches="live", inherited=True, default="none"
    )
    dtr: str = _own_with_ser2net(_MODEM_LINE, "on")
    rts: str = _own_with_ser2net(_MODEM_LINE, "on")
    hangup: bool = _own_with_ser2net(_ON_OR_OFF, False)
    first_words: str = _own_with_ser2net(_WORDS, "")
    last_words: str = _own_with_ser2net(_WORDS, "")
    carrier: str = _own_with_ser2net(_CARRIER, "ignore")
    rs485: Rs485 | None = _own_with_ser2net(_RS485, None)
    idle_timeout: int = _own_with_ser2net(_IDLE_TIMEOUT, 0)
    away: str = _own_with_ser2net(_AWAY, "keep")
    log: Log | None = _own_with_ser2net(_LOG, None)
    options: tuple[str, ...] = setting(
        _OPTIONS,
        "options of ser2net for this listener",
        touches="port",
        inherited=True,
        default=(),
    )
    greeting: str = ""
    """The banner as a new client is sent it: filled in, each line ended by CR LF."""

    @property
    def is_guarded(self) -> bool:
        """Whether the host's firewall can keep out who may not connect."""
        return bool(self.allow) and not {ANY, LOCAL} & set(self.allow)


# Keys that only a listener of ser2net can have for itself.
SER2NETS_OWN = (
    *("dtr", "rts", "hangup", "first_words", "last_words", "carrier", "rs485", "idle_timeout"),
    *("away", "log"),
)

# Keys of a listener whose default is the port's value.
INHERITED = tuple(name for name, field in keys_of(Listener).items() if field.metadata["inherited"])


def _keys_of_a_port() -> Collection[str]:
    return KEYS


@dataclass(frozen=True)
class Port:
    """One serial device and its TCP side. The fields are the keys of a port map's entry."""

    name: str = setting(
        Text(
            "letters, digits, '-', '_' and '.', beginning with a letter or digit",
            r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}",
        ),
        f"name of the port, unique on the host; its device is {BY_NAME}/NAME",
        touches="port",
    )
    listen: tuple[WrittenListener, ...] = setting(
        Listeners(Listener, _keys_of_a_port),
        "where clients connect to; this or connect, or users alone",
        touches="listener",
        default=(),
    )
    """As written in the entry. `listeners` has every value filled in."""
    connect: Remote | None = setting(
        Dialled(OffOr(Table(DialTls, "{ca: tls/ca.pem}"))),
        "a listener elsewhere that the port connects to itself; a mapping of at and tls with TLS",
        touches="listener",
        default=None,
    )
    usb: UsbMatch | None = setting(
        Table(UsbMatch, '{vendor: "067b", product: "2303"}'),
        "the adapter, by what it is; this or device",
        touches="port",
        default=None,
    )
    device: str | None = setting(
        Text("an absolute path, such as /dev/ttyAMA0", _ABSOLUTE_PATH),
        "the device, by a fixed path",
        touches="port",
        default=None,
    )
    protocol: str = setting(
        _PROTOCOL,
        "what is spoken on the TCP side; rfc2217 is telnet with remote line settings",
        touches="listener",
        default="raw",
    )
    engine: str = setting(
        Choice(("bridge", "ser2net")), "what serves the port", touches="port", default="bridge"
    )
    baudrate: int = setting(_BAUDRATE, "bits per second", touches="live", default=9600)
    bytesize: int = setting(_BYTESIZE, "data bits", touches="live", default=8)
    parity: str = setting(_PARITY, "parity bit", touches="live", default="none")
    stopbits: float = setting(_STOPBITS, "stop bits", touches="live", default=1.0)
    flow: str = setting(_FLOW, "flow control", touches="live", default="none")
    dtr: str = setting(
        _MODEM_LINE,
        "DTR when the device is opened; off keeps a board from being reset by it",
        touches="live",
        default="on",
    )
    rts: str = setting(
        _MODEM_LINE,
        "RTS when the device is opened",
        touches="live",
        default="on",
    )
    hangup: bool = setting(
        _ON_OR_OFF,
        "drop DTR and RTS when the last client leaves, and when the device is closed; raise them "
        "when the first client comes",
        touches="live",
        default=False,
    )
    first_words: str = setting(
        _WORDS, "text for the device when the first client comes", touches="live", default=""
    )
    last_words: str = setting(
        _WORDS,
        "text for the device when the last client leaves, such as what ends a session",
        touches="live",
        default="",
    )
    carrier: str = setting(
        _CARRIER,
        "what becomes of clients when the carrier (DCD) goes: nothing, or they are closed, as a "
        "modem hangs up; with ser2net `follow` where nothing is written",
        touches="live",
        default="ignore",
    )
    low_latency: bool = setting(
        Switch(),
        "the driver passes on what it has received at once, where it can: an FTDI adapter after "
        "1 ms instead of 16",
        touches="live",
        default=True,
    )
    pack: Pack | None = setting(
        OffOr(Table(Pack, "{idle: 3.5, max: 256}")),
        "what the device says without a pause reaches clients in one piece, as Modbus RTU wants",
        touches="live",
        default=None,
    )
    rs485: Rs485 | None = setting(
        _RS485,
        "RS-485 direction control by RTS",
        touches="live",
        default=None,
    )
    sharing: str = setting(
        Choice(("exclusive", "replace", "shared", "observed")),
        "what becomes of a second client: refused; the newest wins; all read and write; "
        "the first writes and the rest watch",
        touches="live",
        default="exclusive",
    )
    max_clients: int = setting(
        _MAX_CLIENTS,
        f"clients at once; {SEVERAL_CLIENTS} for shared and observed, else 1",
        touches="live",
        default=0,
    )
    allow: tuple[str, ...] = setting(
        _ALLOW,
        "networks that may connect; local: those that the host is in, also as they change; "
        "empty = any",
        touches="live",
        default=(),
    )
    allow_names: tuple[str, ...] = setting(
        NAMES_IN_CERTIFICATES,
        "whose certificates of tls.client_ca come in, by common or alternative name; empty = all",
        touches="live",
        default=(),
    )
    users: tuple[str, ...] = setting(
        USERS,
        "who may use it by `ttybridge console` on the host; empty = root and @dialout",
        touches="live",
        default=(),
    )
    tls: Tls | None = setting(_TLS, "TLS of the listener", touches="listener", default=None)
    guard: bool = setting(
        Switch(),
        "close a client without TLS that begins with HTTP, TLS or SSH, as a web page's does",
        touches="live",
        default=True,
    )
    forbid: tuple[str, ...] = setting(
        _FORBID,
        "what no client may do: send a break; set line settings or DTR and RTS by RFC 2217; "
        "with ser2net only what clients of the protocol cannot do anyway",
        touches="live",
        default=(),
    )
    idle_timeout: int = setting(
        _IDLE_TIMEOUT,
        "seconds without traffic before a client is closed; 0 = never, but "
        f"{PEOPLE_IDLE_SECONDS} without input for `ttybridge console`",
        touches="live",
        default=0,
    )
    idle: str = setting(
        Choice(("traffic", "input")),
        "what idle_timeout counts: every byte, or only what a client sends for the device",
        touches="live",
        default="traffic",
    )
    away: str = setting(
        _AWAY,
        "what becomes of clients and their input while the device is away: both wait for it; "
        "clients are refused and closed; input is thrown away; with ser2net `refuse` where nothing "
        "is written",
        touches="live",
        default="keep",
    )
    half_close_timeout: int = setting(
        Integer(0, 86_400),
        "seconds that the device must be silent before a client that will send no more (nc -N) "
        "is closed",
        touches="live",
        default=1,
    )
    keepalive: int = setting(
        Integer(0, 32_767),
        "seconds of silence before TCP keepalive asks; 0 = the kernel's two hours",
        touches="live",
        default=60,
    )
    replay: int = setting(
        Integer(0, 16_777_216),
        "bytes of recent output that a new client is shown first, "
        "without what asks a terminal to answer",
        touches="live",
        default=0,
    )
    log: Log | None = setting(
        _LOG,
        "capture file of what the device sends",
        touches="live",
        default=None,
    )
    watch: Named = setting(
        Patterns(),
        "words for regular expressions: lines of the device that match are counted in the metrics, "
        "and warned of in the journal",
        touches="live",
        default=Named(),
    )
    banner: str = setting(
        _BANNER,
        "text that a new client is shown; of `serial_ports_defaults`, a telnet client only",
        touches="live",
        default="",
    )
    options: tuple[str, ...] = setting(
        _OPTIONS,
        "options of ser2net that have no key here, as its manual writes them",
        touches="port",
        default=(),
    )
    probe: Probe | None = setting(
        OffOr(Table(Probe, '{send: "\\r", expect: "login:"}')),
        "what verify.yml sends through the port and expects",
        touches="live",
        default=None,
    )
    description: str = setting(
        one_line(200), "what the port leads to, in words", touches="live", default=""
    )
    location: str = setting(one_line(100), "where that is", touches="live", default="")
    tags: tuple[str, ...] = setting(
        short_texts(), "words to find the port by", touches="live", default=()
    )

    @property
    def path(self) -> str:
        """Where the device is: the fixed path, or the symlink that udev makes for the adapter."""
        return self.device or f"{BY_NAME}/{self.name}"

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """Every listener with its values filled in; none if it dials out or is for `users` only."""
        return tuple(self._filled_in(written) for written in self.listen)

    @property
    def open_to_all(self) -> tuple[Listener, ...]:
        """Listeners that let in everybody who reaches them, though the entry does not say so."""
        return tuple(
            one
            for one in self.listeners
            if not (one.allow or one.at.is_loopback or (one.tls and one.tls.client_ca))
        )

    @property
    def endpoint(self) -> str:
        """The TCP side for people: every listener, `-> ` and where it connects to, or CONSOLE."""
        dialled = f"-> {self.connect}" if self.connect else CONSOLE
        return ", ".join(str(one.at) for one in self.listen) or dialled

    @property
    def greeting(self) -> str:
        """The banner filled in, for the connection of `connect`; a `Listener` has its own."""
        return self._greeting({name: getattr(self, name) for name in ("banner", *LINE_SETTINGS)})

    @property
    def about(self) -> str:
        """Description, location and tags on one line, "" where there is none of them."""
        return about(self.description, self.location, self.tags)

    def _filled_in(self, written: WrittenListener) -> Listener:
        own = dict(written.own)
        inherited = {key: getattr(self, key) for key in INHERITED}
        if own.get("access") == "watch":
            inherited["max_clients"] = SEVERAL_CLIENTS
        forbidden = {*self.forbid, *own.get("forbid", ())}
        own["forbid"] = tuple(each for each in FORBIDDABLE if each in forbidden)
        values = {**inherited, **own}
        return Listener(at=written.at, **values, greeting=self._greeting(values))

    def _greeting(self, values: Mapping[str, Any]) -> str:
        """A banner filled in, each line ended by CR LF; `values` has the banner and the line."""
        line = {name: as_written(values[name]) for name in LINE_SETTINGS}
        text = str(values["banner"]).format(name=self.name, device=self.path, **line)
        return "".join(f"{one}\r\n" for one in text.splitlines())


def about(description: str, location: str, tags: Collection[str]) -> str:
    """What a port is, on one line, such as `Core switch (rack 1) [lab, net]`."""
    parts = description, f"({location})" if location else "", f"[{', '.join(tags)}]" if tags else ""
    return " ".join(part for part in parts if part)


KEYS: dict[str, Kind] = kinds_of(Port)

# Keys that say which port an entry is. No default can hold them.
IDENTITY = ("name", "listen", "connect", "usb", "device")

# The values of a key that an engine honours; of a key that is not here it honours every value.
# A key of a table is `table.key`. What holds for a key of a port holds for the same key of a
# listener, and what holds for a listener's alone is at `listen.key`, which no listener can have if
# no value is honoured. docs/port-map.md says what was measured of ser2net.
ENGINE_HONOURS: dict[str, dict[str, tuple[Any, ...] | range]] = {
    "bridge": {
        "log.max_size": range(4096, 2**30 + 1),
        "options": ((),),
        **{f"listen.{key}": () for key in SER2NETS_OWN},
    },
    "ser2net": {
        "connect": (None,),
        # Its option no-acc-to-con drops what a client sends. But ser2net opens a device for one
        # listener at a time, so nobody could write while somebody watches, and a client could
        # still change line settings by RFC 2217.
        "listen.access": ("write",),
        "stopbits": (1.0, 2.0),
        "sharing": ("exclusive", "replace", "shared"),
        # It can lower a line after it has opened the device.
        "dtr": ("on", "off"),
        "rts": ("on", "off"),
        "tls": (None,),
        "allow_names": ((),),
        "users": ((),),
        "idle": ("traffic",),
        "half_close_timeout": (0,),
        "guard": (False,),
        "keepalive": (0,),
        "replay": (0,),
        "log.max_size": (0,),
        "log.volatile": (False,),
        "log.journal": (False,),
        "watch": (Named(),),
    },
}

# Defaults of one engine alone: what it does where nothing is written.
ENGINE_DEFAULTS: dict[str, dict[str, Any]] = {
    "bridge": {},
    # It opens the device for a client, and closes that when it cannot.
    "ser2net": {"away": "refuse", "carrier": "follow"},
}

# The value of a key that ser2net honours only from a version on. Only the host knows its version.
SER2NET_SINCE: dict[str, tuple[Any, tuple[int, int]]] = {
    # Before (gensio 2.8), it takes HUPCL back before it closes the device.
    "hangup": (True, (4, 6)),
}

# Keys that ser2net cannot honour and the host's firewall can. Only the host's variables say whether
# it has one.
FIREWALL_HONOURS = ("allow",)


def as_entry(port: Port, always: Collection[str] = ()) -> dict[str, Any]:
    """The shortest entry that parses to this port: only plain types, no key at its default.

    The keys `always` are in it also at their defaults, so that `serial_ports_defaults` cannot
    change them.
    """
    plain = Port(name=port.name)
    implied = {"max_clients": clients_at_once(port.sharing), **ENGINE_DEFAULTS[port.engine]}
    entry = {
        name: as_written(value)
        for name, value in vars(port).items()
        if name in ("name", *always) or value != implied.get(name, getattr(plain, name))
    }
    if len(port.listen) == 1 and not port.listen[0].own:
        entry["listen"] = str(port.listen[0].at)
    return entry


def character_seconds(line: Mapping[str, Any]) -> float:
    """How long the line takes for a character: start bit, data, parity and stop bits, in seconds.

    `line` has the line settings by their names.
    """
    parity = line["parity"] != "none"
    bits = 1 + line["bytesize"] + parity + line["stopbits"]
    return float(bits / line["baudrate"])


def clients_at_once(sharing: str) -> int:
    """The default of a port's max_clients."""
    return 1 if sharing in SINGLE_CLIENT_SHARING else SEVERAL_CLIENTS


def as_variables(port: Port) -> dict[str, Any]:
    """Every key of a port for a template, in plain types, with what is derived from them.

    `listeners` are mappings, each with every key of a `Listener`: `at` as text, and also as
    `address` ("" for every address) and `port`. `connect` is {host, port} or null. `endpoint` is
    the TCP side for people; `path` is where the device is; `greeting` is the banner as it is sent;
    `about` is description, location and tags on one line; `guarded` are the listeners that let only
    some networks in, and `open` those that let everybody in without saying so, as text; tables are
    mappings or null. `pack` of a listener is null or, for ser2net, {pause, longest, size}:
    microseconds, and bytes; its `log` has `trace`, what ser2net calls that.
    """
    values = dataclasses.asdict(port)
    del values["listen"]
    return {
        **values,
        "allow": list(port.allow),
        "allow_names": list(port.allow_names),
        "users": list(port.users),
        "forbid": list(port.forbid),
        "tags": list(port.tags),
        "watch": dict(port.watch.items),
        "options": list(port.options),
        "listeners": [_listener_variables(port, one) for one in port.listeners],
        "endpoint": port.endpoint,
        "path": port.path,
        "greeting": port.greeting,
        "about": port.about,
        "guarded": ", ".join(str(one.at) for one in port.listeners if one.is_guarded),
        "open": ", ".join(str(one.at) for one in port.open_to_all),
    }


def _listener_variables(port: Port, listener: Listener) -> dict[str, Any]:
    return {
        **dataclasses.asdict(listener),
        **vars(listener.at),
        "at": str(listener.at),
        "allow": list(listener.allow),
        "options": list(listener.options),
        "forbid": list(listener.forbid),
        "guarded": listener.is_guarded,
        "allow_names": list(listener.allow_names),
        "log": {**vars(listener.log), "trace": listener.log.trace} if listener.log else None,
        "pack": _packed(port.pack, listener) if port.pack else None,
        **_said_by_options(listener),
    }


def _said_by_options(listener: Listener) -> dict[str, Any]:
    """The variables of a listener that its options of ser2net take the place of, with nothing."""
    nothing: dict[str, tuple[str, Any]] = {
        "banner": ("greeting", ""),
        "openstr": ("first_words", ""),
        "closestr": ("last_words", ""),
        "chardelay": ("pack", None),
    }
    if listener.log:
        nothing[f"trace-{listener.log.trace}"] = ("log", None)
    names = [option.partition("=")[0] for option in listener.options]
    return dict(nothing[name] for name in names if name in nothing)


def _packed(pack: Pack, listener: Listener) -> dict[str, int]:
    character = 1e6 * character_seconds(vars(listener))
    pause = math.ceil((pack.idle + SER2NET_LUMP) * character)
    longest = min(pause + math.ceil(pack.max * character), 2**31 - 1)
    return {"pause": pause, "longest": longest, "size": pack.max}
