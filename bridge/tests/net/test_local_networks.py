"""Which clients are `local`: by addresses that a test says, and by the kernel's."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ttybridge
from ttybridge.net.local_networks import Interface, LocalNetworks, read_interfaces
from ttybridge.net.sockets import zoned


def at(interface: str, address: str, network: str = "") -> Interface:
    """An address of an interface; `network` is where its peers are, if not in its own one."""
    both = ipaddress.ip_interface(address)
    peers = ipaddress.ip_network(network) if network else both.network
    return Interface(interface, both.ip, peers)


HOST = [
    at("lo", "127.0.0.1/8"),
    at("eth0", "192.0.2.5/24"),
    at("eth0", "2001:db8::5/64"),
    at("eth0", "fe80::5/64"),
    at("br0", "10.1.0.1/16"),  # somebody's own bridge is a network like any other
    at("wg0", "10.9.0.2/24"),
    at("ppp0", "198.51.100.1/32", "198.51.100.2/32"),
    at("tun0", "0.0.0.1/0"),
    at("docker0", "172.17.0.1/16"),
    at("br-0123456789ab", "172.18.0.1/16"),
    at("virbr0", "192.168.122.1/24"),
    at("podman0", "10.88.0.1/16"),
    at("veth12ab@if3", "10.200.0.1/24"),
]


@pytest.mark.parametrize(
    ("address", "is_local"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("192.0.2.200", True),
        ("192.0.3.1", False),
        ("2001:db8::77", True),
        ("2001:db8:0:1::1", False),
        ("10.1.200.1", True),
        ("10.9.0.1", True),
        ("198.51.100.2", True),
        ("198.51.100.3", False),
        ("203.0.113.1", False),
        ("172.17.0.2", False),
        ("172.18.0.2", False),
        ("192.168.122.77", False),
        ("10.88.0.9", False),
        ("10.200.0.2", False),
        # The host itself, whichever of its addresses it comes from.
        ("172.17.0.1", True),
        ("198.51.100.1", True),
        # All links have the same network: the interface decides.
        ("fe80::77%eth0", True),
        ("fe80::77%virbr0", False),
        ("fe80::5%docker0", True),
    ],
)
def test_local_is_the_host_and_the_networks_that_it_is_in(address: str, is_local: bool) -> None:
    assert LocalNetworks(lambda: HOST).hold(address) is is_local


def test_the_kernel_is_asked_once_a_second_at_most() -> None:
    answers = [[at("eth0", "192.0.2.5/24")], [at("eth0", "198.51.100.5/24")]]
    now = 100.0
    local = LocalNetworks(lambda: answers.pop(0), lambda: now)
    assert local.hold("192.0.2.1")
    now += 0.9
    assert not local.hold("198.51.100.1")
    now += 0.2
    assert local.hold("198.51.100.1")
    assert not local.hold("192.0.2.1")


def test_a_kernel_that_does_not_answer_is_named_and_lets_nobody_new_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails() -> list[Interface]:
        raise PermissionError(1, "Operation not permitted")

    local = LocalNetworks(fails)
    assert not local.hold("192.0.2.1")
    assert local.hold("127.0.0.1")
    assert "allow: local: cannot read the addresses of this host: Operation not" in caplog.text


def test_the_kernel_says_its_addresses() -> None:
    loopback = Interface(
        "lo", ipaddress.ip_address("127.0.0.1"), ipaddress.ip_network("127.0.0.0/8")
    )
    assert loopback in read_interfaces()


def test_an_address_has_the_name_of_its_link() -> None:
    assert zoned("fe80::1", 1) == "fe80::1%lo"
    assert zoned("2001:db8::1", 0) == "2001:db8::1"
    assert zoned("fe80::1", 2**30) == "fe80::1"


SOURCE = str(Path(ttybridge.__file__).parents[1])

FOLLOWS = """
import json, subprocess
from ttybridge.net.local_networks import LocalNetworks, FRESH_SECONDS
now = 0.0
local = LocalNetworks(clock=lambda: now)
seen = []
asked = "192.0.2.77", "198.51.100.77", "172.17.0.2"
for command in (
    "link set lo up",
    "link add eth0 type bridge",
    "address add 192.0.2.5/24 dev eth0",
    "address add 198.51.100.5/24 dev eth0",
    "link add docker0 type bridge",
    "address add 172.17.0.1/16 dev docker0",
    "address del 192.0.2.5/24 dev eth0",
):
    subprocess.run(["ip", *command.split()], check=True)
    now += FRESH_SECONDS
    seen.append([one for one in asked if local.hold(one)])
print(json.dumps(seen))
"""


def test_it_follows_when_an_address_comes_and_goes() -> None:
    user = ["--map-root-user"] if os.geteuid() else []
    command = ["unshare", *user, "--net", sys.executable, "-c", FOLLOWS]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": SOURCE}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    one, both, other = ["192.0.2.77"], ["192.0.2.77", "198.51.100.77"], ["198.51.100.77"]
    assert json.loads(done.stdout) == [[], [], one, both, both, both, other]
