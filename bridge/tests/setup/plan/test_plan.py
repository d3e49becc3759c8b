"""The plan of one host."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from process import toml
from ttybridge.setup.inventory import ports_of_host
from ttybridge.setup.plan import host

UNIT = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled"}
FILES = [
    {"path": "/etc/daemon.toml", "content": "ports\n", "effect": "reload"},
    {"path": "/etc/daemon.service", "content": "unit\n", "effect": "restart"},
]


def read(**more: Any) -> dict[str, Any]:
    """A host without anything of ours."""
    nothing: dict[str, Any] = {
        "packages": {},
        "files": [],
        "checksums": {},
        "targets": {},
        "unfinished": [],
    }
    empty = {"stale": [], "units": [], "services": {}, "configuration": ""}
    return {
        **nothing,
        **empty,
        "fault": "",
        "not_kept": "",
        "clock": 0,
        "users": {},
        "listening": [],
        "clients": [],
        "sessions": {},
        **more,
    }


def has(*items: dict[str, Any], **sums: str) -> dict[str, Any]:
    """The files of a host that has some as they are wanted."""
    known = {"mode": "0644", "owner": "root", "group": "root", "type": "f"}
    return {
        "files": [{**known, "path": item["path"]} for item in items],
        "checksums": {item["path"]: host_sum(item) for item in items},
    }


def host_sum(item: dict[str, Any]) -> str:
    from ttybridge.setup.plan.files import sha256

    return sha256(item)


def plan(there: dict[str, Any], ports: Any = (), **wanted: Any) -> dict[str, Any]:
    facts = {"read": there, "fault": "", "ports": list(ports), "metrics": ""}
    return host.plan(wanted, {**facts, "ser2net_version": "4.6.4"})


def bridge(**more: Any) -> dict[str, Any]:
    return {"service": "daemon.service", "running": True, "files": FILES, **more}


def test_a_new_host_gets_everything() -> None:
    made = plan(read(), bridge=bridge(packages=["python3-serial"]))
    todo = made["todo"]["bridge"]
    assert todo["lines"] == [
        "+ package python3-serial",
        "+ /etc/daemon.toml",
        "+ /etc/daemon.service",
        "! start daemon.service",
    ]
    assert todo["start"]
    assert made["paths"] == ["/etc/daemon.service", "/etc/daemon.toml"]


def test_a_host_that_is_as_it_should_be_has_no_plan() -> None:
    there = read(**has(*FILES), services={"daemon.service": UNIT})
    assert plan(there, bridge=bridge())["todo"] == {}


def test_what_a_host_would_lose_is_not_written() -> None:
    lost = {"not_kept": "its root file system is an overlay in memory"}
    assert plan(read(**lost), bridge=bridge())["refused"] == [lost["not_kept"]]
    assert plan(read(**lost), bridge=bridge())["unfit"] == []
    there = read(**has(*FILES), services={"daemon.service": UNIT}, **lost)
    assert plan(there, bridge=bridge())["refused"] == []


@pytest.mark.parametrize(
    ("ahead", "words"),
    [(-360, "6 min behind"), (7200, "120 min ahead of"), (-86400, "1 day behind")],
)
def test_a_clock_that_is_wrong_is_said(ahead: int, words: str) -> None:
    there = read(**has(*FILES), services={"daemon.service": UNIT}, clock=ahead)
    made = plan(there, bridge=bridge())
    assert made["todo"] == {}
    (said,) = made["pending"]
    assert said.startswith(f"its clock is {words} the one here, so apt and TLS fail: ")


def test_the_strongest_effect_is_taken() -> None:
    there = read(**has(FILES[1]), services={"daemon.service": UNIT})
    todo = plan(there, bridge=bridge())["todo"]["bridge"]
    assert (todo["effect"], todo["lines"]) == (
        "reload",
        ["+ /etc/daemon.toml", "! reload daemon.service"],
    )
    todo = plan(read(services={"daemon.service": UNIT}), bridge=bridge())["todo"]["bridge"]
    assert todo["effect"] == "restart"


def test_a_service_that_does_not_run_or_start_is_started() -> None:
    stopped = {**UNIT, "ActiveState": "failed"}
    todo = plan(read(**has(*FILES), services={"daemon.service": stopped}), bridge=bridge())["todo"]
    assert todo["bridge"]["lines"] == ["! start daemon.service"]
    disabled = {**UNIT, "UnitFileState": "disabled"}
    todo = plan(read(**has(*FILES), services={"daemon.service": disabled}), bridge=bridge())["todo"]
    assert todo["bridge"]["lines"] == ["! enable daemon.service"]
    assert todo["bridge"]["start"]


def test_a_service_without_ports_is_stopped() -> None:
    there = read(services={"daemon.service": UNIT})
    todo = plan(there, bridge=bridge(running=False, files=[]))["todo"]["bridge"]
    assert todo["stop"]
    assert todo["differs"] == ["daemon.service, which has no ports"]
    assert plan(read(), bridge=bridge(running=False, files=[]))["todo"] == {}


def test_what_an_interrupted_run_wrote_still_takes_effect() -> None:
    there = read(
        **has(*FILES), services={"daemon.service": UNIT}, unfinished=["/etc/daemon.service"]
    )
    todo = plan(there, bridge=bridge())["todo"]["bridge"]
    assert todo["effect"] == "restart"
    assert todo["lines"] == [
        "! finishes what an interrupted run began",
        "! restart daemon.service",
    ]


def test_a_service_with_older_files_restarts() -> None:
    there = read(**has(*FILES), services={"daemon.service": UNIT}, stale=["daemon.service"])
    todo = plan(there, bridge=bridge())["todo"]["bridge"]
    assert (todo["effect"], todo["differs"]) == (
        "restart",
        ["daemon.service runs with older files (restart pending)"],
    )


def test_a_file_that_somebody_edited_is_named_once() -> None:
    edited = has(*FILES)
    edited["checksums"]["/etc/daemon.toml"] = "0"
    there = read(**edited, services={"daemon.service": UNIT}, stale=["daemon.service"])
    todo = plan(there, bridge=bridge())["todo"]["bridge"]
    assert (todo["effect"], todo["differs"]) == ("restart", ["/etc/daemon.toml (content)"])


def test_a_role_that_is_removed_names_what_it_takes_away() -> None:
    there = read(**has(*FILES))
    wanted = {"remove": "the daemon, which has no ports", "places": ["/etc"], "files": []}
    made = plan(there, firewall=wanted)
    assert made["todo"]["firewall"]["lines"] == ["- the daemon, which has no ports"]
    assert made["paths"] == ["/etc/daemon.service", "/etc/daemon.toml"]


def test_tags_choose_roles() -> None:
    facts = {"read": read(), "fault": "", "ports": [], "metrics": "", "ser2net_version": "4.6.4"}
    wanted = {"udev": {"files": FILES}, "bridge": bridge()}
    assert [*host.plan(wanted, facts, ["udev"])["todo"]] == ["udev"]
    assert [*host.plan(wanted, facts, ["all"], ["udev"])["todo"]] == ["bridge"]
    assert host.plan(wanted, facts, ["all"])["engines"] == ["bridge"]


def test_a_host_that_cannot_be_read_is_left_out() -> None:
    facts = {"read": {}, "fault": "cannot be reached: no answer", "ports": [], "metrics": ""}
    made = host.plan({}, {**facts, "ser2net_version": ""})
    assert (made["todo"], made["fault"]) == ({}, "cannot be reached: no answer")


def test_a_host_that_cannot_be_served_is_refused() -> None:
    made = plan(read(fault="runs Fedora"), bridge=bridge(faults=["no such program"]))
    assert made["refused"] == made["unfit"] == ["runs Fedora"]
    made = plan(read(), bridge=bridge(faults=["no such program"]))
    assert (made["refused"], made["unfit"]) == (["no such program"], [])


PORTS = ports_of_host(
    [
        {"name": "router", "device": "/dev/ttyUSB0", "listen": 10001},
        {"name": "switch", "device": "/dev/ttyUSB1", "listen": 9999, "engine": "ser2net"},
    ]
)
ANY = {"address": "", "program": "x"}
NETWORK: dict[str, Any] = {
    "listening": [
        {**ANY, "port": 9999, "user": 0, "units": ["ser2net.service"]},
        {**ANY, "port": 10001, "user": 0, "units": ["ttybridge.service"]},
    ],
    "clients": [
        {"port": 9999, "peer": "192.0.2.1:4001"},
        {"port": 10001, "peer": "192.0.2.2:4002"},
    ],
    "sessions": {
        "router": [
            {"address": "192.0.2.2:4002", "listener": "10001", "connected_for": 312.4},
            {"address": "192.0.2.3:4003", "listener": "10002", "connected_for": 7},
        ]
    },
}
RUNS = {"daemon.service": UNIT, "ser2net.service": UNIT}


def test_a_restart_of_ser2net_names_whom_it_disconnects() -> None:
    there = read(**NETWORK, services=RUNS)
    wanted = {"service": "ser2net.service", "running": True, "files": FILES, "ports": PORTS[1:]}
    todo = plan(there, ser2net=wanted)["todo"]["ser2net"]
    assert todo["cuts"] == ["switch: 192.0.2.1:4001"]
    assert todo["lines"][-1] == "! disconnects switch: 192.0.2.1:4001"


def test_a_client_of_a_port_that_ser2net_loses_is_named_by_the_tcp_port() -> None:
    # In a container nobody sees the unit of a listener; the user tells.
    listening = [{**ANY, "port": 9999, "user": 61000, "units": []}]
    there = read(**{**NETWORK, "listening": listening}, services=RUNS)
    there["users"] = {"ser2net.service": "61000"}
    wanted = {"service": "ser2net.service", "running": True, "files": FILES, "ports": []}
    todo = plan(there, ser2net=wanted)["todo"]["ser2net"]
    assert todo["cuts"] == ["TCP port 9999: 192.0.2.1:4001"]


def configuration(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def cuts(old: dict[str, Any] | None, new: dict[str, Any], **more: Any) -> list[str]:
    """The clients that a change of the port disconnects; it is a reload unless `more` differs."""
    router = {"name": "router", "device": "/dev/ttyUSB0", "listen": ["10001", {"at": 10002}]}
    text = "".join(f"{key} = {toml(value)}\n" for key, value in {**router, **(old or {})}.items())
    written = configuration(f"[[port]]\n{text}" if old is not None else "not TOML")
    there = read(**NETWORK, services=RUNS, configuration=written, **more.pop("has", {}))
    ports = ports_of_host([{**router, **new}])
    todo = plan(there, bridge=bridge(ports=ports, **more))["todo"]["bridge"]
    return list(todo["cuts"])


def test_a_person_is_named_where_the_whole_port_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    person = {"address": "jane:1", "listener": "console", "connected_for": 7}
    monkeypatch.setitem(NETWORK["sessions"], "router", [person])
    assert cuts({}, {"device": "/dev/ttyUSB1"}) == ["router: jane:1 (for 7 s)"]
    assert cuts({}, {"listen": 10001, "baudrate": 115200}) == []


def test_a_client_whose_certificate_no_longer_lets_it_in_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = {"listener": "10001", "connected_for": 7}
    jane = {**here, "address": "192.0.2.2:4002", "names": ["jane", "jane@example.org"]}
    joe = {**here, "address": "192.0.2.3:4003", "names": ["joe"]}
    monkeypatch.setitem(NETWORK["sessions"], "router", [jane, joe])
    mutual = {"listen": 10001, "tls": {**PEM, "client_ca": "/etc/ssl/lab.pem"}}
    new = {**mutual, "allow_names": ["jane@example.org"]}
    assert cuts(mutual, new, has=has(FILES[1])) == ["router: 192.0.2.3:4003 (for 7 s)"]


@pytest.mark.parametrize(
    ("users", "cut"),
    [
        (["jane"], ["router: joe:1 (for 9 s), old:1 (for 9 s)"]),
        (["@netops"], ["router: jane:1 (for 7 s), old:1 (for 9 s)"]),
        (["jane", "joe", "old"], []),
        ([], ["router: jane:1 (for 7 s), joe:1 (for 9 s), old:1 (for 9 s)"]),
    ],
)
def test_a_change_of_users_disconnects_whom_they_leave_out(
    users: list[str], cut: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    console = {"listener": "console", "connected_for": 9}
    people = [
        {**console, "address": "jane:1", "person": "jane", "groups": [], "connected_for": 7},
        {**console, "address": "joe:1", "person": "joe", "groups": ["joe", "netops"]},
        # Of a daemon of an earlier version, which does not say the groups.
        {**console, "address": "old:1", "person": "old"},
        {**console, "address": "root:1", "person": "root", "groups": []},
    ]
    monkeypatch.setitem(NETWORK["sessions"], "router", people)
    assert cuts({"users": ["jane", "joe"]}, {"users": users}) == cut


RELOADS = {"has": has(FILES[1])}
FIRST, SECOND = "192.0.2.2:4002 (for 5 min)", "192.0.2.3:4003 (for 7 s)"
BOTH = f"router: {FIRST}, {SECOND}"
PEM = {"certificate": "/etc/ssl/pi.pem", "key": "/etc/ssl/private/pi.key"}


@pytest.mark.parametrize("more", [RELOADS, {}])  # a reload, and a restart
@pytest.mark.parametrize(
    ("old", "new", "cut"),
    [
        ({}, {}, []),
        ({}, {"baudrate": 115200, "sharing": "shared", "log": {"file": "/var/log/x"}}, []),
        ({}, {"device": "/dev/ttyUSB1"}, [BOTH]),
        ({}, {"protocol": "telnet"}, [BOTH]),
        ({}, {"listen": 10001}, [f"router: {SECOND}"]),
        ({}, {"listen": [10003, 10002]}, [f"router: {FIRST}"]),
        ({}, {"listen": ["10001", {"at": 10002, "protocol": "telnet"}]}, [f"router: {SECOND}"]),
        ({}, {"listen": [10003, {"at": 10002, "banner": "hi"}, 10001]}, []),
        ({}, {"listen": ["10001", {"at": 10002, "tls": PEM}]}, [f"router: {SECOND}"]),
        ({}, {"allow": ["192.0.2.2", "198.51.100.0/24"]}, [f"router: {SECOND}"]),
        # Only the host knows its networks.
        ({}, {"allow": ["192.0.2.2", "local"]}, []),
        ({}, {"allow": ["any"]}, []),
        (None, {}, [BOTH]),
        ({"key_of_an_older_version": "1"}, {}, [BOTH]),
    ],
)
def test_a_change_disconnects_whom_the_model_says(
    old: dict[str, Any] | None, new: dict[str, Any], cut: list[str], more: dict[str, Any]
) -> None:
    assert cuts(old, new, **more) == cut


def test_a_port_that_goes_disconnects_its_clients() -> None:
    there = read(**NETWORK, services=RUNS, **has(FILES[1]))
    todo = plan(there, bridge=bridge(ports=[]))["todo"]["bridge"]
    assert todo["cuts"] == [BOTH]


def test_a_restart_keeps_clients_without_tls() -> None:
    tls = {"listen": ["10001", {"at": 10002, "tls": PEM}]}
    assert cuts(tls, tls) == [f"router: {SECOND}"]
    assert cuts(tls, tls, **RELOADS) == []


def test_a_stop_disconnects_everybody() -> None:
    assert cuts({}, {}, running=False, files=[]) == [BOTH]
