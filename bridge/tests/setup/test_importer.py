"""ser2net's configurations as port maps: whole files, single forms, and what no one would write.

`UPDATE_GOLDEN=1 pytest bridge/tests/setup/test_importer.py` accepts what comes out of
ser2net/*.conf now.
"""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import host_vars
from ttybridge.model.check import parse_portmap
from ttybridge.model.config import ConfigError
from ttybridge.model.ports import Port, as_entry
from ttybridge.setup import yaml_text
from ttybridge.setup.ser2net import importer

HERE = Path(__file__).parent / "ser2net"
# Lines that change nothing: what is so anyway, tuning after the first, parts of what is told of.
SILENT = {
    "classic": [
        "dev-to-net-bufsize=128 net-to-dev-bufsize=128 accepter-retry-time=5",
        "DEFAULT:chardelay-scale:30",
    ],
    "listeners": [],
    "version1": [
        *("%YAML 1.1", "driver: sysfs", 'device: "input7::scrolllock"', "enable: on"),
        *("net-to-dev-bufsize: 4096", "accepter: tcp,3011", "mdns: false", "accepter: tcp,4000"),
        *("connections: [*seed, *shared]", "class: telnet"),
        *("value: 9600n81", 'value: "on"', "class: tcp"),
    ],
    "version2": [
        *("%YAML 1.1", "driver: sysfs", 'options: {device: "x::y"}', "accepter: tcp,10002"),
        *("accepter: tcp,10003", "..."),
    ],
}
SAMPLES = sorted(path.stem for path in HERE.glob("*.conf"))


def entries(imported: importer.Imported) -> list[dict[str, Any]]:
    """The entries, as they are read from the YAML that is written."""
    read = host_vars.load(importer.as_yaml(imported.ports, "x"))["serial_ports"]
    assert parse_portmap(read) == imported.ports
    assert host_vars.seen_by_jinja(read) == []
    return list(read)


@pytest.mark.parametrize("engine", ["ser2net", "bridge"])
@pytest.mark.parametrize("sample", SAMPLES)
def test_every_form(sample: str, engine: str) -> None:
    file = f"{sample}.conf"
    imported = importer.parse((HERE / file).read_bytes().decode(), file, engine)
    entries(imported)
    now = importer.as_yaml(imported.ports, file) + "\n".join(imported.lines(file)) + "\n"
    golden = HERE / f"{sample}.{engine}"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(now)
    assert now == golden.read_text()


def outcome(text: str) -> object:
    """All that an import says, its errors too."""
    try:
        imported = importer.parse(text, "f.yaml" if text.startswith("%YAML") else "f.conf")
    except ConfigError as error:
        return str(error)
    return imported


@pytest.mark.no_cover  # test_every_form runs the same code, once
@pytest.mark.parametrize("sample", SAMPLES)
def test_no_line_is_dropped_silently(sample: str) -> None:
    lines = (HERE / f"{sample}.conf").read_bytes().decode().split("\n")
    silent: list[str] = []
    whole = outcome("\n".join(lines))
    for number, line in enumerate(lines):
        if not line.strip() or line.startswith("#"):
            continue
        without = outcome("\n".join([*lines[:number], "", *lines[number + 1 :]]))
        if without == whole:
            silent.append(line.strip())
    assert silent == SILENT[sample]


def test_the_articles_line() -> None:
    line = "9999:raw:600:/dev/ttyUSB0:9600 8DATABITS NONE 1STOPBIT\n"
    imported = importer.parse(line, "ser2net.conf")
    assert imported.complete
    assert importer.as_yaml(imported.ports, "ser2net.conf") == (
        "# From ser2net.conf by ttybridge import. docs/migrating.md says how to go on.\n"
        "serial_ports:\n"
        "  - name: port-9999\n"
        "    listen: 9999\n"
        "    device: /dev/ttyUSB0\n"
        "    protocol: raw\n"
        "    engine: ser2net\n"
        "    baudrate: 9600\n"
        "    bytesize: 8\n"
        "    parity: none\n"
        "    stopbits: 1\n"
        "    flow: none\n"
        "    dtr: on\n"
        "    rts: on\n"
        "    hangup: off\n"
        "    rs485: off\n"
        "    sharing: exclusive\n"
        "    max_clients: 1\n"
        "    idle_timeout: 600\n"
    )
    assert imported.lines("ser2net.conf") == [
        "ser2net.conf:1: note: /dev/ttyUSB0: the adapter that was found first; "
        "`ttybridge discover` says which usb: to write instead"
    ]


# What a site may want for all ports that it writes itself, none of it as ser2net has it.
DEFAULTS = {
    **{"protocol": "rfc2217", "baudrate": 115200, "bytesize": 5},
    **{"parity": "mark", "stopbits": 2, "flow": "xonxoff", "dtr": "keep", "rts": "off"},
    **{"hangup": "on", "rs485": {"rx_during_tx": "on"}, "sharing": "observed"},
    **{"max_clients": 1000, "idle_timeout": 42},
}


