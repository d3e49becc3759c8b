"""Ansible filters over the port map of bridge/; every rule lives there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bridge" / "src"))

from ttybridge.portmap import Fault, as_entry, as_variables, check_portmap, parse_portmap


def ttyfleet_faults(hosts: list[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Every fault in the port maps of `hosts`, a line each; none where all are sound."""
    faults: list[Fault] = []
    for host in hosts:
        variables = hostvars[host]
        if "serial_ports" not in variables:
            problem = "missing: write the host's port map in host_vars/, or [] for none"
            faults.append(Fault(host, "serial_ports", problem))
            continue
        defaults = (
            variables["serial_ports_defaults"] if "serial_ports_defaults" in variables else {}
        )
        faults += check_portmap(variables["serial_ports"], defaults, host)[1]
    return [str(fault) for fault in faults]


def ttyfleet_ports(entries: Any, defaults: Any = None) -> list[dict[str, Any]]:
    """The ports of one host, every key filled in, with `entry`, the shortest way to write it."""
    ports = parse_portmap(entries, defaults)
    return [{**as_variables(port), "entry": as_entry(port)} for port in ports]


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """The filters by the names that playbooks use."""
        return {"ttyfleet_faults": ttyfleet_faults, "ttyfleet_ports": ttyfleet_ports}
