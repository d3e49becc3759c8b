"""docs/migrating.md: its table of ser2net's keys is made by importing each of them.

`UPDATE_GOLDEN=1 pytest tests/templates` writes the table again. The keys are those of the manuals
ser2net.yaml(5) of ser2net 4.6, and gensio(5) for the layers that it names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.templates.generated import up_to_date

from ttybridge.model.ports import as_entry
from ttybridge.setup.ser2net import importer, vocabulary

PAGE = Path(__file__).resolve().parents[2] / "docs" / "migrating.md"
BEGIN, END = "<!-- keys of ser2net -->\n", "<!-- end of keys of ser2net -->\n"
ENGINES = ("ser2net", "bridge")


@dataclass(frozen=True)
class Written:
    """A ser2net.yaml with one more key than it needs; `key` is how the table names that."""

    key: str
    accepter: str = "telnet,tcp,9999"
    connector: str = "serialdev,/dev/ttyS1,9600n81"
    options: str = ""
    before: str = ""
    after: str = ""
    below: str = ""

    @property
    def text(self) -> str:
        """The file, in version 2 of its form."""
        below = f"    options:\n      {self.options}\n" if self.options else ""
        return (
            f"{self.before}connections:\n  port-9999:\n    accepter: {json.dumps(self.accepter)}\n"
            f"    connector: {json.dumps(self.connector)}\n{self.below}{below}{self.after}"
        )


def serial(*words: str) -> Iterator[Written]:
    for word in words:
        yield Written(f"`{word}`", connector=f"serialdev,/dev/ttyS1,{word}")


def device(*layers: str) -> Iterator[Written]:
    for layer in layers:
        yield Written(f"`{layer}`", connector=layer)


def accepter(*layers: str) -> Iterator[Written]:
    for layer in layers:
        yield Written(f"`{layer}`", accepter=layer)


def option(*options: str) -> Iterator[Written]:
    for one in options:
        yield Written(f"`{one}`", options=one)


def traced(*switches: str) -> Iterator[Written]:
    trace = "trace-both: /var/log/ser2net/log"
    for switch in switches:
        yield Written(f"`{switch}`", options=f"{trace}\n      {switch}")


def default(*defaults: str) -> Iterator[Written]:
    for one in defaults:
        name, _, value = one.partition(": ")
        before = f"defaults:\n  {name}: {{value: {value}}}\n"
        yield Written(f"`{one}`", before=before, connector="serialdev,/dev/ttyS1")


SECTIONS: dict[str, list[Written]] = {
    "connection": [
        *accepter("tcp,9999", "tcp,localhost,9999", "tcp,domain,9999", "telnet,tcp,9999"),
        *accepter("telnet(rfc2217),tcp,9999", "udp,9999", "sctp,9999", "unix,/run/x", "stdio"),
        *accepter("tcp(tcpd=on),9999", "tcp(nodelay),9999"),
        Written("`timeout: 600`", below="    timeout: 600\n"),
        Written("`enable: off`", below="    enable: off\n"),
        *device("serialdev,/dev/serial/by-path/usb-0:1.2:1.0-port0,9600n81"),
        *device("keepopen,serialdev,/dev/ttyS1", "keepopen(discard-badwrites),/dev/ttyS1"),
        *device("serialdev(nouucplock),/dev/ttyS1", "ipmisol,lan host,9600", "tcp,host,23"),
    ],
    "device: `serialdev`": list(
        serial(
            *("115200e72", "speed=115200", "xonxoff", "rtscts", "local", "nobreak", "dtr=off"),
            *("rts=off", "hangup-when-done", "rs485=1:2:rts_on_send", "wronly", "custspeed"),
        )
    ),
    "options of a connection": [
        *option(r"banner: port \p device \d [\B]\r\n", r"banner: \I at \H:\i\r\n"),
        *option("kickolduser: true", "timeout-on-os-queue: true", "signature: us"),
        *option(r"openstr: \r", r"closestr: exit\r", "closeon: bye", "sendon: x"),
        *option("accepter-retry-time: 5", "connector-retry-time: 5", "telnet-brk-on-sync: true"),
        *option("chardelay: true", "chardelay-scale: 20", "chardelay-min: 1000"),
        *option("chardelay-max: 20000", "dev-to-net-bufsize: 64", "net-to-dev-bufsize: 64"),
        *option("max-connections: 3", "remaddr: 192.0.2.1", 'remaddr: "!192.0.2.1,2000"'),
        *option("no-con-to-acc: true", "no-acc-to-con: true", 'connback: "tcp,192.0.2.1,2000"'),
        *option("connback-timeout: 10"),
        *option("mdns: true", "mdns-interface: 1", "mdns-nettype: ipv4", "mdns-name: rack"),
        *option("mdns-type: _x._tcp", "mdns-domain: local", "mdns-host: pi", "mdns-port: 9999"),
        *option("mdns-txt: a=b", "mdns-sysattrs: true"),
    ],
    "trace": [
        *option("trace-read: /var/log/ser2net/log", "trace-write: /var/log/ser2net/log"),
        *option("trace-both: /var/log/ser2net/log", r"trace-both: /var/log/ser2net/\p-\Y-\M-\D"),
        *traced("trace-timestamp: true", "trace-hexdump: true"),
        *traced("trace-read-timestamp: true", "trace-write-timestamp: true"),
        *traced("trace-both-timestamp: true", "trace-read-hexdump: true"),
        *traced("trace-write-hexdump: true", "trace-both-hexdump: true"),
    ],
    "LEDs": [
        Written("`leds`", before='leds:\n  a: {driver: sysfs, options: {device: "x::y"}}\n'),
        *option("led-rx: a", "led-tx: a", "led-conn: a"),
    ],
    "rotators, admin, other files": [
        Written("`rotators`", after='rotators:\n  a: {accepter: "tcp,4000", connections: []}\n'),
        Written("`admins`", before='admins:\n  a: {accepter: "tcp,localhost,2000"}\n'),
        Written("`include`", before="include: /etc/ser2net.d/*.yaml\n"),
        Written(
            "`defines`", before='defines:\n  speed: "19200"\n', connector="/dev/ttyS1,=(speed)"
        ),
    ],
    "authentication and encryption": [
        *accepter("ssl,tcp,9999", "ssl(key=/k,cert=/c,CA=/ca,clientauth),tcp,9999"),
        *accepter("certauth,ssl,tcp,9999", "mux,certauth,ssl,tcp,9999"),
        *option("authdir: /etc/x", "pamauth: login", "allowed-users: jane"),
    ],
    "defaults": [
        *default("speed: 115200n81", "parity: even", "databits: 7", "stopbits: 2"),
        *default("xonxoff: true", "rtscts: true", "local: true", "hangup_when_done: true"),
        *default("nobreak: true", 'rs485: "1:2:rts_on_send"', "telnet-brk-on-sync: true"),
        *default("kickolduser: true", "chardelay: false", "chardelay-scale: 20"),
        *default("chardelay-min: 1000", "net-to-dev-bufsize: 64", "dev-to-net-bufsize: 64"),
        *default("max-connections: 3", "remaddr: 192.0.2.1", "authdir: /usr/share/ser2net/auth"),
        *default("authdir-admin: /etc/ser2net/auth", "pamauth: login", "pamauth-admin: login"),
        *default("mdns: true", "mdns-interface: -1", "mdns-type: _x._tcp", "mdns-domain: local"),
        *default("mdns-host: pi", "tcpd: on", "rfc2217: true"),
    ],
}


def entry_of(imported: importer.Imported) -> dict[str, Any]:
    """What the one port is; empty if there is none."""
    return as_entry(imported.ports[0], always=importer._SAID) if imported.ports else {}


def code(key: str, value: Any) -> str:
    """A key of an entry, as a person writes it."""
    if isinstance(value, dict):
        text = f"{{{', '.join(f'{name}: {item}' for name, item in value.items())}}}"
    else:
        plain = isinstance(value, str) and value.isprintable()
        text = value if plain else json.dumps(value, ensure_ascii=False)
    return f"`{key}: {text}`"


def outcome(written: Written, engine: str) -> str:
    """What import makes of a key: what is in the entry for it, and what it says."""
    plain = importer.parse(Written("").text, "f.yaml", engine)
    imported = importer.parse(written.text, "f.yaml", engine)
    usual, entry = entry_of(plain), entry_of(imported)
    made = [code(key, value) for key, value in entry.items() if value != usual.get(key)]
    said = [
        f"{'**lost**' if remark.lost else 'note'}: {remark.text}" for remark in imported.remarks
    ]
    return "; ".join([*made, *said]) or "as it is"


def rows() -> Iterator[str]:
    for section, keys in SECTIONS.items():
        yield f"| **{section}** | | |\n"
        for written in keys:
            cells = [written.key, *(outcome(written, engine) for engine in ENGINES)]
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def test_the_table_says_what_import_makes_of_each_key() -> None:
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin
    assert end
    table = "| ser2net | with `engine: ser2net` | with `engine: bridge` |\n|---|---|---|\n"
    assert up_to_date(PAGE, before + begin + table + "".join(rows()) + end + after)


def test_the_table_has_every_word_that_import_knows() -> None:
    words = "".join(written.text for keys in SECTIONS.values() for written in keys)
    known = {*vocabulary.PORT_OPTIONS, *vocabulary.SERIAL_SWITCHES} - {"rs485", "remctl"}
    # Of gensio itself, which has more of them for each layer; and of ser2net 3 (remctl, too).
    inner = {"reuseaddr", "readbuf", "writebuf", "drain_time", "char_drain_wait"}
    known -= inner | {"disable-chardelay"}
    assert {word for word in known if word not in words} == set()


@pytest.mark.parametrize("section", ["device: `serialdev`", "options of a connection", "trace"])
def test_ser2net_keeps_what_it_does_for_a_serial_port(section: str) -> None:
    lost = {
        written.key
        for written in SECTIONS[section]
        if not importer.parse(written.text, "f.yaml", "ser2net").complete
    }
    # For a printer; and an address that ser2net itself dials before anybody connects.
    assert lost <= {"`wronly`", '`remaddr: "!192.0.2.1,2000"`'}
