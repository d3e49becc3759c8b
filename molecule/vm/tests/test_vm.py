"""What only a real kernel with USB adapters can show; see molecule/vm/inventory and script/vm.

The playbook found all adapters plugged in, with an echo at the far ends. A test that plugs one in
itself holds its far end: a socket with the bytes of the serial line.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import serial.rfc2217
import yaml
from testinfra.host import Host

from client import receive
from machine import PATIENCE, TCP_PORTS, VM, Machine, wait_for
from playbook import ROOT, run_playbook

testinfra_hosts = ["ansible://serial_servers"]
# pyserial's client makes its thread in a way that is deprecated.
pytestmark = pytest.mark.filterwarnings(r"ignore:set(Daemon|Name)\(\):DeprecationWarning")

UNITS = {"left": "ttybridge.service", "single": "ser2net.service"}
# A request of the driver ftdi_sio: SIO_SET_MODEM_CTRL, DTR and RTS off.
LINES_DROPPED = "control 0x4001, value 0x300"


@pytest.fixture
def machine(host: Host) -> Iterator[Machine]:
    machine = Machine(host)
    yield machine
    machine.as_it_was()


@pytest.fixture
def serving(machine: Machine) -> Machine:
    """A machine with daemons that have opened every adapter; they open a new one a little later."""
    for port in TCP_PORTS:
        machine.wait_to_serve(port)
    return machine


def right_names(machine: Machine) -> dict[str, str]:
    return {port: machine.tty(port) for port in TCP_PORTS}


def test_after_boot_every_name_points_at_its_adapter_and_every_port_serves_without_help(
    machine: Machine,
) -> None:
    machine.script("reboot")
    assert machine.names() == right_names(machine)
    for port in TCP_PORTS:
        machine.wait_to_serve(port)


def test_daemons_that_start_before_their_devices_and_the_network_serve_without_help(
    machine: Machine,
) -> None:
    machine.unplug(*UNITS)
    machine.sh("sync")
    machine.cut_power()
    wait_for(lambda: machine.set_link(up=False), "QEMU")
    seen = len(machine.usb_log())
    try:
        # ttybridge opens the device of the third port when it starts.
        wait_for(partial(asked_for, machine, 57600, since=seen), "the start of ttybridge")
    finally:
        # The next tests need it.
        machine.set_link(up=True)
    machine.script("ready")
    for unit in UNITS.values():
        assert machine.sh(f"systemctl is-active {unit}") == "active"
    machine.as_it_was()
    assert machine.names() == right_names(machine)
    for port in TCP_PORTS:
        machine.wait_to_serve(port)


def test_daemons_that_are_started_while_the_network_is_away_serve_when_it_is_back(
    serving: Machine,
) -> None:
    # At boot ser2net waits for the network, but not without end.
    started = "systemctl show -P ExecMainStartTimestampMonotonic ser2net ttybridge"
    before = serving.sh(started).split()

    def have_restarted() -> bool:
        try:
            return not set(before) & set(serving.sh(started).split())
        except RuntimeError:  # no network yet, says ssh
            return False

    serving.sh(
        "link=$(ip -o route get 10.0.2.2 | grep -o 'dev [^ ]*' | cut -d ' ' -f 2);"
        ' systemd-run --no-block sh -c "networkctl down $link;'
        ' systemctl restart ser2net ttybridge; networkctl up $link"'
    )
    wait_for(have_restarted, "both to restart")
    for port in TCP_PORTS:
        serving.wait_to_serve(port)


def test_names_point_at_their_adapters_after_plugging_in_another_order(machine: Machine) -> None:
    before = machine.names()
    order = sorted(TCP_PORTS, key=lambda port: before[port], reverse=True)
    machine.unplug(*TCP_PORTS)
    for adapter in order:
        machine.plug(adapter)
    after = machine.names()
    assert after == right_names(machine)
    assert after != before


def test_a_name_stays_when_a_replug_changes_the_number_of_the_tty(machine: Machine) -> None:
    before = machine.names()["left"]
    machine.unplug("left")
    machine.plug("spare")
    machine.plug("left")
    assert machine.names() == right_names(machine)
    assert machine.names()["left"] != before


def test_an_adapter_that_is_in_no_port_map_gets_no_name(machine: Machine) -> None:
    machine.plug("spare")
    # It does not take another adapter's name either.
    assert machine.names() == right_names(machine)
    assert "by-name" not in machine.sh(f"udevadm info -q symlink /dev/{machine.tty('spare')}")


def test_twins_keep_their_names_when_they_are_pulled_and_plugged_in_the_other_way_round(
    machine: Machine,
) -> None:
    machine.unplug("left", "right")
    machine.plug("right")
    machine.plug("left")
    # If two claim a name, udev may give it to the one that was plugged in last.
    assert machine.names() == right_names(machine)
    with machine.line("left") as (client, far_end):
        far_end.sendall(b"I am left")
        assert receive(client, 9) == b"I am left"


def test_names_stay_when_udev_looks_at_the_devices_again(machine: Machine) -> None:
    machine.sh("udevadm trigger --settle --subsystem-match=tty --action=change")
    assert machine.names() == right_names(machine)


def test_group_and_mode_of_the_devices_are_those_of_the_inventory(machine: Machine) -> None:
    rules = "/run/udev/rules.d/55-lab.rules"
    look = "udevadm control --reload && udevadm trigger --settle --subsystem-match=tty --action=add"
    machine.plug("spare")
    # Debian gives the same group as the inventory, which would not show who gave it.
    rule = 'SUBSYSTEM=="tty", KERNEL=="ttyUSB*", GROUP="plugdev"'
    machine.sh(f"mkdir -p /run/udev/rules.d && echo '{rule}' >{rules} && {look}")
    try:
        for port in TCP_PORTS:
            assert machine.sh(f"stat -Lc '%G %a' /dev/serial/by-name/{port}") == "dialout 666", port
        # Our rule did it, and to nothing else.
        assert machine.sh(f"stat -c '%G %a' /dev/{machine.tty('spare')}") == "plugdev 660"
    finally:
        machine.sh(f"rm {rules} && {look}")


def test_adapters_in_use_pass_on_at_once_what_they_receive_and_never_sleep(
    machine: Machine,
) -> None:
    machine.plug("spare")
    for port in TCP_PORTS:
        device = f"/sys/class/tty/{machine.names()[port]}/device"
        state = machine.sh(f"cat {device}/latency_timer {device}/../../power/control")
        assert state.split() == ["1", "on"], port
    # QEMU's adapter begins with 0, a real one with 16.
    assert machine.sh(f"cat /sys/class/tty/{machine.tty('spare')}/device/latency_timer") == "0"


def test_modemmanager_is_told_to_leave_the_devices_alone(machine: Machine) -> None:
    machine.plug("spare")
    for port in TCP_PORTS:
        properties = machine.sh(f"udevadm info -q property /dev/serial/by-name/{port}").split("\n")
        assert {"ID_MM_DEVICE_IGNORE=1", "ID_MM_PORT_IGNORE=1"} <= set(properties), port
    assert "ID_MM_" not in machine.sh(f"udevadm info -q property /dev/{machine.tty('spare')}")


def test_systemd_has_a_unit_for_each_device_that_other_units_can_bind_to(machine: Machine) -> None:
    for port in TCP_PORTS:
        unit = machine.sh(f"systemd-escape -p --suffix=device /dev/serial/by-name/{port}")
        assert machine.sh(f"systemctl is-active '{unit}'") == "active"


@pytest.mark.parametrize("port", UNITS)
def test_bytes_arrive_unchanged_both_ways_through_each_engine(machine: Machine, port: str) -> None:
    data = os.urandom(256 * 1024)
    with machine.line(port) as (client, far_end):
        for sender, receiver in ((client, far_end), (far_end, client)):
            sending = threading.Thread(target=sender.sendall, args=(data,))
            sending.start()
            assert receive(receiver, len(data)) == data
            sending.join()


def test_a_client_of_ttybridge_stays_connected_when_its_adapter_is_pulled_in_mid_stream(
    machine: Machine,
) -> None:
    with machine.line("left") as (client, far_end):
        stop_in_mid_stream(machine, "left", far_end, client)
        client.sendall(b"sent while it was away\n")
        far_end = machine.plug("left")
        assert receive(far_end, 23) == b"sent while it was away\n"
        far_end.sendall(b"and back\n")
        received = b""
        while not received.endswith(b"and back\n"):
            received += receive(client, 1)


def test_ser2net_closes_its_client_when_the_adapter_is_pulled_in_mid_stream_and_serves_the_next(
    machine: Machine,
) -> None:
    with machine.line("single") as (client, far_end):
        stop_in_mid_stream(machine, "single", far_end, client)
        while client.recv(65536):
            pass
    machine.plug("single")
    with machine.line("single") as (client, far_end):
        far_end.sendall(b"hello\n")
        assert receive(client, 6) == b"hello\n"


def stop_in_mid_stream(
    machine: Machine, port: str, far_end: socket.socket, client: socket.socket
) -> None:
    """Pull an adapter while its device sends and a client reads."""

    def send() -> None:
        try:
            while True:
                far_end.sendall(b"0123456789abcdef" * 64)
        except OSError:
            return  # pulled

    sending = threading.Thread(target=send)
    sending.start()
    received = receive(client, 65536)
    assert b"0123456789abcdef" in received
    machine.script("off", port)
    far_end.shutdown(socket.SHUT_RDWR)
    sending.join()
    machine.unplug(port)


def test_modem_lines_of_the_adapter_reach_an_rfc2217_client(serving: Machine) -> None:
    # QEMU's adapter says that it is clear to send, and that a device and a carrier are there.
    with rfc2217_client(serving) as client:
        assert (client.cts, client.dsr, client.cd, client.ri) == (True, True, True, False)


def test_line_error_counts_are_read_from_the_driver(serving: Machine) -> None:
    # QEMU can send one line error only, a break; it has no data, so ftdi_sio does not count it.
    status = json.loads(serving.sh("ttybridge status --json"))
    for port in status["ports"]:
        assert port["line_errors"] == dict.fromkeys(port["line_errors"], 0)
        assert "parity" in port["line_errors"]


def test_line_settings_of_an_rfc2217_client_reach_the_adapter(serving: Machine) -> None:
    seen = len(serving.usb_log())
    with rfc2217_client(serving, baudrate=38400, bytesize=7, parity="E", stopbits=2):
        log = serving.usb_log()[seen:]
    assert 38400 in baudrates(log)
    assert "parity E, data bits 7, stop bits 2" in "\n".join(log)


def test_the_port_map_s_line_settings_reach_each_adapter(machine: Machine) -> None:
    for port, baudrate in {"single": 19200, "left": 115200, "right": 57600}.items():
        seen = len(machine.usb_log())
        machine.replug(port)
        machine.connect(TCP_PORTS[port]).close()
        wait_for(partial(asked_for, machine, baudrate, since=seen), f"the baudrate of {port}")


def asked_for(machine: Machine, baudrate: int, since: int) -> bool:
    """Whether the driver asked an adapter for a baudrate, from that line of the log on."""
    return baudrate in baudrates(machine.usb_log()[since:])


def test_only_a_port_with_hangup_drops_its_lines_when_the_daemon_stops(serving: Machine) -> None:
    seen = len(serving.usb_log())
    with rfc2217_client(serving, baudrate=38400):
        right = devices(serving.usb_log()[seen:], "baud rate")
    seen = len(serving.usb_log())
    serving.sh("systemctl stop ttybridge")
    dropped = devices(serving.usb_log()[seen:], LINES_DROPPED)
    serving.sh("systemctl start ttybridge")
    assert dropped == right != set()


def test_a_restart_of_ttybridge_is_nothing_to_an_adapter_and_its_client(serving: Machine) -> None:
    with serving.line("left") as (client, far_end):
        seen = len(serving.usb_log())
        serving.sh("systemctl restart ttybridge")
        far_end.sendall(b"still here")
        assert receive(client, 10) == b"still here"
        client.sendall(b"so am I")
        assert receive(far_end, 7) == b"so am I"
        asked = serving.usb_log()[seen:]
    assert not devices(asked, "baud rate")
    assert not devices(asked, "control 0x4001")


def baudrates(log: list[str]) -> set[int]:
    """The baudrates of the adapters. They divide a clock: this takes the nearest usual baudrate."""
    found = [int(line.rpartition(" ")[2]) for line in log if "baud rate" in line]
    usual = (9600, 19200, 38400, 57600, 115200)
    return {min(usual, key=lambda one: abs(one - rate)) for rate in found}


def devices(log: list[str], what: str) -> set[str]:
    """Which adapters, by QEMU's numbers, got a request."""
    return {line.split("dev ")[1].split()[0] for line in log if what in line}


