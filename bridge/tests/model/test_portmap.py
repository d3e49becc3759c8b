"""The port map: what may be written, what is said of everything else."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttybridge.model.check import PortMapError, Site, check_portmap, check_ser2net, parse_portmap
from ttybridge.model.ports import (
    ENGINE_HONOURS,
    FORBIDDABLE,
    SINGLE_CLIENT_SHARING,
    DialTls,
    Log,
    Pack,
    Port,
    Probe,
    Rs485,
    Tls,
    UsbMatch,
    as_entry,
    as_variables,
)
from ttybridge.model.values import (
    Listen,
    Listeners,
    Named,
    OffOr,
    Remote,
    Table,
    Touches,
    WrittenListener,
    keys_of,
    kinds_of,
)
from work import calls

GOOD = {"name": "sw", "device": "/dev/ttyUSB0", "listen": 9999}

NAME = "write letters, digits, '-', '_' and '.', beginning with a letter or digit"
PORT = (
    "write [address:]port, such as 9999, 127.0.0.1:9999 or [::1]:9999, with a port from 1 to 65535"
)
LISTEN = "[address:]port, such as 9999, 127.0.0.1:9999 or [::1]:9999"
ADDRESS = f"write {LISTEN}"
PATH = "write an absolute path, such as /dev/ttyAMA0"
USB = (
    "write a mapping with one or more of vendor, product, serial, path, id_path, manufacturer, "
    'product_name, bcdDevice, interface and port, such as {vendor: "067b", product: "2303"}'
)
USB_ID = 'write four hexadecimal digits in quotes, such as "067b"'
TLS_FILE = "write an absolute path, or one beside the inventory, such as tls/pi.pem"
SERIAL = "write the USB serial number in quotes"
REMOTE = "write host:port, such as pc.example.org:10001, 192.0.2.7:10001 or [2001:db8::7]:10001"
BAUD = "write a whole number from 50 to 12000000"
BANNER = (
    "write text, in which {name}, {device}, {baudrate}, {bytesize}, {parity}, {stopbits} or {flow} "
    "may stand"
)
ONE_LINE = "write text of one line, at most {} characters"
TAGS = (
    "write a list such as [lab, rack-1], of at most 16 texts, each of one line, without a comma, "
    "at most 64 characters"
)
USERS = 'write a list of users and @groups of the host, such as [tech1, "@netops"]'
NETWORKS = "write a list of networks, such as [local, 192.0.2.0/24, 2001:db8::/32], or [any]"
FORBID = "write a list with one or more of break, line_settings and modem_lines, such as [break]"
NAMES = "write a list of names in certificates, such as [jane, jane@example.org]"
KEYS = (
    "the keys are name, listen, connect, usb, device, protocol, engine, baudrate, "
    "bytesize, parity, stopbits, flow, dtr, rts, hangup, first_words, last_words, carrier, "
    "low_latency, pack, rs485, sharing, max_clients, allow, allow_names, users, tls, guard, "
    "forbid, idle_timeout, idle, away, half_close_timeout, keepalive, replay, log, watch, banner, "
    "options, probe, description, location, tags"
)

MUTUAL = {"certificate": "/a", "key": "/b", "client_ca": "/c"}

# What is written over a good entry, and what is said of it, in full.
WRONG: list[tuple[dict[Any, Any], str]] = [
    ({"name": "core switch"}, ("port core switch: name: 'core switch': " + NAME)),
    ({"name": "-sw"}, ("port -sw: name: '-sw': " + NAME)),
    ({"name": ""}, ("port '': name: '': " + NAME)),
    (
        {"name": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},
        (
            "port "
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: "
            "name: "
            "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx': " + NAME
        ),
    ),
    ({"name": 7}, ("port number 1: name: 7: without quotes it is a number: " + NAME)),
    ({"name": True}, ("port number 1: name: True: without quotes it is on or off: " + NAME)),
    (
        {"name": datetime.date(2026, 11, 27)},
        ("port number 1: name: '2026-11-27': without quotes it is a date: " + NAME),
    ),
    ({"name": None}, ("port number 1: name: empty: " + NAME)),
    ({"name": "../sw"}, ("port ../sw: name: '../sw': " + NAME)),
    ({"name": "sw\n"}, ("port 'sw\\n': name: 'sw\\n': " + NAME)),
    ({"listen": 0}, ("listen: 0: " + PORT)),
    ({"listen": 65536}, ("listen: 65536: " + PORT)),
    ({"listen": "99999"}, ("listen: '99999': " + PORT)),
    ({"listen": True}, ("listen: True: " + PORT)),
    ({"listen": 9999.0}, ("listen: 9999.0: " + PORT)),
    ({"listen": "telnet"}, ("listen: 'telnet': " + PORT)),
    (
        {"listen": "localhost:9999"},
        ("listen: 'localhost:9999': 'localhost' is not an IP address: " + ADDRESS),
    ),
    ({"listen": "::1:9999"}, ("listen: '::1:9999': " + PORT)),
    ({"listen": "[127.0.0.1]:9999"}, ("listen: '[127.0.0.1]:9999': " + ADDRESS)),
    ({"listen": "[::1]"}, ("listen: '[::1]': " + PORT)),
    ({"listen": "127.0.0.1"}, ("listen: '127.0.0.1': " + PORT)),
    (
        {"listen": "300.0.0.1:9999"},
        ("listen: '300.0.0.1:9999': '300.0.0.1' is not an IP address: " + ADDRESS),
    ),
    ({"listen": ":9999"}, ("listen: ':9999': " + PORT)),
    ({"connect": 9999}, ("connect: 9999: " + REMOTE + ", with a port from 1 to 65535")),
    ({"connect": "pc:0"}, ("connect: 'pc:0': " + REMOTE + ", with a port from 1 to 65535")),
    ({"connect": "a b:1"}, ("connect: 'a b:1': " + REMOTE + ", with a port from 1 to 65535")),
    (
        {"listen": "[::ffff:192.0.2.1]:9999"},
        (
            "listen: '[::ffff:192.0.2.1]:9999': '::ffff:192.0.2.1' is an IPv4 address: "
            "write 192.0.2.1"
        ),
    ),
    ({"connect": "::1:1"}, ("connect: '::1:1': " + REMOTE + ", with a port from 1 to 65535")),
    (
        {"connect": "[pc]:1"},
        ("connect: '[pc]:1': 'pc' is not an IPv6 address: " + REMOTE),
    ),
    (
        {"connect": "pc:1"},
        ("connect: 'pc:1' stands beside listen 9999: write one of the two"),
    ),
    ({"device": "ttyUSB0"}, ("device: 'ttyUSB0': " + PATH)),
    ({"device": "/dev/tty USB0"}, ("device: '/dev/tty USB0': " + PATH)),
    ({"device": "/dev/tty\nUSB0"}, ("device: '/dev/tty\\nUSB0': " + PATH)),
    ({"device": None}, ("device: empty: " + PATH)),
    ({"device": "/dev//ttyS0"}, ("device: '/dev//ttyS0': " + PATH)),
    ({"device": "/dev/./ttyS0"}, ("device: '/dev/./ttyS0': " + PATH)),
    ({"device": "/dev/serial/../ttyS0"}, ("device: '/dev/serial/../ttyS0': " + PATH)),
    ({"device": "/dev/ttyS0/"}, ("device: '/dev/ttyS0/': " + PATH)),
    ({"device": ""}, ("device: '': " + PATH)),
    (
        {"usb": {"vendor": "067b"}},
        ("device: '/dev/ttyUSB0' stands beside usb {'vendor': '067b'}: write one of the two"),
    ),
    ({"usb": None}, ("usb: empty: " + USB)),
    ({"usb": {}}, ("usb: {}: " + USB)),
    ({"usb": "067b:2303"}, ("usb: '067b:2303': " + USB)),
    (
        {"usb": {"vendor": 0o403}},
        'usb.vendor: 259 (0403 without quotes is octal): write "0403", or "0259" if you wrote 259',
    ),
    (
        {"usb": {"vendor": 0o67}},
        'usb.vendor: 55 (0067 without quotes is octal): write "0067", or "0055" if you wrote 55',
    ),
    (
        {"usb": {"product": 6001}},
        'usb.product: 6001 (6001 without quotes is a number): write "6001", or "1771" if you '
        "wrote 0x1771",
    ),
    (
        {"usb": {"product": 0xEA60}},
        'usb.product: 60000 (0xea60 without quotes is a number): write "ea60"',
    ),
    ({"usb": {"vendor": 65536}}, ("usb.vendor: 65536: " + USB_ID)),
    ({"usb": {"vendor": -1}}, ("usb.vendor: -1: " + USB_ID)),
    ({"usb": {"vendor": "67b"}}, ("usb.vendor: '67b': " + USB_ID)),
    ({"usb": {"product": "0x2303"}}, ("usb.product: '0x2303': " + USB_ID)),
    ({"usb": {"vendor": True}}, ("usb.vendor: True: " + USB_ID)),
    (
        {"usb": {"serial": 12345678}},
        ("usb.serial: 12345678: YAML read it as a number: write the USB serial number in quotes"),
    ),
    ({"usb": {"serial": "A\tB"}}, ("usb.serial: 'A\\tB': " + SERIAL)),
    ({"usb": {"serial": "A" * 127}}, (f"usb.serial: '{'A' * 76}...: " + SERIAL)),
    (
        {"usb": {"product_name": 1}},
        "usb.product_name: 1: YAML read it as a number: write the name in quotes, as dmesg shows "
        "it",
    ),
    (
        {"usb": {"manufacturer": ""}},
        "usb.manufacturer: '': write the name in quotes, as dmesg shows it",
    ),
    (
        {"usb": {"bcdDevice": "2.64"}},
        "usb.bcdDevice: '2.64': write four digits in quotes, such as \"0264\" for what lsusb -v "
        "shows as 2.64",
    ),
    (
        {"usb": {"id_path": "a b"}},
        "usb.id_path: 'a b': write udev's ID_PATH, such as platform-3f980000.usb-usb-0:1.3:1.0",
    ),
    (
        {"usb": {"path": "1.2"}},
        ("usb.path: '1.2': write the USB path of the adapter, such as 1-1.2"),
    ),
    ({"usb": {"interface": 256}}, ("usb.interface: 256: write a whole number from 0 to 255")),
    ({"usb": {"port": "one"}}, ("usb.port: 'one': write a whole number from 0 to 255")),
    (
        {"usb": {"model": "PL2303"}},
        (
            "usb.model: 'PL2303': unknown key; "
            "the keys are vendor, product, serial, path, id_path, manufacturer, product_name, "
            "bcdDevice, interface, port"
        ),
    ),
    ({"usb": {"serial": ""}}, ("usb.serial: '': " + SERIAL)),
    ({"protocol": "http"}, ("protocol: 'http': write raw, telnet or rfc2217")),
    ({"protocol": None}, ("protocol: empty: write raw, telnet or rfc2217")),
    ({"engine": "socat"}, ("engine: 'socat': write bridge or ser2net")),
    ({"baudrate": 0}, ("baudrate: 0: " + BAUD)),
    ({"baudrate": "fast"}, ("baudrate: 'fast': " + BAUD)),
    ({"baudrate": 9600.0}, ("baudrate: 9600.0: " + BAUD)),
    ({"baudrate": True}, ("baudrate: True: " + BAUD)),
    ({"baudrate": 12000001}, ("baudrate: 12000001: " + BAUD)),
    ({"baudrate": "-9600"}, ("baudrate: '-9600': " + BAUD)),
    ({"bytesize": 9}, ("bytesize: 9: write a whole number from 5 to 8")),
    ({"parity": "N"}, ("parity: 'N': write none, even, odd, mark or space")),
    ({"parity": False}, ("parity: False: write none, even, odd, mark or space")),
    ({"stopbits": 3}, ("stopbits: 3: write 1, 1.5 or 2")),
    ({"stopbits": True}, ("stopbits: True: write 1, 1.5 or 2")),
    ({"stopbits": "one"}, ("stopbits: 'one': write 1, 1.5 or 2")),
    ({"flow": True}, ("flow: True: write none, rtscts or xonxoff")),
    ({"flow": "hardware"}, ("flow: 'hardware': write none, rtscts or xonxoff")),
    ({"dtr": "up"}, ("dtr: 'up': write on, off or keep")),
    ({"dtr": 1}, ("dtr: 1: write on, off or keep")),
    ({"hangup": "yes"}, ("hangup: 'yes': write on or off")),
    ({"hangup": 1}, ("hangup: 1: write on or off")),
    ({"low_latency": 1}, ("low_latency: 1: write on or off")),
    (
        {"pack": True},
        (
            "pack: True: write off, or a mapping with one or more of idle and max, such as "
            "{idle: 3.5, max: 256}"
        ),
    ),
    ({"pack": {"idle": 0}}, ("pack.idle: 0: write a number from 0.5 to 1000")),
    ({"pack": {"idle": "3,5"}}, ("pack.idle: '3,5': write a number from 0.5 to 1000")),
    ({"pack": {"max": 1}}, ("pack.max: 1: write a whole number from 2 to 65536")),
    (
        {"first_words": "a\0"},
        (
            r"first_words: 'a\x00': write text of at most 1024 characters, "
            r'such as "exit\r"'
        ),
    ),
    (
        {"last_words": r"exit\r"},
        (
            r"last_words: 'exit\r' in single quotes, or in none, has a backslash and a letter: "
            r'write "exit\r", in double quotes'
        ),
    ),
    ({"carrier": "off"}, ("carrier: 'off': write ignore or follow")),
    (
        {"log": {"file": "/var/log/ttybridge/sw", "output": "off"}},
        (
            "log.output: 'off' beside log.input 'off' leaves nothing to log: "
            "write log.input: on, or log: off"
        ),
    ),
    (
        {"rs485": True},
        (
            "rs485: True: write off, or a mapping with one or more of rts_on_send, rx_during_tx, "
            "delay_before_send and delay_after_send, such as {delay_before_send: 1}"
        ),
    ),
    (
        {"rs485": {"delay_before_send": -1}},
        ("rs485.delay_before_send: -1: write a whole number from 0 to 1000"),
    ),
    ({"rs485": {"rts_on_send": "high"}}, ("rs485.rts_on_send: 'high': write on or off")),
    ({"sharing": "all"}, ("sharing: 'all': write exclusive, replace, shared or observed")),
    ({"max_clients": 0}, ("max_clients: 0: write a whole number from 1 to 1024")),
    (
        {"max_clients": 2},
        ("max_clients: 2 clients, but sharing is exclusive: write sharing: shared or observed"),
    ),
    (
        {"sharing": "shared", "max_clients": 1025},
        ("max_clients: 1025: write a whole number from 1 to 1024"),
    ),
    ({"allow": "192.0.2.0/24"}, ("allow: '192.0.2.0/24': " + NETWORKS)),
    (
        {"allow": ["192.0.2.1/24"]},
        (
            "allow: ['192.0.2.1/24']: '192.0.2.1/24' is an address inside a "
            "network: write 192.0.2.0/24"
        ),
    ),
    ({"allow": ["lab"]}, ("allow: ['lab']: 'lab' is not a network: " + NETWORKS)),
    (
        {"allow": ["::ffff:192.0.2.0/120"]},
        (
            "allow: ['::ffff:192.0.2.0/120']: '::ffff:192.0.2.0/120' is a network of IPv4: "
            "write 192.0.2.0/24"
        ),
    ),
    (
        {"allow": ["fe80::%eth0/64"]},
        ("allow: ['fe80::%eth0/64']: 'fe80::%eth0/64' names an interface: write fe80::/64"),
    ),
    ({"allow": [192]}, ("allow: [192]: " + NETWORKS)),
    ({"allow": "any"}, ("allow: 'any': " + NETWORKS)),
    (
        {"allow": ["any", "192.0.2.0/24"]},
        (
            "allow: ['any', '192.0.2.0/24']: any is every network: "
            "write [any] alone, or leave it out"
        ),
    ),
    ({"allow_names": "jane"}, ("allow_names: 'jane': " + NAMES)),
    ({"allow_names": ["a\nb"]}, ("allow_names: ['a\\nb']: " + NAMES)),
    (
        {"allow_names": ["jane", "jane"]},
        "allow_names: ['jane', 'jane']: 'jane' is there twice: write it once",
    ),
    (
        {"allow_names": ["jane"], "tls": {"certificate": "/a", "key": "/b"}},
        "allow_names: ['jane']: 9999 asks nobody for a certificate: write tls with client_ca "
        "there, or allow_names: []",
    ),
    (
        {"allow_names": ["jane"], "engine": "ser2net"},
        "allow_names: ['jane']: engine ser2net cannot honour it: write engine: bridge, "
        "or allow_names: []",
    ),
    ({"allow": None}, ("allow: empty: " + NETWORKS)),
    (
        {"tls": True},
        (
            "tls: True: write off, or a mapping with the keys certificate and key, and maybe "
            "client_ca, such as {certificate: tls/pi.pem, key: tls/pi.key}"
        ),
    ),
    (
        {"log": "/var/log/x"},
        (
            "log: '/var/log/x': write off, or a mapping with the key file, and maybe timestamps, "
            "input, output, max_size, volatile and journal, such as {file: /var/log/ttybridge/NAME}"
        ),
    ),
    (
        {"probe": "login:"},
        (
            "probe: 'login:': write off, or a mapping with the keys send and expect, "
            'such as {send: "\\r", expect: "login:"}'
        ),
    ),
    (
        {"tls": {"certificate": "/etc/a.pem"}},
        ("tls.key: missing: " + TLS_FILE),
    ),
    (
        {"tls": {"certificate": "a b.pem", "key": "/etc/a.key"}},
        ("tls.certificate: 'a b.pem': " + TLS_FILE),
    ),
    (
        {"tls": {"certificate": "/etc/../a.pem", "key": "../tls/a.key"}},
        ("tls.certificate: '/etc/../a.pem': " + TLS_FILE),
    ),
    (
        {"tls": {"certificate": "/etc/a.pem", "key": "/etc/a.key", "cert": "/x"}},
        ("tls.cert: '/x': unknown key; the keys are certificate, key, client_ca"),
    ),
    ({"guard": "http"}, ("guard: 'http': write on or off")),
    ({"away": "wait"}, ("away: 'wait': write keep, refuse or drop")),
    ({"forbid": "break"}, ("forbid: 'break': " + FORBID)),
    ({"forbid": ["breaks"]}, ("forbid: ['breaks']: " + FORBID)),
    (
        {"forbid": ["break", "break"]},
        "forbid: ['break', 'break']: 'break' is there twice: write it once",
    ),
    (
        {"forbid": ["line_settings"], "engine": "ser2net", "protocol": "rfc2217"},
        "forbid: ['line_settings']: engine ser2net cannot keep clients of 9999 from it: "
        "write engine: bridge, protocol: telnet, or forbid: []",
    ),
    (
        {"forbid": ["break"], "engine": "ser2net", "protocol": "telnet"},
        "forbid: ['break']: engine ser2net cannot keep clients of 9999 from it: "
        "write engine: bridge, protocol: raw, or forbid: []",
    ),
    ({"idle": "typing"}, ("idle: 'typing': write traffic or input")),
    (
        {"idle": "input", "engine": "ser2net"},
        "idle: 'input': engine ser2net cannot honour it: write engine: bridge, or idle: traffic",
    ),
    ({"idle_timeout": -1}, ("idle_timeout: -1: write a whole number from 0 to 31536000")),
    ({"keepalive": 32768}, ("keepalive: 32768: write a whole number from 0 to 32767")),
    ({"replay": "1k"}, ("replay: '1k': write a whole number from 0 to 16777216")),
    (
        {"log": {"timestamps": True}},
        ("log.file: missing: write an absolute path"),
    ),
    (
        {"log": {"file": "/var/log/sw", "max_size": -1}},
        ("log.max_size: -1: write a whole number from 0 to 1073741824"),
    ),
    (
        {"log": {"file": "/l", "max_size": 4095}},
        (
            "log.max_size: 4095: engine bridge cannot honour it: "
            "write log.max_size: 4096 to 1073741824"
        ),
    ),
    (
        {"log": {"file": "/l", "max_size": 0}},
        (
            "log.max_size: 0: engine bridge cannot honour it: write engine: ser2net, "
            "or log.max_size: 4096 to 1073741824"
        ),
    ),
    ({"description": "a\nb"}, ("description: 'a\\nb': " + ONE_LINE.format(200))),
    ({"description": "x\u202ey"}, ("description: 'x\\u202ey': " + ONE_LINE.format(200))),
    (
        {"location": 12},
        ("location: 12: YAML read it as a number: write it in quotes"),
    ),
    ({"location": "x" * 101}, (f"location: '{'x' * 76}...: " + ONE_LINE.format(100))),
    ({"users": "tech1"}, ("users: 'tech1': " + USERS)),
    ({"users": ["@"]}, ("users: ['@']: " + USERS)),
    ({"users": ["a:b"]}, ("users: ['a:b']: " + USERS)),
    ({"users": ["tech1 "]}, ("users: ['tech1 ']: " + USERS)),
    ({"users": ["a", "a"]}, ("users: ['a', 'a']: 'a' is there twice: write it once")),
    (
        {"users": ["tech1"], "engine": "ser2net"},
        ("users: ['tech1']: engine ser2net cannot honour it: write engine: bridge, or users: []"),
    ),
    (
        {"watch": ["x"]},
        (
            "watch: ['x']: write a mapping of words to regular expressions, "
            'such as {panic: "Kernel panic|Oops"}'
        ),
    ),
    (
        {"watch": {"up": "a", "panic": "("}},
        (
            "watch.panic: '(': it is no regular expression "
            "(missing ), unterminated subpattern at position 0): write one of Python's"
        ),
    ),
    (
        {"watch": {"no name": "a"}},
        ("watch.no name: 'a': its name is not letters, digits, '_' and '-': write such a name"),
    ),
    (
        {"watch": {"panic": r"\bOops"}},
        (r"watch.panic: '\\bOops': \b is not taken: write it without"),
    ),
    ({"watch": {"n": 5}}, ("watch.n: 5: without quotes it is a number: write it in quotes")),
    (
        {"watch": {"n": "a{1000}"}},
        ("watch.n: 'a{1000}': it is too long, with all that it repeats: write a shorter one"),
    ),
    ({"tags": "lab"}, ("tags: 'lab': " + TAGS)),
    ({"tags": ["a,b"]}, ("tags: ['a,b']: " + TAGS)),
    ({"tags": [" a"]}, ("tags: [' a']: " + TAGS)),
    ({"tags": ["a", "a"]}, ("tags: ['a', 'a']: 'a' is there twice: write it once")),
    ({"banner": "\x07"}, ("banner: '\\x07': " + BANNER)),
    ({"banner": 3}, ("banner: 3: without quotes it is a number: " + BANNER)),
    ({"banner": "{port}"}, ("banner: '{port}': " + BANNER)),
    ({"banner": "{}"}, ("banner: '{}': " + BANNER)),
    ({"banner": "{name!r}"}, ("banner: '{name!r}': " + BANNER)),
    ({"banner": "{name:>9}"}, ("banner: '{name:>9}': " + BANNER)),
    ({"banner": "{name[0]}"}, ("banner: '{name[0]}': " + BANNER)),
    ({"banner": "{name.x}"}, ("banner: '{name.x}': " + BANNER)),
    (
        {"banner": "{"},
        ("banner: '{': a single brace: write {{ or }} for a brace itself"),
    ),
    (
        {"banner": "a}"},
        ("banner: 'a}': a single brace: write {{ or }} for a brace itself"),
    ),
    (
        {"probe": {"send": "\r"}},
        ("probe.expect: missing: write text that the answer holds"),
    ),
    (
        {"probe": {"send": "\r", "expect": ""}},
        ("probe.expect: '': write text that the answer holds"),
    ),
    (
        {"probe": {"send": r"\r", "expect": "#"}},
        r"probe.send: '\r' in single quotes, or in none, has a backslash and a letter: "
        r'write "\r", in double quotes',
    ),
    (
        {"probe": {"send": "\r", "expect": 'say "hi"\\n'}},
        r"""probe.expect: 'say "hi"\n' in single quotes, or in none, has a backslash and a """
        r"""letter: write "say \"hi\"\n", in double quotes""",
    ),
    ({"speed": 9600}, ("speed: 9600: unknown key; did you mean baudrate?")),
    ({"baud": 9600}, ("baud: 9600: unknown key; did you mean baudrate?")),
    ({"Listen": 1}, ("Listen: 1: unknown key; did you mean listen?")),
    ({"colour": "red"}, ("colour: 'red': unknown key; " + KEYS)),
    ({None: 1}, ("empty: 1: unknown key; " + KEYS)),
    ({4: "x"}, ("4: 'x': unknown key; " + KEYS)),
    ({"a\nb": 1}, ("'a\\nb': 1: unknown key; " + KEYS)),
    (
        {"engine": "ser2net", "device": "/dev/a,b"},
        (
            "device: '/dev/a,b': engine ser2net cannot open a path with a comma: "
            "write usb, or a path without one"
        ),
    ),
    (
        {"engine": "ser2net", "stopbits": 1.5},
        (
            "stopbits: 1.5: engine ser2net cannot honour it: write engine: bridge, "
            "or stopbits: 1 or 2"
        ),
    ),
    (
        {"engine": "ser2net", "sharing": "observed"},
        (
            "sharing: 'observed': engine ser2net cannot honour it: write engine: bridge, "
            "or sharing: exclusive or replace or shared"
        ),
    ),
    (
        {"engine": "ser2net", "guard": "on"},
        ("guard: 'on': engine ser2net cannot honour it: write engine: bridge, or guard: off"),
    ),
    (
        {"engine": "ser2net", "keepalive": 60},
        ("keepalive: 60: engine ser2net cannot honour it: write engine: bridge, or keepalive: 0"),
    ),
    (
        {"engine": "ser2net", "dtr": "keep"},
        ("dtr: 'keep': engine ser2net cannot honour it: write engine: bridge, or dtr: on or off"),
    ),
    (
        {"engine": "ser2net", "rts": "keep"},
        ("rts: 'keep': engine ser2net cannot honour it: write engine: bridge, or rts: on or off"),
    ),
    (
        {"engine": "ser2net", "tls": {"certificate": "/a", "key": "/b"}},
        (
            "tls: {'certificate': '/a', 'key': '/b'}: engine ser2net cannot honour it: "
            "write engine: bridge, or tls: off"
        ),
    ),
    (
        {"engine": "ser2net", "replay": 4096},
        ("replay: 4096: engine ser2net cannot honour it: write engine: bridge, or replay: 0"),
    ),
    (
        {"engine": "ser2net", "log": {"file": "/l", "timestamps": False}},
        (
            "log.max_size: 1048576: engine ser2net cannot honour it: write engine: bridge, "
            "or log.max_size: 0"
        ),
    ),
    (
        {
            "engine": "ser2net",
            "log": {"file": "/l", "timestamps": False, "max_size": 0, "volatile": True},
        },
        (
            "log.volatile: 'on': engine ser2net cannot honour it: write engine: bridge, "
            "or log.volatile: off"
        ),
    ),
]


def entry(**keys: Any) -> dict[str, Any]:
    """A good entry with other keys; `usb` takes the place of `device`, `connect` of `listen`."""
    made = {**GOOD, **keys}
    if "connect" in keys and "listen" not in keys:
        del made["listen"]
    if "usb" in keys and "device" not in keys:
        del made["device"]
    return made


def said_of(entries: object, defaults: object = None) -> list[str]:
    """Every fault of a port map, without the "serial_ports: port " that all share."""
    faults = [str(fault) for fault in check_portmap(entries, defaults)[1]]
    return [fault.removeprefix("serial_ports: ").removeprefix("port sw: ") for fault in faults]


@pytest.mark.parametrize(("written", "said"), WRONG, ids=[str(keys) for keys, _ in WRONG])
def test_a_wrong_value_is_named_with_what_may_be_written(
    written: dict[Any, Any], said: str
) -> None:

    wrong = {**GOOD, **written}
    if "usb" in written and "stands beside" not in said:
        del wrong["device"]
    if "connect" in written and "stands beside" not in said:
        del wrong["listen"]
    assert said_of([wrong]) == [said]


@pytest.mark.parametrize(
    ("written", "key", "value"),
    [
        ({}, "protocol", "raw"),
        ({}, "engine", "bridge"),
        ({}, "baudrate", 9600),
        ({}, "bytesize", 8),
        ({}, "parity", "none"),
        ({}, "stopbits", 1.0),
        ({}, "flow", "none"),
        ({}, "dtr", "on"),
        ({}, "rts", "on"),
        ({}, "hangup", False),
        ({}, "low_latency", True),
        ({"low_latency": "off"}, "low_latency", False),
        ({}, "pack", None),
        ({"pack": {"max": 64}}, "pack", Pack(3.5, 64)),
        ({"pack": {"idle": "1.5"}}, "pack", Pack(1.5, 256)),
        ({"engine": "ser2net", "pack": {"idle": 20}}, "pack", Pack(20.0, 256)),
        ({"baudrate": 12_000_000}, "baudrate", 12_000_000),
        ({}, "first_words", ""),
        ({"last_words": "exit\r\x04"}, "last_words", "exit\r\x04"),
        ({}, "carrier", "ignore"),
        ({"engine": "ser2net"}, "carrier", "follow"),
        ({"engine": "ser2net", "carrier": "ignore"}, "carrier", "ignore"),
        ({}, "rs485", None),
        ({}, "sharing", "exclusive"),
        ({}, "max_clients", 1),
        ({}, "allow", ()),
        ({}, "allow_names", ()),
        (
            {"tls": MUTUAL, "allow_names": ["jane", "CN of a lab"]},
            "allow_names",
            ("jane", "CN of a lab"),
        ),
        ({}, "tls", None),
        ({}, "guard", True),
        ({"guard": "off"}, "guard", False),
        ({"engine": "ser2net", "guard": False}, "guard", False),
        ({"engine": "ser2net", "device": "/dev/a:b"}, "device", "/dev/a:b"),
        ({}, "away", "keep"),
        ({"away": "drop"}, "away", "drop"),
        ({"engine": "ser2net"}, "away", "refuse"),
        ({"engine": "ser2net", "away": "keep"}, "away", "keep"),
        ({"engine": "ser2net", "dtr": "off"}, "dtr", "off"),
        ({}, "forbid", ()),
        ({"forbid": ["modem_lines", "break"]}, "forbid", ("modem_lines", "break")),
        ({"engine": "ser2net", "forbid": [*FORBIDDABLE]}, "forbid", tuple(FORBIDDABLE)),
        (
            {"engine": "ser2net", "protocol": "telnet", "forbid": ["line_settings"]},
            "forbid",
            ("line_settings",),
        ),
        ({}, "idle_timeout", 0),
        ({}, "keepalive", 60),
        ({}, "replay", 0),
        ({}, "log", None),
        ({}, "banner", ""),
        ({}, "probe", None),
        ({}, "connect", None),
        ({}, "users", ()),
        (
            {"users": ["tech1", "@netops", "EXAMPLE\\jane", "@domain users", "j@example.org"]},
            "users",
            ("tech1", "@netops", "EXAMPLE\\jane", "@domain users", "j@example.org"),
        ),
        ({"connect": "pc.example.org:1"}, "listen", ()),
        ({"connect": "pc.example.org:1"}, "endpoint", "-> pc.example.org:1"),
        ({"connect": "pc.example.org:1"}, "connect", Remote("pc.example.org", 1)),
        ({"connect": "192.0.2.7:65535"}, "connect", Remote("192.0.2.7", 65535)),
        ({"connect": "[2001:DB8:0::1]:1"}, "connect", Remote("2001:db8::1", 1)),
        ({"connect": "[fe80::1%eth0]:1"}, "connect", Remote("fe80::1%eth0", 1)),
        ({}, "path", "/dev/ttyUSB0"),
        ({"name": "Rack_1.sw-2"}, "name", "Rack_1.sw-2"),
        ({"name": "7"}, "name", "7"),
        ({"listen": 9999}, "listen", (WrittenListener(Listen("", 9999)),)),
        ({"listen": "9999"}, "listen", (WrittenListener(Listen("", 9999)),)),
        ({"listen": "127.0.0.1:2217"}, "listen", (WrittenListener(Listen("127.0.0.1", 2217)),)),
        ({"listen": "[::1]:2217"}, "listen", (WrittenListener(Listen("::1", 2217)),)),
        ({"listen": "[2001:DB8:0::1]:1"}, "listen", (WrittenListener(Listen("2001:db8::1", 1)),)),
        ({"listen": "[fe80::1%eth0]:1"}, "listen", (WrittenListener(Listen("fe80::1%eth0", 1)),)),
        ({"usb": {"vendor": "067B"}}, "usb", UsbMatch(vendor="067b")),
        ({"usb": {"serial": "A50285BI"}}, "usb", UsbMatch(serial="A50285BI")),
        ({"usb": {"path": "1-1.2"}}, "usb", UsbMatch(path="1-1.2")),
        ({"usb": {"serial": "A *?[1]|$%"}}, "usb", UsbMatch(serial="A *?[1]|$%")),
        ({"usb": {"bcdDevice": "026A"}}, "usb", UsbMatch(bcdDevice="026a")),
        ({"usb": {"id_path": "a-0:1:1.0"}}, "usb", UsbMatch(id_path="a-0:1:1.0")),
        ({"usb": {"serial": "1", "interface": 0}}, "usb", UsbMatch(serial="1", interface=0)),
        ({"usb": {"vendor": "067b"}}, "path", "/dev/serial/by-name/sw"),
        ({"protocol": "rfc2217"}, "protocol", "rfc2217"),
        ({"banner": "{{{name}}}"}, "greeting", "{sw}\r\n"),
        ({"baudrate": "115200"}, "baudrate", 115200),
        ({"parity": "EVEN"}, "parity", "even"),
        ({"stopbits": "1.5"}, "stopbits", 1.5),
        ({"stopbits": 2}, "stopbits", 2.0),
        ({"sharing": "shared"}, "max_clients", 8),
        ({"sharing": "shared", "max_clients": 3}, "max_clients", 3),
        ({"engine": "ser2net", "sharing": "replace"}, "max_clients", 1),
        ({"allow": ["192.0.2.7", "2001:db8::/32"]}, "allow", ("192.0.2.7/32", "2001:db8::/32")),
        ({"allow": []}, "allow", ()),
        ({"allow": ["any"]}, "allow", ("any",)),
        ({"allow": ["local", "192.0.2.7"]}, "allow", ("local", "192.0.2.7/32")),
        ({"keepalive": 0}, "keepalive", 0),
        ({"probe": {"send": "\r", "expect": "login:"}}, "probe", Probe("\r", "login:")),
        ({"probe": "off"}, "probe", None),
        # YAML 1.1 reads on and off as booleans, and so do people.
        ({"dtr": True}, "dtr", "on"),
        ({"dtr": "On"}, "dtr", "on"),
        ({"hangup": True}, "hangup", True),
        ({"hangup": "on"}, "hangup", True),
        ({"hangup": "true"}, "hangup", True),
        ({"hangup": False}, "hangup", False),
        ({"tls": False}, "tls", None),
        ({"tls": "off"}, "tls", None),
        ({"log": False}, "log", None),
        ({"rs485": "off"}, "rs485", None),
    ],
)
def test_what_is_written_has_one_normal_form(
    written: dict[str, Any], key: str, value: object
) -> None:
    (port,) = parse_portmap([entry(**written)])
    assert getattr(port, key) == value


@pytest.mark.parametrize("common", [None, {"users": ["@netops"]}])
def test_a_port_may_have_users_and_no_tcp_side(common: dict[str, Any] | None) -> None:
    written = {key: value for key, value in GOOD.items() if key != "listen"}
    own = {} if common else {"users": ["@netops"]}
    (port,) = parse_portmap([{**written, **own, "sharing": "shared"}], common)
    assert (port.users, port.listeners, port.endpoint) == (("@netops",), (), "console")
    listens = "it is for a port that listens: leave it out, or write listen"
    wrong = {**written, "users": ["tech1"], "allow": ["192.0.2.0/24"]}
    assert said_of([wrong]) == [f"allow: ['192.0.2.0/24']: {listens}"]
    assert said_of([{**written, "users": []}]) != []


def test_a_missing_key_is_named() -> None:
    assert said_of([{}]) == [
        f"port number 1: name: missing: {NAME}",
        "port number 1: listen: missing: "
        f"write listen ({LISTEN}), connect ({REMOTE.removeprefix('write ')}) "
        "or users (for a port without a TCP side)",
        "port number 1: usb: missing: write usb (what the adapter is) or device (a path)",
    ]


def test_an_entry_that_is_no_mapping_is_named_by_its_number() -> None:
    assert said_of([GOOD, "sw"]) == [
        "port number 2: entry: 'sw' is not a mapping: write its keys, such as name, listen and usb"
    ]


@pytest.mark.parametrize("entries", [None, "sw", b"sw", 7, {"name": "sw"}])
def test_a_port_map_is_a_list(entries: object) -> None:
    (fault,) = said_of(entries)
    assert fault.endswith(": write one entry a port, each with a name, or [] for none")
    assert ("is not a list" in fault) == (entries is not None)


def test_an_empty_port_map_is_sound() -> None:
    assert parse_portmap([]) == ()


def test_every_fault_of_an_entry_is_reported() -> None:
    assert said_of([entry(listen=0, baudrate="fast", engine="ser2net", replay=1, speed=1)]) == [
        f"listen: 0: {PORT}",
        f"baudrate: 'fast': {BAUD}",
        "speed: 1: unknown key; did you mean baudrate?",
        "replay: 1: engine ser2net cannot honour it: write engine: bridge, or replay: 0",
    ]


def test_a_faulty_value_brings_no_other_fault_with_it() -> None:
    wrong = entry(sharing="share", max_clients=4)
    assert said_of([wrong]) == ["sharing: 'share': write exclusive, replace, shared or observed"]
    wrong = entry(engine="ser2nt", replay=1)
    assert said_of([wrong]) == ["engine: 'ser2nt': write bridge or ser2net"]
    wrong = entry(sharing="share")
    assert len(said_of([wrong], {"sharing": "replace"})) == 1


def test_sound_ports_stand_beside_faulty_ones() -> None:
    entries = [entry(name="a", listen=1), entry(name="b", listen=0), entry(name="c", device="/c")]
    ports, faults = check_portmap(entries)
    assert [port.name for port in ports] == ["a", "c"]
    assert [str(fault) for fault in faults] == [f"serial_ports: port b: listen: 0: {PORT}"] + [
        "serial_ports: port b: device: '/dev/ttyUSB0' is also the device of port a: "
        "write another device"
    ]


def test_faults_stand_in_the_order_of_the_entries() -> None:
    entries = [entry(name=name, listen=0, device=f"/{name}") for name in ("z", "m", "a")]
    assert [fault.place for fault in check_portmap(entries)[1]] == [
        f"serial_ports: port {name}" for name in ("z", "m", "a")
    ]


def test_parse_raises_with_every_fault() -> None:
    with pytest.raises(PortMapError) as raised:
        parse_portmap([entry(listen=0, bytesize=9)], where="pi-rack1")
    assert [fault.key for fault in raised.value.faults] == ["listen", "bytesize"]
    assert str(raised.value).splitlines()[1] == (
        "pi-rack1: port sw: bytesize: 9: write a whole number from 5 to 8"
    )


def test_a_name_is_given_once() -> None:
    entries = [entry(), entry(listen=1, device="/b")]
    assert said_of(entries) == [
        "port sw (number 2): name: 'sw' is also the name of port number 1: write another name"
    ]


@pytest.mark.parametrize(
    ("one", "two", "clash"),
    [
        (9999, 9999, True),
        (9999, "9999", True),
        (9999, 9998, False),
        (9999, "0.0.0.0:9999", True),
        (9999, "[::]:9999", True),
        (9999, "127.0.0.1:9999", True),
        (9999, "[::1]:9999", True),
        ("0.0.0.0:9999", "127.0.0.1:9999", True),
        ("[::]:9999", "[::1]:9999", True),
        ("0.0.0.0:9999", "[::]:9999", False),
        ("0.0.0.0:9999", "[::1]:9999", False),
        ("127.0.0.1:9999", "127.0.0.1:9999", True),
        ("127.0.0.1:9999", "127.0.0.2:9999", False),
        ("[2001:db8::1]:9999", "[2001:DB8:0::1]:9999", True),
        ("127.0.0.1:9999", "127.0.0.1:9998", False),
    ],
)
def test_listeners_that_one_host_cannot_both_have_clash(
    one: object, two: object, clash: bool
) -> None:
    for first, second in ((one, two), (two, one)):
        said = said_of([entry(name="a", listen=first), entry(listen=second, device="/b")])
        here, there = endpoint_of(second), endpoint_of(first)
        words = f"listen: {here} is taken by port a (listen {there}): write another TCP port"
        assert said == ([words] if clash else [])


def endpoint_of(written: object) -> str:
    return parse_portmap([entry(listen=written)])[0].endpoint


@pytest.mark.parametrize(
    ("one", "two", "clash"),
    [
        ({"vendor": "067b"}, {"vendor": "067B"}, True),
        ({"vendor": "067b", "product": "2303"}, {"vendor": "067b"}, True),
        ({"vendor": "067b", "product": "2303"}, {"vendor": "067b", "serial": "1"}, True),
        ({"vendor": "067b", "product": "2303"}, {"vendor": "067b", "product": "2304"}, False),
        ({"vendor": "067b"}, {"vendor": "0403"}, False),
        ({"serial": "1"}, {"serial": "2"}, False),
        ({"path": "1-1.2"}, {"path": "1-1.3", "vendor": "067b"}, False),
        ({"path": "1-1.2"}, {"serial": "1"}, False),
        (
            {"vendor": "067b", "product": "2303", "path": "1-1.2"},
            {"vendor": "067b", "product": "2303", "serial": "1"},
            False,
        ),
        ({"vendor": "067b", "path": "1-1.2"}, {"vendor": "067b", "id_path": "a:1.0"}, False),
        ({"vendor": "067b", "path": "1-1.2"}, {"vendor": "067b", "interface": 1}, True),
        ({"path": "1-1.2", "serial": "1"}, {"path": "1-1.2"}, True),
        ({"vendor": "1a86", "bcdDevice": "0264"}, {"vendor": "1a86", "bcdDevice": "0263"}, False),
        ({"vendor": "1a86", "product_name": "A"}, {"vendor": "1a86", "manufacturer": "B"}, True),
        ({"serial": "1", "interface": 0}, {"serial": "1", "interface": 1}, False),
        ({"serial": "1"}, {"serial": "1", "interface": 1}, True),
        ({"path": "1-1", "interface": 0}, {"serial": "1", "interface": 0}, False),
        ({"interface": 0}, {"interface": 0}, True),
        ({"interface": 0}, {"vendor": "0403", "interface": 0}, True),
        ({"interface": 0}, {"interface": 1}, False),
        ({"serial": "1", "port": 0}, {"serial": "1", "port": 1}, False),
        ({"serial": "1", "port": 0}, {"serial": "1", "interface": 0}, True),
        ({"vendor": "0403", "port": 0}, {"product": "6001", "port": 0}, False),
    ],
)
def test_usb_matches_that_one_adapter_satisfies_clash(
    one: dict[str, Any], two: dict[str, Any], clash: bool
) -> None:
    for first, second in ((one, two), (two, one)):
        said = said_of([entry(name="a", listen=1, usb=first), entry(usb=second)])
        assert bool(said) == clash
        if clash:
            assert said[0].startswith("usb: {")
            assert "one adapter can satisfy this and port a (" in said[0]
            assert said[0].endswith("): add serial, path, interface or port to both")


def test_a_port_that_connects_has_no_listener_to_clash_or_to_guard() -> None:
    connecting = entry(name="a", device="/a", connect="pc:9999")
    assert said_of([connecting, entry()]) == []
    common = {"allow": ["192.0.2.0/24"], "sharing": "shared", "guard": "on"}
    assert said_of([connecting], common) == []
    assert said_of([{**connecting, "guard": "off"}]) == []
    wrong = {**connecting, "name": "sw", "allow": ["192.0.2.0/24"], "sharing": "shared"}
    wrong |= {"tls": {"certificate": "/a", "key": "/b"}, "max_clients": 2, "guard": "on"}
    listens = "it is for a port that listens: leave it out, or write listen"
    assert said_of([wrong]) == [
        f"allow: ['192.0.2.0/24']: {listens}",
        f"tls: {{'certificate': '/a', 'key': '/b'}}: {listens}",
        f"guard: 'on': {listens}",
        f"sharing: 'shared': {listens}",
        f"max_clients: 2: {listens}",
    ]


def test_names_are_refused_where_a_listener_asks_nobody_for_a_certificate() -> None:
    common = {"tls": MUTUAL, "allow_names": ["jane"]}
    assert said_of([entry()], common) == []
    assert said_of([entry(listen=[1, {"at": 2, "tls": False, "allow_names": []}])], common) == []
    said = "2 asks nobody for a certificate: write tls with client_ca there, or allow_names: []"
    assert said_of([entry(listen=[1, {"at": 2, "tls": False}])], common) == [
        f"allow_names: ['jane'] (from serial_ports_defaults): {said}"
    ]
    assert said_of([entry(listen=[1, {"at": 2, "allow_names": ["jane"]}])]) == [
        f"listen[2].allow_names: ['jane']: {said}"
    ]


def test_a_port_that_connects_with_tls() -> None:
    tls = {"ca": "/ca", "certificate": "/a", "key": "/k", "server_name": "pc.lab"}
    (port,) = parse_portmap([entry(connect={"at": "pc:1", "tls": tls})])
    assert port.connect
    assert (str(port.connect), port.connect.tls) == ("pc:1", DialTls(**tls))
    assert as_entry(port)["connect"] == {"at": "pc:1", "tls": tls}
    assert parse_portmap([as_entry(port)]) == (port,)
    assert as_entry(parse_portmap([entry(connect={"at": "pc:1"})])[0])["connect"] == "pc:1"
    assert said_of([entry(connect={"at": "pc:1", "tls": {"ca": "/ca", "key": "/k"}})]) == [
        "connect.tls.certificate: missing beside key: write the PEM file, or leave key out"
    ]
    assert said_of([entry(connect={"tls": {"ca": "/ca"}})]) == [f"connect.at: missing: {REMOTE}"]


def test_ser2net_does_not_connect_to_others() -> None:
    assert said_of([entry(connect="pc:1", engine="ser2net")]) == [
        "connect: 'pc:1': engine ser2net cannot honour it: write engine: bridge, or listen"
    ]


def test_a_greeting_tells_of_its_port() -> None:
    banner = "{name} on {device}\n{baudrate} {bytesize} {parity} {stopbits} {flow}"
    usb = {"usb": {"vendor": "067b"}, "stopbits": 1.5}
    (port,) = parse_portmap([entry(protocol="telnet", banner=banner, **usb)])
    assert port.listeners[0].greeting == "sw on /dev/serial/by-name/sw\r\n9600 8 none 1.5 none\r\n"


def test_a_banner_for_all_ports_greets_those_that_speak_telnet() -> None:
    entries = [entry(protocol="telnet"), entry(name="b", listen=1, device="/b")]
    ports = parse_portmap(entries, {"banner": "{name}"})
    assert [port.greeting for port in ports] == ["sw\r\n", ""]


def test_one_log_holds_one_port() -> None:
    said = said_of([entry(name="a", listen=1, device="/a"), entry()], {"log": {"file": "/l"}})
    assert said == [
        "log.file: '/l' (from serial_ports_defaults) is also the log of port a: write another file"
    ]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"log": {"file": "/var/log/ttybridge/sw.log"}}, []),
        (
            {"log": {"file": "/var/log/ttybridge/rack1/sw.log"}},
            ["log.file: '/var/log/ttybridge/rack1/sw.log': its unit cannot write there: "
             "write /var/log/ttybridge/NAME"],
        ),
        (
            {
                "engine": "ser2net",
                "log": {"file": "/var/log/sw.log", "timestamps": "off", "max_size": 0},
            },
            ["log.file: '/var/log/sw.log': its unit cannot write there: "
             "write /var/log/ser2net/NAME"],
        ),
        (
            {"tls": {"certificate": "/etc/ssl/a.pem", "key": "/home/pi/a.key"}},
            ["tls.key: '/home/pi/a.key': its unit hides "
             "/home/, /root/, /run/user/, /tmp/, /var/tmp/: write a path elsewhere"],
        ),
        (
            {"device": "/tmp/pty"},
            ["device: '/tmp/pty': its unit hides "
             "/home/, /root/, /run/user/, /tmp/, /var/tmp/: write a path elsewhere"],
        ),
    ],
)  # fmt: skip
def test_what_the_units_keep_from_an_engine_is_a_fault_on_a_host(
    keys: dict[str, Any], said: list[str]
) -> None:
    assert said_of([entry(**keys)]) == []
    faults = check_portmap([entry(**keys)], site=Site())[1]
    assert [str(fault).removeprefix("serial_ports: port sw: ") for fault in faults] == said


@pytest.mark.parametrize(
    ("version", "able"),
    [
        ("4.3.11-1", False),
        ("4.5.1-1", False),
        ("4.6.0-2", True),
        ("4.6.4-1", True),
        ("1:5.0", True),
    ],
)
def test_hangup_takes_a_ser2net_that_does_not_undo_it(version: str, able: bool) -> None:
    entries = [
        entry(engine="ser2net", hangup=True),
        entry(name="b", listen=1, device="/b", engine="ser2net"),
        entry(name="c", listen=2, device="/c", hangup=True),
    ]
    said = [str(fault) for fault in check_ser2net(parse_portmap(entries), version)]
    words = (
        f"ser2net {version} cannot honour it, 4.6 can: write engine: bridge, or leave hangup out"
    )
    assert said == ([] if able else [f"port sw: hangup: 'on': {words}"])


def test_one_device_serves_one_port() -> None:
    taken = "is also the device of port a: write another device"
    assert said_of([entry(name="a", listen=1), entry()]) == [f"device: '/dev/ttyUSB0' {taken}"]
    by_name = "/dev/serial/by-name/sw"
    assert said_of([entry(name="a", listen=1, device=by_name), entry(usb={"vendor": "067b"})]) == [
        f"device: '{by_name}' {taken}"
    ]


def test_the_work_of_a_check_grows_as_the_port_map_does() -> None:
    def check(number: int) -> int:
        entries = [entry(name=f"p{n}", listen=1 + n, device=f"/d{n}") for n in range(number)]
        return calls(lambda: check_portmap(entries, site=Site()))

    assert check(400) < 5 * check(100)


def test_a_clash_is_found_among_many_entries() -> None:
    between = [entry(name=f"p{n}", listen=1 + n, device=f"/d{n}") for n in range(50)]
    first = entry(name="a", log={"file": "/var/log/ttybridge/a"})
    for same in ({"listen": 9999}, {"device": "/dev/ttyUSB0"}, {"log": first["log"]}):
        last = entry(**{"name": "z", "listen": 9998, "device": "/z", **same})
        (fault,) = check_portmap([first, *between, last])[1]
        assert fault.place.endswith("port z")
        assert "of port a" in fault.problem or "by port a" in fault.problem


BY_ID = "/dev/serial/by-id/usb-FTDI_Quad_RS232-HS_FT7XYZ12-if01-port0"


@pytest.mark.parametrize(
    ("usb", "same"),
    [
        ({"serial": "FT7XYZ12"}, True),
        ({"serial": "FT7XYZ12", "interface": 1}, True),
        ({"serial": "FT7XYZ12", "interface": 1, "port": 0}, True),
        ({"serial": "FT7XYZ12", "interface": 0}, False),
        ({"serial": "FT7XYZ12", "port": 1}, False),
        ({"serial": "XYZ12"}, False),
        ({"serial": " HS FT7XYZ12"}, False),
        ({"serial": " FT7XYZ12 "}, True),
        ({"serial": "FT7XYZ12", "id_path": "x:1.1"}, False),
        # What may be another adapter with the same serial number.
        ({"serial": "FT7XYZ12", "vendor": "10c4"}, False),
        ({"vendor": "0403", "product": "6011"}, False),
    ],
)
def test_a_link_that_udev_makes_for_an_adapter_is_that_adapter(
    usb: dict[str, Any], same: bool
) -> None:
    entries = [entry(name="a", listen=1, usb=usb), entry(device=BY_ID)]
    taken = f"device: {BY_ID!r} is also the device of port "
    for pair, name in ((entries, "a"), (entries[::-1], "sw")):
        said = said_of(pair)
        words = f"{taken}{name}: write another device"
        assert [line.removeprefix("port a: ") for line in said] == ([words] if same else [])


def test_defaults_hold_for_every_port_and_an_entry_overrides_them() -> None:
    defaults = {"baudrate": 115200, "keepalive": 30}
    one, two = parse_portmap(
        [entry(), entry(name="b", listen=1, device="/b", baudrate=300)], defaults
    )
    assert (one.baudrate, one.keepalive) == (115200, 30)
    assert (two.baudrate, two.keepalive) == (300, 30)


def test_a_fault_in_the_defaults_is_reported_once_and_at_its_place() -> None:
    entries = [entry(), entry(name="b", listen=1, device="/b")]
    assert said_of(entries, {"parity": "N", "speed": 1, "listen": 7}) == [
        "serial_ports_defaults: listen: 7 belongs to one port: write it in the port's entry",
        "serial_ports_defaults: parity: 'N': write none, even, odd, mark or space",
        "serial_ports_defaults: speed: 1: unknown key; did you mean baudrate?",
    ]
    assert said_of([], ["baudrate"]) == [
        "serial_ports_defaults: all: ['baudrate'] is not a mapping of keys"
    ]


def test_what_an_engine_cannot_honour_says_where_it_was_written() -> None:
    assert said_of([entry(engine="ser2net")], {"replay": 1}) == [
        "replay: 1 (from serial_ports_defaults): engine ser2net cannot honour it: "
        "write engine: bridge, or replay: 0"
    ]
    defaults = {"log": {"file": "/l", "timestamps": "off", "max_size": 0}}
    assert said_of([entry()], defaults) == [
        "log.max_size: 0 (from serial_ports_defaults): engine bridge cannot honour it: "
        "write engine: ser2net, or log.max_size: 4096 to 1073741824"
    ]
    assert said_of([entry(sharing="exclusive")], {"sharing": "shared", "max_clients": 4}) == [
        "max_clients: 4 (from serial_ports_defaults) clients, but sharing is exclusive: "
        "write sharing: shared or observed"
    ]


@pytest.mark.parametrize("junk", [[[]], 7, "x", [7]])
def test_a_list_in_itself_is_a_fault_as_any_other(junk: Any) -> None:
    endless: list[Any] = [junk]
    endless.append(endless)
    (fault,) = said_of([entry(baudrate=endless)])
    assert fault == f"baudrate: list that is too large to show: {BAUD}"


def test_a_long_value_is_cut_to_one_readable_line() -> None:
    (fault,) = said_of([entry(baudrate=["x" * 1000])])
    assert len(fault) < 200
    (fault,) = said_of([entry(baudrate=16**5000)])
    assert fault == f"baudrate: int that is too large to show: {BAUD}"


def test_variables_for_templates_are_plain() -> None:
    (port,) = parse_portmap([entry(usb={"vendor": "067b"}, listen="[::1]:1", allow=["::/0"])])
    variables = as_variables(port)
    (listener,) = variables["listeners"]
    assert (listener["address"], listener["port"], listener["at"]) == ("::1", 1, "[::1]:1")
    assert listener["allow"] == ["::/0"]
    assert variables["path"] == "/dev/serial/by-name/sw"
    assert variables["allow"] == ["::/0"]
    assert variables["usb"]["vendor"] == "067b"
    assert variables["tls"] is None
    assert (variables["connect"], variables["endpoint"]) == (None, "[::1]:1")
    (port,) = parse_portmap([entry(connect="[::1]:1")])
    variables = as_variables(port)
    assert variables["connect"] == {"host": "::1", "port": 1, "tls": None}
    assert (variables["listeners"], variables["endpoint"]) == ([], "-> [::1]:1")


def test_the_shortest_entry_names_no_default() -> None:
    (port,) = parse_portmap([entry(baudrate=9600, sharing="exclusive", max_clients=1)])
    assert as_entry(port) == {"name": "sw", "device": "/dev/ttyUSB0", "listen": "9999"}


@pytest.mark.parametrize(
    ("keys", "about"),
    [
        ({}, ""),
        ({"description": "Core switch"}, "Core switch"),
        ({"location": "rack 1, U12"}, "(rack 1, U12)"),
        ({"tags": ["lab", "net 2"]}, "[lab, net 2]"),
        ({"description": "a", "location": "b", "tags": ["c"]}, "a (b) [c]"),
    ],
)
def test_what_a_port_is_fits_on_one_line(keys: dict[str, Any], about: str) -> None:
    (port,) = parse_portmap([entry(**keys)])
    assert port.about == about
    assert as_variables(port)["about"] == about
    assert as_entry(port) == {**as_entry(parse_portmap([entry()])[0]), **keys}


def test_texts_for_all_ports_are_defaults_as_any_other() -> None:
    (port,) = parse_portmap([entry(location="rack 2")], {"location": "rack 1", "tags": ["lab"]})
    assert (port.location, port.tags) == ("rack 2", ("lab",))


def touched(model: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """What a change of each key touches, a key of a table as `a.b`."""
    for name, field in keys_of(model).items():
        yield prefix + name, field.metadata["touches"]
        kind = field.metadata["kind"]
        inner = kind.kind if isinstance(kind, OffOr) else kind
        if isinstance(inner, Table | Listeners):
            yield from touched(inner.model, f"{prefix}{name}.")


def test_every_key_says_what_a_change_of_it_touches() -> None:
    """Only another device, or a listener's address, protocol or TLS, closes anything."""
    closing = {key: touches for key, touches in touched(Port) if touches != "live"}
    of_the_port = {
        "name",
        "engine",
        "options",
        "listen.options",
        "device",
        "usb",
        *(f"usb.{key}" for key in kinds_of(UsbMatch)),
    }
    of_tls = {f"{place}{key}" for place in ("", "listen.") for key in ("tls", "tls.client_ca")}
    of_a_listener = {"listen", "listen.at", "listen.protocol", "connect", "protocol", *of_tls}
    assert closing == dict.fromkeys(of_the_port, "port") | dict.fromkeys(of_a_listener, "listener")
    assert {touches for _, touches in touched(Port)} == set(get_args(Touches))


