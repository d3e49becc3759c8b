"""Every port of every host, as its clients and its administrator find it."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from pathlib import PurePosixPath

from testinfra.host import Host

from ttybridge.model.ports import Listener, Port, Probe
from ttybridge.model.values import Allowed, Listen

testinfra_hosts = ["ansible://serial_servers"]

# Runs here, as a client does, or on the host for ports of an address that may be the host's alone.
TALK = """
import socket, sys
address, port, send, expect, seconds = sys.argv[1:]
sock = socket.create_connection((address, int(port)), float(seconds))
sock.sendall(send.encode())
received = b""
try:
    while expect.encode() not in received:
        data = sock.recv(65536)
        if not data:
            break
        received += data
except TimeoutError:
    pass
sys.stdout.write(received.decode(errors="replace"))
"""


def test_each_engine_in_use_is_active_and_starts_at_boot(
    host: Host, engines: dict[str, list[Port]]
) -> None:
    for unit in engines:
        service = host.service(unit)
        assert service.is_running, _journal(host, unit)
        assert service.is_enabled, unit


def test_no_engine_runs_as_root(host: Host, engines: dict[str, list[Port]]) -> None:
    for unit in engines:
        pid = host.check_output("systemctl show --property MainPID --value %s", unit)
        status = host.file(f"/proc/{pid}/status").content_string
        uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
        assert "0" not in uids, f"{unit} has the user ids {uids}"


def test_each_port_listens_on_its_address(host: Host, engines: dict[str, list[Port]]) -> None:
    listening = host.check_output("ss --no-header --listening --tcp --numeric").splitlines()
    sockets = [line.split()[3] for line in listening]
    for unit, ports in engines.items():
        for port in ports:
            for listener in port.listeners:
                expected = _addresses(listener.at)
                assert any(each in sockets for each in expected), (
                    f"{port.name}: {expected} not in {sockets}\n{_journal(host, unit)}"
                )


def test_each_device_is_there_for_the_group_of_serial_ports(
    host: Host, ports: tuple[Port, ...]
) -> None:
    for port in ports:
        device = host.file(port.path)
        assert device.exists, f"{port.name}: no device: {port.path} does not exist"
        target = host.check_output("stat --dereference --format '%%F|%%G' %s", port.path)
        assert target == "character special file|dialout", f"{port.name}: {target}"


def test_each_port_that_declares_a_probe_answers_it(
    host: Host, ports: tuple[Port, ...], address: str
) -> None:
    here = str(host.check_output("echo $SSH_CONNECTION").split()[0])
    for port in ports:
        # verify.yml proves the listeners with TLS or telnet.
        plain = [
            one
            for one in port.listeners
            if not one.tls and one.protocol == "raw" and one.access == "write"
        ]
        open_to_us = [one for one in plain if _lets_in(one, here)]
        if port.probe and open_to_us:
            answer = _ask(host, open_to_us[0].at, port.probe, address)
            assert port.probe.expect in answer, f"{port.name} answered {answer!r}"


def test_ttybridge_has_every_device_open_as_the_port_map_says(
    host: Host, engines: dict[str, list[Port]]
) -> None:
    wanted = engines.get("ttybridge.service", [])
    if wanted:
        with host.sudo():
            status = json.loads(host.check_output("ttybridge status --json"))
        served = {port["name"]: port for port in status["ports"]}
        assert list(served) == [port.name for port in wanted]
        for port in wanted:
            device = served[port.name]["device"]
            assert device["present"], f"{port.name}: {device['problem']}"
            assert not device["refused_settings"], f"{port.name}: {device['refused_settings']}"


def test_the_program_is_a_version_behind_a_link(host: Host, engines: dict[str, list[Port]]) -> None:
    if "ttybridge.service" in engines:
        link = host.file("/usr/local/bin/ttybridge")
        assert PurePosixPath(link.linked_to).parent == PurePosixPath("/usr/local/lib/ttybridge")


def test_the_units_and_the_udev_rules_are_sound_to_their_readers(
    host: Host, ports: tuple[Port, ...], engines: dict[str, list[Port]]
) -> None:
    for unit in engines:
        host.run_expect([0], "systemd-analyze verify --man=no %s", unit)
    # udevadm verify came with systemd 254: bookworm has none.
    systemd = int(host.check_output("systemctl --version").split()[1])
    if ports and systemd >= 254:
        host.run_expect([0], "udevadm verify /etc/udev/rules.d/60-ttyfleet.rules")


def _lets_in(listener: Listener, here: str) -> bool:
    """Whether allow names who asks: this machine, or the host at an address of its own."""
    source = ipaddress.ip_address(listener.at.address or here)
    # Which other networks the host is in, only the host knows.
    return Allowed.of(listener.allow).lets_in(str(source), lambda _: source.is_loopback)


def _addresses(listen: Listen) -> list[str]:
    """How ss shows a listener."""
    if listen.address:
        return [str(listen)]
    return [f"{address}:{listen.port}" for address in ("*", "0.0.0.0", "[::]")]


def _ask(host: Host, listen: Listen, probe: Probe, address: str) -> str:
    asked = [listen.address or address, str(listen.port), probe.send, probe.expect, "5"]
    if listen.address:
        return str(host.check_output("python3 -c %s %s %s %s %s %s", TALK, *asked))
    command = [sys.executable, "-c", TALK, *asked]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _journal(host: Host, unit: str) -> str:
    with host.sudo():
        return str(host.run("journalctl --no-pager --lines 30 --unit %s", unit).stdout)