@pytest.mark.parametrize("unit", UNITS.values())
def test_the_kernel_lets_a_daemon_open_serial_devices_and_no_others(
    machine: Machine, unit: str
) -> None:
    def opens(device: str) -> subprocess.CompletedProcess[str]:
        # As root, but in the unit's cgroup: the kernel decides by that.
        cgroup = f"/sys/fs/cgroup/system.slice/{unit}/cgroup.procs"
        script = f"echo $$ >{cgroup}; exec dd if={device} of=/dev/null count=0"
        with machine.host.sudo():
            done = machine.host.run("sh -c %s", script)
        return subprocess.CompletedProcess(script, done.rc, done.stdout, done.stderr)

    machine.plug("spare")
    assert opens(f"/dev/{machine.tty('spare')}").returncode == 0
    disk = machine.sh("findmnt -no SOURCE /")
    for device in (disk, "/dev/kmsg", "/dev/hwrng"):
        assert machine.sh(f"dd if={device} of=/dev/null count=0; echo opened") == "opened"
        assert "Operation not permitted" in opens(device).stderr, device


# The following tests provision the machine differently, so they are the last.


def test_ports_whose_adapters_change_places_in_the_port_map_serve_the_other_one(
    machine: Machine, tmp_path: Path
) -> None:
    def exchange(variables: dict[str, Any]) -> None:
        usb = {port["name"]: port["usb"] for port in variables["serial_ports"]}
        usb["left"]["path"], usb["right"]["path"] = usb["right"]["path"], usb["left"]["path"]

    far_end = machine.replug("right")
    machine.wait_to_serve("left")
    machine.playbook("playbook.yml", machine.inventory_with(tmp_path, exchange))
    try:
        with machine.connect(TCP_PORTS["left"]) as client:
            client.sendall(b"to the right")
            assert receive(far_end, 12) == b"to the right"
    finally:
        machine.playbook("playbook.yml")


