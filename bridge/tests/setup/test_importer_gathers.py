"""Several connections on one device are one port; and a file of any size is read in its time."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

import host_vars
from ttybridge.model.check import parse_portmap
from ttybridge.model.values import Listen, Listeners
from ttybridge.setup.ser2net import importer, yaml_form
from ttybridge.setup.ser2net.connection import Contents, Default
from work import calls


def port_of(text: str, engine: str = "ser2net") -> dict[str, Any]:
    """The one entry of an import, as it is read from the YAML that is written."""
    imported = importer.parse(text, "f.conf", engine)
    (entry,) = host_vars.load(importer.as_yaml(imported.ports, "f"))["serial_ports"]
    assert parse_portmap([entry]) == imported.ports
    return dict(entry)


@pytest.mark.parametrize("engine", ["ser2net", "bridge"])
def test_the_tcp_port_picks_the_speed(engine: str) -> None:
    text = "2001:telnet:0:/dev/c:115200\n2101:telnet:0:/dev/c:9600 EVEN\n"
    entry = port_of(text, engine)
    assert entry["listen"] == [2001, {"at": "2101", "baudrate": 9600, "parity": "even"}]
    assert (entry["baudrate"], entry["parity"]) == (115200, "none")
    imported = importer.parse(text, "f.conf", engine)
    assert imported.lines("f") == [
        "f:2: note: '2101' is a listener of port port-2001, which has the same device"
    ]


def test_a_listener_takes_back_what_only_the_first_one_has() -> None:
    text = "1:raw:0:/dev/c:9600 banner=hi remaddr=192.0.2.1\n2:raw:0:/dev/c:9600\n"
    for engine, banner in (("bridge", {"banner": ""}), ("ser2net", {"options": []})):
        assert port_of(text, engine)["listen"] == [1, {"at": "2", "allow": [], **banner}]


def test_a_listener_that_says_no_speed_has_that_of_ser2net() -> None:
    entry = port_of("1:raw:0:/dev/c:115200\n2:raw:0:/dev/c:banner=hi\n", "bridge")
    assert entry["listen"] == [1, {"at": "2", "baudrate": 9600, "banner": "hi"}]


@pytest.mark.parametrize(
    ("options", "sharing", "clients", "lost"),
    [
        (("", ""), "exclusive", [1, 1], 0),
        (("kickolduser", "kickolduser"), "replace", [1, 1], 0),
        (("max-connections=3", "max-connections=3"), "shared", [3, 3], 0),
        (("", "max-connections=3"), "shared", [1, 3], 0),
        (("max-connections=3", ""), "shared", [3, 1], 0),
        (("max-connections=2", "max-connections=3"), "shared", [2, 3], 0),
        (("kickolduser", ""), "replace", [1, 1], 1),
        (("", "kickolduser"), "exclusive", [1, 1], 1),
        (("kickolduser", "max-connections=3"), "shared", [1, 3], 1),
    ],
)
def test_each_listener_takes_the_clients_that_it_took(
    options: tuple[str, str], sharing: str, clients: list[int], lost: int
) -> None:
    one, two = options
    text = f"1:raw:0:/dev/c:9600 {one}\n2:raw:0:/dev/c:9600 {two}\n"
    imported = importer.parse(text, "f.conf", "bridge")
    (port,) = imported.ports
    assert port.sharing == sharing
    assert [listener.max_clients for listener in port.listeners] == clients
    assert sum(remark.lost for remark in imported.remarks) == lost


@pytest.mark.parametrize(
    ("options", "replaces", "clients"),
    [
        (("kickolduser", "", ""), [True, False, False], [1, 1, 1]),
        (("", "", "kickolduser"), [False, False, True], [1, 1, 1]),
        (("kickolduser", "kickolduser closeon=x", ""), [True, True, False], [1, 1, 1]),
        (("kickolduser", "max-connections=3", "kickolduser"), [True, False, True], [1, 3, 1]),
        (("max-connections=3", "", "kickolduser"), [False, False, True], [3, 1, 1]),
    ],
)
def test_with_ser2net_each_listener_has_its_own_sharing(
    options: tuple[str, ...], replaces: list[bool], clients: list[int]
) -> None:
    lines = [f"{n}:raw:0:/dev/c:9600 {words}" for n, words in enumerate(options, start=1)]
    imported = importer.parse("\n".join(lines), "f.conf")
    (port,) = imported.ports
    assert imported.complete, imported.lines("f")
    assert port.sharing == ("shared" if max(clients) > 1 else "exclusive")
    assert [one.max_clients for one in port.listeners] == clients
    assert [one.options.count("kickolduser=true") for one in port.listeners] == replaces


def test_with_ser2net_each_listener_is_a_connection_of_its_own() -> None:
    text = r"""
