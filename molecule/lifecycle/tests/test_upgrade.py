"""A Pi is upgraded from Debian 12 to 13 while clients are on its ports; then the playbook runs.

The fixture does it once, and prints what was cut, for how long; the tests look at what it noted.
"""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import time
from dataclasses import dataclass

import pytest

from playbook import ROOT, run_playbook
from state import ssh

HOST = "upgraded-bookworm"
INVENTORY = ROOT / "molecule" / "lifecycle" / "inventory"

# dpkg reads its answers from nowhere, so a question about a configuration file is an error.
UPGRADE = """
set -e
exec 2>&1 </dev/null
sed -i s/bookworm/trixie/g $(find /etc/apt -name '*.list' -o -name '*.sources')
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -qy full-upgrade
# As Debian's release notes say: with it goes the Python that ttybridge still runs in.
apt-get -qy --purge autoremove
echo all is done
"""


class Caller(threading.Thread):
    """A client of a port with an echo: it asks again and again, and connects again if it is cut."""

    def __init__(self, address: str, port: int) -> None:
        super().__init__(daemon=True)
        self._at = address, port
        self._over = threading.Event()
        self._answered = time.monotonic()
        self._heard = threading.Event()
        self.sessions = 0
        self.longest = 0.0
        """The longest time without an answer, in seconds."""

    def run(self) -> None:
        """Ask until `leave` is called."""
        while not self._over.wait(0.05):
            try:
                with socket.create_connection(self._at, 5) as client:
                    self.sessions += 1
                    self._ask(client)
            except OSError:
                continue

    def is_answered(self) -> bool:
        """Whether an answer comes now, within 30 s."""
        self._heard.clear()
        return self._heard.wait(30)

    def leave(self) -> None:
        """Close the connection."""
        self._over.set()
        self.join()

    def _ask(self, client: socket.socket) -> None:
        number = 0
        while not self._over.wait(0.05):
            number += 1
            question = b"%d\n" % number
            client.sendall(question)
            answer = b""
            while not answer.endswith(b"\n"):
                data = client.recv(64)
                if not data:
                    return
                answer += data
            if answer == question:
                now = time.monotonic()
                self.longest, self._answered = max(self.longest, now - self._answered), now
                self._heard.set()


@dataclass
class Upgraded:
    """What was seen of the upgrade: before and after the playbook ran."""

    bridge: Caller
    ser2net: Caller
    versions: str
    answered: list[bool]
    status: str
    verified: subprocess.CompletedProcess[str]
    converged: subprocess.CompletedProcess[str]
    again: subprocess.CompletedProcess[str]
    verified_again: subprocess.CompletedProcess[str]
    answered_again: list[bool]
    removed: subprocess.CompletedProcess[str]
    left: str


def playbook(name: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook on the Pi."""
    return run_playbook(name, INVENTORY, f"--limit={HOST}")


@pytest.fixture(scope="session")
def upgraded() -> Upgraded:
    first = playbook("playbook.yml")
    assert first.returncode == 0, first.stdout
    subprocess.run([ROOT / "script" / "lab", "restart", HOST], check=True)  # for its UARTs
    ssh(HOST, "ln -s serial/by-name/header /dev/serial0")
    address = ssh(HOST, "hostname -I").split()[0]
    bridge, ser2net = callers = [Caller(address, 10001), Caller(address, 9999)]
    for caller in callers:
        caller.start()
    assert [caller.is_answered() for caller in callers] == [True, True]
    began = time.monotonic()
    output = ssh(HOST, UPGRADE)
    assert output.endswith("all is done\n"), output
    print(f"\nfrom Debian 12 to 13 in {time.monotonic() - began:.0f} s")
    for name, caller in zip(("ttybridge", "ser2net"), callers, strict=True):
        print(f"{name}: cut {caller.sessions - 1} times, {caller.longest:.1f} s without an answer")
    found = Upgraded(
        bridge,
        ser2net,
        ssh(HOST, "sed -n 's/^VERSION_ID=//p' /etc/os-release; ls /usr/bin/python3.*; ser2net -v"),
        [caller.is_answered() for caller in callers],
        ssh(HOST, "systemctl reload ttybridge && ttybridge status"),
        playbook("verify.yml"),
        playbook("playbook.yml"),
        playbook("playbook.yml"),
        playbook("verify.yml"),
        [caller.is_answered() for caller in callers],
        playbook("remove.yml"),
        ssh(HOST, "cd /etc; ls -d *ser2net* *ttyfleet* || :; dpkg --verify ser2net || :"),
    )
    for caller in callers:
        caller.leave()
    return found


def test_it_is_another_debian(upgraded: Upgraded) -> None:
    assert re.search('^"13"$', upgraded.versions, re.MULTILINE), upgraded.versions
    assert "/usr/bin/python3.13\n" in upgraded.versions
    assert "/usr/bin/python3.11\n" not in upgraded.versions
    assert "ser2net version 4.6." in upgraded.versions


def test_all_ports_serve_without_a_run_of_the_playbook(upgraded: Upgraded) -> None:
    assert upgraded.answered == [True, True]
    for port in ("loop", "ups-room", "header", "core-switch"):
        row = rf"{HOST} +{port} +\d+ +(listens, device is there|in use by)"
        assert re.search(row, upgraded.verified.stdout), upgraded.verified.stdout
    assert re.search(r"^core-switch .* ser2net$", upgraded.status, re.MULTILINE), upgraded.status


def test_a_client_of_ttybridge_stays_connected_all_the_time(upgraded: Upgraded) -> None:
    assert upgraded.bridge.sessions == 1
    assert upgraded.answered_again == [True, True]


def test_verify_says_what_is_left_of_the_earlier_debian(upgraded: Upgraded) -> None:
    assert upgraded.verified.returncode != 0
    said = upgraded.verified.stdout
    for words in (
        "/etc/ser2net.yaml (content",
        "/etc/ser2net.conf (to be removed)",
        "/etc/ttyfleet-ser2net.yaml (to be removed)",
        "ttybridge.service runs with older files (restart pending)",
    ):
        assert words in said, said


def test_the_playbook_converges(upgraded: Upgraded) -> None:
    assert upgraded.converged.returncode == 0, upgraded.converged.stdout
    assert "1 host: 1 as it should be" in upgraded.again.stdout, upgraded.again.stdout
    assert not re.search("changed=[1-9]", upgraded.again.stdout), upgraded.again.stdout
    assert upgraded.verified_again.returncode == 0, upgraded.verified_again.stdout


def test_taking_it_off_leaves_the_file_of_the_new_debian(upgraded: Upgraded) -> None:
    assert upgraded.removed.returncode == 0, upgraded.removed.stdout
    names, _, differs = upgraded.left.partition("ser2net.yaml\n")
    assert names == ""
    assert "/etc/" not in differs