def test_a_wrong_product_id_fails_verify_and_this_scenario_with_the_name_of_the_port(
    machine: Machine, tmp_path: Path
) -> None:
    def break_left(variables: dict[str, Any]) -> None:
        (left,) = [port for port in variables["serial_ports"] if port["name"] == "left"]
        left["usb"]["product"] = "6015"

    broken = machine.inventory_with(tmp_path, break_left)
    done = run_playbook("playbook.yml", broken, "--tags=udev", lab=VM)
    assert done.returncode == 0, done.stdout
    verify = run_playbook("verify.yml", broken, lab=VM)
    assert verify.returncode != 0
    assert re.search(rf"{machine.name} +left +10002 +.*no device", verify.stdout), verify.stdout
    options = (f"--ansible-inventory={broken}", f"--ssh-config={VM}/ssh_config")
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/provisioned", *options, "-k", "each_device"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert tests.returncode == 1
    assert "left: no device: /dev/serial/by-name/left does not exist" in tests.stdout


def test_remove_leaves_nothing_behind(machine: Machine) -> None:
    machine.playbook("remove.yml")
    folders = "/etc /boot /usr/local /var/lib"
    ours = machine.sh(f"find {folders} -name '*ttyfleet*' -o -name '*ttybridge*'")
    assert ours == ""
    assert machine.sh("ls -A /dev/serial/by-name 2>/dev/null || true") == ""
    for unit in UNITS.values():
        assert machine.host.run(f"systemctl is-active {unit}").stdout != "active\n"
        assert machine.host.run(f"systemctl is-enabled {unit}").stdout != "enabled\n", unit
    for port in TCP_PORTS:
        assert machine.sh(f"stat -c '%G %a' /dev/{machine.tty(port)}") == "dialout 660"


def test_what_discover_prints_provisions_the_same_machine_when_it_is_pasted(
    machine: Machine, tmp_path: Path
) -> None:
    printed = machine.playbook("discover.yml")
    shown = re.search(r"msg: \|-\n(.*?)\n\n(?:TASK|PLAY RECAP)", printed, re.DOTALL)
    assert shown, printed
    pasted = yaml.safe_load(shown[1])["serial_ports"]
    proposed = machine.inventory_with(
        tmp_path, lambda variables: variables.update(serial_ports=pasted)
    )
    machine.playbook("playbook.yml", proposed)
    # The adapters have been plugged in all the time.
    assert sorted(machine.names().values()) == sorted(right_names(machine).values())
    assert {port["listen"] for port in pasted} == set(TCP_PORTS.values())
    for port in TCP_PORTS:
        machine.wait_to_serve(port)


def rfc2217_client(machine: Machine, **settings: Any) -> serial.rfc2217.Serial:
    url = f"rfc2217://{machine.address}:{TCP_PORTS['right']}?timeout={PATIENCE}"
    return serial.rfc2217.Serial(url, timeout=PATIENCE, **settings)
