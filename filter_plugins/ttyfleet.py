"""Ansible filters over the port map of bridge/; every rule lives there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bridge" / "src"))

from ttybridge.portmap import (
    Fault,
    as_entry,
    as_variables,
    check_portmap,
    check_ser2net,
    parse_portmap,
)


def ttyfleet_faults(hosts: list[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Every fault in the port maps of `hosts`, a line each; none where all are sound."""
    faults: list[Fault] = []
    for host in hosts:
        variables = hostvars[host]
        if "serial_ports" not in variables:
            problem = "missing: write the host's port map in host_vars/, or [] for none"
            faults.append(Fault(host, "serial_ports", problem))
            continue
        defaults = variables.get("serial_ports_defaults", {})
        faults += check_portmap(variables["serial_ports"], defaults, host, sandboxed=True)[1]
    return [str(fault) for fault in faults]


def ttyfleet_ports(entries: Any, defaults: Any = None) -> list[dict[str, Any]]:
    """The ports of one host, every key filled in, with `entry`, the shortest way to write it."""
    ports = parse_portmap(entries, defaults)
    return [{**as_variables(port), "entry": as_entry(port)} for port in ports]


def ttyfleet_ser2net_faults(ports: list[dict[str, Any]], version: str) -> str:
    """What ports as `ttyfleet_ports` returns them ask of a ser2net that lacks it, a line each."""
    parsed = parse_portmap([port["entry"] for port in ports])
    return "\n".join(str(fault) for fault in check_ser2net(parsed, version))


def ttyfleet_report(hosts: list[str], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What verify.yml noted of `hosts`: a table of all ports, and a line for each fault."""
    rows = [("HOST", "PORT", "LISTEN", "RESULT")]
    faults = []
    for host in hosts:
        noted = hostvars[host]
        if "verify_unreadable" in noted:
            faults += [f"{host}: {line}" for line in noted["verify_unreadable"].splitlines()]
            for port in noted["serial_ports_checked"]:
                rows.append((host, port["name"], port["endpoint"], "host not read back"))
            continue
        for found in noted["verify_findings"]:
            rows.append((host, found["port"], found["listen"], found["result"]))
            if found["todo"]:
                faults.append(f"{host}: port {found['port']}: {found['result']}; {found['todo']}")
        if noted["verify_differing"]:
            differs = f"not as the inventory says: {', '.join(noted['verify_differing'])}"
            rows.append((host, "-", "-", differs))
            faults.append(f"{host}: {differs}; run playbook.yml (--diff shows what it writes)")
    widths = [max(len(row[column]) for row in rows) for column in range(3)] + [0]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return {"table": "\n".join(lines), "faults": faults}


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """The filters by the names that playbooks use."""
        return {
            "ttyfleet_faults": ttyfleet_faults,
            "ttyfleet_ports": ttyfleet_ports,
            "ttyfleet_report": ttyfleet_report,
            "ttyfleet_ser2net_faults": ttyfleet_ser2net_faults,
        }
