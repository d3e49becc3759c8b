"""What only the lab can show: both ends of a line, adapters that are pulled and plugged in.

If the far end of a port is a `pair` in the inventory, the other end of its line is /run/lab/PORT.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

from client import receive
from playbook import run_playbook
from ttybridge.model.check import parse_portmap
from ttybridge.model.ports import Port

testinfra_hosts = ["ansible://serial_servers"]

ROOT = Path(__file__).resolve().parents[3]
INVENTORY = "molecule/default/inventory"
TEMPLATES = ROOT / "tests" / "templates"
SSH = ["ssh", "-F", str(ROOT / ".lab" / "ssh_config")]
# Every file that a play could have written.
FILES = "find /etc /usr/local /var/lib -type f -newermt '2000-01-01' -printf '%p %T@ %s\\n' | sort"

FAULTY = """
serial_servers:
  vars: {ansible_user: pi}
  hosts:
    pi-bookworm:
      serial_ports:
        - {name: a, usb: {vendor: "67b"}, listen: 9999, buadrate: 9600}
        - {name: b, device: /dev/ttyAMA0, listen: "127.0.0.1:9999", parity: strange}
    pi-trixie:
      serial_ports:
        - {name: c, usb: {vendor: "0403", product: "6001"}, listen: 1, engine: ser2net, replay: 9}
        - {name: c, usb: {vendor: "0403", product: "6001"}, listen: 70000}
"""
FAULTS = [
    "8 faults in the port maps",
    "pi-bookworm: port a: usb.vendor: '67b': write four hexadecimal digits",
    "pi-bookworm: port a: buadrate: 9600: unknown key; did you mean baudrate?",
    "pi-bookworm: port b: parity: 'strange': write none, even, odd, mark or space",
    "pi-bookworm: port b: listen: 127.0.0.1:9999 is taken by port a (listen 9999)",
    "pi-trixie: port c (number 1): replay: 9: engine ser2net cannot honour it",
    "pi-trixie: port c (number 2): listen: 70000: write [address:]port",
    "pi-trixie: port c (number 2): name: 'c' is also the name of port number 1",
    "pi-trixie: port c (number 2): usb: {'vendor': '0403', 'product': '6001'}: one adapter",
]

# Takes all instances that root may have, and keeps them until its input ends.
USE_UP_INOTIFY = """
import ctypes, resource, sys
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
make = ctypes.CDLL(None).inotify_init1
while make(0) >= 0:
    pass
print("used up", flush=True)
sys.stdin.read()
"""

BYTES = 8 * 1024 * 1024
SECONDS = 120


@pytest.fixture
def name(host: Host) -> str:
    return str(host.backend.host)


@pytest.fixture
def variables(host: Host) -> dict[str, Any]:
    return dict(host.ansible.get_variables())


@pytest.fixture
def ports(variables: dict[str, Any]) -> dict[str, Port]:
    parsed = parse_portmap(variables["serial_ports"], variables.get("serial_ports_defaults"))
    return {port.name: port for port in parsed}


@pytest.fixture
def address(host: Host) -> str:
    return str(host.check_output("echo $SSH_CONNECTION").split()[2])


@pytest.fixture(params=["bridge", "ser2net"])
def paired(
    request: pytest.FixtureRequest, ports: dict[str, Port], variables: dict[str, Any]
) -> Port:
    """For each engine a port with a pair at its far end."""
    return next(
        port
        for port in ports.values()
        if port.engine == request.param and variables["lab_far_ends"].get(port.name) == "pair"
    )


@pytest.fixture
def replugged(name: str, paired: Port) -> Iterator[Port]:
    """A port that a test may unplug."""
    yield paired
    adapter("adapter", name, paired.name)


def adapter(verb: str, *arguments: str) -> None:
    subprocess.run([ROOT / "script" / "lab", verb, *arguments], check=True)


def tcp_port(port: Port) -> int:
    """The TCP port of the only listener of a port."""
    (listener,) = port.listeners
    return listener.at.port


@contextmanager
def sent_by_device(name: str, port: Port, data: bytes) -> Iterator[None]:
    """The far end of a port's line sends data; at the end of the block it has sent everything."""
    words = [*SSH, name, f"cat >/run/lab/{port.name}"]
    far_end = subprocess.Popen(words, stdin=subprocess.PIPE)
    sending = threading.Thread(target=far_end.communicate, args=(data, SECONDS))
    sending.start()
    yield
    sending.join()


