"""The JSON Schema for editors is that of the model, and says what the model says.

`UPDATE_GOLDEN=1 pytest tests/templates` writes it again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ttybridge.model.check import check_portmap, parse_portmap
from ttybridge.model.ports import KEYS, Listener, as_entry
from ttybridge.model.values import kinds_of
from ttybridge.setup import schema

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "inventory" / "serial_ports.schema.json"
VALIDATOR = jsonschema.Draft7Validator(schema.host_vars())

GOOD = {"name": "sw", "device": "/dev/ttyUSB0", "listen": 9999}
LOG = "/var/log/ttybridge/sw"

# Values of each key of a listener, right and wrong ones.
OF_A_LISTENER: list[tuple[str, Any]] = [
    ("at", "[::1]:9"),
    ("protocol", "telnet"),
    ("protocol", "http"),
    ("access", "watch"),
    ("access", "read"),
    ("forbid", ["break"]),
    ("forbid", "break"),
    ("allow", ["::/0"]),
    ("allow", "any"),
    ("allow", ["any"]),
    ("allow", ["any", "local"]),
    ("allow", ["local", "192.0.2.0/24"]),
    ("allow_names", []),
    ("allow_names", "jane"),
    ("tls", False),
    ("tls", {"certificate": "/a"}),
    ("max_clients", 1),
    ("max_clients", 0),
    ("banner", "{name}"),
    ("banner", "{"),
    ("baudrate", 49),
    ("bytesize", 7),
    ("parity", "N"),
    ("stopbits", 1.5),
    ("flow", "none"),
    ("dtr", "up"),
    ("rts", "down"),
    ("hangup", "yes"),
    ("first_words", "a\0"),
    ("last_words", True),
    ("carrier", "off"),
    ("away", "wait"),
    ("rs485", {"delay_before_send": 1001}),
    ("idle_timeout", -1),
    ("log", {"file": "log"}),
    ("options", []),
    ("options", ["closeon"]),
    ("sharing", "shared"),
    ("device", "/dev/ttyS0"),
]

# Values of each key, right and wrong ones, that stand alone in a good entry.
VALUES: dict[str, list[Any]] = {
    "name": ["sw", "Rack_1.sw-2", "-sw", "core switch", "", 7, None, "x" * 65],
    "listen": [
        9999,
        0,
        65536,
        1,
        65535,
        "127.0.0.1:2217",
        "[::1]:2217",
        "[fe80::1%eth0]:1",
        "::1:1",
    ]
    + ["localhost:1", "300.0.0.1:1", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", ":1", None, []]
    + [[1], [1, "[::1]:2"], [1, 1], [*range(1, 66)], [[1]], [None], {"at": 1}, [{}], [{"at": 1}]]
    + [[{"at": 1, key: value}] for key, value in OF_A_LISTENER],
    "connect": ["pc.example.org:1", "192.0.2.7:65535", "[2001:db8::1]:1", "pc:0", "a b:1", 9999]
    + [{"at": "pc:1"}, {"tls": "off"}, {"at": "pc:1", "tls": {"ca": "tls/ca.pem"}}]
    + [{"at": "pc:1", "tls": {}}, {"at": "pc:1", "tls": {"ca": "/a", "server_name": "pc.lab"}}]
    + [{"at": "pc:1", "to": 1}, {"at": "pc:1", "tls": {"ca": "/a", "server_name": "a b"}}],
    "usb": [{}, None, "067b:2303", {"vendor": "067B"}, {"vendor": 403}, {"vendor": "67b"}]
    + [{"serial": "A50285BI"}, {"serial": "A B"}, {"serial": 1}, {"path": "1-1.2"}, {"path": "1.2"}]
    + [{"interface": 0}, {"interface": 256}, {"port": 3}, {"port": -1}, {"model": "PL2303"}]
    + [{"serial": "A\t"}, {"id_path": "platform-1.usb-0:1:1.0"}, {"id_path": "a b"}]
    + [
        {"manufacturer": "A B"},
        {"manufacturer": ""},
        {"product_name": 'x"[1]'},
        {"product_name": 2},
    ]
    + [{"bcdDevice": "0264"}, {"bcdDevice": "2.64"}],
    "device": ["/dev/ttyAMA0", "ttyUSB0", "/dev/tty USB0", "/dev//ttyS0", "/dev/../x", "/", None],
    "protocol": ["raw", "telnet", "rfc2217", "http", None],
    "engine": ["bridge", "socat", 1],
    "baudrate": [9600, 0, 50, 12_000_000, 12_000_001, "fast", True],
    "bytesize": [5, 8, 9],
    "parity": ["none", "space", "N", False],
    "stopbits": [1, 1.5, 2, 3, "one"],
    "flow": ["none", "rtscts", "xonxoff", "hardware"],
    "dtr": ["on", "off", "keep", True, False, "up", 2],
    "rts": ["on", False, "down"],
    "hangup": ["on", "off", True, False, "yes", 2],
    "first_words": ["", "\r", "exit\r\x04", "a\0", "x" * 1024, "x" * 1025, r"\r", 1],
    "last_words": ["exit\r", r"\x04", True],
    "carrier": ["ignore", "follow", "off", True],
    "low_latency": ["on", "off", True, "yes", 1],
    "pack": ["off", False, True, {}, {"idle": 3.5, "max": 256}, {"idle": 20}, {"max": 256}]
    + [{"idle": 0.4}, {"idle": 1001}, {"idle": "long"}, {"idle": True}, {"max": 1}, {"max": 65537}],
    "rs485": ["off", False, True, {}, {"rts_on_send": "off"}, {"delay_before_send": 1001}],
    "sharing": ["exclusive", "replace", "shared", "observed", "all"],
    "max_clients": [1, 0, 1025],
    "allow": [[], ["192.0.2.0/24", "2001:db8::/32", "::1"], "192.0.2.0/24", ["lab"], [192], None]
    + [["fe80::1%eth0"]],
    "allow_names": [[], "jane", [""], ["a\nb"], [1], ["jane", "jane"], None],
    "users": [[], ["tech1", "@netops"], ["@domain users"], "tech1", ["@"], ["a b "], ["a", "a"]]
    + [[1], ["a:b"], ["EXAMPLE\\jane"], ["x" * 129]],
    "tls": ["off", False, True, {"certificate": "/a"}, {"certificate": "tls/a.pem", "key": "/b"}]
    + [{"certificate": "/a", "key": "../b", "client_ca": "/c"}, {"certificate": "/a", "key": "/b/"}]
    + [{"certificate": "/a", "key": "/b", "cert": "/c"}],
    "guard": ["on", "off", True, "http", 1],
    "forbid": [[], ["break"], ["modem_lines", "break", "line_settings"], "break", ["breaks"]]
    + [["break", "break"], [1]],
    "idle_timeout": [0, 600, -1],
    "idle": ["traffic", "input", "typing", True],
    "away": ["keep", "refuse", "drop", "wait", False],
    "half_close_timeout": [0, 1, 86401],
    "keepalive": [0, 60, 32768],
    "replay": [0, 4096, "1k"],
    "log": ["off", {"file": LOG}, {"file": "x"}, {"timestamps": "on"}, {"file": LOG, "input": True}]
    + [{"file": LOG, "journal": "on"}, {"file": LOG, "journal": "yes"}]
    + [{"file": LOG, "input": "on", "output": "off"}, {"file": LOG, "output": "both"}]
    + [{"file": LOG, "max_size": -1}, {"file": LOG, "max_size": 4096}, {"file": LOG, "size": 1}],
    "watch": [{}, {"panic": "Kernel panic|Oops"}, {"a b": "x"}, {"a": ""}, {"a": 1}, {"a": None}]
    + ["x", ["x"], {"a": "x" * 251}, {f"n{number}": "x" for number in range(17)}],
    "banner": ["", "{name}", "{{name}}", "{port}", "{", "a}", "\a", 3],
    "options": [[], ["closeon=a"], ["closeon"], ["colour=1"], "closeon=a", ["banner='"], [1]],
    "probe": [
        "off",
        {"send": "\r", "expect": "login:"},
        {"send": "\r"},
        {"send": "", "expect": ""},
        {"send": r"\r", "expect": r"C:\new>"},
        {"send": "\r", "expect": r"C:\new>"},
    ],
    "description": ["", "Core switch, Gerät 1", "two\nlines", "\u202e", "x" * 200, "x" * 201, 7],
    "location": ["rack 1", "x" * 101, None],
    "tags": [[], ["lab", "rack 1"], "lab", [""], [" a"], ["a,b"], ["a", "a"], [1], ["x" * 65]]
    + [[*"abcdefghijklmnop"], [*"abcdefghijklmnopq"]],
}


def faults(document: dict[str, Any]) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(document)]


def entry(key: str, value: object) -> dict[str, Any]:
    """A good entry with one other key, which may take the place of another one."""
    without = {"usb": "device", "connect": "listen"}.get(key)
    # The schema cannot see that engine bridge, the default, has no options.
    engine = {"engine": "ser2net"} if key == "options" else {}
    return {**{k: v for k, v in GOOD.items() if k != without}, **engine, key: value}


def test_it_is_up_to_date() -> None:
    now = json.dumps(schema.host_vars(), indent=2) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        FILE.write_text(now)
    assert now == FILE.read_text()


def test_it_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(schema.host_vars())


def test_every_key_is_tried() -> None:
    assert list(VALUES) == list(KEYS)
    assert {key for key, _ in OF_A_LISTENER} >= kinds_of(Listener).keys()


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in VALUES.items() for value in values]
)
def test_it_takes_what_the_port_map_takes(key: str, value: object) -> None:
    written = entry(key, value)
    assert bool(faults({"serial_ports": [written]})) == bool(check_portmap([written])[1])


@pytest.mark.parametrize(
    "keys",
    [
        {"connect": "pc:1"},
        {"usb": {"vendor": "067b"}},
        {"speed": 9600},
        {"engine": "ser2net", "tls": {"certificate": "/a", "key": "/b"}},
        {"engine": "ser2net", "half_close_timeout": 1},
        {"engine": "ser2net", "users": ["tech1"]},
        {"engine": "ser2net", "keepalive": 60},
        {"engine": "ser2net", "idle": "input"},
        {"engine": "ser2net", "dtr": "keep"},
        {"engine": "ser2net", "stopbits": 1.5},
        {"engine": "ser2net", "sharing": "observed"},
        {"engine": "ser2net", "listen": [{"at": 1, "access": "watch"}]},
        {"engine": "ser2net", "listen": [1, {"at": 2, "stopbits": 1.5}]},
        {"engine": "ser2net", "listen": [1, {"at": 2, "dtr": "keep"}]},
        *(
            {"engine": "bridge", "listen": [1, {"at": 2, **own}]}
            for own in ({"carrier": "follow"}, {"log": "off"}, {"first_words": "a"})
        ),
        {"engine": "ser2net", "listen": [{"at": 1, "tls": {"certificate": "/a", "key": "/b"}}]},
        {"engine": "ser2net", "log": {"file": "/l", "volatile": True}},
        {"engine": "bridge", "log": {"file": "/l", "max_size": 0}},
    ],
)
def test_it_refuses_what_cannot_stand_together(keys: dict[str, Any]) -> None:
    written = {**GOOD, **keys}
    assert check_portmap([written])[1]
    assert faults({"serial_ports": [written]})


@pytest.mark.parametrize("missing", GOOD)
def test_it_misses_what_is_required(missing: str) -> None:
    written = {key: value for key, value in GOOD.items() if key != missing}
    assert faults({"serial_ports": [written]})


def test_a_port_may_have_users_and_no_tcp_side() -> None:
    without = {key: value for key, value in GOOD.items() if key != "listen"}
    assert faults({"serial_ports": [{**without, "users": ["tech1"]}]}) == []
    assert faults({"serial_ports": [{**without, "users": []}]})


def test_defaults_hold_no_identity() -> None:
    assert faults({"serial_ports_defaults": {"baudrate": 115200}, "ansible_user": "pi"}) == []
    for key in ("name", "listen", "connect", "usb", "device"):
        assert faults({"serial_ports_defaults": {key: VALUES[key][-1]}})


@pytest.mark.parametrize("name", ["article", "every-key"])
def test_it_takes_the_maps_of_the_templates(name: str) -> None:
    written = yaml.safe_load((ROOT / "tests/templates/maps" / f"{name}.yml").read_text())
    assert faults(written) == []
    for port in parse_portmap(written["serial_ports"], written.get("serial_ports_defaults")):
        assert faults({"serial_ports": [as_entry(port)]}) == []


@pytest.mark.parametrize("file", sorted((ROOT / "inventory").glob("*/host_vars/*.yml")))
def test_the_inventories_name_it_and_are_taken(file: Path) -> None:
    first, *_ = file.read_text().splitlines()
    prefix = "# yaml-language-server: $schema="
    assert first.startswith(prefix)
    assert (file.parent / first.removeprefix(prefix)).resolve() == FILE
    assert faults(yaml.safe_load(file.read_text())) == []


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8).filter(lambda t: "\n" not in t),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
)


@given(st.sampled_from([*VALUES]), junk)
def test_what_it_takes_the_port_map_takes(key: str, value: object) -> None:
    written = entry(key, value)
    if not faults({"serial_ports": [written]}):
        alone = {"sharing": "shared"} if key == "max_clients" else {}
        assert check_portmap([{**written, **alone}])[1] == []
