"""What only a real kernel with USB adapters can show; see molecule/vm/inventory and script/vm.

The playbook found all adapters plugged in, with an echo at the far ends. A test that plugs one in
itself holds its far end: a socket, whose bytes are those of the serial line.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import serial.rfc2217
import yaml
from testinfra.host import Host

from playbook import run_playbook

testinfra_hosts = ["ansible://serial_servers"]
# pyserial's client makes its thread in the way of old.
pytestmark = pytest.mark.filterwarnings(r"ignore:set(Daemon|Name)\(\):DeprecationWarning")

ROOT = Path(__file__).resolve().parents[3]
VM = ROOT / ".lab" / "vm"
INVENTORY = ROOT / "molecule" / "vm" / "inventory" / "hosts.yml"
# The USB path of each adapter of script/vm, and the ports that the inventory has for them.
USB_PATHS = {"single": "1-2", "left": "1-1.1", "right": "1-1.2", "spare": "1-3"}
TCP_PORTS = {"single": 10001, "left": 10002, "right": 10003}
UNITS = {"left": "ttybridge.service", "single": "ser2net.service"}
# A request of ftdi_sio's: SIO_SET_MODEM_CTRL, DTR and RTS off.
LINES_DROPPED = "control 0x4001, value 0x300"
# Without KVM all is slow; this only ends tests that would never end.
PATIENCE = 300

T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str) -> T:
    end = time.monotonic() + PATIENCE
    while True:
        if result := condition():
            return result
        assert time.monotonic() < end, f"waited in vain for: {what}"
        time.sleep(0.2)


def receive(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(65536)
        assert chunk, f"closed after {len(data)} of {size} bytes"
        data += chunk
    return bytes(data)


def playbook(name: str, inventory: Path = INVENTORY) -> str:
    """What a playbook prints that succeeds."""
    done = run_playbook(name, inventory, lab=VM)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Machine:
    """The virtual machine, its adapters, and the far ends that a test holds."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.name = str(host.backend.host)
        self.folder = VM / self.name
        self.held: dict[str, socket.socket] = {}
        ssh = ["ssh", "-G", "-F", str(VM / "ssh_config"), self.name]
        config = subprocess.run(ssh, capture_output=True, text=True, check=True).stdout
        self.address = config.split("hostname ", 1)[1].split()[0]

    def sh(self, command: str) -> str:
        with self.host.sudo():
            return str(self.host.check_output(command))

    def script(self, verb: str, *arguments: str) -> None:
        subprocess.run([ROOT / "script" / "vm", verb, self.name, *arguments], check=True)

    def monitor(self, command: str, **arguments: Any) -> None:
        """Have QEMU do something: docs/interop/qemu-qmp-ref of QEMU."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self.folder / "monitor"))
            lines = monitor.makefile("r")
            for execute, options in (("qmp_capabilities", {}), (command, arguments)):
                request = json.dumps({"execute": execute, "arguments": options})
                monitor.sendall(request.encode() + b"\n")
                while "return" not in (answer := json.loads(lines.readline())):
                    assert "error" not in answer, answer

    def tty(self, adapter: str) -> str:
        """The name that the kernel has for an adapter's tty; "" where it is not plugged in."""
        path = USB_PATHS[adapter]
        found = self.sh(f"ls /sys/bus/usb/devices/{path}:1.0 2>/dev/null | grep ^ttyUSB || true")
        return found.strip()

    def names(self) -> dict[str, str]:
        """Which tty each name in /dev/serial/by-name is."""
        links = self.sh("udevadm settle; find /dev/serial/by-name -type l -printf '%f %l\\n'")
        return {name: Path(to).name for name, to in map(str.split, links.splitlines())}

    def plug(self, adapter: str) -> socket.socket:
        """Plug an adapter in, and have the far end of its line."""
        far_end = socket.socket(socket.AF_UNIX)
        far_end.settimeout(PATIENCE)
        far_end.connect(str(self.folder / adapter))
        self.held[adapter] = far_end
        self.wait_for_tty(adapter)
        self.sh("udevadm settle")
        return far_end

    def wait_for_tty(self, adapter: str) -> None:
        wait_for(lambda: self.tty(adapter), f"the tty of {adapter}")

    def wait_until_gone(self, adapter: str) -> None:
        wait_for(lambda: not self.tty(adapter), f"{adapter} to be gone")

    def wait_to_serve(self, port: str) -> None:
        wait_for(lambda: self.echoes(port), f"port {port} to serve at {TCP_PORTS[port]}")

    def unplug(self, *adapters: str) -> None:
        for adapter in adapters:
            if adapter in self.held:
                self.held.pop(adapter).close()
            else:
                self.script("unplug", adapter)
        for adapter in adapters:
            self.wait_until_gone(adapter)

    def replug(self, adapter: str) -> socket.socket:
        """The far end of an adapter that had an echo there."""
        self.unplug(adapter)
        return self.plug(adapter)

    def as_it_was(self) -> None:
        """All adapters of the port map are plugged in again, with an echo at their far ends."""
        self.unplug(*self.held)
        for adapter in TCP_PORTS:
            self.script("plug", adapter)
            self.wait_for_tty(adapter)

    def connect(self, port: str) -> socket.socket:
        client = socket.create_connection((self.address, TCP_PORTS[port]), PATIENCE)
        client.settimeout(PATIENCE)
        return client

    @contextmanager
    def line(self, port: str) -> Iterator[tuple[socket.socket, socket.socket]]:
        """A client of a port and the far end of its line, when bytes go from one to the other."""
        far_end = self.held.get(port) or self.replug(port)
        with self.connect(port) as client:
            client.sendall(b"first\n")
            assert receive(far_end, 6) == b"first\n"
            yield client, far_end

    def echoes(self, port: str) -> bool:
        """Whether a client of a port gets back from the far end what it sends."""
        with self.connect(port) as client:
            client.settimeout(5)
            try:
                client.sendall(b"hello\n")
                received = b""
                while b"hello\n" not in received:
                    received += receive(client, 1)
            except (OSError, AssertionError):
                return False
        return True

    def usb_log(self) -> list[str]:
        """What the drivers have asked of the adapters so far."""
        return (self.folder / "usb.log").read_text().splitlines()


