"""The firewall in the lab: who reaches a port, and what happens to everybody's rules.

The clients are on the other Pi of the lab. It has addresses that ports allow, and others.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from playbook import run_playbook

testinfra_hosts = ["ansible://serial_servers"]

ROOT = Path(__file__).resolve().parents[3]
SSH = ["ssh", "-F", str(ROOT / ".lab" / "ssh_config")]
INVENTORY = "molecule/default/inventory"

CLIENT = """
import socket, sys
target, port, source = sys.argv[1:]
try:
    socket.create_connection((target, int(port)), 10, (source, 0)).close()
    print("in")
except ConnectionRefusedError:
    print("refused")
"""

# The clients' Pi and the Pi under test, by addresses in networks that `allow` names and does not.
ALLOWED, STRANGE = ("fd00:77::2", "fd00:77::1"), ("fd00:78::2", "fd00:78::1")
STRANGE_IPV4 = "192.0.2.77"

FOREIGN = """
table inet foreign {
    chain input {
        type filter hook input priority filter; policy accept;
        tcp dport 7 counter drop comment "of somebody else"
    }
}
"""


class Lab:
    """The Pi under test, and the Pi of its clients."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.name = str(host.backend.host)
        (self.other,) = {"pi-bookworm", "pi-trixie"} - {self.name}
        self.address, self.other_address = map(self._address, (self.name, self.other))

    def _address(self, name: str) -> str:
        return self.ssh(name, "hostname -I").split()[0]

    def ssh(self, name: str, command: str) -> str:
        done = subprocess.run([*SSH, name, command], stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    def connect(self, port: int, source: str, target: str = "") -> str:
        """What happens to a client at an address of the other Pi: it is "in" or "refused"."""
        target = target or self.address
        return self.ssh(self.other, f"python3 -c '{CLIENT}' {target} {port} {source}").strip()

    def outcomes(self, port: int) -> list[str]:
        """What happens to four clients of a port; `allow` names the first two."""
        return [
            self.connect(port, self.other_address),
            self.connect(port, *ALLOWED),
            self.connect(port, STRANGE_IPV4),
            self.connect(port, *STRANGE),
        ]

    def pids(self) -> str:
        """The processes of both daemons."""
        return str(self.host.check_output("systemctl show -p MainPID ttybridge ser2net"))


@pytest.fixture
def lab(host: Host) -> Iterator[Lab]:
    here = Lab(host)
    by_ipv4 = f"route {{}} {STRANGE_IPV4}/32 via {here.other_address}"
    links = [
        (here.other, f"address {{}} {STRANGE_IPV4}/32 dev eth0"),
        (here.name, by_ipv4),
        *((here.other, f"address {{}} {each[0]}/64 dev eth0") for each in (ALLOWED, STRANGE)),
        *((here.name, f"address {{}} {each[1]}/64 dev eth0") for each in (ALLOWED, STRANGE)),
    ]
    for name, command in links:
        at_once = " nodad" if "address {} fd" in command else ""
        here.ssh(name, f"sudo ip {command.format('replace')}{at_once}")
    yield here
    for name, command in links:
        here.ssh(name, f"sudo ip {command.format('delete')}")


@pytest.fixture
def entries(host: Host) -> list[dict[str, Any]]:
    """The port map as it is written."""
    return list(host.ansible.get_variables()["serial_ports"])


@pytest.fixture
def guarded(entries: list[dict[str, Any]]) -> dict[str, int]:
    """The TCP port of a guarded port, by its engine."""
    return {
        entry.get("engine", "bridge"): entry["listen"]
        for entry in entries
        if entry.get("allow", ["local"]) != ["local"]
    }


@pytest.fixture
def foreign(host: Host) -> Iterator[str]:
    """The rules of somebody else."""
    with host.sudo():
        host.run_expect([0], "echo %s | nft --file -", FOREIGN)
        yield host.check_output("nft list table inet foreign")
        host.run_expect([0], "nft delete table inet foreign")


def provision(lab: Lab, *arguments: str) -> None:
    run = run_playbook(
        "playbook.yml", INVENTORY, "--limit", lab.name, "--tags", "firewall", *arguments
    )
    assert run.returncode == 0, run.stdout


def test_only_clients_that_allow_names_get_in(lab: Lab, guarded: dict[str, int]) -> None:
    assert guarded.keys() == {"bridge", "ser2net"}
    for port in guarded.values():
        assert lab.outcomes(port) == ["in", "in", "refused", "refused"]
        own = f"python3 -c '{CLIENT}' 127.0.0.1 {port} 127.0.0.1"
        assert lab.ssh(lab.name, own).strip() == "refused"
    assert lab.outcomes(9999) == ["in"] * 4


def test_nftables_service_does_not_open_the_ports(lab: Lab, guarded: dict[str, int]) -> None:
    for verb in ("start", "reload", "restart", "stop", "restart", "stop"):
        with lab.host.sudo():
            lab.host.run_expect([0], "systemctl %s nftables.service", verb)
        for port in guarded.values():
            assert lab.connect(port, STRANGE_IPV4) == "refused", verb


def test_the_firewall_comes_changes_and_goes_and_touches_nothing_else(
    lab: Lab, guarded: dict[str, int], entries: list[dict[str, Any]], foreign: str, tmp_path: Path
) -> None:
    port = guarded["ser2net"]
    daemons = lab.pids()

    with lab.host.sudo():
        lab.host.run_expect([0], "nft delete table inet ttyfleet")
    verify = run_playbook("verify.yml", INVENTORY, "--limit", lab.name)
    assert verify.returncode != 0
    assert f"{lab.name}: not as the inventory says: the firewall, which is" in verify.stdout

    narrower = [
        {**one, "allow": ["10.213.0.0/16"]} if len(one.get("allow", [])) > 1 else one
        for one in entries
    ]
    (tmp_path / "narrower.json").write_text(json.dumps({"serial_ports": narrower}))
    with socket.create_connection((lab.address, port), 10) as client:
        provision(lab, "-e", f"@{tmp_path}/narrower.json")
        assert lab.outcomes(port) == ["in", "refused", "refused", "refused"]
        client.settimeout(10)
        lab.ssh(lab.name, "echo hello >/run/lab/ser2net-pair")
        assert client.recv(5) == b"hello"

    opened = [{key: value for key, value in one.items() if key != "allow"} for one in entries]
    without = {"serial_ports": opened, "serial_firewall": False}
    (tmp_path / "without.json").write_text(json.dumps(without))
    provision(lab, "-e", f"@{tmp_path}/without.json")
    assert lab.outcomes(port) == ["in"] * 4
    with lab.host.sudo():
        assert "ttyfleet" not in lab.host.check_output("nft list tables")
        assert lab.host.check_output("nft list table inet foreign") == foreign
    left = "find /etc -name '*ttyfleet*nft*' -o -name 'ttyfleet-firewall*' -o -name 'nftables*.d'"
    assert lab.host.check_output(left) == ""

    provision(lab)
    assert lab.outcomes(port) == ["in", "in", "refused", "refused"]
    with lab.host.sudo():
        assert lab.host.check_output("nft list table inet foreign") == foreign
    assert lab.pids() == daemons


# What nft says if the kernel has no firewall.
NO_FIREWALL = "Error: Could not process rule: Operation not supported"


@pytest.fixture
def no_firewall(host: Host) -> Iterator[None]:
    """No table, and an nft that loads nothing; afterwards both are back."""
    stub = f"#!/bin/sh\necho '{NO_FIREWALL}' >&2\nexit 1\n"
    with host.sudo():
        host.run_expect([0], "nft delete table inet ttyfleet")
        host.run_expect([0], "printf %s >/run/nft && chmod +x /run/nft", stub)
        host.run_expect([0], "mount --bind /run/nft /usr/sbin/nft")
        yield
        host.run("umount /usr/sbin/nft; systemctl reset-failed ser2net ttyfleet-firewall")
        host.run_expect([0], "systemctl start ttyfleet-firewall ser2net")


def state(host: Host, *units: str) -> list[str]:
    return str(host.run("systemctl is-active " + " ".join(units)).stdout).split()


@pytest.mark.usefixtures("no_firewall")
def test_ser2net_does_not_start_without_the_table(lab: Lab, guarded: dict[str, int]) -> None:
    at = f"ser2net-pair ({guarded['ser2net']})"
    host = lab.host
    with host.sudo():
        # As at boot: both are down, and the firewall is started first.
        host.run_expect([0], "systemctl stop ttyfleet-firewall ser2net")
        assert host.run("systemctl start ser2net").rc != 0
        assert state(host, "ttyfleet-firewall", "ttybridge") == ["failed", "active"]
        said = host.check_output("journalctl --unit ser2net --lines 20 --output cat")
        words = "ser2net is not started: the table of /etc/ttyfleet.nft cannot be loaded"
        assert f"{words}, and without it everyone may connect to {at}:" in said
    for source in (lab.other_address, STRANGE_IPV4):
        assert lab.connect(guarded["ser2net"], source) == "refused"
    assert lab.connect(guarded["bridge"], lab.other_address) == "in"
    verify = run_playbook("verify.yml", INVENTORY, "--limit", lab.name)
    assert f"{lab.name}: port ser2net-pair: ser2net.service is" in verify.stdout
    assert f"{words}, and without it everyone may connect to {at}" in verify.stdout
    assert f"(without it everyone may connect to {at} of ser2net)" in verify.stdout
    play = run_playbook("playbook.yml", INVENTORY, "--limit", lab.name)
    assert play.returncode != 0
    assert (
        f"{lab.name}: the firewall's table /etc/ttyfleet.nft cannot be written or loaded: "
    ) in play.stdout
    assert f"{NO_FIREWALL}; ser2net does not start without it, since everyone could" in play.stdout
    with host.sudo():
        host.run_expect([0], "umount /usr/sbin/nft")
        # systemd tries again until it starts.
        host.run_expect([0], "until systemctl -q is-active ser2net; do sleep 0.1; done")
    assert lab.outcomes(guarded["ser2net"]) == ["in", "in", "refused", "refused"]


def test_ser2net_has_the_table_whenever_it_serves(lab: Lab, guarded: dict[str, int]) -> None:
    host, port = lab.host, guarded["ser2net"]
    with host.sudo():
        host.run_expect([0], "nft delete table inet ttyfleet")
        host.run_expect([0], "systemctl restart ser2net")
        assert lab.outcomes(port) == ["in", "in", "refused", "refused"]
        host.run_expect([0], "systemctl stop ttyfleet-firewall")
        assert state(host, "ser2net", "ttybridge") == ["inactive", "active"]
        host.run_expect([0], "systemctl start ser2net")
        assert lab.outcomes(port) == ["in", "in", "refused", "refused"]
        daemons = lab.pids()
        host.run_expect([0], "systemctl reload ttyfleet-firewall")
        host.run_expect([0], "systemctl restart nftables && systemctl stop nftables")
    assert lab.pids() == daemons
