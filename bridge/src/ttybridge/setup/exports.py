"""The consoles of a fleet as files that other programs read; docs/exports.md says how.

Each format is a function that gets every console and returns files by name. A console that a
program cannot reach is left out of its file: TLS and watchers mostly, and listeners on loopback.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttybridge.model.check import parse_portmap
from ttybridge.model.ports import Listener, Port, about
from ttybridge.model.values import Listen
from ttybridge.setup.inventory import listener as metrics_listener
from ttybridge.setup.inventory import without_marks
from ttybridge.setup.page import pages
from ttybridge.setup.ways import KINDS, address, blanks, console, filled, on_loopback

Files = dict[str, str]

_HEAD = "Written by ttyfleet from the inventory: ansible-playbook export.yml writes it again."


class ExportError(ValueError):
    """An export cannot be made; the message says what to do."""


@dataclass(frozen=True)
class Host:
    """One Pi: what clients call it, the TCP port of its sshd, and where its metrics are.

    `gives_consoles` is whether its accounts of `serial_users` are the ones that people log in with.
    """

    name: str
    address: str
    ssh_port: int
    metrics: Listen | None
    gives_consoles: bool


@dataclass(frozen=True)
class Console:
    """One port of a Pi, with the listener that a program on another machine uses, if it has one."""

    host: Host
    port: Port
    listener: Listener | None

    @property
    def name(self) -> str:
        """What it is called in every export: `PORT.HOST`."""
        return f"{self.port.name}.{self.host.name}"

    @property
    def command(self) -> str:
        """What to run by SSH: an account of `serial_users` gets consoles by their names."""
        return console(self.port.name, self.host.gives_consoles)

    @property
    def address(self) -> str:
        """Where clients connect to: the Pi, or the one address of it that listens."""
        assert self.listener
        return address(self.listener.at, self.host.address)

    @property
    def tcp_port(self) -> int:
        """The TCP port of the listener."""
        assert self.listener
        return self.listener.at.port


def export(
    what: str, hosts: Sequence[str], variables: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Return the files of a format, or of `all`, by their paths in the export's folder.

    `variables` are those of each host, whose port maps have no faults. Raises `ExportError`.
    """
    wanted = list(FORMATS) if what == "all" else [what]
    if unknown := [name for name in wanted if name not in FORMATS]:
        raise ExportError(f"format={unknown[0]}: write {', '.join(FORMATS)} or all")
    known = {host: without_marks(dict(variables[host])) for host in hosts}
    consoles = [one for host in hosts for one in _consoles(host, known[host])]
    _check_names(consoles)
    fleet = Fleet(hosts, known, consoles)
    return {path: text for name in wanted for path, text in FORMATS[name](fleet).items()}


@dataclass(frozen=True)
class Fleet:
    """What a format is made of."""

    hosts: Sequence[str]
    variables: Mapping[str, Mapping[str, Any]]
    consoles: Sequence[Console]

    def by(self, *protocols: str) -> list[Console]:
        """The consoles with a listener that speaks one of these."""
        return [one for one in self.consoles if one.listener and one.listener.protocol in protocols]


def _host(name: str, variables: Mapping[str, Any]) -> Host:
    address = str(variables.get("ansible_host") or name)
    ssh_port = int(variables.get("ansible_port") or variables.get("ansible_ssh_port") or 22)
    metrics = metrics_listener(variables.get("bridge_metrics", "off"))
    at = Listen(metrics["address"], metrics["port"]) if metrics else None
    return Host(name, address, ssh_port, at, bool(variables.get("serial_users")))


def _consoles(name: str, variables: Mapping[str, Any]) -> list[Console]:
    ports = parse_portmap(variables.get("serial_ports"), variables.get("serial_ports_defaults"))
    host = _host(name, variables)
    return [Console(host, port, _best(port)) for port in ports]


def _best(port: Port) -> Listener | None:
    """The first listener that others reach without TLS and that writes; None if there is none."""
    usable = (
        one
        for one in port.listeners
        if one.access == "write" and not one.tls and not on_loopback(one.at)
    )
    return next(usable, None)


def _check_names(consoles: Sequence[Console]) -> None:
    seen: dict[str, Console] = {}
    for one in consoles:
        other = seen.setdefault(one.name, one)
        if other is not one:
            both = f"port {other.port.name} of {other.host.name}"
            problem = f"{one.host.name}: port {one.port.name} and {both} would both be {one.name}"
            raise ExportError(f"{problem}: rename one of them")


def _about(one: Console) -> str:
    return about(one.port.description, one.port.location, one.port.tags)


# The formats.


def _ssh_config(fleet: Fleet) -> Files:
    """For OpenSSH: `ssh router.pi-rack1` opens the console of a port of ttybridge."""
    parts = [f"# {_HEAD}\n"]
    for one in fleet.consoles:
        if one.port.engine != "bridge":
            continue
        note = f"    # {_about(one)}\n" if _about(one) else ""
        parts.append(
            f"\nHost {one.name}\n{note}"
            f"    HostName {one.host.address}\n"
            f"    Port {one.host.ssh_port}\n"
            "    RequestTTY yes\n"
            f"    RemoteCommand {one.command}\n"
        )
    return {"ssh_config": "".join(parts)}


