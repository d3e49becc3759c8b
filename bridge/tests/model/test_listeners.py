"""Several listeners of one port: what may be written, what holds at each, the faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttybridge.model.check import Site, check_portmap, parse_portmap
from ttybridge.model.ports import (
    INHERITED,
    KEYS,
    LINE_SETTINGS,
    SER2NETS_OWN,
    Listener,
    Port,
    Tls,
    as_entry,
    as_variables,
)
from ttybridge.model.values import Listen, keys_of, kinds_of

PORT = (
    "write [address:]port, such as 9999, 127.0.0.1:9999 or [::1]:9999, with a port from 1 to 65535"
)
TLS = {"certificate": "/a.pem", "key": "/a.key"}


def entry(*listen: Any, **keys: Any) -> dict[str, Any]:
    """A good entry with these listeners."""
    return {"name": "sw", "device": "/dev/ttyUSB0", "listen": list(listen), **keys}


def port_of(*listen: Any, defaults: object = None, **keys: Any) -> Port:
    (port,) = parse_portmap([entry(*listen, **keys)], defaults)
    return port


def said_of(*entries: dict[str, Any], site: Site | None = None) -> list[str]:
    faults = check_portmap(list(entries), site=site)[1]
    return [str(fault).removeprefix("serial_ports: port sw: ") for fault in faults]


def test_a_listener_has_what_the_port_says_and_its_entry_does_not() -> None:
    tls = Tls("/a.pem", "/a.key")
    port = port_of(
        1,
        "127.0.0.1:2",
        {
            "at": "[::1]:3",
            "protocol": "rfc2217",
            "allow": ["192.0.2.0/24"],
            "tls": "off",
            "max_clients": 2,
            "banner": "hello",
            "baudrate": 300,
            "bytesize": 7,
            "parity": "even",
            "stopbits": 2,
            "flow": "rtscts",
        },
        {"at": 4, "access": "watch"},
        protocol="telnet",
        sharing="shared",
        tls=TLS,
        baudrate=115200,
        max_clients=5,
    )
    common: dict[str, Any] = {"protocol": "telnet", "tls": tls, "baudrate": 115200}
    assert port.listeners == (
        Listener(at=Listen("", 1), max_clients=5, **common),
        Listener(at=Listen("127.0.0.1", 2), max_clients=5, **common),
        Listener(
            at=Listen("::1", 3),
            protocol="rfc2217",
            allow=("192.0.2.0/24",),
            max_clients=2,
            banner="hello",
            greeting="hello\r\n",
            baudrate=300,
            bytesize=7,
            parity="even",
            stopbits=2.0,
            flow="rtscts",
        ),
        Listener(at=Listen("", 4), access="watch", max_clients=8, **common),
    )
    assert port.endpoint == "1, 127.0.0.1:2, [::1]:3, 4"


@pytest.mark.parametrize("written", [9999, "9999", [9999], [{"at": 9999}]])
def test_one_listener_is_the_same_in_every_form(written: object) -> None:
    (port,) = parse_portmap([{"name": "sw", "device": "/dev/ttyUSB0", "listen": written}])
    assert port.listeners == (Listener(at=Listen("", 9999)),)
    assert as_entry(port)["listen"] == "9999"


def test_what_differs_in_nothing_is_not_written_again() -> None:
    port = port_of(
        {"at": 1, "access": "write", "baudrate": 9600, "tls": "off", "max_clients": 1},
        {"at": 2, "flow": "none", "parity": "odd", "protocol": "telnet"},
        {"at": 3, "access": "watch", "max_clients": 8},
    )
    assert as_entry(port)["listen"] == [
        "1",
        {"at": "2", "protocol": "telnet", "parity": "odd"},
        {"at": "3", "access": "watch"},
    ]


def test_a_listener_forbids_what_its_port_forbids_and_more() -> None:
    port = port_of(
        1,
        {"at": 2, "forbid": ["modem_lines", "break"]},
        {"at": 3, "forbid": []},
        forbid=["line_settings"],
    )
    everything = ("break", "line_settings", "modem_lines")
    settings = ("line_settings",)
    assert [one.forbid for one in port.listeners] == [settings, everything, settings]
    assert as_entry(port)["listen"] == ["1", {"at": "2", "forbid": ["modem_lines", "break"]}, "3"]
    assert parse_portmap([as_entry(port)]) == (port,)
    wrong = entry(1, {"at": 2, "protocol": "rfc2217", "forbid": ["break"]}, engine="ser2net")
    assert said_of(wrong) == [
        "listen[2].forbid: ['break']: engine ser2net cannot keep clients of 2 from it: "
        "write engine: bridge, protocol: raw, or forbid: []"
    ]


def test_a_port_that_connects_has_no_listeners() -> None:
    (port,) = parse_portmap([{"name": "sw", "device": "/dev/ttyUSB0", "connect": "pc:1"}])
    assert port.listeners == ()
    assert as_variables(port)["listeners"] == []


def test_templates_get_every_value_of_a_listener() -> None:
    port = port_of({"at": "[::1]:1", "tls": TLS}, {"at": 2, "allow": ["::/0"], "stopbits": 1.5})
    one, two = as_variables(port)["listeners"]
    assert one.keys() == {
        *kinds_of(Listener),
        *("address", "port", "greeting", "guarded", "pack"),
    }
    assert (one["at"], one["address"], one["port"]) == ("[::1]:1", "::1", 1)
    assert one["tls"] == {**TLS, "client_ca": None}
    assert (two["tls"], two["allow"], two["stopbits"]) == (None, ["::/0"], 1.5)
    assert as_variables(port)["guarded"] == "2"
    assert as_variables(port_of(1, 2))["guarded"] == ""
    words = port_of({"at": 1, "allow": ["any"]}, {"at": 2, "allow": ["local", "::/0"]})
    assert as_variables(words)["guarded"] == ""


def test_who_may_come_without_a_word_in_the_entry_is_open() -> None:
    own_certificate = {**TLS, "client_ca": "/etc/ca.pem"}
    port = port_of(
        1,
        {"at": 2, "allow": ["any"]},
        {"at": 3, "allow": ["local"]},
        {"at": 4, "access": "watch"},
        {"at": 5, "tls": TLS},
        {"at": 6, "tls": own_certificate},
        "127.0.0.1:7",
        "[::1]:8",
        "0.0.0.0:9",
    )
    assert as_variables(port)["open"] == "1, 4, 5, 0.0.0.0:9"
    entry_with = entry(1, {"at": 2, "allow": []}, allow=["192.0.2.0/24"])
    (port,) = parse_portmap([entry_with])
    assert as_variables(port)["open"] == "2"


def test_ser2net_is_told_in_microseconds_how_long_a_pause_is_on_each_line() -> None:
    port = port_of(1, {"at": 2, "baudrate": 19200, "parity": "even"}, pack={"idle": 4, "max": 100})
    one, two = (listener["pack"] for listener in as_variables(port)["listeners"])
    assert one == {"pause": 20834, "longest": 125001, "size": 100}
    assert two == {"pause": 11459, "longest": 68751, "size": 100}
    (slow,) = as_variables(port_of(1, baudrate=50, pack={"max": 65536}))["listeners"]
    assert slow["pack"]["longest"] == 2**31 - 1  # it is an int of C
    (off,) = as_variables(port_of(1))["listeners"]
    assert off["pack"] is None


# Banners.


def greetings(port: Port) -> list[str]:
    return [listener.greeting for listener in port.listeners]


def test_a_banner_is_sent_where_it_is_asked_for() -> None:
    assert greetings(port_of(1, {"at": 2, "protocol": "telnet"}, banner="a")) == ["a\r\n"] * 2
    port = port_of(1, {"at": 2, "banner": "{baudrate} of {name}", "baudrate": 50})
    assert greetings(port) == ["", "50 of sw\r\n"]
    port = port_of(1, {"at": 2, "banner": ""}, protocol="telnet", banner="a")
    assert greetings(port) == ["a\r\n", ""]


def test_a_banner_for_all_ports_greets_only_those_who_use_telnet() -> None:
    defaults = {"banner": "{name}"}
    port = port_of(
        1,
        {"at": 2, "protocol": "telnet"},
        {"at": 3, "protocol": "rfc2217"},
        {"at": 4, "protocol": "telnet", "banner": "own"},
        {"at": 5, "protocol": "telnet", "banner": ""},
        {"at": 6, "banner": "raw"},
        defaults=defaults,
    )
    assert greetings(port) == ["", "sw\r\n", "", "own\r\n", "", "raw\r\n"]
    # So it stays where no defaults are, in the daemon's own file.
    assert greetings(parse_portmap([as_entry(port)])[0]) == greetings(port)
    assert greetings(port_of(1, defaults=defaults)) == [""]
    assert greetings(port_of(1, defaults=defaults, protocol="telnet")) == ["sw\r\n"]


@pytest.mark.parametrize(("protocol", "said"), [("raw", ""), ("telnet", "sw\r\n")])
def test_a_port_that_connects_says_a_banner_for_all_by_telnet(protocol: str, said: str) -> None:
    entry = {"name": "sw", "device": "/a", "connect": "pc:1", "protocol": protocol}
    assert parse_portmap([entry], {"banner": "{name}"})[0].greeting == said
    assert parse_portmap([{**entry, "banner": "own"}])[0].greeting == "own\r\n"


# Faults.


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ([], ["listen: []: an empty list: write a listener in it, such as [9999]"]),
        (
            {"at": 1},
            ["listen: {'at': 1}: a mapping for one listener belongs in a list: write [{at: ...}]"],
        ),
        ([*range(1, 66)], ["listen: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, "
                           "18, 19, 20, 21, 2...: 65 listeners: write 64 at most"]),
        ([1, "two"], [f"listen[2]: 'two': {PORT}"]),
        ([0, [1]], [f"listen[1]: 0: {PORT}", f"listen[2]: [1]: {PORT}"]),
        ([{}], ["listen[1].at: missing: write [address:]port, such as 9999, 127.0.0.1:9999 or "
                "[::1]:9999"]),
        ([{"at": 0}], [f"listen[1].at: 0: {PORT}"]),
        ([1, {"at": 2, "parity": "N"}],
         ["listen[2].parity: 'N': write none, even, odd, mark or space"]),
        ([{"at": 1, "access": "read"}], ["listen[1].access: 'read': write write or watch"]),
        ([{"at": 1, "tls": {"key": "/k"}}],
         ["listen[1].tls.certificate: missing: write an absolute path, or one beside the "
          "inventory, such as tls/pi.pem"]),
        ([{"at": 1, "port": 2}], ["listen[1].port: 2: unknown key; did you mean at?"]),
        ([{"at": 1, "banned": 2}], ["listen[1].banned: 2: unknown key; did you mean banner?"]),
        ([{"at": 1, "sharing": "shared"}],
         ["listen[1].sharing: 'shared': unknown key; all listeners of a port share it: "
          "write it in the port's entry"]),
        ([{"at": 1, "zzz": 2}],
         ["listen[1].zzz: 2: unknown key; the keys are at, protocol, access, forbid, allow, "
          "allow_names, tls, max_clients, banner, baudrate, bytesize, parity, stopbits, flow, "
          "dtr, rts, hangup, first_words, last_words, carrier, rs485, idle_timeout, away, "
          "log, options"]),
        ([1, "127.0.0.1:2", 2],
         ["listen[3]: 2 is taken by listen[2] (127.0.0.1:2): write another TCP port"]),
        ([{"at": 1, "max_clients": 2}],
         ["listen[1].max_clients: 2 clients, but sharing is exclusive: write sharing: shared or "
          "observed"]),
        ([{"at": 1, "access": "watch", "baudrate": 300, "flow": "none"}],
         ["listen[1].baudrate: 300: clients that watch set nothing: leave it out, or write "
          "access: write",
          "listen[1].flow: 'none': clients that watch set nothing: leave it out, or write "
          "access: write"]),
    ],
)  # fmt: skip
def test_a_fault_names_its_listener(listen: object, said: list[str]) -> None:
    assert said_of({**entry(), "listen": listen}) == said


def test_a_listener_has_no_more_clients_than_its_port() -> None:
    listen = {"at": 1, "max_clients": 9}, {"at": 2, "max_clients": 8}
    assert said_of(entry(*listen, sharing="observed")) == [
        "listen[1].max_clients: 9 clients, but the port takes 8: "
        "write max_clients: 9 in the port's entry"
    ]
    assert said_of(entry(*listen, sharing="observed", max_clients=9)) == []
    assert said_of(entry({"at": 1, "access": "watch", "max_clients": 99})) == []


def test_listeners_of_two_ports_clash_as_ports_do() -> None:
    first, second = entry(1, 2, name="a"), {**entry(3, "127.0.0.1:2"), "device": "/b"}
    assert said_of(first, second) == [
        "listen[2]: 127.0.0.1:2 is taken by port a (listen[2] 2): write another TCP port"
    ]
    assert said_of(first, {**second, "listen": 1}) == [
        "listen: 1 is taken by port a (listen[1] 1): write another TCP port"
    ]


def test_a_port_connects_or_listens() -> None:
    assert said_of(entry(1, connect="pc:2")) == [
        "connect: 'pc:2' stands beside listen [1]: write one of the two"
    ]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("access", "watch", "'watch': engine ser2net cannot honour it: write engine: bridge, or "
         "access: write"),
        ("stopbits", 1.5, "1.5: engine ser2net cannot honour it: write engine: bridge, or "
         "stopbits: 1 or 2"),
        ("tls", TLS, "{'certificate': '/a.pem', 'key': '/a.key'}: engine ser2net cannot honour "
         "it: write engine: bridge, or tls: off"),
    ],
)  # fmt: skip
def test_what_ser2net_cannot_honour_is_a_fault_of_the_listener(
    key: str, value: object, said: str
) -> None:
    assert said_of(entry(1, {"at": 2, key: value}, engine="ser2net")) == [
        f"listen[2].{key}: {said}"
    ]


OWN = {
    "dtr": "off",
    "rts": "off",
    "hangup": True,
    "first_words": "\r",
    "last_words": "exit\r",
    "carrier": "ignore",
    "rs485": {"delay_before_send": 1},
    "idle_timeout": 5,
    "away": "keep",
    "log": {"file": "/var/log/ser2net/own", "max_size": 0},
}


def test_each_connection_of_ser2net_is_one_for_itself() -> None:
    assert OWN.keys() == set(SER2NETS_OWN)
    port = port_of(1, {"at": 2, **OWN}, engine="ser2net")
    for key, value in OWN.items():
        first, second = (getattr(one, key) for one in port.listeners)
        assert (first, second) == (getattr(port, key), KEYS[key].parse(value))
    assert parse_portmap([as_entry(port)]) == (port,)


@pytest.mark.parametrize("key", SER2NETS_OWN)
def test_ttybridge_has_one_for_all_listeners(key: str) -> None:
    said = said_of(entry(1, {"at": 2, key: OWN[key]}))
    assert said[-1].startswith(f"listen[2].{key}: ")
    assert said[-1].endswith(
        ": engine bridge has one for all listeners of a port: write engine: ser2net, or write it "
        "in the port's entry"
    )


def test_a_log_of_a_listener_is_of_its_port_alone() -> None:
    own = {"file": "/var/log/ser2net/a", "max_size": 0}
    first = entry(1, {"at": 2, "log": own}, {"at": 3, "log": own}, name="a", engine="ser2net")
    second = {**entry(4, {"at": 5, "log": own}, engine="ser2net"), "device": "/b"}
    assert said_of(first) == []
    assert said_of(first, second) == [
        "listen[2].log.file: '/var/log/ser2net/a' is also the log of port a: write another file"
    ]
    elsewhere = entry(1, {"at": 2, "log": {**own, "file": "/a/b"}}, engine="ser2net")
    assert said_of(elsewhere, site=Site()) == [
        "listen[2].log.file: '/a/b': its unit cannot write there: write /var/log/ser2net/NAME"
    ]
    nothing = {"log": {**own, "output": "off"}}
    assert said_of(entry({"at": 1, **nothing}, engine="ser2net")) == [
        "listen[1].log.output: 'off' beside log.input 'off' leaves nothing to log: "
        "write log.input: on, or log: off"
    ]


def test_an_option_of_ser2net_takes_the_place_of_a_key() -> None:
    keys = {
        "banner": "hello",
        "first_words": "a",
        "last_words": "b",
        "pack": {"idle": 4},
        "log": OWN["log"],
    }
    options = ["banner=x", "openstr=y", "closestr=z", "chardelay=true", "trace-read=/w"]
    port = port_of(1, {"at": 2, "options": options}, engine="ser2net", **keys)
    one, two = as_variables(port)["listeners"]
    names = ("greeting", "first_words", "last_words", "pack", "log")
    assert all(one[name] for name in names)
    assert not any(two[name] for name in names)
    other = port_of({"at": 1, "options": ["trace-write=/w"]}, engine="ser2net", **keys)
    assert as_variables(other)["listeners"][0]["log"]["trace"] == "read"


def test_what_a_host_lacks_is_a_fault_of_the_listener(tmp_path: Path) -> None:
    site = Site(tmp_path, ((Listen("", 22), "the host's own ssh"),))
    said = said_of(
        entry(22, {"at": 2, "tls": {"certificate": "tls/a.pem", "key": "/root/a.key"}}), site=site
    )
    assert said == [
        "listen[2].tls.key: '/root/a.key': its unit hides /home/, /root/, /run/user/, /tmp/, "
        "/var/tmp/: write a path elsewhere",
        "listen[1]: 22 is the host's own ssh: write another TCP port",
        f"listen[2].tls.certificate: 'tls/a.pem' is no file in {tmp_path}: put it there, or write "
        "an absolute path for a file that is on the host",
    ]


def test_files_of_two_listeners_do_not_overwrite_one_another(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "pi.pem").touch()
    listen = [
        {"at": number, "tls": {"certificate": f"{folder}/pi.pem", "key": "/k"}}
        for number, folder in ((1, "a"), (2, "b"))
    ]
    both = "would both be /etc/ttybridge/tls/pi.pem: rename one of them"
    assert said_of(entry(*listen), site=Site(tmp_path)) == [
        f"listen[1].tls.certificate: 'a/pi.pem' and 'b/pi.pem' {both}",
        f"listen[2].tls.certificate: 'b/pi.pem' and 'a/pi.pem' {both}",
    ]


def test_ser2net_leaves_allow_of_a_listener_to_the_firewall() -> None:
    ports = entry(1, {"at": 2, "allow": ["192.0.2.0/24"]}, engine="ser2net")
    assert said_of(ports, site=Site(firewall=True)) == []
    local = entry(1, {"at": 2, "allow": ["local"]}, engine="ser2net", allow=["any"])
    assert said_of(local, site=Site(firewall=True)) == [
        "listen[2].allow: ['local']: engine ser2net cannot honour local: "
        "write engine: bridge, or the networks in place of local"
    ]
    assert said_of(ports, site=Site()) == [
        "listen[2].allow: ['192.0.2.0/24']: engine ser2net cannot honour it: "
        "write serial_firewall: true for the host, engine: bridge, or allow: []"
    ]


# The keys.


def test_a_listener_has_the_keys_of_a_port_but_for_some() -> None:
    assert [*kinds_of(Listener)] == ["at", "protocol", "access", "forbid", *INHERITED[1:]]
    for key in INHERITED:
        assert kinds_of(Listener)[key] is KEYS[key]
        assert keys_of(Listener)[key].default == keys_of(Port)[key].default or key == "max_clients"
    assert set(LINE_SETTINGS) < set(INHERITED)


own_keys = st.fixed_dictionaries(
    {},
    optional={
        "protocol": st.sampled_from(["raw", "telnet", "rfc2217"]),
        "access": st.just("write"),
        "allow": st.lists(st.sampled_from(["local", "192.0.2.0/24", "::1/128"]), unique=True)
        | st.just(["any"]),
        "tls": st.sampled_from(["off", TLS]),
        "max_clients": st.integers(1, 8),
        "banner": st.sampled_from(["", "{name}: {baudrate}"]),
        "baudrate": st.integers(50, 12_000_000),
        "bytesize": st.integers(5, 8),
        "parity": st.sampled_from(["none", "even"]),
        "stopbits": st.sampled_from([1, 1.5, 2]),
        "flow": st.sampled_from(["none", "rtscts"]),
    },
) | st.fixed_dictionaries({"access": st.just("watch")}, optional={"max_clients": st.just(99)})


@given(st.lists(own_keys, min_size=1, max_size=4), own_keys)
def test_listeners_survive_being_written_and_read(
    owns: list[dict[str, Any]], ports: dict[str, Any]
) -> None:
    keys = {**ports, "sharing": "shared", "max_clients": 8}
    keys.pop("access", None)
    listen = [{"at": number, **own} for number, own in enumerate(owns, start=1)]
    port = port_of(*listen, **keys)
    assert parse_portmap([as_entry(port)]) == (port,)
    for own, listener in zip(listen, port.listeners, strict=True):
        as_port = {key: value for key, value in own.items() if key not in ("at", "access")}
        (alone,) = parse_portmap([{**entry(own["at"]), **keys, **as_port}])
        for key in INHERITED:
            if key != "max_clients":
                assert getattr(listener, key) == getattr(alone, key)
        assert listener.greeting == alone.listeners[0].greeting
