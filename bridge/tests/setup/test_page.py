"""The port map as a page and as tables: what is in it, and that no text of it does harm."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from ttybridge.setup.page import COLUMNS, DATA, pages
from ttybridge.setup.ways import KINDS, filled

TEMPLATE = (Path(__file__).parents[3] / "templates" / "port-map.html").read_text()

TLS = {"certificate": "/etc/ssl/a.pem", "key": "/etc/ssl/a.key"}
PORTS = [
    {"name": "router", "device": "/dev/a", "listen": 10001, "protocol": "telnet"},
    {
        "name": "ups",
        "device": "/dev/b",
        "listen": [10002, {"at": "127.0.0.1:10003", "access": "watch", "tls": TLS}],
        "description": "The | one </script><b>",
        "location": "rack 1",
        "tags": ["lab", "power"],
    },
    {"name": "caller", "device": "/dev/c", "connect": "192.0.2.9:7"},
    {"name": "quiet", "device": "/dev/d", "users": ["tech1"]},
    {"name": "old", "device": "/dev/e", "listen": "192.0.2.7:9999", "engine": "ser2net"},
]
HOSTS: dict[str, dict[str, Any]] = {
    "pi-1": {"ansible_host": "2001:db8::1", "ansible_user": "pi", "serial_ports": PORTS}
}
VERIFIED = {
    "time": "2026-11-28T05:00:00+00:00",
    "hosts": [
        {
            "name": "pi-1",
            "ports": [
                {"name": "router", "ok": True, "result": "answered"},
                {"name": "ups", "ok": False, "result": "no device"},
            ],
        }
    ],
}


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return pages(list(HOSTS), HOSTS, TEMPLATE, json.dumps(VERIFIED))


@pytest.fixture(scope="module")
def ports(made: dict[str, str]) -> dict[str, Any]:
    (host,) = json.loads(made["port-map.json"])["hosts"]
    return {port["port"]: port for port in host["ports"]}


def test_the_state_of_a_port_is_what_verify_has_found(ports: dict[str, Any]) -> None:
    states = {name: (port["ok"], port["state"]) for name, port in ports.items()}
    assert states["router"] == (True, "answered")
    assert states["ups"] == (False, "no device")
    assert states["quiet"] == (None, "")


@pytest.mark.parametrize("verified", ["", "{", "[]", '{"hosts": [1], "time": ""}'])
def test_without_a_report_no_port_has_a_state(verified: str) -> None:
    document = json.loads(pages(list(HOSTS), HOSTS, TEMPLATE, verified)["port-map.json"])
    assert document["verified"] == ""
    assert {port["ok"] for host in document["hosts"] for port in host["ports"]} == {None}


def test_each_listener_has_what_its_clients_type(ports: dict[str, Any]) -> None:
    def lines(name: str) -> list[str]:
        return [
            filled(way.text, listener["blanks"])
            for listener in ports[name]["listeners"]
            for way in KINDS[listener["kind"]]
        ]

    assert "telnet 2001:db8::1 10001" in lines("router")
    assert "telnet://[2001:db8::1]:10001" in lines("router")
    assert "socket://[2001:db8::1]:10002" in lines("ups")
    assert "socat -,rawer,escape=0x1d openssl:127.0.0.1:10003,cafile=CA.pem" in lines("ups")
    assert "nc 192.0.2.7 9999" in lines("old")
    for name in ports:
        assert not [line for line in lines(name) if re.search(r"\{\w+\}", line)]


def test_a_listener_says_whether_it_is_to_watch_and_for_the_pi_alone(ports: dict[str, Any]) -> None:
    here, there = ports["ups"]["listeners"]
    assert (here["access"], here["local"]) == ("write", False)
    assert (there["access"], there["local"]) == ("watch", True)


def test_a_port_of_ttybridge_has_a_console_on_the_pi(ports: dict[str, Any]) -> None:
    (way,) = KINDS["console"]
    console = filled(way.text, ports["quiet"]["console"])
    assert console == "ssh -t pi@2001:db8::1 ttybridge console quiet"
    assert ports["old"]["console"] is None


def test_an_account_for_consoles_gets_them_by_name() -> None:
    users = [{"name": "gone", "state": "absent"}, {"name": "tech1", "principals": ["ops"]}]
    hosts = {"pi-1": {**HOSTS["pi-1"], "serial_users": users}}
    (host,) = json.loads(pages(list(hosts), hosts, TEMPLATE)["port-map.json"])["hosts"]
    (way,) = KINDS["console"]
    assert filled(way.text, host["ports"][0]["console"]) == "ssh -t tech1@2001:db8::1 router"


def test_no_text_ends_the_data_of_the_page(made: dict[str, str]) -> None:
    assert TEMPLATE.count(DATA) == 1
    before, after = TEMPLATE.split(DATA)
    data = made["port-map.html"].removeprefix(before).removesuffix(after)
    assert "<" not in data
    assert json.loads(data)["hosts"][0]["ports"][1]["description"] == "The | one </script><b>"


def test_the_page_requests_nothing() -> None:
    assert "default-src 'none'" in TEMPLATE
    assert not re.findall(r"(?:src|href)=|https?:|url\(|@import", TEMPLATE)


def test_the_tables_have_a_row_for_each_listener(made: dict[str, str]) -> None:
    rows = list(csv.DictReader(io.StringIO(made["port-map.csv"])))
    assert tuple(rows[0]) == COLUMNS
    found = [(row["port"], row["listen"], row["protocol"]) for row in rows]
    assert found == [
        ("router", "10001", "telnet"),
        ("ups", "10002", "raw"),
        ("ups", "127.0.0.1:10003", "raw TLS watch"),
        ("caller", "-> 192.0.2.9:7", "raw"),
        ("quiet", "-", "raw"),
        ("old", "192.0.2.7:9999", "raw"),
    ]
    lines = made["port-map.md"].splitlines()
    assert len(lines) == len(rows) + 2
    assert r"The \| one \</script\>\<b\>" in lines[3]


def test_a_host_with_a_faulty_port_map_says_so_and_the_others_are_there() -> None:
    hosts: dict[str, dict[str, Any]] = {"bad": {"serial_ports": [{"name": "x"}]}, **HOSTS}
    bad, good = json.loads(pages(list(hosts), hosts, TEMPLATE)["port-map.json"])["hosts"]
    assert "x" in bad["problem"]
    assert bad["ports"] == []
    assert len(good["ports"]) == len(PORTS)
