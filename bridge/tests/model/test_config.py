"""Where ports come from: a TOML file, or words on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ttybridge.model.config import ConfigError, entry_from_words, load, parse

SOUND = '[[port]]\nname = "sw"\ndevice = "/dev/ttyUSB0"\nlisten = 9999\n'


def lines_of(path: Path, text: str | bytes) -> list[str]:
    """What is said of a file with this text."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as raised:
        load(path)
    return [line.removeprefix(f"{path}: ") for line in raised.value.lines]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ttybridge.toml"


def test_a_file_holds_ports(path: Path) -> None:
    path.write_text(SOUND + '[[port]]\nname = "ups"\ndevice = "/dev/ttyAMA0"\nlisten = "[::1]:1"\n')
    assert [port.name for port in load(path).ports] == ["sw", "ups"]


def test_tables_and_booleans_are_read(path: Path) -> None:
    path.write_text(
        '[[port]]\nname = "sw"\nlisten = 9999\nhangup = true\nusb = {vendor = "067b"}\n'
        'probe = {send = "\\r", expect = "login:"}\n'
    )
    (port,) = load(path).ports
    assert port.hangup
    assert port.probe
    assert port.probe.send == "\r"


def test_a_file_without_ports_is_sound(path: Path) -> None:
    path.write_text("")
    assert load(path).ports == ()


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert str(raised.value) == f"{path}: No such file or directory"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "[[port]",
        "port = ",
        b"\xff\xfe",
        SOUND + "listen = 1\n",
        "x = " + "1" * 5000,
        "x = " + "[" * 5000,
    ],
)
def test_a_syntax_error_is_one_line(path: Path, text: str | bytes) -> None:
    (line,) = lines_of(path, text)
    assert line.startswith("not TOML: ")


def test_an_unknown_key_of_the_file_is_named_beside_the_faults_of_the_ports(path: Path) -> None:
    assert lines_of(path, 'log_level = "debug"\n' + SOUND + "baudrate = 0\n") == [
        "log_level: unknown key; write the ports as [[port]] tables",
        "port sw: baudrate: 0: write a whole number from 50 to 12000000",
    ]
    assert lines_of(path, "[[ports]]\n" + SOUND) == [
        "ports: unknown key; write the ports as [[port]] tables"
    ]


def test_one_table_is_not_a_list_of_them(path: Path) -> None:
    (line,) = lines_of(path, SOUND.replace("[[port]]", "[port]"))
    assert "is not a list" in line


def test_a_port_of_another_engine_is_refused(path: Path) -> None:
    assert lines_of(path, SOUND + 'engine = "ser2net"\n') == [
        "port sw: engine: ser2net: ttybridge serves only bridge"
    ]


def test_words_make_an_entry() -> None:
    words = "name=sw, device=/dev/ttyUSB0,listen=[::1]:9999,baudrate=115200,hangup=on,stopbits=1.5"
    (port,) = parse([entry_from_words(words)], "--port")
    assert (port.name, port.endpoint, port.baudrate) == ("sw", "[::1]:9999", 115200)
    assert (port.hangup, port.stopbits) == (True, 1.5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("name=sw,raw", "--port name=sw,raw: 'raw' is not key=value"),
        ("", "--port : '' is not key=value"),
        ("name=sw,", "--port name=sw,: '' is not key=value"),
        ("name=a,name=b", "--port name=a,name=b: 'name' stands twice"),
    ],
)
def test_words_that_are_no_entry_are_named(words: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        entry_from_words(words)
    assert str(raised.value) == said


def test_faults_in_words_are_named() -> None:
    with pytest.raises(ConfigError) as raised:
        parse([entry_from_words("name=sw,device=/dev/ttyUSB0,listen=0,speed=1")], "--port")
    assert [line.partition(": write")[0] for line in raised.value.lines] == [
        "--port: port sw: listen: '0'",
        "--port: port sw: speed: '1': unknown key; did you mean baudrate?",
    ]
