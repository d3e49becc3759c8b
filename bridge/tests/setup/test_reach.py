"""Reach: what is printed for each kind of port."""

from __future__ import annotations

import pytest

from ttybridge.model.check import parse_portmap
from ttybridge.setup.reach import instructions, main

TLS = {"certificate": "/etc/ssl/certs/pi.pem", "key": "/etc/ssl/private/pi.key"}


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        (
            {"listen": 9999},
            [
                "sw  nc 192.0.2.11 9999",
                "    socat -,rawer,escape=0x1d tcp:192.0.2.11:9999    # Ctrl-] ends it",
                "    pyserial: socket://192.0.2.11:9999",
            ],
        ),
        ({"listen": 9999, "protocol": "telnet"}, ["sw  telnet 192.0.2.11 9999"]),
        (
            {"listen": "0.0.0.0:9999", "protocol": "rfc2217"},
            ["sw  telnet 192.0.2.11 9999", "    pyserial: rfc2217://192.0.2.11:9999"],
        ),
        (
            {"listen": "[::1]:9999", "protocol": "rfc2217"},
            ["sw  telnet ::1 9999    # on this machine only", "    pyserial: rfc2217://[::1]:9999"],
        ),
        (
            {"listen": "198.51.100.4:23", "protocol": "telnet"},
            ["sw  telnet 198.51.100.4 23    # this address only"],
        ),
        ({"listen": 9999, "tls": TLS}, ["sw  TLS, at 192.0.2.11:9999: docs/clients.md#tls"]),
        (
            {
                "listen": [
                    {"at": 9998, "protocol": "telnet"},
                    {"at": "127.0.0.1:9999", "protocol": "rfc2217", "access": "watch"},
                    {"at": 10001, "tls": TLS, "access": "watch"},
                ]
            },
            [
                "sw  telnet 192.0.2.11 9998",
                "    telnet 127.0.0.1 9999    # on this machine only, to watch only",
                "    pyserial: rfc2217://127.0.0.1:9999",
                "    TLS, at 192.0.2.11:10001: docs/clients.md#tls    # to watch only",
            ],
        ),
        ({"users": ["tech1"]}, ["sw  ttybridge console sw    # on this machine"]),
        (
            {"listen": 9999, "protocol": "telnet", "users": ["tech1"]},
            ["sw  telnet 192.0.2.11 9999", "    ttybridge console sw    # on this machine"],
        ),
        ({"connect": "pc.example.org:9"}, ["sw  connects to pc.example.org:9 itself"]),
    ],
)
def test_what_is_typed(keys: dict[str, object], lines: list[str]) -> None:
    ports = parse_portmap([{"name": "sw", "device": "/dev/ttyAMA0", **keys}])
    assert instructions(ports, "192.0.2.11").splitlines() == lines


def test_ports_stand_in_columns() -> None:
    entries = [
        {"name": name, "device": f"/dev/{name}", "listen": number, "protocol": "telnet"}
        for number, name in enumerate(("a", "router"), start=5001)
    ]
    text = "a       telnet pi 5001\nrouter  telnet pi 5002\n"
    assert instructions(parse_portmap(entries), "pi") == text


def test_no_ports_no_lines() -> None:
    assert instructions([], "pi") == ""


def test_the_variables_of_a_host_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    entry = {"name": "sw", "device": "/dev/ttyAMA0", "listen": 9999}
    main("pi", {"serial_ports": [entry], "serial_ports_defaults": {"protocol": "telnet"}})
    assert capsys.readouterr().out == "sw  telnet pi 9999\n"


def test_a_text_with_the_tag_unsafe_is_read_as_each_ansible_prints_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for device in ("/dev/{{x}}", {"__ansible_unsafe": "/dev/{{x}}"}):
        main("pi", {"serial_ports": [{"name": "sw", "device": device, "listen": 9999}]})
        assert capsys.readouterr().out.startswith("sw  nc pi 9999\n")


def test_what_ansible_has_yet_to_work_out_is_no_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main("pi", {"serial_ports": "{{ ports }}"})
    assert capsys.readouterr().out == "docs/clients.md has what to type for each kind of port\n"
