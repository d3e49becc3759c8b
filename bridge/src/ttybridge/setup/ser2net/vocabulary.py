"""The words of ser2net's configurations: options, defaults, and what has no counterpart."""

from __future__ import annotations

import re

from ttybridge.model.values import label

# Settings of ser2net's speed: the roles set better ones, and engine bridge needs none.
TUNING = (
    "chardelay", "chardelay-scale", "chardelay-min", "chardelay-max", "disable-chardelay",
    "dev-to-net-bufsize", "net-to-dev-bufsize", "accepter-retry-time", "connector-retry-time",
    "nodelay", "reuseaddr", "readbuf", "writebuf", "drain_time", "char_drain_wait", "custspeed",
)  # fmt: skip
TUNING_NOTE = "buffers, delays and retries: ttyfleet sets its own"

SWITCHES = (
    "kickolduser", "remctl", "timeout-on-os-queue", "telnet-brk-on-sync",
    "no-con-to-acc", "no-acc-to-con", "mdns", "mdns-sysattrs",
    *(f"trace{which}-{what}" for which in ("", "-read", "-write", "-both")
    for what in ("hexdump", "timestamp")),
)  # fmt: skip
OLD_NAMES = {
    "telnet_brk_on_sync": "telnet-brk-on-sync",
    **{
        f"{old}{what}": f"{new}{what}"
        for old, new in (("tr-", "trace-read-"), ("tw-", "trace-write-"), ("tb-", "trace-both-"))
        for what in ("hexdump", "timestamp")
    },
    "hexdump": "trace-hexdump",
    "timestamp": "trace-timestamp",
}
LISTS = ("remaddr", "connback", "allowed-users", "mdns-txt")

# Options without a counterpart, each with what to tell the user.
LOST = {
    "signature": "ttyfleet sends its own",
    "closeon": "no output of the device closes a connection",
    "sendon": "data is passed on as it comes",
    "timeout-on-os-queue": "a client that does not read is closed after a time of ttyfleet's own",
    "connback-timeout": "`connect` connects from the start, not at the first byte",
    "mdns-port": "the port is not announced",
    "led-conn": "no LED shows traffic",
    "connback": "`connect` connects from the start, not at the first byte",
    "telnet-brk-on-sync": "a telnet sync sends no break",
    "led-rx": "no LED shows traffic",
    "led-tx": "no LED shows traffic",
    "authdir": "`tls` with `client_ca` says who may connect",
    "pamauth": "`tls` with `client_ca` says who may connect",
    "allowed-users": "`tls` with `client_ca` says who may connect",
    **dict.fromkeys(
        ("trace-hexdump", "trace-read-hexdump", "trace-write-hexdump", "trace-both-hexdump"),
        "a log holds the bytes as they are",
    ),
    **dict.fromkeys(
        (
            "mdns", "mdns-sysattrs", "mdns-interface", "mdns-nettype", "mdns-name", "mdns-type",
            "mdns-domain", "mdns-host", "mdns-port", "mdns-txt",
        ),
        "the port is not announced",
    ),
}  # fmt: skip
# Options in whose values a backslash means something to ser2net.
TEXTS = (
    "banner", "signature", "openstr", "closestr", "closeon", "sendon", "trace-read", "trace-write",
    "trace-both",
)  # fmt: skip
# Restrictions: a port without them would let clients do more than ser2net did.
NEEDED = {
    "no-con-to-acc": "a client could read, which ser2net forbids",
    "no-acc-to-con": "a client could write, which ser2net forbids",
}
PORT_OPTIONS = {
    *TUNING, *SWITCHES, *LOST, *NEEDED, "banner", "openstr", "closestr",
    "max-connections", "remaddr", "rs485", "trace-read", "trace-write", "trace-both",
}  # fmt: skip

PARITIES = ("NONE", "EVEN", "ODD", "MARK", "SPACE")
SERIAL_SWITCHES = ("xonxoff", "rtscts", "local", "hangup-when-done", "nobreak", "wronly")
# Words for the device, even if they are among the options of a port.
SERIAL_WORD = re.compile(
    r"[0-9].*|-?(?:XONXOFF|RTSCTS|LOCAL|HANGUP_WHEN_DONE|NOBREAK)|NONE|EVEN|ODD|MARK|SPACE"
)
SERIAL_DEFAULTS = (
    "speed", "databits", "stopbits", "parity", "xonxoff", "rtscts", "local", "hangup_when_done",
    "nobreak", "rs485", "nouucplock",
)  # fmt: skip
TLS_OPTIONS = ("key", "cert", "CA", "clientauth")
TLS_FILES = {"key": "/etc/ser2net/ser2net.key", "cert": "/etc/ser2net/ser2net.crt"}
PORT_DEFAULTS = sorted({*PORT_OPTIONS, *OLD_NAMES} - {*SERIAL_DEFAULTS})
CLASSES = ("", "ser2net", "serialdev", "sergensio", "telnet", "tcp", "ssl")
DEFAULTS = {
    *PORT_OPTIONS,
    *OLD_NAMES,
    *SERIAL_DEFAULTS,
    *TLS_OPTIONS,
    "rfc2217",
    "tcpd",
    "authdir-admin",
    "pamauth-admin",
}

ANNOUNCED = "becomes `serial_announce`, which announces all ports of the host, by ttyfleet's names"
TCPD = "tcpd: /etc/hosts.allow and hosts.deny: no counterpart; use `allow`"


def default_lost(name: str, value: str | None, of: str) -> str:
    """Return what to tell of a default of class `of` that no entry can have; "" of any other."""
    if of not in CLASSES:
        return f"default {label(name)} of class {label(of)}: no counterpart"
    if name not in DEFAULTS:
        return f"default {label(name)}: no counterpart"
    return TCPD if name == "tcpd" and value != "off" else ""
