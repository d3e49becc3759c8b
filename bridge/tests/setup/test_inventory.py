"""A host's variables, and what is known of the host, against each other.

docs/errors.md has the messages of `check_host`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ttybridge.model.check import parse_portmap
from ttybridge.setup.inventory import check_host, check_listeners, ports_of_host

READ_HOST = Path(__file__).resolve().parents[3] / "files" / "read_host.sh"

PORT = {"name": "sw", "device": "/dev/ttyAMA0", "listen": 9999}
NGINX: dict[str, Any] = {
    **{"address": "0.0.0.0", "port": 9999},
    **{"user": 0, "program": "nginx", "units": ["nginx.service"]},
}
DROP_IN = "ser2net.service.d/ttyfleet.conf"


def read(*listening: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """A host as files/read_host.sh tells of it."""
    users = {"ttybridge.service": "61000", "ser2net.service": "[not set]"}
    return {"listening": listening, "units": [], "users": users, **keys}


def said_of(host: dict[str, Any], metrics: object = "", **keys: Any) -> list[str]:
    return check_listeners(ports_of_host([{**PORT, **keys}]), metrics, host)


@pytest.mark.parametrize(
    "keys", [{"serial_ports": [PORT], "ansible_user": "pi"}, {"serial_ports": []}]
)
def test_a_sound_host_has_no_faults(keys: dict[str, Any]) -> None:
    assert (
        check_host(
            "pi", {**keys, "serial_ports_checked": [], "serial_firewall": True, "uart_boot": {}}
        )
        == []
    )


def test_the_inventory_may_be_no_file() -> None:
    tls = {"certificate": "tls/pi.pem", "key": "/etc/ssl/private/pi.pem"}
    (fault,) = check_host("pi", {"serial_ports": [{**PORT, "tls": tls}], "inventory_dir": None})
    assert str(fault) == (
        "pi: port sw: tls.certificate: 'tls/pi.pem' is to be beside the inventory, which is no "
        "file: write an absolute path for a file that is on the host"
    )


@pytest.mark.parametrize(
    ("firewall", "faults"),
    [
        (True, []),
        ("on", []),
        ("maybe", ["serial_firewall"]),
        (False, ["allow"]),
        ("off", ["allow"]),
    ],
)
def test_the_firewall_does_what_ser2net_cannot(firewall: object, faults: list[str]) -> None:
    guarded = {**PORT, "engine": "ser2net", "allow": ["192.0.2.0/24"]}
    found = check_host("pi", {"serial_ports": [guarded], "serial_firewall": firewall})
    assert [fault.key for fault in found] == faults
    (port,) = ports_of_host([guarded])
    assert parse_portmap([port["entry"]])[0].allow == ("192.0.2.0/24",)


@pytest.mark.parametrize("variable", ["ansible_port", "ansible_ssh_port"])
def test_ssh_keeps_its_port(variable: str) -> None:
    (fault,) = check_host("pi", {"serial_ports": [PORT], variable: "9999"})
    assert fault.key == "listen"
    assert check_host("pi", {"serial_ports": [PORT], variable: "{{ unknown }}"}) == []


def test_tls_files_beside_the_inventory_have_a_place_on_the_host() -> None:
    tls = {"certificate": "../tls/pi.pem", "key": "../tls/pi.pem", "client_ca": "/etc/lab.pem"}
    (port,) = ports_of_host([{**PORT, "tls": tls}])
    there = "/etc/ttybridge/tls/pi.pem"
    assert port["tls_files"] == [{"source": "../tls/pi.pem", "path": there}]
    assert port["tls"] == {"certificate": there, "key": there, "client_ca": "/etc/lab.pem"}
    (again,) = parse_portmap([port["entry"]])
    assert again.tls
    assert again.tls.key == there


def test_tls_files_of_listeners_have_a_place_on_the_host() -> None:
    tls = {"certificate": "tls/pi.pem", "key": "/etc/pi.key"}
    own = {"certificate": "tls/own.pem", "key": "tls/pi.key"}
    listen = [1, {"at": 2, "tls": own}, {"at": 3, "tls": "off"}]
    (port,) = ports_of_host([{**PORT, "listen": listen, "tls": tls}])
    there = "/etc/ttybridge/tls"
    assert [one["source"] for one in port["tls_files"]] == [
        "tls/pi.pem",
        "tls/own.pem",
        "tls/pi.key",
    ]
    assert [one["tls"] and one["tls"]["certificate"] for one in port["listeners"]] == [
        f"{there}/pi.pem",
        f"{there}/own.pem",
        None,
    ]
    (again,) = parse_portmap([port["entry"]])
    assert [one.tls and one.tls.key for one in again.listeners] == [
        "/etc/pi.key",
        f"{there}/pi.key",
        None,
    ]
    # A file that no listener uses is not copied.
    (port,) = ports_of_host([{**PORT, "listen": listen[2:], "tls": tls}])
    assert port["tls_files"] == []


def test_a_port_without_tls_has_no_files() -> None:
    (port,) = ports_of_host([PORT])
    assert (port["tls"], port["tls_files"]) == (None, [])


def test_another_programs_listener_is_in_the_way() -> None:
    assert said_of(read(NGINX)) == [
        "port sw: listen: 9999 is taken by nginx (nginx.service), which listens on 0.0.0.0:9999: "
        "write another TCP port, or stop that"
    ]
    (said,) = said_of(read(NGINX), listen=[9998, "127.0.0.1:9999"])
    assert said.startswith("port sw: listen[2]: 127.0.0.1:9999 is taken by nginx")
    hidden = {**NGINX, "program": "", "units": []}
    assert "9999 is taken by another program, which listens" in said_of(read(hidden))[0]


@pytest.mark.parametrize(
    ("address", "listen", "clash"),
    [
        ("", "127.0.0.1:9999", True),
        ("", "[::1]:9999", True),
        ("::", 9999, True),
        ("::", "0.0.0.0:9999", False),
        ("127.0.0.53", "127.0.0.53:9999", True),
        ("127.0.0.1", "192.0.2.1:9999", False),
        ("fe80::1", "127.0.0.1:9999", False),
        ("0.0.0.0", 9998, False),
    ],
)
def test_only_where_a_port_shall_listen(address: str, listen: object, clash: bool) -> None:
    assert bool(said_of(read({**NGINX, "address": address}), listen=listen)) == clash


@pytest.mark.parametrize(
    ("address", "at"), [("", "*:9999"), ("::", "[::]:9999"), ("127.0.0.1", "127.0.0.1:9999")]
)
def test_where_another_program_listens(address: str, at: str) -> None:
    (said,) = said_of(read({**NGINX, "address": address}))
    assert f"which listens on {at}: write" in said


def test_metrics_listen_too_where_ttybridge_runs() -> None:
    taken = read({**NGINX, "address": "127.0.0.1", "port": 9410})
    assert said_of(taken, "127.0.0.1:9410")[0].startswith("bridge_metrics: 127.0.0.1:9410 is taken")
    assert said_of(taken, "127.0.0.1:9410", engine="ser2net") == []


@pytest.mark.parametrize("engine", ["bridge", "ser2net"])
def test_what_the_roles_run_is_not_in_the_way(engine: str) -> None:
    """Also of a port that moves from one engine to the other."""
    bridge = {**NGINX, "user": 61000, "program": "ttybridge", "units": ["ttybridge.service"]}
    # In a container nobody sees whose socket it is; in systemd's store it is systemd's, too.
    for listener in (bridge, {**bridge, "units": []}):
        assert said_of(read(listener), engine=engine) == []
    ser2net = {**NGINX, "program": "ser2net", "units": ["ser2net.service"]}
    assert said_of(read(ser2net, units=[DROP_IN]), engine=engine) == []


def test_a_ser2net_that_somebody_else_set_up_stays_unless_it_gets_our_ports() -> None:
    ser2net = {**NGINX, "program": "ser2net", "units": ["ser2net.service"]}
    assert said_of(read(ser2net), engine="ser2net") == []
    assert len(said_of(read(ser2net))) == 1