@pytest.fixture
def machine(host: Host) -> Iterator[Machine]:
    machine = Machine(host)
    yield machine
    machine.as_it_was()


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
    machine.unplug(*TCP_PORTS)
    machine.sh("sync")
    machine.monitor("set_link", name="net", up=False)
    console = machine.folder / "console.log"
    seen = console.stat().st_size
    machine.monitor("system_reset")
    started = re.compile(rb"Started [^\n]*ttybridge\.service")
    try:
        wait_for(lambda: started.search(console.read_bytes()[seen:]), "the start of ttybridge")
    finally:
        # The tests that follow need it.
        machine.monitor("set_link", name="net", up=True)
    machine.script("ready")
    for unit in UNITS.values():
        assert machine.sh(f"systemctl is-active {unit}") == "active"
    machine.as_it_was()
    assert machine.names() == right_names(machine)
    for port in TCP_PORTS:
        machine.wait_to_serve(port)


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
    assert set(machine.names()) == set(TCP_PORTS)


def test_twins_keep_their_names_when_they_are_pulled_and_plugged_in_the_other_way_round(
    machine: Machine,
) -> None:
    machine.unplug("left", "right")
    machine.plug("right")
    machine.plug("left")
    with machine.line("left") as (client, far_end):
        far_end.sendall(b"I am left")
        assert receive(client, 9) == b"I am left"


def test_group_and_mode_of_the_devices_are_those_of_the_inventory(machine: Machine) -> None:
    machine.plug("spare")
    for port in TCP_PORTS:
        assert machine.sh(f"stat -Lc '%G %a' /dev/serial/by-name/{port}") == "dialout 666", port
    # By which it shows that the rule has done it, and to nothing else.
    assert machine.sh(f"stat -c '%G %a' /dev/{machine.tty('spare')}") == "dialout 660"


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
    far_end.shutdown(socket.SHUT_RDWR)
    sending.join()
    machine.unplug(port)


def test_modem_lines_of_the_adapter_reach_an_rfc2217_client(machine: Machine) -> None:
    # An adapter of QEMU's says that it is clear to send and that a device and a carrier are there.
    with rfc2217_client(machine) as client:
        assert (client.cts, client.dsr, client.cd, client.ri) == (True, True, True, False)


def test_line_errors_of_the_driver_are_counted(machine: Machine) -> None:
    status = json.loads(machine.sh("ttybridge status --json"))
    for port in status["ports"]:
        assert port["line_errors"] == dict.fromkeys(port["line_errors"], 0)
        assert "parity" in port["line_errors"]


def test_line_settings_of_an_rfc2217_client_reach_the_adapter(machine: Machine) -> None:
    with rfc2217_client(machine, baudrate=38400, bytesize=7, parity="E", stopbits=2):
        log = machine.usb_log()
    assert 38400 in baudrates(log)
    assert "parity E, data bits 7, stop bits 2" in "\n".join(log)


def test_the_port_map_s_line_settings_reach_each_adapter(machine: Machine) -> None:
    for port, baudrate in {"single": 19200, "left": 115200, "right": 57600}.items():
        seen = len(machine.usb_log())
        machine.replug(port)
        machine.connect(port).close()
        wait_for(partial(asked_for, machine, baudrate, since=seen), f"the baudrate of {port}")


def asked_for(machine: Machine, baudrate: int, since: int) -> bool:
    """Whether an adapter was asked for a baudrate, from that line of the log on."""
    return baudrate in baudrates(machine.usb_log()[since:])


