"""What a person may have in a ser2net configuration comes through: as a key, or as it is."""

from __future__ import annotations

import pytest

import host_vars
from ttybridge.model.check import check_portmap, parse_portmap
from ttybridge.model.ports import Port
from ttybridge.setup.ser2net import importer
from ttybridge.setup.ser2net.banner import kept

FIELDS = {"d": "serialdev,/dev/ttyS0,9600n81", "N": "rack*1", "p": "tcp,2000", "s": "9600N81"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (r"port \p: \N [\B] \s\r\n", r"port tcp,2000: rack\x2a1 [\B] 9600N81\r\n"),
        (r"\d", "serialdev,/dev/ttyS0,9600n81"),
        (r"\Y-\m-\D \I \x41 \101", r"\Y-\m-\D \I \x41 \101"),
        (r"it\'s \"x\" \\ *(a) {b} #", r"it\x27s \x22x\x22 \x5c \x2a(a) \x7bb\x7d \x23"),
        ("a\r\nb\tü", r"a\x0d\x0ab\x09\xc3\xbc"),
        ("end\\", r"end"),
    ],
)
def test_a_text_that_ser2net_keeps_has_no_character_that_means_something(
    text: str, result: str
) -> None:
    assert kept(text, FIELDS) == result


def port_of(options: str, accepter: str = "telnet,tcp,9999", engine: str = "ser2net") -> Port:
    """The port of a connection that comes through whole."""
    text = (
        f"connections:\n  a:\n    accepter: {accepter}\n"
        f"    connector: serialdev,/dev/ttyS1,9600n81\n    options:\n      {options}\n"
    )
    imported = importer.parse(text, "f.yaml", engine)
    assert imported.complete, imported.lines("f")
    read = host_vars.load(importer.as_yaml(imported.ports, "x"))["serial_ports"]
    assert parse_portmap(read) == imported.ports
    return imported.ports[0]


@pytest.mark.parametrize(
    ("written", "options"),
    [
        ("telnet-brk-on-sync: true", ["telnet-brk-on-sync=true"]),
        ("telnet-brk-on-sync: false", []),
        ('closeon: "bye"', ["closeon=bye"]),
        (r"closeon: '\x04*'", [r"closeon=\x04\x2a"]),
        (r"banner: '\I came at \H:\i'", [r"banner=\I came at \H:\i"]),
        ("banner: no end of line", ["banner=no end of line"]),
        (r"banner: 'LF alone\n'", [r"banner=LF alone\n"]),
        (r"banner: '\x07bell\r\n'", [r"banner=\x07bell\r\n"]),
        ("mdns: true", ["mdns=true", "mdns-name=a"]),
        ("no-acc-to-con: true", ["no-acc-to-con=true"]),
        (
            "kickolduser: true\n      max-connections: 2",
            ["kickolduser=true"],
        ),
        (
            "trace-read: /var/log/ser2net/r\n      trace-both: /tmp/b\n      trace-hexdump: true",
            ["trace-both=/var/log/ser2net/b", "trace-read=/var/log/ser2net/r",
             "trace-hexdump=true"],
        ),
        (
            r"trace-read: '/var/log/ser2net/\p-\Y'",
            [r"trace-read=/var/log/ser2net/telnet,tcp,9999-\Y"],
        ),
        (r"trace-read: '/var/log/ser2net/\d'", ["trace-read=/var/log/ser2net/ttyS1,9600n81"]),
        ("trace-read: '/var/log/ser2net/a:b'", ["trace-read=/var/log/ser2net/a:b"]),
    ],
)  # fmt: skip
def test_with_ser2net_its_options_stay(written: str, options: list[str]) -> None:
    assert list(port_of(written).options) == options


@pytest.mark.parametrize("engine", ["ser2net", "bridge"])
def test_a_banner_that_both_engines_send_alike_is_a_banner(engine: str) -> None:
    port = port_of(r"banner: 'port \p device \d [\s]\r\n'", engine=engine)
    assert port.options == ()
    assert port.listeners[0].greeting == (
        "port telnet,tcp,9999 device serialdev,/dev/ttyS1,9600n81 [9600N81]\r\n"
    )


@pytest.mark.parametrize(
    ("engine", "word", "carrier"),
    [
        ("ser2net", "", "follow"),
        ("ser2net", ",local", "ignore"),
        ("ser2net", ",local=false", "follow"),
        ("bridge", "", "follow"),
        ("bridge", ",local", "ignore"),
    ],
)
def test_local_ignores_the_carrier(engine: str, word: str, carrier: str) -> None:
    text = (
        "connections:\n  a:\n    accepter: tcp,2000\n"
        f"    connector: serialdev,/dev/ttyS1,9600n81{word}\n"
    )
    imported = importer.parse(text, "f.yaml", engine)
    assert imported.complete
    assert imported.ports[0].carrier == carrier
    is_default = (engine, carrier) in {("ser2net", "follow"), ("bridge", "ignore")}
    assert ("carrier:" not in importer.as_yaml(imported.ports, "f")) == is_default