@pytest.mark.parametrize("engine", ["ser2net", "bridge"])
@pytest.mark.parametrize("sample", SAMPLES)
def test_no_default_of_the_inventory_changes_what_the_file_says(sample: str, engine: str) -> None:
    text = (HERE / f"{sample}.conf").read_bytes().decode()
    imported = importer.parse(text, f"{sample}.conf", engine)
    read = host_vars.load(importer.as_yaml(imported.ports, "x"))["serial_ports"]
    defaults = {**DEFAULTS, "engine": "ser2net" if engine == "bridge" else "bridge"}
    assert defaults.keys() == set(importer._SAID)
    for key, value in defaults.items():
        assert parse_portmap(read, {key: value}) == imported.ports, key


def test_a_site_sets_for_imported_ports_what_ser2net_has_no_word_for() -> None:
    (port,) = importer.parse("1:telnet:0:/dev/ttyS0:", "f", "bridge").ports
    (entry,) = host_vars.load(importer.as_yaml((port,), "f"))["serial_ports"]
    (served,) = parse_portmap([entry], {"allow": ["192.0.2.0/24"], "banner": "hello"})
    assert (served.allow, served.banner) == (("192.0.2.0/24",), "hello")


@pytest.mark.parametrize(
    "text",
    [
        *("{{ lookup('pipe', 'id') }}", "{% set x = 1 %}", "{# x #}", "{{", "}}", "%}", "#}"),
        *("#jinja2: variable_start_string: '<'\n<1", "{{{", "a\n{%- if x", "{{\u2028}}"),
    ],
)
def test_jinja_has_the_tag_by_which_ansible_takes_it_for_text(text: str) -> None:
    assert yaml_text.text(text).startswith('!unsafe "')
    assert host_vars.load(yaml_text.text(text)) == text


@pytest.mark.parametrize(
    "text", ["{name}: {baudrate} baud", "100 %", "# {", "!unsafe x", "a: [b]", "\x1b[1m", "\u202e"]
)
def test_an_ordinary_text_has_no_tag(text: str) -> None:
    assert yaml_text.text(text).startswith('"')
    assert host_vars.load(yaml_text.text(text)) == text


def test_a_banner_that_ansible_would_run() -> None:
    classic = "BANNER:b:welcome { lookup('pipe','id') }\n2001:telnet:0:/dev/ttyS1:9600 b\n"
    text = importer.as_yaml(importer.parse(classic, "f", "bridge").ports, "f")
    assert """    banner: !unsafe "welcome {{ lookup('pipe','id') }}"\n""" in text


def test_braces_in_names_are_braces_in_a_banner() -> None:
    text = "DEVICE:{x}:/dev/ttyS1\nBANNER:b:\\o \\N \\p\n2002:telnet:0:{x}:b\n"
    (port,) = importer.parse(text, "f", "bridge").ports
    assert port.banner == "{{x}} 2002 2002"


def test_half_a_character_is_refused_as_ser2net_does() -> None:
    text = 'connections:\n  a: {accepter: "tcp,1", connector: "/dev/\\ud800"}\n'
    with pytest.raises(ConfigError, match="f.yaml:2: not YAML: "):
        importer.parse(text, "f.yaml")


def test_an_address_holds_no_jinja() -> None:
    imported = importer.parse("fe80::1%{{1+1}},2001:raw:0:/dev/ttyS1:9600", "f")
    assert imported.ports == ()
    assert "names no network interface: write letters, digits" in imported.lines("f")[0]


@pytest.mark.parametrize(
    ("text", "reads_yaml"),
    [
        ("%YAML 1.1\n---\nconnection: &a\n  accepter: tcp,1\n  connector: /dev/ttyS0\n", True),
        ("connections:\n  a: {accepter: 'tcp,1', connector: /dev/ttyS0}\n", True),
        ("# connection:\n1:raw:0:/dev/ttyS0:\n", False),
    ],
)
def test_the_form_is_seen_in_the_text(text: str, reads_yaml: bool) -> None:
    imported = importer.parse(text, "f")
    assert [port.name for port in imported.ports] == ["a" if reads_yaml else "port-1"]


def test_an_empty_file_is_told_of() -> None:
    for text in ("", "# nothing\n", "%YAML 1.1\n---\n"):
        imported = importer.parse(text, "f")
        assert importer.as_yaml(imported.ports, "f").endswith("serial_ports: []\n")
        assert imported.lines("f") == ["f:1: note: there is no port in it"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=words):
            importer.load(path)


