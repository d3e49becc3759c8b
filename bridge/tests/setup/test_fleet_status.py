"""The table and the document of status.yml."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ttybridge.setup import fleet_status


def client(address: str, **keys: Any) -> dict[str, Any]:
    common = {"listener": "10001", "connected_for": 5.4, "writes": True, "waits": False}
    person: dict[str, Any] = {"person": None, "by": None, "from": None, "names": []}
    return {"address": address, **common, **person, **keys}


def port(name: str, *clients: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """A port as ttybridge tells of it."""
    return {
        "name": name,
        "listen": "10001",
        "connect": None,
        "listening": True,
        "listen_problem": None,
        "device": {"path": f"/dev/serial/by-name/{name}", "present": True, "problem": None},
        "clients": list(clients),
        **keys,
    }


def answer(*ports: dict[str, Any], rc: int = 0, stderr: str = "", **keys: Any) -> dict[str, Any]:
    status = {"version": "0.1.0+1a2b3c4d", "ports": list(ports), "reload_problem": None, **keys}
    return {"rc": rc, "stdout": json.dumps(status), "stderr": stderr, "changed": False}


SER2NET = {
    "configuration": "/etc/ser2net.conf",
    "state": "active",
    "ports": [
        {
            "name": "switch",
            "listen": "9999",
            "listening": True,
            "device": {"path": "/dev/ttyAMA0", "present": True},
            "clients": [{"address": "192.0.2.9:5", "listener": "9999"}],
        },
        {
            "name": "ups",
            "listen": "127.0.0.1:2217",
            "listening": False,
            "device": {"path": "/dev/ttyUSB9", "present": False},
            "clients": [],
        },
    ],
}


def rows(**answers: dict[str, Any]) -> list[str]:
    text: str = fleet_status.report([*answers], answers)["table"]
    return text.splitlines()


def test_all_ports_of_all_hosts_are_one_table() -> None:
    away = {"path": "/dev/serial/by-name/b", "present": False, "problem": "it does not exist"}
    shown = rows(
        one=answer(
            port(
                "a",
                client("192.0.2.1:1", connected_for=7500),
                client("192.0.2.2:2", writes=False),
                client("192.0.2.3:3", waits=True, writes=False, connected_for=90),
                client("jane:1", **{"person": "jane", "by": "ssh", "from": "192.0.2.4"}),
                description="Core switch",
                location="rack 1",
                tags=["lab"],
            ),
            port("b", device=away),
            port("c", listen=None, connect="pc:1", listening=False, listen_problem="refused"),
        ),
        two=answer(ser2net=SER2NET),
    )
    clients = "192.0.2.1:1 (2 h), 192.0.2.2:2 (5 s, watches), 192.0.2.3:3 (1 min, waits), "
    clients += "jane:1 (by ssh from 192.0.2.4, 5 s)"
    lost = "ser2net does not listen; /dev/ttyUSB9 does not exist"
    switch, c = "/dev/serial/by-name/a", "/dev/serial/by-name/c"
    core = "Core switch (rack 1) [lab]"
    assert [re.split("  +", line) for line in shown] == [
        ["HOST", "PORT", "LISTEN", "DEVICE", "CLIENTS", "ENGINE", "ABOUT", "STATE"],
        ["one", "a", "10001", switch, clients, "bridge", core, "ok"],
        ["one", "b", "10001", "absent", "-", "bridge", "it does not exist"],
        ["one", "c", "-> pc:1", c, "-", "bridge", "refused"],
        ["two", "switch", "9999", "/dev/ttyAMA0", "192.0.2.9:5", "ser2net", "ok"],
        ["two", "ups", "127.0.0.1:2217", "absent", "-", "ser2net", lost],
        ["ttybridge 0.1.0+1a2b3c4d"],
    ]


def test_each_host_has_a_line() -> None:
    off = {"unreachable": True, "msg": "Task failed: Failed to connect:\nno route to host"}
    shown = rows(
        off=off,
        bare={"rc": 127, "stdout": "", "stderr": "sh: 1: not found"},
        shut={"rc": 1, "stdout": "", "stderr": "sudo: a password is required\n"},
        idle=answer(),
        down={**answer(ser2net=SER2NET, rc=1, stderr="no daemon answers\n"), "msg": "rc 1"},
        odd={"rc": 0, "stdout": "Welcome!\n", "stderr": ""},
        old=answer(port("a"), version="0.0.9+00000000", reload_problem="not reloaded:\nx"),
    )
    states = {
        (line.split()[0], line.split()[1]): line.split("  ")[-1].strip() for line in shown[1:]
    }
    assert states["off", "-"] == "cannot be reached: Failed to connect: no route to host"
    assert states["bare", "-"] == "not provisioned: run playbook.yml"
    assert states["shut", "-"] == "sudo: a password is required"
    assert states["idle", "-"] == "no ports"
    assert states["down", "switch"] == "ok"
    assert states["down", "-"] == "no daemon answers"
    assert states["odd", "-"] == "says what cannot be understood: Welcome!"
    assert states["old", "-"] == "not reloaded: x"
    assert shown[-2:] == [
        "ttybridge 0.1.0+1a2b3c4d on idle, down",
        "ttybridge 0.0.9+00000000 on old",
    ]


def test_the_document() -> None:
    answers = {"pi": answer(port("a", client("192.0.2.1:1"))), "off": {"unreachable": True}}
    document = fleet_status.report(["pi", "off"], answers)["document"]
    assert document == {
        "format": 1,
        "hosts": [
            {
                "name": "pi",
                "state": "ok",
                "problem": "",
                "ttybridge": "0.1.0+1a2b3c4d",
                "ports": [
                    {
                        "port": "a",
                        "engine": "bridge",
                        "listen": "10001",
                        "connect": None,
                        "listening": True,
                        "device": "/dev/serial/by-name/a",
                        "present": True,
                        "description": "",
                        "location": "",
                        "tags": [],
                        "clients": [client("192.0.2.1:1")],
                        "problems": [],
                    }
                ],
            },
            {
                "name": "off",
                "state": "unreachable",
                "problem": "cannot be reached: ",
                "ttybridge": None,
                "ports": [],
            },
        ],
    }


@pytest.mark.parametrize(
    "said",
    [
        *("[]", "1", "{}", '{"ports": 1}', '{"ports": [1]}', '{"ports": [{}]}', "[" * 100_000),
        '{"ports": [], "ser2net": []}{',
        '{"ports": [], "ser2net": {"ports": [{"name": "a"}], "state": "active"}}',
        '{"ports": [], "ser2net": [1]}',
    ],
)
def test_whatever_a_host_says_has_a_line(said: str) -> None:
    (line,) = rows(pi={"rc": 0, "stdout": said, "stderr": ""})[1:]
    assert "says what cannot be understood: " in line


def test_what_hosts_say_is_no_command_to_the_terminal() -> None:
    evil = "\x1b[31m\u202e"
    shown = "\n".join(rows(pi=answer(port(evil, client(evil), description=evil), version=evil)))
    assert shown.replace("\n", "").isprintable()
