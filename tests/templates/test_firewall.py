"""The firewall's table, loaded by the real nft and knocked at, in a network of its own."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ttybridge.model.check import parse_portmap
from ttybridge.model.ports import Listener
from ttybridge.model.values import ListenAddress

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TABLE = HERE / "golden" / "every-key" / "ttyfleet.nft"
OPEN = "127.0.0.1:22004"
SOURCES = [
    *("127.0.0.1", "192.0.2.7", "192.0.2.200", "198.51.100.1"),
    *("::1", "2001:db8::7", "2001:db9::7", "fd00::1"),
]


@pytest.fixture(scope="module")
def guarded() -> dict[str, Listener]:
    """The listeners that the table guards, by address."""
    written = yaml.safe_load((HERE / "maps" / "every-key.yml").read_text())
    ports = parse_portmap(written["serial_ports"], written["serial_ports_defaults"])
    # A namespace has no address with an interface that is not there.
    listeners = [one for port in ports for one in port.listeners if one.is_guarded]
    return {str(one.at).replace("%eth0", ""): one for one in listeners}


@pytest.fixture(scope="module")
def knocked(guarded: dict[str, Listener]) -> dict[str, dict[str, list[str]]]:
    user = ["--map-root-user"] if os.geteuid() else []
    done = subprocess.run(
        ["unshare", *user, "--net", sys.executable, str(HERE / "knock.py"), str(TABLE)],
        input=json.dumps({"listen": [*guarded, OPEN], "from": SOURCES}),
        env={**os.environ, "PYTHONPATH": str(ROOT / "bridge" / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def reaching(listen: str) -> list[str]:
    """The sources of a family that a listener takes."""
    address = ListenAddress().parse(listen).address
    return [source for source in SOURCES if not address or (":" in address) == (":" in source)]


def test_whom_allow_names_gets_in_and_nobody_else(
    guarded: dict[str, Listener], knocked: dict[str, dict[str, list[str]]]
) -> None:
    assert len(guarded) >= 5
    for at, listener in guarded.items():
        networks = [ipaddress.ip_network(network) for network in listener.allow]
        assert knocked["let_in"][at] == [
            source
            for source in reaching(at)
            if any(ipaddress.ip_address(source) in network for network in networks)
        ]


def test_a_port_without_allow_is_open(knocked: dict[str, dict[str, list[str]]]) -> None:
    assert knocked["let_in"][OPEN] == reaching(OPEN)


def test_who_is_connected_and_not_allowed_any_more_is_cut_at_both_ends(
    knocked: dict[str, dict[str, list[str]]],
) -> None:
    for at, let_in in knocked["let_in"].items():
        assert knocked["cut"][at] == [source for source in reaching(at) if source not in let_in]