OPENSTR:hello:hi\r
OPENSTR:now:\Y
CLOSESTR:bye:exit\r
TRACEFILE:one:/var/log/ser2net/one
TRACEFILE:two:/var/log/ser2net/two
RS485CONF:r:1:1:rts_on_send
1:raw:60:/dev/c:9600 LOCAL HANGUP_WHEN_DONE hello bye tr=one
2:raw:0:/dev/c:9600 rs485=r tw=two
3:raw:0:/dev/c:9600 LOCAL now tr=one
"""
    imported = importer.parse(text, "f.conf")
    (port,) = imported.ports
    assert imported.complete, imported.lines("f")
    assert port_of(text)["listen"][1:] == [
        {
            "at": "2",
            "hangup": False,
            "first_words": "",
            "last_words": "",
            "carrier": "follow",
            "rs485": {"rts_on_send": True, "rx_during_tx": False, "delay_before_send": 1,
                      "delay_after_send": 1},
            "idle_timeout": 0,
            "log": {"file": "/var/log/ser2net/two", "timestamps": False, "input": True,
                    "output": False, "max_size": 0, "volatile": False, "journal": False},
        },
        {
            "at": "3",
            "hangup": False,
            "first_words": "",
            "last_words": "",
            "idle_timeout": 0,
            "options": ["openstr=\\Y"],
        },
    ]  # fmt: skip


def test_a_listener_has_a_log_that_no_other_port_has() -> None:
    text = """