@pytest.mark.parametrize("engine", ["ser2net", "bridge"])
@pytest.mark.parametrize(
    ("written", "words"),
    [
        (r"'\r'", "\r"),
        (r"'\x04{a}\n'", "\x04{a}\n"),
        ("'on'", "on"),
        (r"'\d \s'", "serialdev,/dev/ttyS1,9600n81 9600N81"),
    ],
)
def test_texts_for_the_device_are_keys(engine: str, written: str, words: str) -> None:
    port = port_of(f"openstr: {written}\n      closestr: {written}", engine=engine)
    assert (port.first_words, port.last_words, port.options) == (words, words, ())


@pytest.mark.parametrize("text", [r"\Y", r"\x00", r"\xff", "x" * 1025, r"a\\b"])
def test_a_text_that_no_key_can_say_stays_with_ser2net_alone(text: str) -> None:
    assert port_of(f"openstr: '{text}'").options == (f"openstr={kept(text, {})}",)
    imported = importer.parse(
        "connections:\n  a:\n    accepter: tcp,2000\n    connector: serialdev,/dev/ttyS1\n"
        f"    options: {{openstr: '{text}'}}\n",
        "f.yaml",
        "bridge",
    )
    assert not imported.complete
    assert imported.ports[0].first_words == ""


@pytest.mark.parametrize("engine", ["ser2net", "bridge"])
def test_a_trace_of_what_clients_send_is_a_log_without_output(engine: str) -> None:
    log = port_of("trace-write: /var/log/ser2net/w", engine=engine).log
    assert log is not None
    assert (log.input, log.output) == (True, False)


def test_a_banner_of_a_raw_port_is_kept() -> None:
    port = port_of(r"banner: 'hello\r\n'", accepter="tcp,9999")
    assert (port.protocol, port.banner) == ("raw", "hello\n")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["closeon"], "a list such as [telnet-brk-on-sync=true], of texts NAME=VALUE"),
        (["closeon=*"], r"write \x2a, \x27 or \x22"),
        (["closeon=a\nbanner: b"], "printable ASCII"),
        (["max-connections=3"], "of a NAME of banner, signature"),
        (["local=true"], "of a NAME of banner, signature"),
        (["closeon=a", "closeon=b"], "closeon is there twice: write it once"),
        (["mdns-txt=a"] * 65, "mdns-txt is there twice"),
        ("closeon=a", "a list such as"),
    ],
)
def test_an_option_is_one_that_ser2net_can_have_beside_the_keys(
    options: object, words: str
) -> None:
    entry = {"name": "a", "listen": 1, "device": "/dev/a", "engine": "ser2net", "options": options}
    (fault,) = check_portmap([entry])[1]
    assert words in str(fault)


def test_options_are_for_ser2net() -> None:
    entry = {"name": "a", "listen": 1, "device": "/dev/a", "options": ["closeon=a"]}
    (fault,) = check_portmap([entry])[1]
    assert "engine bridge cannot honour it: write engine: ser2net" in str(fault)


@pytest.mark.parametrize("engine", ["ser2net", "bridge"])
def test_five_bits_with_two_stop_bits_stay_so(engine: str) -> None:
    # A UART makes 1.5 stop bits of them, whoever sets CSTOPB.
    imported = importer.parse("1:raw:0:/dev/c:9600 5DATABITS 2STOPBITS\n", "f", engine)
    (port,) = imported.ports
    assert (imported.summary, port.bytesize, port.stopbits) == ("1 of 1 port", 5, 2.0)


@pytest.mark.parametrize("on", ["true", "false"])
def test_with_ttybridge_the_host_announces_its_ports(on: str) -> None:
    text = (
        f"connections:\n  a:\n    accepter: tcp,2000\n    connector: serialdev,/dev/ttyS1\n"
        f"    options: {{mdns: {on}, mdns-sysattrs: {on}}}\n"
    )
    imported = importer.parse(text, "f.yaml", "bridge")
    assert imported.complete
    host = host_vars.load(importer.as_yaml(imported.ports, "f", imported.announces))
    assert host.get("serial_announce", False) == (on == "true")
    assert not importer.parse(text, "f.yaml", "ser2net").announces


def test_ser2net_goes_on_to_leave_a_break_alone() -> None:
    # ser2net ends a break as it opens a device; some adapters of /dev/ttyACM do not know that.
    imported = importer.parse("1:raw:0:/dev/c:9600 NOBREAK\n2:raw:0:/dev/d:9600 -NOBREAK\n", "f")
    assert imported.summary == "2 of 2 ports"
    assert [port.options for port in imported.ports] == [("nobreak=true",), ()]