# Generated ports and generated junk.

paths = st.from_regex(r"(/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,9}){1,3}", fullmatch=True)
tls_files = paths | paths.map(lambda path: path.removeprefix("/")) | paths.map("..{}".format)
words = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30)
# A backslash may be half of an escape.
probe_texts = words.filter(lambda text: "\\" not in text)
one_line = st.from_regex(r"(\w[\w .-]{0,20}\w)?", fullmatch=True)
tcp_ports = st.integers(1, 65535)
addresses = st.ip_addresses().filter(lambda ip: getattr(ip, "ipv4_mapped", None) is None)
listeners = st.builds(Listen, st.just("") | addresses.map(str), tcp_ports)
remotes = st.builds(
    Remote,
    st.from_regex(r"[A-Za-z0-9._-]{1,30}", fullmatch=True) | st.ip_addresses().map(str),
    tcp_ports,
)
usb_ids = st.none() | st.from_regex(r"[0-9a-f]{4}", fullmatch=True)
usb_matches = st.builds(
    UsbMatch,
    vendor=usb_ids,
    product=usb_ids,
    serial=st.none() | st.from_regex(r"[ -~]{1,20}", fullmatch=True),
    manufacturer=st.none() | st.from_regex(r"[ -~]{1,20}", fullmatch=True),
    path=st.none() | st.from_regex(r"[0-9]-[0-9](\.[0-9]){0,3}", fullmatch=True),
    interface=st.none() | st.integers(0, 255),
    port=st.none() | st.integers(0, 255),
).filter(lambda match: bool(match.given()))
networks = st.builds("{}/{}".format, st.just("0.0.0.0"), st.just(0)) | addresses.map(
    lambda ip: f"{ip}/{ip.max_prefixlen}"
)
every_port = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True),
        "tcp": st.tuples(listeners, st.none()) | st.tuples(st.none(), remotes),
        "engine": st.sampled_from(["bridge", "ser2net"]),
        "place": st.tuples(usb_matches, st.none()) | st.tuples(st.none(), paths),
    },
    optional={
        "protocol": st.sampled_from(["raw", "telnet", "rfc2217"]),
        "baudrate": st.integers(50, 12_000_000),
        "bytesize": st.integers(5, 8),
        "parity": st.sampled_from(["none", "even", "odd", "mark", "space"]),
        "stopbits": st.sampled_from([1.0, 1.5, 2.0]),
        "flow": st.sampled_from(["none", "rtscts", "xonxoff"]),
        "dtr": st.sampled_from(["on", "off", "keep"]),
        "rts": st.sampled_from(["on", "off", "keep"]),
        "hangup": st.booleans(),
        "low_latency": st.booleans(),
        "pack": st.none() | st.builds(Pack, st.floats(0.5, 1000), st.integers(2, 65_536)),
        "first_words": words,
        "last_words": words,
        "carrier": st.sampled_from(["ignore", "follow"]),
        "rs485": st.none() | st.builds(Rs485, st.booleans(), st.booleans(), st.integers(0, 1000)),
        "sharing": st.sampled_from(["exclusive", "replace", "shared", "observed"]),
        "max_clients": st.integers(1, 1024),
        "allow": st.lists(networks, max_size=3).map(tuple),
        "tls": st.none() | st.builds(Tls, tls_files, tls_files, st.none() | tls_files),
        "users": st.lists(
            st.from_regex(r"@?[a-z_][a-z0-9_-]{0,8}", fullmatch=True), max_size=3, unique=True
        ).map(tuple),
        "guard": st.booleans(),
        "forbid": st.lists(st.sampled_from([*FORBIDDABLE]), unique=True).map(tuple),
        "idle_timeout": st.integers(0, 31_536_000),
        "idle": st.sampled_from(["traffic", "input"]),
        "away": st.sampled_from(["keep", "refuse", "drop"]),
        "keepalive": st.integers(0, 32_767),
        "replay": st.integers(0, 16_777_216),
        "log": st.none()
        | st.builds(Log, paths, st.booleans(), st.booleans(), max_size=st.integers(0, 2**30))
        | st.builds(Log, paths, st.booleans(), st.just(True), st.just(False))
        | st.builds(Log, paths, st.just(False), st.booleans(), max_size=st.just(0)),
        "banner": words.map(lambda text: text.replace("{", "{{").replace("}", "}}"))
        | st.sampled_from(["{name}", "{device}: {baudrate}"]),
        "probe": st.none() | st.builds(Probe, probe_texts, probe_texts.filter(bool)),
        "watch": st.dictionaries(
            st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True),
            st.from_regex(r"[A-Za-z %=-]{1,20}", fullmatch=True),
            max_size=3,
        ).map(lambda watch: Named(tuple(watch.items()))),
        "description": one_line,
        "location": one_line,
        "tags": st.lists(one_line.filter(bool), max_size=3, unique=True).map(tuple),
    },
)