TRACEFILE:a:/var/log/ser2net/a
1:raw:0:/dev/c:9600 tr=a
2:raw:0:/dev/d:9600
3:raw:0:/dev/d:9600 tr=a
4:raw:0:/dev/d:9600 tr=a
"""
    imported = importer.parse(text, "f.conf")
    logs = [[one.log and one.log.file for one in port.listeners] for port in imported.ports]
    own = "/var/log/ser2net/a.port-2"
    assert logs == [["/var/log/ser2net/a"], [None, own, own]]
    assert imported.complete


def test_with_ttybridge_what_a_device_has_once_is_that_of_its_first_connection() -> None:
    text = (
        "RS485CONF:r:1:1:rts_on_send\n1:raw:60:/dev/c:9600 HANGUP_WHEN_DONE\n"
        "2:raw:0:/dev/c:9600 rs485=r\n"
    )
    imported = importer.parse(text, "f.conf", "bridge")
    (port,) = imported.ports
    assert (port.idle_timeout, port.hangup, port.rs485) == (60, True, None)
    lost = [remark.text for remark in imported.remarks if remark.lost]
    alike = "all listeners of a device have one"
    assert lost[:2] == [
        f"hangup: 'off': {alike}: 'on', of port-1",
        f"idle_timeout: 0: {alike}: 60, of port-1",
    ]
    assert lost[2].startswith("rs485: {")
    assert lost[2].endswith(f": {alike}: 'off', of port-1")


def test_a_port_has_as_many_listeners_as_the_port_map_takes() -> None:
    text = "".join(f"{n}:raw:0:/dev/c:9600\n" for n in range(1, Listeners.most + 2))
    imported = importer.parse(text, "f.conf")
    assert len(imported.ports[0].listeners) == Listeners.most
    last = f"f:65: port '65' is left out: port port-1 of its device has {Listeners.most} others"
    assert imported.lines("f")[-1] == last


ADDRESSES = ("", "0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::1", "::2")


@pytest.mark.parametrize("second", ADDRESSES)
@pytest.mark.parametrize("first", ADDRESSES)
def test_a_listener_is_left_out_where_the_host_cannot_have_both(first: str, second: str) -> None:
    lines = [f"{at},1:raw:0:/dev/{n}:9600".lstrip(",") for n, at in enumerate((first, second))]
    imported = importer.parse("\n".join(lines), "f.conf")
    assert (len(imported.ports) == 1) == Listen(first, 1).overlaps(Listen(second, 1))


def test_a_name_that_many_connections_have_gets_a_number() -> None:
    text = "".join(f"  {k}: {{accepter: '{n}', connector: /dev/{n}}}\n" for n, k in ((1, "'a!'"),
        (2, "a-"), (3, "a-2"), (4, "'a?'"), (5, "'a+'")))  # fmt: skip
    imported = importer.parse(f"connections:\n{text}", "f")
    assert [port.name for port in imported.ports] == ["a-", "a--2", "a-2", "a--3", "a--4"]


def classic(number: int) -> str:
    return "".join(f"{1000 + n}:telnet:0:/dev/tty{n}:9600 kickolduser\n" for n in range(number))


def yaml(number: int) -> str:
    one = "  c{0}:\n    accepter: tcp,{1}\n    connector: serialdev,/dev/tty{0},9600n81\n"
    return "connections:\n" + "".join(one.format(n, 1000 + n) for n in range(number))


def defaults(number: int) -> str:
    one = "DEFAULT:unheard-of-{0}:1\nDEFAULT:speed:{1}n81\n{1}:raw:0:/dev/tty{0}:\n"
    return "".join(one.format(n, 1000 + n) for n in range(number))


def one_tcp_port(number: int) -> str:
    return "".join(f"127.0.0.{n % 250},1:raw:0:/dev/tty{n}:9600\n" for n in range(number))


def one_label(number: int) -> str:
    one = "connection: &a\n  accepter: tcp,{1}\n  connector: serialdev,/dev/tty{0},9600n81\n"
    return "".join(one.format(n, 1000 + n) for n in range(number))


def one_log(number: int) -> str:
    lines = "".join(f"{1000 + n}:raw:0:/dev/tty{n}:9600 tr=a\n" for n in range(number))
    return f"TRACEFILE:a:/var/log/ser2net/a\n{lines}"


def one_device(number: int) -> str:
    return "".join(f"{1000 + n}:raw:0:/dev/ttyS0:{1000 + n}\n" for n in range(number))


def garbage(number: int) -> str:
    return "".join(f"no line of ser2net {n}\n" for n in range(number))


def test_the_name_of_a_service_is_a_tcp_port() -> None:
    text = "localhost,telnet:raw:0:/dev/c:9600\nno-such:raw:0:/dev/d:9600\n"
    imported = importer.parse(text, "f")
    assert [port.endpoint for port in imported.ports] == ["127.0.0.1:23"]
    assert imported.lines("f") == [
        "f:1: note: telnet: the service has TCP port 23 here",
        "f:1: note: localhost: the port listens on 127.0.0.1, not on ::1",
        "f:2: port 'no-such' is left out: its TCP port 'no-such' is no service that is known here",
    ]


def test_what_only_telnet_has_is_no_loss_without_it() -> None:
    words = "telnet_brk_on_sync signature=x"
    raw, telnet = (
        importer.parse(f"1:{state}:0:/dev/c:9600 {words}\n", "f") for state in ("raw", "telnet")
    )
    assert (raw.summary, telnet.summary) == ("1 of 1 port, 2 notes", "1 of 1 port")


@pytest.mark.parametrize("engine", ["ser2net", "bridge"])
@pytest.mark.parametrize(
    ("layer", "away"),
    [("keepopen", "keep"), ("keepopen(retry-time=2000,discard-badwrites)", "drop"),
     ("keepopen(discard-badwrites=no)", "keep"), ("keepopen(discard-badwrites=on)", "drop")],
)  # fmt: skip
def test_keepopen_says_what_becomes_of_clients_while_the_device_is_away(
    layer: str, away: str, engine: str
) -> None:
    text = f"connections: {{a: {{accepter: '1', connector: '{layer},serialdev,/dev/c,9600n81'}}}}"
    imported = importer.parse(text, "f", engine)
    assert (imported.summary, imported.ports[0].away) == ("1 of 1 port", away)


def test_modem_lines_and_times_are_kept_with_ser2net() -> None:
    connector = "'serialdev,/dev/c,9600n81,dtr=off,rts=off'"
    options = "{trace-both: /var/log/ser2net/c, trace-timestamp: true}"
    text = f"connections: {{a: {{accepter: '1', connector: {connector}, options: {options}}}}}"
    imported = importer.parse(text, "f")
    (port,) = imported.ports
    assert imported.summary == "1 of 1 port"
    assert (port.dtr, port.rts, port.away) == ("off", "off", "refuse")
    assert port.log
    assert port.log.timestamps


@pytest.mark.parametrize("options", ["", "  options:\n", "  options: ~\n"])
def test_options_may_be_empty(options: str) -> None:
    text = f"connection: &a\n  accepter: tcp,1\n  connector: serialdev,/dev/c\n{options}"
    imported = importer.parse(f"%YAML 1.1\n---\n{text}", "f")
    assert imported.ports
    assert ("~" in options) != imported.complete


def test_a_device_may_have_colons() -> None:
    path = "/dev/serial/by-path/platform-3f980000.usb-usb-0:1.3:1.0-port0"
    text = f"connections: {{a: {{accepter: 'tcp,1', connector: 'serialdev,{path},9600n81'}}}}"
    imported = importer.parse(text, "f")
    assert (imported.summary, imported.ports[0].device) == ("1 of 1 port", path)


@pytest.mark.no_cover  # sys.setprofile() and the measurement of coverage slow one another down
@pytest.mark.parametrize(
    "text",
    [classic, yaml, defaults, one_tcp_port, one_label, one_log, one_device, garbage],
    ids=lambda text: text.__name__,
)
def test_the_work_of_an_import_grows_as_the_file_does(text: Any) -> None:
    def work(number: int) -> int:
        written = text(number)

        def whole() -> None:
            imported = importer.parse(written, "f")
            importer.as_yaml(imported.ports, "f")
            imported.lines("f")

        return calls(whole)

    work(1)  # imports and compiles what the others need, too
    assert work(800) < 5 * work(200)


def test_defines_that_double_take_no_memory() -> None:
    doubling = "".join(f"define: &a{n + 1} '*(a{n})*(a{n})'\n" for n in range(60))
    text = (
        f"%YAML 1.1\n---\ndefine: &a0 {'x' * 16}\n{doubling}connection: &c\n"
        "  accepter: tcp,1\n  connector: serialdev,/dev/c,9600n81\n  options: {banner: *a60}\n"
    )
    tracemalloc.start()
    try:
        imported = importer.parse(text, "f")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * yaml_form._MOST_INSERTED
    assert [port.banner for port in imported.ports] == [""]
    words = f"the names in the file insert more than {yaml_form._MOST_INSERTED} characters"
    assert words in imported.lines("f")[0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1:raw:0:/dev/c:9600 b", "banner is longer than 4096 characters: left out"),
        ("1:raw:0:/dev/c:9600 remaddr={0}", "port '1' is left out: remaddr is longer than"),
        ("1:raw:0:/dev/{0}:9600", "port '1' is left out: its connector is longer than 4096"),
        ("{0},1:raw:0:/dev/c:9600", "is left out: its accepter is longer than 4096"),
    ],
)
def test_no_text_is_longer_than_anybody_writes(line: str, words: str) -> None:
    long = "1" * 5000
    imported = importer.parse(f"BANNER:b:{long}\n{line.format(long)}\n", "f")
    assert any(words in line for line in imported.lines("f"))
    assert not imported.complete


def test_a_default_is_applied_until_it_is_deleted_or_replaced() -> None:
    contents = Contents()
    first, second = Default(1, "speed", "9600"), Default(2, "speed", "1200")
    other = Default(3, "speed", "300", "serialdev")
    contents.set_default(first)
    assert contents.applied() == (first,)
    assert contents.applied() is contents.applied()
    contents.set_default(second)
    contents.set_default(other)
    assert contents.applied() == (second, other)
    contents.delete_default("speed", "serialdev")
    assert contents.applied() == (second,)
    contents.delete_default("speed", "")
    contents.delete_default("speed", "")
    assert contents.applied() == ()
    assert contents.remarks == []


def test_a_default_that_nobody_uses_is_told_of_once() -> None:
    contents = Contents()
    contents.set_default(Default(1, "speed", "9600"))
    contents.set_default(Default(2, "speed", "1200"))
    contents.set_default(Default(3, "unheard-of", "1"))
    contents.note_unused_defaults()
    unused = [(remark.line, remark.lost) for remark in contents.remarks]
    assert unused == [(1, False), (2, False), (3, False)]


def test_a_default_without_a_counterpart_is_lost_by_the_first_connection() -> None:
    contents = Contents()
    contents.set_default(Default(1, "unheard-of", "1"))
    contents.set_default(Default(2, "speed", "9600", "ipmisol"))
    contents.set_default(Default(3, "tcpd", "on", "tcp"))
    assert (contents.applied(), contents.applied()) == ((), ())
    contents.note_unused_defaults()
    assert [(remark.line, remark.lost) for remark in contents.remarks] == [
        (1, True), (2, True), (3, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "summary", "complete"),
    [
        ("1:raw:0:/dev/a:9600\n", "1 of 1 port", True),
        ("1:raw:0:/dev/a:9600\n2:raw:0:/dev/a:300\n", "2 of 2 ports, 1 note", True),
        ("1:raw:0:/dev/a:9600\n2:off:0:/dev/b:9600\n", "1 of 1 port, 1 note", True),
        ("1:raw:0:/dev/a:9600\n1:raw:0:/dev/b:9600\n", "1 of 2 ports, 1 lost", False),
        ("1:raw:0:/dev/a:9600\n2:raw:0\n3:raw:0:/dev/b:'\n", "1 of 3 ports, 2 lost", False),
        ("1:raw:0:/dev/ttyUSB0:9600 led-rx=x\n", "1 of 1 port, 1 lost, 1 note", False),
        ("ROTATOR:1:2\n", "0 of 0 ports, 1 lost, 1 note", False),
        ("connections:\n  a: {accepter: '1'}\n  b: {enable: off}\n", "0 of 2 ports, 2 lost, 1 note",
         False),
    ],
)  # fmt: skip
def test_the_summary_counts_the_tcp_ports(text: str, summary: str, complete: bool) -> None:
    imported = importer.parse(text, "f")
    assert imported.summary == summary
    assert imported.complete == complete


def test_a_telnet_layer_is_a_server_where_clients_connect_to() -> None:
    text = "connections: {a: {accepter: 'telnet(rfc2217,mode=server),tcp,1', connector: /dev/a}}"
    imported = importer.parse(text, "f")
    assert (imported.summary, imported.ports[0].protocol) == ("1 of 1 port", "rfc2217")