def _conserver(fleet: Fleet) -> Files:
    """For conserver: a part of conserver.cf, without its `access` and users."""
    parts = [f"# {_HEAD}\n"]
    for one in fleet.by("raw", "telnet", "rfc2217"):
        assert one.listener
        protocol = "raw" if one.listener.protocol == "raw" else "telnet"
        parts.append(
            f"console {one.name} {{\n"
            "    master localhost;\n    type host;\n"
            f"    host {one.address};\n    port {one.tcp_port};\n    protocol {protocol};\n"
            "    rw *;\n}\n"
        )
    return {"conserver.cf": "".join(parts)}


def _labgrid(fleet: Fleet) -> Files:
    """For labgrid-exporter, which makes a NetworkSerialPort of each."""
    # labgrid reads the file as Jinja, in which a single # begins a statement.
    lines = [f"## {_HEAD}"]
    for one in fleet.by("raw", "rfc2217"):
        assert one.listener
        resource = {
            "host": one.address,
            "port": one.tcp_port,
            "protocol": one.listener.protocol,
            "speed": one.listener.baudrate,
        }
        lines += [f"{one.name}:", f"  NetworkSerialPort: {json.dumps(resource)}"]
    return {"labgrid.yaml": "\n".join(lines) + "\n"}


def _putty(fleet: Fleet) -> Files:
    """Saved sessions of PuTTY: files for Unix, and one to import on Windows."""
    sessions = {one.name: _session(one) for one in fleet.by("raw", "telnet", "rfc2217")}
    unix = {
        f"putty/sessions/{name}": "".join(f"{key}={value}\n" for key, value in session.items())
        for name, session in sessions.items()
    }
    folder = r"HKEY_CURRENT_USER\Software\SimonTatham\PuTTY\Sessions"
    windows = [f"Windows Registry Editor Version 5.00\n\n; {_HEAD}\n"]
    for name, session in sessions.items():
        values = "".join(f'"{key}"={_reg_value(value)}\n' for key, value in session.items())
        windows.append(f"\n[{folder}\\{name}]\n{values}")
    return {**unix, "putty.reg": "".join(windows).replace("\n", "\r\n")}


def _session(one: Console) -> dict[str, str | int]:
    assert one.listener
    protocol = "raw" if one.listener.protocol == "raw" else "telnet"
    # The device echoes and edits lines, not PuTTY (1 = off in its files).
    here = {"LocalEcho": 1, "LocalEdit": 1} if protocol == "raw" else {}
    place: dict[str, str | int] = {"HostName": one.address, "PortNumber": one.tcp_port}
    return {"Present": 1, "Protocol": protocol, **place, **here}


def _reg_value(value: str | int) -> str:
    return f"dword:{value:08x}" if isinstance(value, int) else f'"{value}"'


def _prometheus(fleet: Fleet) -> Files:
    """Targets for file_sd of Prometheus: hosts whose `bridge_metrics` others reach."""
    hosts = {host: _host(host, fleet.variables[host]) for host in fleet.hosts}
    groups = []
    for host in hosts.values():
        at = host.metrics
        if at and not on_loopback(at):
            place = Listen(address(at, host.address), at.port)
            groups.append({"targets": [str(place)], "labels": {"pi": host.name}})
    return {"prometheus.json": json.dumps(groups, indent=2) + "\n"}


def _guacamole(fleet: Fleet) -> Files:
    """For the import of connections in Apache Guacamole's settings."""
    connections = []
    for one in fleet.consoles:
        if one.listener and one.listener.protocol != "raw":
            way: dict[str, Any] = {"hostname": one.address, "port": str(one.tcp_port)}
            protocol = "telnet"
        elif one.port.engine == "bridge":
            way = {"hostname": one.host.address, "port": str(one.host.ssh_port)}
            protocol, way["command"] = "ssh", one.command
        else:
            continue  # Guacamole speaks no raw TCP
        connections.append(
            {"name": one.name, "protocol": protocol, "group": "ROOT", "parameters": way}
        )
    return {"guacamole.json": json.dumps(connections, indent=2) + "\n"}


def _libvirt(fleet: Fleet) -> Files:
    """A device for `virsh attach-device` or a domain's XML, of each raw port."""
    (text,) = [way.text for way in KINDS["raw"] if way.client == "libvirt"]
    files = {}
    for one in fleet.by("raw"):
        assert one.listener
        words = blanks(one.port, one.listener.at, one.host.address)
        files[f"libvirt/{one.name}.xml"] = _well_formed(filled(text, words)) + "\n"
    return files


def _well_formed(text: str) -> str:
    ElementTree.fromstring(text)
    return text


def _csv(fleet: Fleet) -> Files:
    """A table of every listener."""
    return {"ports.csv": pages(fleet.hosts, fleet.variables, "")["port-map.csv"]}


FORMATS: Mapping[str, Callable[[Fleet], Files]] = {
    "ssh_config": _ssh_config,
    "conserver": _conserver,
    "labgrid": _labgrid,
    "putty": _putty,
    "prometheus": _prometheus,
    "guacamole": _guacamole,
    "libvirt": _libvirt,
    "csv": _csv,
}
"""The formats, by what a person writes after format=."""
