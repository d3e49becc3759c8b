"""A Raspberry Pi's own UART, which its boot files must free; see molecule/pi/inventory.

A new Raspberry Pi 3 has Bluetooth at its PL011 and a console at the pins.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from testinfra.host import Host

from client import receive
from machine import PATIENCE, Machine

testinfra_hosts = ["ansible://serial_servers"]

PORT = 10004


@pytest.fixture
def machine(host: Host) -> Iterator[Machine]:
    machine = Machine(host)
    yield machine
    machine.script("plug", "uart")


@contextmanager
def wired_to(machine: Machine) -> Iterator[socket.socket]:
    """The pins, where the test sends and receives instead of the echo."""
    machine.script("unplug", "uart")
    with socket.socket(socket.AF_UNIX) as pins:
        pins.settimeout(PATIENCE)
        pins.connect(str(machine.folder / "uart"))
        yield pins


def test_after_boot_it_is_the_tty_of_the_port_map_and_no_console(machine: Machine) -> None:
    machine.script("reboot")
    assert machine.sh("stat -c %F /dev/ttyAMA0") == "character special file"
    assert re.findall(r"console=(\w+)", machine.sh("cat /proc/cmdline")) == ["tty1"]
    assert "ttyAMA0" not in machine.sh("cat /proc/consoles")
    assert machine.host.run("systemctl is-active serial-getty@ttyAMA0").stdout == "inactive\n"


def test_bytes_arrive_unchanged_both_ways(machine: Machine) -> None:
    data = os.urandom(16 * 1024)
    with wired_to(machine) as pins, machine.connect(PORT) as client:
        client.sendall(data)
        assert receive(pins, len(data)) == data
        pins.sendall(data)
        assert receive(client, len(data)) == data


def test_what_the_kernel_says_in_distress_does_not_go_to_the_pins(machine: Machine) -> None:
    with wired_to(machine) as pins, machine.connect(PORT) as client:
        machine.sh("echo '<0>all is lost' >/dev/kmsg; dmesg | grep -q 'all is lost'")
        client.sendall(b"first")
        assert receive(pins, 5) == b"first"


def test_its_driver_counts_line_errors(machine: Machine) -> None:
    status = json.loads(machine.sh("ttybridge status --json"))
    (uart,) = [port for port in status["ports"] if port["name"] == "uart"]
    assert {"parity", "frame", "overrun"} <= set(uart["line_errors"])
