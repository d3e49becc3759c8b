"""The consoles of a fleet for other programs; tests/interop has their real readers."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml

from ttybridge.daemon.metrics import PORT_METRICS, PULL_METRICS
from ttybridge.setup.exports import FORMATS, ExportError, export

ROOT = Path(__file__).parents[3]
TLS = {"certificate": "/etc/ssl/a.pem", "key": "/etc/ssl/a.key"}
PORTS: list[dict[str, Any]] = [
    {"name": "router", "device": "/dev/a", "protocol": "telnet", "location": "rack 1"},
    {"name": "ups", "device": "/dev/b", "listen": 10002, "baudrate": 2400},
    {"name": "plc", "device": "/dev/c", "listen": "192.0.2.9:10003", "protocol": "rfc2217"},
    {"name": "quiet", "device": "/dev/d", "users": ["tech1"]},
    {"name": "old", "device": "/dev/e", "listen": 10005, "engine": "ser2net"},
]
PORTS[0]["listen"] = [
    "127.0.0.1:10001",
    {"at": 10011, "access": "watch"},
    {"at": 10021, "tls": TLS},
    {"at": 10031},
]
HOSTS: dict[str, dict[str, Any]] = {
    "pi-1": {
        "ansible_host": "2001:db8::1",
        "ansible_port": 2222,
        "serial_ports": PORTS,
        "bridge_metrics": "9410",
        "serial_users": [{"name": "tech1"}],
    },
    "pi-2": {
        "serial_ports": [{"name": "router", "device": "/dev/a", "listen": "127.0.0.1:1"}],
        "bridge_metrics": "127.0.0.1:9410",
    },
}


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return export("all", [*HOSTS], HOSTS)


def test_all_is_every_format(files: dict[str, str]) -> None:
    each = [path for name in FORMATS for path in export(name, [*HOSTS], HOSTS)]
    assert each == [*files]


def test_an_unknown_format_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ExportError, match=r"format=xml: write ssh_config, .*csv or all"):
        export("xml", [*HOSTS], HOSTS)


def test_two_consoles_of_one_name_are_refused() -> None:
    port = {"device": "/dev/a", "listen": 1}
    hosts = {
        "b.c": {"serial_ports": [{**port, "name": "a"}]},
        "c": {"serial_ports": [{**port, "name": "a.b"}]},
    }
    said = r"c: port a.b and port a of b.c would both be a.b.c: rename one of them"
    with pytest.raises(ExportError, match=said):
        export("csv", [*hosts], hosts)


def test_ssh_has_each_port_of_ttybridge(files: dict[str, str]) -> None:
    hosts = re.findall(r"^Host (\S+)$", files["ssh_config"], re.MULTILINE)
    assert hosts == ["router.pi-1", "ups.pi-1", "plc.pi-1", "quiet.pi-1", "router.pi-2"]
    commands = re.findall(r"RemoteCommand (.+)", files["ssh_config"])
    assert commands == ["router", "ups", "plc", "quiet", "ttybridge console router"]
    assert files["ssh_config"].count("Port 2222\n") == 4


def test_conserver_gets_the_listener_that_others_can_write_to(files: dict[str, str]) -> None:
    found = re.findall(
        r"console (\S+) \{[^}]*host ([^;]+);\s+port (\d+);\s+protocol (\w+);", files["conserver.cf"]
    )
    assert found == [
        ("router.pi-1", "2001:db8::1", "10031", "telnet"),
        ("ups.pi-1", "2001:db8::1", "10002", "raw"),
        ("plc.pi-1", "192.0.2.9", "10003", "telnet"),
        ("old.pi-1", "2001:db8::1", "10005", "raw"),
    ]


def test_labgrid_gets_network_serial_ports(files: dict[str, str]) -> None:
    # labgrid reads it as Jinja first, in which a line with a single # is a statement.
    assert not re.search(r"^ *#[^#]", files["labgrid.yaml"], re.MULTILINE)
    groups = yaml.safe_load(files["labgrid.yaml"])
    assert [*groups] == ["ups.pi-1", "plc.pi-1", "old.pi-1"]
    one = {"host": "2001:db8::1", "port": 10002, "protocol": "raw", "speed": 2400}
    assert groups["ups.pi-1"] == {"NetworkSerialPort": one}


def test_putty_gets_sessions_for_unix_and_windows(files: dict[str, str]) -> None:
    ups = files["putty/sessions/ups.pi-1"].splitlines()
    assert ups[:4] == ["Present=1", "Protocol=raw", "HostName=2001:db8::1", "PortNumber=10002"]
    windows = files["putty.reg"]
    assert windows.startswith("Windows Registry Editor Version 5.00\r\n\r\n")
    assert '\\Sessions\\router.pi-1]\r\n"Present"=dword:00000001\r\n"Protocol"="telnet"' in windows


def test_prometheus_gets_the_hosts_whose_metrics_others_reach(files: dict[str, str]) -> None:
    group = {"targets": ["[2001:db8::1]:9410"], "labels": {"pi": "pi-1"}}
    assert json.loads(files["prometheus.json"]) == [group]


def test_guacamole_gets_telnet_and_ssh(files: dict[str, str]) -> None:
    ways = {one["name"]: one for one in json.loads(files["guacamole.json"])}
    assert [*ways] == ["router.pi-1", "ups.pi-1", "plc.pi-1", "quiet.pi-1", "router.pi-2"]
    telnet = {"hostname": "2001:db8::1", "port": "10031"}
    assert (ways["router.pi-1"]["protocol"], ways["router.pi-1"]["parameters"]) == (
        "telnet",
        telnet,
    )
    ssh = {"hostname": "2001:db8::1", "port": "2222", "command": "ups"}
    assert (ways["ups.pi-1"]["protocol"], ways["ups.pi-1"]["parameters"]) == ("ssh", ssh)


def test_libvirt_gets_a_device_of_each_raw_port(files: dict[str, str]) -> None:
    devices = [path for path in files if path.startswith("libvirt/")]
    assert devices == ["libvirt/ups.pi-1.xml", "libvirt/old.pi-1.xml"]
    source = ElementTree.fromstring(files[devices[0]]).find("source")
    assert source is not None
    assert source.attrib == {"mode": "connect", "host": "2001:db8::1", "service": "10002"}


def test_the_table_has_a_row_for_each_listener(files: dict[str, str]) -> None:
    rows = [*csv.DictReader(files["ports.csv"].splitlines())]
    assert [row["listen"] for row in rows if row["port"] == "router" and row["host"] == "pi-1"] == [
        "127.0.0.1:10001",
        "10011",
        "10021",
        "10031",
    ]


METRICS = {name for name, *_ in (*PORT_METRICS, *PULL_METRICS)} | {
    "ttybridge_line_errors_total",
    "ttybridge_watch_matches_total",
}


def expressions_of(value: Any) -> list[str]:
    """The expressions of a document of Prometheus or Grafana, wherever they are."""
    if isinstance(value, list):
        return [found for one in value for found in expressions_of(one)]
    if not isinstance(value, dict):
        return []
    inside = [found for one in value.values() for found in expressions_of(one)]
    return ([value["expr"]] if "expr" in value else []) + inside


@pytest.mark.parametrize("file", ["prometheus/alerts.yml", "grafana/ttyfleet.json"])
def test_alerts_and_dashboard_ask_for_metrics_that_there_are(file: str) -> None:
    expressions = expressions_of(yaml.safe_load((ROOT / "files" / file).read_text()))
    asked = {name for one in expressions for name in re.findall(r"(?:ttybridge|ttyfleet)_\w+", one)}
    assert len(expressions) > 5
    assert asked <= METRICS


def test_the_dashboard_is_what_grafana_imports() -> None:
    board = json.loads((ROOT / "files/grafana/ttyfleet.json").read_text())
    assert board["uid"] == "ttyfleet"
    assert board["schemaVersion"] >= 36  # from where data sources are objects
    variables = {one["name"] for one in board["templating"]["list"]}
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert {"title", "type", "gridPos", "targets", "datasource"} <= panel.keys()
        place = panel["gridPos"]
        assert 0 <= place["x"] <= place["x"] + place["w"] <= 24
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(panel))) - {"__rate_interval"}
        assert used <= variables