def test_8_mib_arrive_unchanged_from_client_to_device(
    name: str, address: str, paired: Port
) -> None:
    data = os.urandom(BYTES)
    far_end = subprocess.Popen(
        [*SSH, name, f"head -c {BYTES} </run/lab/{paired.name} | sha256sum"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with socket.create_connection((address, tcp_port(paired)), SECONDS) as client:
        client.sendall(data)
        received, _ = far_end.communicate(timeout=SECONDS)
    assert received.split()[0] == hashlib.sha256(data).hexdigest()


def test_8_mib_arrive_unchanged_from_device_to_client(
    name: str, address: str, paired: Port
) -> None:
    data = os.urandom(BYTES)
    with (
        socket.create_connection((address, tcp_port(paired)), SECONDS) as client,
        sent_by_device(name, paired, data),
    ):
        received = receive(client, BYTES)
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


def test_the_article_s_line_is_in_ser2net_conf(host: Host, ports: dict[str, Port]) -> None:
    if host.system_info.release.startswith("12"):
        line = "9999:raw:600:/dev/serial/by-name/core-switch:9600 8DATABITS NONE 1STOPBIT"
        assert line in host.file("/etc/ser2net.conf").content_string.splitlines()
    else:
        text = host.file("/etc/ser2net.yaml").content_string
        assert re.search(
            r"accepter: tcp,9999\n\s+timeout: 600\n"
            r"\s+connector: serialdev,/dev/serial/by-name/core-switch,9600n81",
            text,
        )
    rules = host.file("/etc/udev/rules.d/60-ttyfleet.rules").content_string
    (rule,) = [each for each in rules.splitlines() if "by-name/core-switch" in each]
    assert 'ATTRS{idVendor}=="067b"' in rule
    assert 'ATTRS{idProduct}=="2303"' in rule


def test_an_adapter_that_is_plugged_in_later_works_without_anyone_touching_the_pi(
    name: str, address: str, replugged: Port
) -> None:
    adapter("unplug", name, replugged.name)
    time.sleep(1)
    adapter("adapter", name, replugged.name)
    with socket.create_connection((address, tcp_port(replugged)), 10) as client:
        client.settimeout(10)
        time.sleep(1)
        command = f"echo hello >/run/lab/{replugged.name}"
        subprocess.run([*SSH, name, command], check=True)
        assert receive(client, 6) == b"hello\n"


def test_a_client_of_ttybridge_stays_connected_through_a_replug(
    name: str, address: str, ports: dict[str, Port]
) -> None:
    port = ports["bridge-pair"]
    with socket.create_connection((address, tcp_port(port)), 10) as client:
        client.settimeout(10)
        adapter("unplug", name, port.name)
        adapter("adapter", name, port.name)
        time.sleep(1)
        subprocess.run([*SSH, name, f"echo hello >/run/lab/{port.name}"], check=True)
        assert receive(client, 6) == b"hello\n"


def test_restarts_of_ttybridge_in_mid_stream_are_nothing_to_a_client(
    host: Host, name: str, address: str, ports: dict[str, Port]
) -> None:
    port = ports["bridge-pair"]
    data = os.urandom(BYTES)
    with (
        socket.create_connection((address, tcp_port(port)), SECONDS) as client,
        sent_by_device(name, port, data),
    ):
        received = receive(client, 65536)
        for _ in range(3):
            with host.sudo():
                host.check_output("systemctl restart ttybridge")
            received += receive(client, 65536)
        received += receive(client, BYTES - len(received))
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


def test_a_stop_of_ttybridge_closes_its_clients(
    host: Host, address: str, ports: dict[str, Port]
) -> None:
    with (
        socket.create_connection((address, tcp_port(ports["bridge-pair"])), SECONDS) as client,
        host.sudo(),
    ):
        host.check_output("systemctl stop ttybridge")
        assert client.recv(1) == b""
        host.check_output("systemctl start ttybridge")


def test_eight_faults_on_two_hosts_come_in_one_message_and_nothing_is_changed(
    host: Host, tmp_path: Path
) -> None:
    (tmp_path / "hosts.yml").write_text(FAULTY)
    with host.sudo():
        before = host.check_output(FILES)
        run = run_playbook("playbook.yml", tmp_path / "hosts.yml")
        assert run.returncode != 0
        assert host.check_output(FILES) == before
    for fault in FAULTS:
        assert fault in run.stdout, run.stdout
    assert run.stdout.count("fatal: ") == 1


@pytest.fixture
def changed_certificate(host: Host) -> Iterator[None]:
    """A certificate on the host that is not the inventory's."""
    file = "/etc/ttybridge/tls/pi.pem"
    with host.sudo():
        host.run_expect([0], f"cp -p {file} {file}.kept && echo >>{file}")
        yield
        host.run_expect([0], f"mv {file}.kept {file}")


@pytest.mark.usefixtures("changed_certificate")
def test_verify_names_the_port_without_a_device_and_the_file_that_differs(
    name: str, replugged: Port
) -> None:
    adapter("unplug", name, replugged.name)
    verify = run_playbook("verify.yml", INVENTORY, "--limit", name)
    assert verify.returncode != 0
    assert re.search(rf"{name}.*{replugged.name}.*no device", verify.stdout), verify.stdout
    differs = "not as the inventory says: /etc/ttybridge/tls/pi.pem (content);"
    assert f"{name}: {differs}" in verify.stdout


def test_the_installed_ser2net_reads_what_is_rendered_for_every_key(host: Host, name: str) -> None:
    form = "conf" if host.system_info.release.startswith("12") else "yaml"
    with (TEMPLATES / "golden" / "every-key" / f"ser2net.{form}").open() as file:
        subprocess.run([*SSH, name, f"cat >/tmp/every-key.{form}"], stdin=file, check=True)
    with host.sudo():
        started = f"timeout -s KILL 5 ser2net -n -d -u -c /tmp/every-key.{form} >/dev/null 2>&1 &"
        listening = host.check_output(f"{started} sleep 2; ss -ltnH | awk '{{print $4}}'")
    written = yaml.safe_load((TEMPLATES / "maps" / "every-key.yml").read_text())
    every = parse_portmap(written["serial_ports"], written["serial_ports_defaults"])
    served = [port for port in every if port.engine == "ser2net"]
    wanted = {listener.at.port for port in served for listener in port.listeners}
    assert wanted - {int(line.rpartition(":")[2]) for line in listening.splitlines()} == set()


@pytest.mark.parametrize("engine", ["bridge", "ser2net"])
def test_a_banner_greets_and_a_log_is_kept(
    host: Host, address: str, ports: dict[str, Port], engine: str
) -> None:
    port = ports[f"telnet-{engine}"]
    assert port.log
    with socket.create_connection((address, tcp_port(port)), 10) as client:
        received = b""
        while port.listeners[0].greeting.encode() not in received:
            received += receive(client, 1)
        client.sendall(b"log-me\r\0")
        while b"log-me\r\n" not in received:
            received += receive(client, 1)
        end = time.monotonic() + 20
        with host.sudo():
            while "log-me" not in host.file(port.log.file).content_string:
                assert time.monotonic() < end, f"{port.log.file} lacks what the device said"
                time.sleep(0.5)


def test_the_lab_says_what_to_raise_where_no_more_pis_fit() -> None:
    words = [*(["sudo"] if os.geteuid() else []), sys.executable, "-c", USE_UP_INOTIFY]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as hold:
        assert hold.stdout
        assert hold.stdout.readline() == b"used up\n"
        lab = [str(ROOT / "script" / "lab"), "up", "no-room=trixie"]
        up = subprocess.run(lab, capture_output=True, text=True, timeout=SECONDS)
        hold.communicate()
    assert up.returncode == 1
    assert re.search(
        r"^error: each Pi takes 6 of the kernel's inotify instances: 1 more need 6, and root has 0 "
        r"of \d+ left .* Raise it with sudo sysctl fs\.inotify\.max_user_instances=\d+ ",
        up.stderr,
    ), up.stderr
