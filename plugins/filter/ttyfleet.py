"""Ansible's filters; all rules are in ttybridge.model and ttybridge.setup (bridge/src)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bridge" / "src"))

from ttybridge.model.check import check_ser2net, parse_portmap
from ttybridge.model.values import all_printable
from ttybridge.setup import fleet_status, verify
from ttybridge.setup.inventory import check_host, check_listeners, inert, listener, ports_of_host
from ttybridge.setup.sources import as_script


def faults(hosts: list[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Every fault in the port maps and variables of `hosts`, a line each."""
    return list(inert([str(one) for host in hosts for one in check_host(host, hostvars[host])]))


def ports(entries: Any, defaults: Any = None) -> list[dict[str, Any]]:
    """The ports of one host with all keys, as `ports_of_host` returns them."""
    return list(inert(ports_of_host(entries, defaults)))


def listen(written: Any) -> dict[str, Any] | None:
    """A listener as {address, port, text}; None if there is none."""
    return listener(written)


def listen_faults(
    ports: list[dict[str, Any]], read: Mapping[str, Any], metrics: Any = ""
) -> list[str]:
    """A line for each port, and for the metrics, whose TCP port another program holds."""
    return list(inert(check_listeners(ports, metrics, read)))


def ser2net_faults(ports: list[dict[str, Any]], version: str) -> str:
    """What the installed ser2net is too old for, of ports from the filter `ports`, a line each."""
    parsed = parse_portmap([port["entry"] for port in ports])
    return str(inert("\n".join(str(one) for one in check_ser2net(parsed, version))))


def report(hosts: list[str], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The report of verify.yml on `hosts`: a table of all ports, and a line for each fault."""
    return dict(inert(verify.report(hosts, hostvars)))


def status(hosts: list[str], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What status.yml shows of `hosts`: a table of all ports, and a document for programs."""
    answers = {host: hostvars[host].get("status_answer") or {} for host in hosts}
    return dict(inert(fleet_status.report(hosts, answers)))


def script(module: str) -> str:
    """A module of ttybridge and its imports, as one text for `python3 -` on a host."""
    return str(inert(as_script(module)))


def printable(value: Any) -> Any:
    """What a host said, with control characters as visible escapes."""
    return inert(all_printable(value))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """The filters by their names: playbooks write ttyfleet.serial. before them."""
        return {
            "faults": faults,
            "listen": listen,
            "listen_faults": listen_faults,
            "ports": ports,
            "printable": printable,
            "report": report,
            "script": script,
            "ser2net_faults": ser2net_faults,
            "status": status,
        }
