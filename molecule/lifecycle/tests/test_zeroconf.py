"""A Pi announces its ports by DNS-SD: another one finds them, until ttyfleet is taken off."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass

import pytest

from playbook import ROOT, run_playbook
from state import ssh

HOST, OTHER = "fresh-trixie", "stepped-trixie"
INVENTORY = ROOT / "molecule" / "lifecycle" / "inventory"
FILES = "/etc/avahi/services"
VARIABLES = {
    "serial_announce": True,
    "serial_firewall": False,
    "serial_ports": [
        {"name": "loop", "device": "/dev/ttyS6", "listen": 10001, "protocol": "rfc2217"}
        | {"description": 'A "switch" <1> & é'},
        {"name": "near", "device": "/dev/ttyS7", "listen": "127.0.0.1:10002"},
        {
            "name": "two",
            "device": "/dev/ttyS8",
            "listen": [10003, {"at": 10004, "protocol": "telnet"}],
        },
    ],
}
INSTALL = """
export DEBIAN_FRONTEND=noninteractive
apt-get -q update >/dev/null
apt-get -qy install --no-install-recommends avahi-daemon avahi-utils >/dev/null 2>&1
systemctl is-active avahi-daemon
"""


@dataclass
class Announced:
    """What was seen on the way."""

    found: list[str]
    again: str
    verified: str
    switched_off: str
    removed: subprocess.CompletedProcess[str]
    left: str


def playbook(name: str, **variables: object) -> subprocess.CompletedProcess[str]:
    words = json.dumps({**VARIABLES, **variables})
    return run_playbook(name, INVENTORY, f"--limit={HOST}", "-e", words)


def names(service: str) -> list[str]:
    """The names that another Pi finds, each with TCP port and texts."""
    lines = ssh(OTHER, f"timeout 20 avahi-browse -rtp {service} || :").splitlines()
    fields = [line.split(";", 9) for line in lines if line.startswith("=")]
    # By IPv4 and by IPv6 it is the same.
    said = {f"{one[3]};{one[8]};{one[9]}".replace(r"\032", " ") for one in fields}
    return sorted(one for one in said if HOST in one)


@pytest.fixture(scope="module")
def announced() -> Announced:
    assert ssh(OTHER, INSTALL) == "active\n"
    first = playbook("playbook.yml")
    assert first.returncode == 0, first.stdout
    found = [*names("_iostream._tcp"), *names("_rfc2217._tcp")]
    again = playbook("playbook.yml").stdout
    ssh(
        HOST,
        f"rm {FILES}/ttyfleet-loop-10001.service; systemctl stop avahi-daemon.socket avahi-daemon",
    )
    verified = playbook("verify.yml").stdout
    switched_off = playbook("playbook.yml", serial_announce=False).stdout
    switched_off += ssh(HOST, f"ls {FILES}")
    removed = playbook("remove.yml")
    left = ssh(HOST, f"ls {FILES}; systemctl is-active avahi-daemon || :")
    return Announced(found, again, verified, switched_off, removed, left)


def test_another_host_finds_each_port_that_it_reaches(announced: Announced) -> None:
    names = [one.partition(";")[0] for one in announced.found]
    of = f"on {HOST}"
    assert names == [f"loop {of}", f"two 10003 {of}", f"two 10004 {of}", f"loop {of}"]
    loop = announced.found[0]
    for text in ("10001", "name=loop", "gensiostack=telnet(rfc2217),tcp", "<1> & "):
        assert text in loop, loop


def test_a_second_run_changes_nothing(announced: Announced) -> None:
    assert "1 host: 1 as it should be" in announced.again, announced.again


def test_verify_sees_what_is_not_announced(announced: Announced) -> None:
    for words in (
        f"{FILES}/ttyfleet-loop-10001.service (missing)",
        "avahi-daemon, which is stopped",
    ):
        assert words in announced.verified, announced.verified


def test_nothing_is_announced_once_it_is_off(announced: Announced) -> None:
    assert not re.search(r"^ttyfleet", announced.switched_off, re.MULTILINE), announced.switched_off
    assert announced.removed.returncode == 0, announced.removed.stdout
    assert announced.left == "inactive\n"
