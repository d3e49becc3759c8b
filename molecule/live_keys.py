"""The changes of the keys of ports that molecule/soak reloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from soaked import merge

# Keys that a reload changes in the open port, with a change of each: port by port, since each
# reload changes the next key of every port. Those of a listener change the second one.
CHANGES: dict[str, list[tuple[str, Any]]] = {
    "raw": [
        ("rs485", {"delay_before_send": 1}),
        ("rs485.rts_on_send", False),
        ("rs485.rx_during_tx", True),
        ("rs485.delay_before_send", 2),
        ("rs485.delay_after_send", 2),
        ("sharing", "replace"),
        ("description", "the first"),
        ("tags", ["lab"]),
        ("location", "rack 1"),
    ],
    "fast": [
        ("pack", {"idle": 10}),
        ("pack.idle", 3.5),
        ("pack.max", 4096),
        ("low_latency", False),
        ("baudrate", 3_500_000),
        ("bytesize", 7),
        ("parity", "even"),
        ("stopbits", 2),
        ("flow", "rtscts"),
        ("dtr", "off"),
        ("rts", "off"),
        ("hangup", True),
        ("carrier", "follow"),
    ],
    "telnet": [
        ("banner", "hello"),
        ("keepalive", 7),
        ("guard", False),
        ("allow", ["10.0.0.0/8"]),
        ("idle_timeout", 3600),
        ("idle", "input"),
        ("half_close_timeout", 7),
        ("replay", 1024),
        ("away", "refuse"),
        ("forbid", ["break"]),
    ],
    "shared": [
        ("max_clients", 3),
        ("first_words", "\r"),
        ("last_words", "\r"),
        ("log", {"file": "/var/log/ttybridge/shared.log"}),
        ("probe", {"send": "a", "expect": "b"}),
        ("probe.send", "c"),
        ("probe.expect", "d"),
        ("users", ["root"]),
    ],
    "observed": [
        ("listen.access", "write"),
        ("listen.allow", ["10.0.0.0/8"]),
        ("listen.max_clients", 3),
        ("listen.forbid", ["break"]),
        ("listen.banner", "hello"),
        ("listen.baudrate", 19200),
        ("listen.bytesize", 7),
        ("listen.parity", "odd"),
        ("listen.stopbits", 2),
        ("listen.flow", "rtscts"),
    ],
    "logged": [
        ("log.file", "/var/log/ttybridge/other.log"),
        ("log.timestamps", False),
        ("log.input", True),
        ("log.output", False),
        ("log.max_size", 8192),
        ("log.volatile", True),
        ("log.journal", True),
        ("watch", {"zeros": "0000"}),
    ],
    "tls": [
        ("tls.certificate", "/etc/ssl/certs/soak.pem"),
        ("tls.key", "/etc/ssl/private/soak.key"),
    ],
}
RELOADS = max(map(len, CHANGES.values()))


def change(number: int) -> Callable[[dict[str, dict[str, Any]]], None]:
    """Change the key with this number of every port."""

    def apply(ports: dict[str, dict[str, Any]]) -> None:
        for port, changes in CHANGES.items():
            for key, value in changes[number : number + 1]:
                outer, _, inner = key.partition(".")
                if outer == "listen":
                    ports[port]["listen"][1][inner] = value
                else:
                    merge(ports[port], {outer: {inner: value}} if inner else {outer: value})

    return apply
