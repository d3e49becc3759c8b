"""A host's variables, and what is known of the host, against each other.

docs/errors.md has the messages of `check_host`.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ttybridge.model.check import Fault, parse_portmap
from ttybridge.setup.inventory import (
    FACTS,
    SETTINGS,
    check_listeners,
    examine_host,
    ports_of_host,
    role_variables,
)

PORT = {"name": "sw", "device": "/dev/ttyAMA0", "listen": 9999}
NGINX: dict[str, Any] = {
    **{"address": "0.0.0.0", "port": 9999},
    **{"user": 0, "program": "nginx", "units": ["nginx.service"]},
}
DROP_IN = "ser2net.service.d/ttyfleet.conf"


def check_host(host: str, variables: dict[str, Any]) -> list[Fault]:
    return examine_host(host, variables).faults


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


def names_of_faults(**variables: Any) -> list[str]:
    return [fault.key for fault in check_host("pi", {"serial_ports": [], **variables})]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *(("udev_mod", "udev_mode"), ("udev_mdoe", "udev_mode"), ("udev_modes", "udev_mode")),
        *(("verify_patienc", "verify_patience"), ("verify_probe_timout", "verify_probe_timeout")),
        *(("bridge_metric", "bridge_metrics"), ("brigde_metrics", "bridge_metrics")),
        *(("bridge_verison", "bridge_version"), ("uart_rebot", "uart_reboot")),
        *(("serial_firewal", "serial_firewall"), ("serial_ports_default", "serial_ports_defaults")),
    ],
)
def test_a_misspelt_variable_is_a_fault(written: str, meant: str) -> None:
    (fault,) = check_host("pi", {"serial_ports": [], written: "x"})
    assert str(fault) == f"pi: {written}: unknown variable; did you mean {meant}?"
    # Who writes both means both: one may be made from the other.
    assert written not in names_of_faults(**{written: "x", meant: "on"})


@pytest.mark.parametrize(
    "name",
    [
        *("host_location", "serial_number_of_the_rack", "serial_number", "serial_console"),
        *(
            "bridge_name",
            "bridge_mtu",
            "bridge_port",
            "bridge_interfaces",
            "udev_rules",
            "dev_mode",
        ),
        *("udev_owner", "verify_ssl", "verify_peer", "uart_count", "firewall_rules", "host_port"),
        *("firewall_port", "ser2net_config", "version", "timeout", "mode", "metrics", "patience"),
    ],
)
def test_a_name_of_the_users_own_is_none(name: str) -> None:
    assert names_of_faults(**{name: "x"}) == []


def test_the_variables_of_the_roles_and_their_facts_are_known() -> None:
    """Also those that are nearly another one's name: a second playbook of a run sees all facts."""
    assert {"udev_mode", "uart_boot", "host_packages", "ser2net_found"} <= role_variables()
    ours = role_variables() | FACTS | {"__udev_mod"}
    # One by one: a name is no fault beside the one that it is nearly.
    for name in ours - {"serial_ports"}:
        found = check_host("pi", {"serial_ports": [], name: "x"})
        assert not any("unknown variable" in fault.problem for fault in found)
    # Those of a run have no prefix of a role.
    assert (
        set(SETTINGS)
        - {
            "serial_announce",
            "serial_firewall",
            "serial_pull",
            "serial_users",
            "serial_users_ca",
            "busy",
            "busy_timeout",
        }
        <= role_variables()
    )


def test_a_variable_that_is_gone_says_what_to_do() -> None:
    for group in ("dialout", "plugdev", None):
        (fault,) = check_host("pi", {"serial_ports": [], "udev_group": group})
        assert fault.key == "udev_group"
        assert "delete it, and add users to that group" in fault.problem
    assert "udev_group" not in role_variables()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *(("0660", "0660"), ("0666", "0666"), ("0664", "0664"), ("660", "0660"), ("666", "0666")),
        *(("0o660", ""), ("0644", "0660"), ("0x1b0", "0660"), ("7", "0660"), ("-1", "0660")),
    ],
)
def test_a_mode_without_quotes(written: str, meant: str) -> None:
    """As YAML reads it."""
    (fault,) = check_host("pi", yaml.safe_load(f"serial_ports: []\nudev_mode: {written}"))
    assert fault.key == "udev_mode"
    if meant:
        assert fault.problem.endswith(f'write it in quotes: udev_mode: "{meant}"')


@pytest.mark.parametrize(
    ("mode", "sound"),
    [
        *(("0660", True), ("0666", True), ("660", True), ("0664", True), ("0770", True)),
        *(("0600", False), ("0640", False), ("rw", False), ("", False), (None, False)),
        *((True, False), (6.6, False), ("08660", False), ("0660 ", False)),
    ],
)
def test_a_mode(mode: object, sound: bool) -> None:
    """Without a group that reads and writes no engine could open a device."""
    assert names_of_faults(udev_mode=mode) == ([] if sound else ["udev_mode"])


@pytest.mark.parametrize(
    ("variables", "faults"),
    [
        ("bridge_version: 1.0", ["bridge_version: 1.0: without quotes it is a number: write"]),
        ("bridge_version: on", ["bridge_version: True: without quotes it is on or off: write"]),
        (
            "bridge_version: 2026-11-27",
            ["bridge_version: '2026-11-27': without quotes it is a date"],
        ),
        ("bridge_version:\nbridge_metrics: ''\nserial_firewall:\nuart_reboot:", []),
        ("uart_bluetooth:", ["uart_bluetooth: empty: write keep, mini or off"]),
        ("uart_bluetooth: off\nserial_firewall: yes\nuart_reboot: no\nbridge_metrics: 9410", []),
        ("verify_patience: 1:30\nverify_probe_timeout: '5'", []),
        ("verify_patience: -1", ["verify_patience: -1: write a whole number from 0 to 3600"]),
        ("verify_patience: 1.5", ["verify_patience: 1.5: write a whole number from 0 to 3600"]),
        ("verify_probe_timeout: off", ["verify_probe_timeout: False: write a whole number from 1"]),
        ("verify_probe_timeout:", ["verify_probe_timeout: empty: write a whole number from 1"]),
    ],
)
def test_what_yaml_reads_a_variable_as(variables: str, faults: list[str]) -> None:
    found = check_host("pi", yaml.safe_load(f"serial_ports: []\n{variables}"))
    assert len(found) == len(faults)
    for fault, words in zip(found, faults, strict=True):
        assert str(fault).startswith(f"pi: {words}")


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


def test_listeners_of_a_daemon_that_starts_again_and_again_are_not_in_the_way() -> None:
    kept = {**NGINX, "user": 61500, "program": "systemd", "units": []}
    between_starts = {"ttybridge.service": "[not set]"}
    installed = {**read(kept, units=["ttybridge.service"]), "users": between_starts}
    assert said_of(installed) == []
    assert len(said_of({**installed, "units": []})) == 1
    of_a_socket_unit = {**kept, "user": 0}
    assert len(said_of({**installed, "listening": [of_a_socket_unit]})) == 1


def test_a_ser2net_that_somebody_else_set_up_stays_unless_it_gets_our_ports() -> None:
    ser2net = {**NGINX, "program": "ser2net", "units": ["ser2net.service"]}
    assert said_of(read(ser2net), engine="ser2net") == []
    assert len(said_of(read(ser2net))) == 1
