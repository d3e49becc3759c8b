"""The virtual machine of script/vm: its adapters, the far ends that a test holds, its clients."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, TypeVar

import yaml
from testinfra.host import Host

from client import receive
from playbook import ROOT, run_playbook

VM = ROOT / ".lab" / "vm"
# The USB path of each adapter of script/vm, and the TCP ports that the inventories have for them.
USB_PATHS = {"single": "1-1.2", "left": "1-1.3", "right": "1-1.4", "spare": "1-1.5"}
TCP_PORTS = {"single": 10001, "left": 10002, "right": 10003}
# Without KVM everything is slow; this only ends tests that would never end.
PATIENCE = 300

T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str) -> T:
    end = time.monotonic() + PATIENCE
    while True:
        if result := condition():
            return result
        assert time.monotonic() < end, f"did not happen in {PATIENCE} s: {what}"
        time.sleep(0.2)


class Machine:
    """The virtual machine, its adapters, and the far ends that a test holds."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.name = str(host.backend.host)
        self.folder = VM / self.name
        self.inventory = ROOT / "molecule" / self.name / "inventory" / "hosts.yml"
        self.held: dict[str, socket.socket] = {}
        ssh = ["ssh", "-G", "-F", str(VM / "ssh_config"), self.name]
        config = subprocess.run(ssh, capture_output=True, text=True, check=True).stdout
        self.address = config.split("hostname ", 1)[1].split()[0]

    def playbook(self, name: str, inventory: Path | None = None) -> str:
        """What a playbook prints; it must succeed."""
        done = run_playbook(name, inventory or self.inventory, lab=VM)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def inventory_with(self, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
        """A copy of the scenario's inventory in `folder`, with a change to its variables."""
        inventory = yaml.safe_load(self.inventory.read_text())
        change(inventory["serial_servers"]["vars"])
        file = folder / "hosts.yml"
        file.write_text(yaml.safe_dump(inventory))
        return file

    def sh(self, command: str) -> str:
        with self.host.sudo():
            return str(self.host.check_output(command))

    def script(self, verb: str, *arguments: str) -> None:
        subprocess.run([ROOT / "script" / "vm", verb, self.name, *arguments], check=True)

    @contextmanager
    def monitor(self, command: str, **arguments: Any) -> Iterator[TextIO]:
        """Give QEMU a command (docs/interop/qemu-qmp-ref of QEMU), and read its events."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self.folder / "monitor"))
            lines = monitor.makefile("r")
            for execute, options in (("qmp_capabilities", {}), (command, arguments)):
                request = json.dumps({"execute": execute, "arguments": options})
                monitor.sendall(request.encode() + b"\n")
                while "return" not in (answer := json.loads(lines.readline())):
                    assert "error" not in answer, answer
            yield lines

    def cut_power(self) -> None:
        """Restart it, in the middle of what it does."""
        # QEMU says so or, for a raspi3b, ends and is started again.
        with self.monitor("system_reset") as events, suppress(ConnectionError):
            next((event for event in events if "RESET" in event), None)

    def set_link(self, up: bool) -> bool:
        """Plug the network in or pull it out; False where QEMU is not there yet."""
        try:
            with self.monitor("set_link", name="net", up=up):
                return True
        except OSError:
            return False

    def tty(self, adapter: str) -> str:
        """The name that the kernel has for an adapter's tty; "" where it is not plugged in."""
        path = USB_PATHS[adapter]
        found = self.sh(f"ls /sys/bus/usb/devices/{path}:1.0 2>/dev/null | grep ^ttyUSB || true")
        return found.strip()

    def names(self) -> dict[str, str]:
        """The tty that each name in /dev/serial/by-name leads to."""
        links = self.sh(
            "udevadm settle; find /dev/serial/by-name -lname '*ttyUSB*' -printf '%f %l\\n'"
        )
        return {name: Path(to).name for name, to in map(str.split, links.splitlines())}

    def plug(self, adapter: str) -> socket.socket:
        """Plug an adapter in; return the far end of its line."""
        far_end = socket.socket(socket.AF_UNIX)
        far_end.settimeout(PATIENCE)
        far_end.connect(str(self.folder / adapter))
        self.held[adapter] = far_end
        self.wait_for_tty(adapter)
        return far_end

    def wait_for_tty(self, adapter: str) -> None:
        wait_for(lambda: self.tty(adapter), f"the tty of {adapter}")
        self.sh("udevadm settle")

    def wait_until_gone(self, adapter: str) -> None:
        wait_for(lambda: not self.tty(adapter), f"{adapter} to be gone")

    def wait_to_serve(self, port: str) -> None:
        wait_for(lambda: self.echoes(port), f"port {port} to serve at {TCP_PORTS[port]}")

    def unplug(self, *adapters: str) -> None:
        for adapter in adapters:
            if adapter in self.held:
                self.script("off", adapter)
                self.held.pop(adapter).close()
                self.script("on", adapter)
            else:
                self.script("unplug", adapter)
        for adapter in adapters:
            self.wait_until_gone(adapter)

    def replug(self, adapter: str) -> socket.socket:
        """Take the echo off an adapter's far end; return that far end."""
        self.unplug(adapter)
        return self.plug(adapter)

    def as_it_was(self) -> None:
        """Plug in all adapters of the port map again, with an echo at their far ends."""
        self.unplug(*self.held)
        for adapter in TCP_PORTS:
            self.script("plug", adapter)
            self.wait_for_tty(adapter)

    def connect(self, tcp_port: int) -> socket.socket:
        client = socket.create_connection((self.address, tcp_port), PATIENCE)
        client.settimeout(PATIENCE)
        return client

    @contextmanager
    def line(self, port: str) -> Iterator[tuple[socket.socket, socket.socket]]:
        """A client of a port and the far end of its line, once bytes pass between them."""
        far_end = self.held.get(port) or self.replug(port)
        with self.connect(TCP_PORTS[port]) as client:
            client.sendall(b"first\n")
            assert receive(far_end, 6) == b"first\n"
            yield client, far_end

    def echoes(self, port: str) -> bool:
        """Whether a client of a port gets its bytes back from the far end."""
        with self.connect(TCP_PORTS[port]) as client:
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
        """Everything that the drivers asked of the adapters until now."""
        return (self.folder / "qemu.log").read_text(errors="replace").splitlines()
