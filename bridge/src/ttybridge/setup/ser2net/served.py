"""What ser2net serves on this host, for `ttybridge status`.

ser2net itself does not say. So this reads the configuration that the role ser2net has written, and
the kernel's list of TCP connections. Both forms of that file are ours, line by line
(templates/ser2net.conf.j2, ser2net.yaml.j2): no parser of YAML is needed, which a Pi may not have.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ttybridge.model.values import Listen
from ttybridge.setup.listeners import Connection, connections, listens, peers

CONFIGURATIONS = (Path("etc/ser2net.conf"), Path("etc/ser2net.yaml"))

_OURS = re.compile("^# Written by ttyfleet", re.MULTILINE)
_NAME = re.compile(r"# ([\w.-]+)")
_OPENED = r"(?:(?:keepopen(?:\(discard-badwrites\))?,)?serialdev,)"
# The classic form: a name for a device that needs one, and a listener with its device.
_ALIAS = re.compile(rf"DEVICE:(device[\d_]+):{_OPENED}?([^,]+)(?:,.*)?")
_LINE = re.compile(r"(?:([0-9a-f.:]+),)?(\d+):(raw|telnet):\d+:(.+?):\d+ \dDATABITS (.*)")
# YAML: a listener, and some lines below it its device.
_ACCEPTER = re.compile(r"  accepter: (telnet,|telnet\(rfc2217\),|)tcp,(?:([^,]+),)?(\d+)")
_CONNECTOR = re.compile(rf"  connector: {_OPENED}([^,]+),.*")


@dataclass
class Served:
    """A port of ser2net: its listeners, each with its protocol, share a device."""

    name: str
    path: str = ""
    listeners: list[tuple[Listen, str]] = field(default_factory=list)


def ports(text: str) -> list[Served]:
    """Return the ports in a configuration that the role ser2net has written; none in another."""
    if not _OURS.search(text):
        return []
    found: dict[str, Served] = {}
    aliases: dict[str, str] = {}
    port = Served("")
    for line in text.splitlines():
        if match := _NAME.fullmatch(line):
            port = found.setdefault(match[1], Served(match[1]))
        elif match := _ALIAS.fullmatch(line):
            aliases[match[1]] = match[2]
        elif match := _LINE.fullmatch(line):
            address, number, state, device, options = match.groups()
            protocol = "rfc2217" if "remctl" in options.split() else state
            port.listeners.append((Listen(address or "", int(number)), protocol))
            port.path = aliases.get(device, device)
        elif match := _ACCEPTER.fullmatch(line):
            telnet, address, number = match.groups()
            protocol = {"": "raw", "telnet,": "telnet"}.get(telnet, "rfc2217")
            port.listeners.append((Listen(address or "", int(number)), protocol))
        elif match := _CONNECTOR.fullmatch(line):
            port.path = match[1]
    return [port for port in found.values() if port.listeners]


def status(root: Path = Path("/")) -> dict[str, Any] | None:
    """Return what `ttybridge status --json` shows of ser2net; None if it has no port of ours.

    `root` is the folder with etc/, proc/ and dev/.
    """
    for path, text in _configurations(root):
        if found := ports(text):
            open_ = connections(root)
            return {
                "configuration": f"/{path}",
                "state": _state(),
                "ports": [_port(port, open_, root) for port in found],
            }
    return None


def names(root: Path = Path("/")) -> list[str]:
    """The names of the ports that ser2net serves on this host."""
    return [port.name for _, text in _configurations(root) for port in ports(text)]


def _configurations(root: Path) -> Iterator[tuple[Path, str]]:
    for path in CONFIGURATIONS:
        try:
            yield path, (root / path).read_text(encoding="utf-8", errors="replace")
        except OSError:  # most hosts have one of them, or none
            continue


def _port(port: Served, open_: list[Connection], root: Path) -> dict[str, Any]:
    listeners = [
        {
            "at": str(at),
            "protocol": protocol,
            "listening": bool(listens(at.address, at.port, open_)),
        }
        for at, protocol in port.listeners
    ]
    return {
        "name": port.name,
        "listen": ", ".join(str(at) for at, _ in port.listeners),
        "listening": all(listener["listening"] for listener in listeners),
        "listeners": listeners,
        "device": {"path": port.path, "present": (root / port.path.lstrip("/")).exists()},
        "clients": [
            {"address": peer, "listener": str(at)}
            for at, _ in port.listeners
            for peer in peers(at.address, at.port, open_)
        ],
    }


def _state() -> str:
    """`active`, or another state of the service as systemd calls it; "" if that is unknown."""
    command = ["systemctl", "show", "--property=ActiveState", "--value", "ser2net.service"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:  # a host without systemd
        return ""
