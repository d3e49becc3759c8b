"""Ansible's filters; all rules are in ttybridge.model and ttybridge.setup (bridge/src)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bridge" / "src"))

from ttybridge.model.check import check_ser2net, parse_portmap
from ttybridge.model.values import all_printable
from ttybridge.setup import verify
from ttybridge.setup.inventory import check_host, check_listeners, inert, listener, ports_of_host
from ttybridge.setup.sources import as_script


def ttyfleet_faults(hosts: list[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Every fault in the port maps and variables of `hosts`, a line each."""
    faults = [str(fault) for host in hosts for fault in check_host(host, hostvars[host])]
    return list(inert(faults))


def ttyfleet_ports(entries: Any, defaults: Any = None) -> list[dict[str, Any]]:
    """The ports of one host with all keys, as `ports_of_host` returns them."""
    return list(inert(ports_of_host(entries, defaults)))


def ttyfleet_listen(written: Any) -> dict[str, Any] | None:
    """A listener as {address, port, text}; None if there is none."""
    return listener(written)


def ttyfleet_listen_faults(
    ports: list[dict[str, Any]], read: Mapping[str, Any], metrics: Any = ""
) -> list[str]:
    """A line for each port, and for the metrics, whose TCP port another program holds."""
    return list(inert(check_listeners(ports, metrics, read)))


def ttyfleet_ser2net_faults(ports: list[dict[str, Any]], version: str) -> str:
    """What the installed ser2net is too old for, of ports from `ttyfleet_ports`, a line each."""
    parsed = parse_portmap([port["entry"] for port in ports])
    faults = "\n".join(str(fault) for fault in check_ser2net(parsed, version))
    return str(inert(faults))


def ttyfleet_report(hosts: list[str], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The report of verify.yml on `hosts`: a table of all ports, and a line for each fault."""
    return dict(inert(verify.report(hosts, hostvars)))


def ttyfleet_script(module: str) -> str:
    """A module of ttybridge and its imports, as one text for `python3 -` on a host."""
    return str(inert(as_script(module)))


def ttyfleet_printable(value: Any) -> Any:
    """What a host said, with control characters as visible escapes: see `printable`."""
    return inert(all_printable(value))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """The filters by the names that playbooks use."""
        return {
            "ttyfleet_faults": ttyfleet_faults,
            "ttyfleet_listen": ttyfleet_listen,
            "ttyfleet_listen_faults": ttyfleet_listen_faults,
            "ttyfleet_ports": ttyfleet_ports,
            "ttyfleet_printable": ttyfleet_printable,
            "ttyfleet_report": ttyfleet_report,
            "ttyfleet_script": ttyfleet_script,
            "ttyfleet_ser2net_faults": ttyfleet_ser2net_faults,
        }