def test_only_a_port_with_hangup_drops_its_lines_when_the_daemon_stops(machine: Machine) -> None:
    seen = len(machine.usb_log())
    with rfc2217_client(machine, baudrate=38400):
        right = devices(machine.usb_log()[seen:], "baud rate")
    seen = len(machine.usb_log())
    machine.sh("systemctl stop ttybridge")
    dropped = devices(machine.usb_log()[seen:], LINES_DROPPED)
    machine.sh("systemctl start ttybridge")
    assert dropped == right != set()


def baudrates(log: list[str]) -> set[int]:
    """What the adapters were set to, as the nearest of the usual baudrates: they divide a clock."""
    found = [int(line.rpartition(" ")[2]) for line in log if "baud rate" in line]
    usual = (9600, 19200, 38400, 57600, 115200)
    return {min(usual, key=lambda one: abs(one - rate)) for rate in found}


def devices(log: list[str], what: str) -> set[str]:
    """Which adapters, by QEMU's numbers, were asked for something."""
    return {line.split("dev ")[1].split()[0] for line in log if what in line}


@pytest.mark.parametrize("unit", UNITS.values())
def test_the_kernel_lets_a_daemon_open_serial_devices_and_no_others(
    machine: Machine, unit: str
) -> None:
    def opens(device: str) -> subprocess.CompletedProcess[str]:
        # As root, but in the unit's cgroup, which is what the kernel goes by.
        cgroup = f"/sys/fs/cgroup/system.slice/{unit}/cgroup.procs"
        script = f"echo $$ >{cgroup}; exec dd if={device} of=/dev/null count=0"
        with machine.host.sudo():
            done = machine.host.run("sh -c %s", script)
        return subprocess.CompletedProcess(script, done.rc, done.stdout, done.stderr)

    machine.plug("spare")
    assert opens(f"/dev/{machine.tty('spare')}").returncode == 0
    for device in ("/dev/vda", "/dev/kmsg", "/dev/hwrng"):
        assert machine.sh(f"dd if={device} of=/dev/null count=0; echo opened") == "opened"
        assert "Operation not permitted" in opens(device).stderr, device


def changed(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """An inventory like this scenario's, but for a change to its variables."""
    inventory = yaml.safe_load(INVENTORY.read_text())
    change(inventory["serial_servers"]["vars"])
    file = tmp_path / "hosts.yml"
    file.write_text(yaml.safe_dump(inventory))
    return file


# From here on the machine is provisioned otherwise, so these are the last.


def test_a_wrong_product_id_fails_verify_and_this_scenario_with_the_name_of_the_port(
    machine: Machine, tmp_path: Path
) -> None:
    def break_left(variables: dict[str, Any]) -> None:
        (left,) = [port for port in variables["serial_ports"] if port["name"] == "left"]
        left["usb"]["product"] = "6015"

    broken = changed(tmp_path, break_left)
    done = run_playbook("playbook.yml", broken, "--tags=udev", lab=VM)
    assert done.returncode == 0, done.stdout
    verify = run_playbook("verify.yml", broken, lab=VM)
    assert verify.returncode != 0
    assert re.search(r"vm +left +10002 +.*no device", verify.stdout), verify.stdout
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
    playbook("remove.yml")
    folders = "/etc /boot /usr/local /var/lib"
    ours = machine.sh(f"find {folders} -name '*ttyfleet*' -o -name '*ttybridge*'")
    assert ours == ""
    assert machine.sh("ls -A /dev/serial/by-name 2>/dev/null || true") == ""
    for unit in UNITS.values():
        assert machine.host.run(f"systemctl is-active {unit}").stdout != "active\n"
    for port in TCP_PORTS:
        assert machine.sh(f"stat -c '%G %a' /dev/{machine.tty(port)}") == "dialout 660"


def test_what_discover_prints_provisions_the_same_machine_when_it_is_pasted(
    machine: Machine, tmp_path: Path
) -> None:
    shown = playbook("discover.yml").split("msg: |-\n", 1)[1].split("\n\nTASK", 1)[0]
    pasted = yaml.safe_load(shown)["serial_ports"]
    proposed = changed(tmp_path, lambda variables: variables.update(serial_ports=pasted))
    playbook("playbook.yml", inventory=proposed)
    # The adapters have been plugged in all the time.
    assert sorted(machine.names().values()) == sorted(right_names(machine).values())
    assert {port["listen"] for port in pasted} == set(TCP_PORTS.values())
    for port in TCP_PORTS:
        machine.wait_to_serve(port)


def rfc2217_client(machine: Machine, **settings: Any) -> serial.rfc2217.Serial:
    url = f"rfc2217://{machine.address}:{TCP_PORTS['right']}?timeout={PATIENCE}"
    return serial.rfc2217.Serial(url, timeout=PATIENCE, **settings)