def test_a_file_in_an_old_encoding(tmp_path: Path) -> None:
    path = tmp_path / "ser2net.conf"
    path.write_bytes("# Gerät\nBANNER:b:Gerät\\r\\n\n1:telnet:0:/dev/ttyS0:b\n".encode("latin-1"))
    assert importer.load(path).ports[0].banner == "Gerät\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("connection: {", "f.yaml:1: not YAML: "),
        ("a: 1\nconnection: *(x)\n", "f.yaml:2: not YAML: "),
        ("a: \x01", "f.yaml: not YAML: "),
        ("[" * 30 + "]" * 30, "f.yaml:1: no ser2net.yaml: nested too deep"),
    ],
)
def test_what_is_no_yaml(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        importer.parse(text, "f.yaml")
    assert str(caught.value).startswith(words)


def test_without_pyyaml_the_classic_form_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary = builtins.__import__

    def without_yaml(name: str, *arguments: Any) -> Any:
        if name == "yaml":
            raise ModuleNotFoundError(name)
        return ordinary(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_yaml)
    assert importer.parse("1:raw:0:/dev/ttyS0:", "f").ports
    with pytest.raises(ConfigError, match="sudo apt install python3-yaml"):
        importer.parse("connections: {}", "f")


WORDS = st.sampled_from(
    [
        *"\n\\ :,;()={}*&[]#'\"01",
        *("\r\n", "  ", "---", "%YAML 1.1", "%", "é", "\x00", "\x85", "\u2028", "\\x", "\\d"),
        *("raw", "telnet", "rawlp", "off", "on", "2001", "/dev/ttyS0", "9600", "EVEN", "-LOCAL"),
        *("BANNER:", "DEVICE:", "TRACEFILE:", "RS485CONF:", "DEFAULT:", "DELDEFAULT:", "LED:"),
        *("speed", "rs485=", "tr=", "banner", "remaddr=", "max-connections=", "kickolduser"),
        *("connection: ", "connections: ", "define: ", "default: ", "delete_default: ", "name: "),
        *("  accepter: ", "  connector: ", "  options: ", "    banner: ", "value: ", "class: "),
        *("tcp,", "telnet(rfc2217),", "ssl(", "serialdev,", "keepopen,", "ipv6,", "::1,", "udp,"),
    ]
)
TEXTS = st.one_of(st.text(), st.lists(WORDS, max_size=40).map("".join))


def holds(imported: importer.Imported) -> None:
    """What holds of every import: a port map that is sound, and one line for each remark."""
    entries(imported)
    for line in imported.lines("f"):
        assert line.isprintable(), line


@given(TEXTS, st.sampled_from(["f.conf", "f.yaml"]), st.sampled_from(["ser2net", "bridge"]))
def test_any_text_is_imported_or_refused(text: str, where: str, engine: str) -> None:
    try:
        imported = importer.parse(text, where, engine)
    except ConfigError:
        return
    holds(imported)


@given(
    st.lists(st.tuples(WORDS, st.text(max_size=8)).map("".join), max_size=8),
    st.sampled_from(["raw", "telnet", "on"]),
)
def test_any_option_is_imported_or_told_of(options: list[str], state: str) -> None:
    one = " ".join(options).replace("\n", " ").replace("\\", "")
    imported = importer.parse(f"2001:{state}:0:/dev/ttyS0:{one}", "f.conf")
    holds(imported)
    assert imported.ports or not imported.complete


@given(st.text(), st.text())
def test_any_banner_is_imported_or_told_of(banner: str, name: str) -> None:
    quoted = "'" + banner.replace("'", "''") + "'"
    key = yaml_text.quoted(name).removeprefix("!unsafe ")
    text = (
        f"connections:\n  {key}:\n    accepter: telnet,tcp,1\n"
        f"    connector: serialdev,/dev/ttyS0\n    options:\n      banner: {quoted}\n"
    )
    try:
        imported = importer.parse(text, "f.yaml")
    except ConfigError:
        return
    holds(imported)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_of_a_port_map_is_written_as_it_is(text: str) -> None:
    read = host_vars.load(f"banner: {yaml_text.value('banner', text)}")
    assert read == {"banner": text}
    assert host_vars.seen_by_jinja(read) == []


def test_every_kind_of_value_is_written_as_it_is() -> None:
    entry = {
        "name": "on",
        "device": "/dev/ttyS0",
        "listen": "[::1]:1",
        "stopbits": 1.5,
        "dtr": "off",
        "hangup": True,
        "allow": ["192.0.2.0/24"],
        "rs485": {"delay_before_send": 1},
        "log": {"file": "/var/log/ttybridge/on"},
    }
    ports: tuple[Port, ...] = parse_portmap([entry])
    read = host_vars.load(importer.as_yaml(ports, "f"))["serial_ports"]
    assert parse_portmap(read) == ports
    assert read[0].keys() == {*as_entry(ports[0]), *importer._SAID}