def honoured(keys: Mapping[str, Any], name: str) -> bool:
    """Whether a port's engine honours the value of a key, tables with all that is in them."""
    value = keys[name]
    limits = ENGINE_HONOURS[keys["engine"]]
    inside = {limit: limit.partition(".")[2] for limit in limits if limit.startswith(f"{name}.")}
    return value in limits.get(name, (value,)) and (
        value is None or all(getattr(value, key) in limits[limit] for limit, key in inside.items())
    )


def sound(keys: Mapping[str, Any]) -> Port:
    """A port of generated values, each that cannot stand beside the others left out."""
    usb, device = keys["place"]
    listen, connect = keys["tcp"] if keys["engine"] == "bridge" else (Listen("", 1), None)
    out = {"place", "tcp"}
    if connect:
        out |= {"allow", "tls", "sharing", "max_clients"}
    if keys["engine"] == "ser2net":
        out.add("forbid")  # depends on the protocol
    kept = {name: keys[name] for name in keys if name not in out and honoured(keys, name)}
    alone = kept.get("sharing", "exclusive") in SINGLE_CLIENT_SHARING
    clients = 1 if alone else kept.get("max_clients", 8)
    listens = (WrittenListener(listen),) if listen else ()
    place = {"usb": usb, "device": device, "listen": listens, "connect": connect}
    return Port(**{**kept, **place, "max_clients": clients})


