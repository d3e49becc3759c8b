"""Ansible's filters; all rules are in ttybridge.model and ttybridge.setup (bridge/src)."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bridge" / "src"))

from ttybridge.model.values import all_printable
from ttybridge.setup import exports, fleet, fleet_status, page, verify
from ttybridge.setup.inventory import inert, listener, ports_of_host
from ttybridge.setup.sources import as_command


def check(
    hosts: list[str], hostvars: Mapping[str, Mapping[str, Any]], run: Mapping[str, Any]
) -> str:
    """Every fault in the inventory of `hosts`; `run` has the fields of `fleet.Run`."""
    return str(inert(fleet.check_fleet(hosts, hostvars, fleet.Run(**run)).text))


def if_readable(
    hosts: str, sources: list[str], playbooks: str, groups: Mapping[str, list[str]], limit: str
) -> str:
    """Return `hosts` if the inventory's files are YAML; else raise what is wrong where.

    With one host as the `limit`, those of other hosts are not read.
    """
    broken = fleet.unreadable(fleet.Run(sources, playbooks, groups, limit=limit))
    if broken:
        words = "The inventory cannot be read. Nothing was changed on any host."
        raise AnsibleError(printable("\n".join([words, "", *broken])))
    return hosts


def no_servers(groups: Mapping[str, list[str]], sources: list[str]) -> str:
    """What to do about an inventory without a host in the group serial_servers."""
    return str(inert(fleet.no_servers(groups, sources)))


def ports(entries: Any, defaults: Any = None) -> list[dict[str, Any]]:
    """The ports of one host with all keys, as `ports_of_host` returns them."""
    return list(inert(ports_of_host(entries, defaults)))


def listen(written: Any) -> dict[str, Any] | None:
    """A listener as {address, port, text}; None if there is none."""
    return listener(written)


def report(hosts: list[str], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The report of verify.yml on `hosts`: a table of all ports, and a line for each fault."""
    return dict(inert(verify.report(hosts, hostvars)))


def status(hosts: list[str], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What status.yml shows of `hosts`: a table of all ports, and a document for programs."""
    answers = {host: hostvars[host].get("status_answer") or {} for host in hosts}
    return dict(inert(fleet_status.report(hosts, answers)))


def pages(
    hosts: list[str], hostvars: Mapping[str, Mapping[str, Any]], template: str, report_json: str
) -> dict[str, str]:
    """The port map of `hosts` as files; `report_json` is the path of what verify.yml wrote last."""
    file = Path(report_json)
    verified = file.read_text() if file.is_file() else ""
    variables = {host: dict(hostvars[host]) for host in hosts}
    return dict(inert(page.pages(hosts, variables, template, verified)))


def export(hosts: list[str], hostvars: Mapping[str, Mapping[str, Any]], what: str) -> Any:
    """The consoles of `hosts` in a format of `exports.FORMATS`, or in all: files by their paths."""
    variables = {host: dict(hostvars[host]) for host in hosts}
    try:
        return inert(exports.export(what, hosts, variables))
    except exports.ExportError as error:
        raise AnsibleError(printable(str(error))) from None


def command(module: str, argument: Any) -> str:
    """A command line that runs a module of ttybridge on a host, with a value as JSON."""
    return str(inert(as_command(module, json.dumps(argument))))


def printable(value: Any) -> Any:
    """What a host said, with control characters as visible escapes."""
    return inert(all_printable(value))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """The filters by their names: playbooks write ttyfleet.serial. before them."""
        return {
            "check": check,
            "command": command,
            "export": export,
            "if_readable": if_readable,
            "listen": listen,
            "no_servers": no_servers,
            "ports": ports,
            "printable": printable,
            "report": report,
            "pages": pages,
            "status": status,
        }