@given(every_port)
def test_a_port_survives_being_written_and_read(keys: dict[str, Any]) -> None:
    port = sound(keys)
    assert parse_portmap([as_entry(port)]) == (port,)


def beside_good_keys(junk: dict[Any, Any]) -> dict[Any, Any]:
    """Junk keys in an entry that is good but for them."""
    return {**GOOD, **junk}


atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=5)
    | st.dates()
)
weird_keys = atoms | st.sampled_from([*Port.__dataclass_fields__])
junk = st.recursive(
    atoms,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(weird_keys, inner, max_size=4),
)
entries_of_junk = st.lists(
    junk
    | st.dictionaries(weird_keys, junk, max_size=6)
    | st.dictionaries(weird_keys, junk, max_size=3).map(beside_good_keys),
    max_size=4,
)


@given(entries_of_junk | junk, junk)
def test_junk_gives_faults_of_one_line_each(entries: object, defaults: object) -> None:
    ports, faults = check_portmap(entries, defaults)
    for fault in faults:
        assert len(str(fault).splitlines()) == 1
        assert "\n" not in str(fault)
    if isinstance(entries, list):
        assert faults or len(ports) == len(entries)


@given(st.sampled_from([*Port.__dataclass_fields__]), junk)
def test_a_junk_value_is_taken_or_named_by_its_key(key: str, value: object) -> None:
    ports, faults = check_portmap([{**GOOD, key: value}])
    assert ports or faults
    for fault in faults:
        assert re.split(r"[.\[]", fault.key)[0] in (key, "device")
        assert len(str(fault).splitlines()) == 1


def test_every_bad_key_of_a_table_is_named() -> None:
    wrong = {**GOOD, "usb": {"vendor": "67b", "produkt": "2303", "interface": -1}}
    del wrong["device"]
    assert said_of([wrong]) == [
        "usb.vendor: '67b': " + USB_ID,
        "usb.produkt: '2303': unknown key; did you mean product?",
        "usb.interface: -1: write a whole number from 0 to 255",
    ]
